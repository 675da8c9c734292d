package parity

import (
	"context"
	"fmt"
	"math"

	"github.com/sciflux/sciflux/picture"
	"github.com/sciflux/sciflux/reward"
)

type sciscoreArgs struct {
	Mode    string   `json:"mode"`
	Prompts []string `json:"prompts"`
	Images  []string `json:"images"`
}

func runSciScore(ctx context.Context, c *Case, o Options) (*Outputs, error) {
	var args sciscoreArgs
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	path, be, err := prepare(c, o)
	if err != nil {
		return nil, err
	}
	s, err := reward.OpenSciScore(path, be, reward.SciScoreOptions{Storage: o.storage()})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	switch args.Mode {
	case "pairs":
		return scorePairs(ctx, c, s, args)
	case "reward":
		return scoreRewards(ctx, c, s, args.Prompts)
	}
	return nil, fmt.Errorf("mode %q: pairs or reward wanted", args.Mode)
}

// scorePairs rates two picture files for each prompt.
func scorePairs(ctx context.Context, c *Case, s *reward.SciScore, args sciscoreArgs) (*Outputs, error) {
	if len(args.Prompts) == 0 || len(args.Images) != 2*len(args.Prompts) {
		return nil, fmt.Errorf("%d images for %d prompts: two each wanted", len(args.Images), len(args.Prompts))
	}
	pictures := make([]*picture.Picture, len(args.Images))
	var pixels []float32
	for i, name := range args.Images {
		var err error
		if pictures[i], err = picture.Open(c.File(name)); err != nil {
			return nil, err
		}
		p, err := s.Pixels(pictures[i])
		if err != nil {
			return nil, err
		}
		pixels = append(pixels, p...)
	}
	image, err := s.ImageFeatures(ctx, len(pictures), func(i int) (*picture.Picture, error) { return pictures[i], nil })
	if err != nil {
		return nil, err
	}
	twice := make([]string, 0, len(pictures))
	var text []float32
	ids := make([][]int32, len(args.Prompts))
	for i, prompt := range args.Prompts {
		twice = append(twice, prompt, prompt)
		ids[i] = s.Tokens(prompt)
		f, err := s.TextFeatures(ctx, prompt)
		if err != nil {
			return nil, err
		}
		text = append(text, f...)
	}
	scores, err := s.ScorePictures(ctx, twice, func(i int) (*picture.Picture, error) { return pictures[i], nil })
	if err != nil {
		return nil, err
	}
	probabilities := make([]float64, len(scores))
	for i := range probabilities {
		probabilities[i] = 1 / (1 + math.Exp(scores[i^1]-scores[i]))
	}
	out, n := NewOutputs(), len(args.Prompts)
	side := int(math.Round(math.Sqrt(float64(len(pixels) / (3 * len(pictures))))))
	out.Float32("pixels", []int{2 * n, 3, side, side}, pixels)
	out.Float32("text_features", []int{n, len(text) / n}, text)
	out.Float32("image_features", []int{2 * n, len(image) / (2 * n)}, image)
	out.Float64("scores", []int{n, 2}, scores)
	out.Float64("probabilities", []int{n, 2}, probabilities)
	out.Value("input_ids", ids)
	return out, nil
}

// scoreRewards rates generated pictures given as numbers.
func scoreRewards(ctx context.Context, c *Case, s *reward.SciScore, prompts []string) (*Outputs, error) {
	t, err := c.hostInput("images")
	if err != nil {
		return nil, err
	}
	if len(t.Shape) != 4 || t.Shape[1] != 3 || t.Shape[0] != len(prompts) || t.Len() == 0 {
		return nil, fmt.Errorf("input images has shape %v, want [%d, 3, height, width], one for each prompt", t.Shape, len(prompts))
	}
	images := reward.Images{Data: t.Floats(), B: t.Shape[0], H: t.Shape[2], W: t.Shape[3]}
	var levels []byte
	for i := range images.B {
		p, err := images.Picture(i)
		if err != nil {
			return nil, err
		}
		levels = append(levels, p.Planes()...)
	}
	scores, err := s.Score(ctx, prompts, images)
	if err != nil {
		return nil, err
	}
	out := NewOutputs()
	out.Uint8("levels", t.Shape, levels)
	out.Float64("scores", []int{len(scores)}, scores)
	return out, nil
}
