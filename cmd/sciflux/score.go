package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sciflux/sciflux/cmd/sciflux/internal/console"
	"github.com/sciflux/sciflux/picture"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
)

func (a *app) scoreCommand() *cobra.Command {
	var model string
	var prompts []string
	c := &cobra.Command{
		Use:     "score --model DIR --prompt TEXT IMAGE…",
		Short:   "Rate how well pictures agree with what prompts imply",
		Long:    "Print the SciScore of every picture for every prompt: exp(logit scale) times the cosine of their features.",
		Example: `  sciflux score --model world --prompt "an unripe apple" pictures/0000-seed-0.png`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runScore(c.Context(), model, prompts, args)
		},
	}
	c.Flags().StringVar(&model, "model", "", "SciScore folder (CLIP in Hugging Face layout), or world for the one inside the binary")
	c.Flags().StringArrayVar(&prompts, "prompt", nil, "prompt; may be repeated")
	_ = c.MarkFlagRequired("model")
	_ = c.MarkFlagRequired("prompt")
	return c
}

// scoredImage is one score as JSON.
type scoredImage struct {
	Image  string  `json:"image"`
	Prompt string  `json:"prompt"`
	Score  float64 `json:"score"`
}

func (a *app) runScore(ctx context.Context, model string, prompts, images []string) error {
	scorer, err := a.openScorer(model, 0)
	if err != nil {
		return err
	}
	defer scorer.Close()
	for _, note := range scorer.Notes() {
		a.print.Note("%s", note)
	}
	if cut := scorer.Truncated(prompts); cut > 0 {
		a.print.Note("%d prompts are longer than the %d tokens that the model takes; what is beyond is not seen", cut, scorer.MaxTokens())
	}
	features, err := scorer.ImageFeatures(ctx, len(images), func(i int) (*picture.Picture, error) {
		p, err := picture.Open(images[i])
		if err != nil {
			return nil, run.Errorf(run.ClassData, "read picture", images[i], "PNG, JPEG and WebP can be read", "%w", err)
		}
		return p, nil
	})
	if err != nil {
		return err
	}
	list, width := []scoredImage{}, len(features)/len(images)
	for i, image := range images {
		for _, prompt := range prompts {
			text, err := scorer.TextFeatures(ctx, prompt)
			if err != nil {
				return err
			}
			list = append(list, scoredImage{Image: image, Prompt: prompt, Score: scorer.Similarity(text, features[i*width:(i+1)*width])})
		}
	}
	return a.print.Value(list, func(w io.Writer) {
		var rows [][]string
		for _, s := range list {
			rows = append(rows, []string{fmt.Sprintf("%.4f", s.Score), s.Image, s.Prompt})
		}
		console.Table(w, []string{"score", "picture", "prompt"}, rows)
	})
}

func (a *app) openScorer(model string, batch int) (*reward.SciScore, error) {
	folder, err := a.modelFolder(model, "world-sciscore")
	if err != nil {
		return nil, err
	}
	be, err := backend(0)
	if err != nil {
		return nil, err
	}
	return reward.OpenSciScore(folder, be, reward.SciScoreOptions{Batch: batch})
}
