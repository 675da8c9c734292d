package reward

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/clip"
	"github.com/sciflux/sciflux/model/weights"
	"github.com/sciflux/sciflux/picture"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/tokenizer"
)

// SciScoreOptions of OpenSciScore.
type SciScoreOptions struct {
	Storage weights.Storage // of the matrices; the zero value leaves them as the file has them
	Batch   int             // pictures that go through the vision tower together; 0 for as many as fit its memory well
}

// SciScore rates how well a picture agrees with what a prompt implies: a CLIP model fine-tuned on pairs of right and
// superficial pictures. Scores are exp(logit_scale)·cos(prompt, picture). Its methods may be called by several
// goroutines.
type SciScore struct {
	model *clip.CLIP
	words tokenizer.Tokenizer
	prep  picture.Preprocessor
	batch int

	mu   sync.Mutex
	text map[string][]float32 // features of prompts seen
}

var _ Scorer = (*SciScore)(nil)

// cachedPrompts bounds the prompts whose features are remembered.
const cachedPrompts = 1 << 14

// OpenSciScore loads a CLIPModel folder with its tokenizer and picture preprocessor, as any transformers from 4 to 5 saves
// it. Errors are *run.Error of class model.
func OpenSciScore(dir string, be engine.Backend, o SciScoreOptions) (*SciScore, error) {
	failed := func(cause error) (*SciScore, error) {
		return nil, &run.Error{Class: run.ClassModel, Op: "open sciscore", Subject: dir, Cause: cause,
			Hint: "give a CLIP model folder in Hugging Face layout: config.json, model.safetensors, preprocessor_config.json " +
				"(or processor_config.json), and vocab.json with merges.txt or tokenizer.json"}
	}
	prep, err := picture.LoadPreprocessor(dir)
	if err != nil {
		return failed(err)
	}
	words, err := tokenizer.Load(dir, tokenizer.CLIPFast)
	if err != nil {
		return failed(err)
	}
	model, err := clip.Open(dir, be, o.Storage)
	if err != nil {
		return failed(err)
	}
	s := &SciScore{model: model, words: words, prep: prep, batch: o.Batch, text: map[string][]float32{}}
	if s.batch <= 0 {
		s.batch = model.Config.Vision.Batch()
	}
	if err := s.fits(); err != nil {
		model.Close()
		return failed(err)
	}
	return s, nil
}

// fits checks tokenizer and preprocessor against the towers.
func (s *SciScore) fits() error {
	c, p := s.model.Config, s.prep
	if n := s.words.Size(); n > c.Text.VocabSize {
		return fmt.Errorf("the vocabulary has %d entries, the text tower has rows for %d; they do not belong together", n, c.Text.VocabSize)
	}
	w, h := p.CropWidth, p.CropHeight
	if w == 0 {
		w, h = p.ExactWidth, p.ExactHeight
	}
	if side := c.Vision.ImageSize; w != side || h != side {
		return fmt.Errorf("the preprocessor makes pictures of %d×%d, the vision tower takes %d×%d", w, h, side, side)
	}
	if c.Vision.Channels != 3 {
		return fmt.Errorf("num_channels is %d: pictures have 3", c.Vision.Channels)
	}
	return nil
}

// Notes says in words which weights are not used as the file has them.
func (s *SciScore) Notes() []string { return s.model.Notes }

// Close releases the model's files.
func (s *SciScore) Close() error { return s.model.Close() }

// Tokens are the ids of a prompt, not padded, cut to the text tower's positions with both ends kept.
func (s *SciScore) Tokens(prompt string) []int32 {
	return s.words.Encode(prompt, s.model.Config.Text.MaxPositions)
}

// Truncated counts the prompts, equal ones once, of which Tokens cuts off the end.
func (s *SciScore) Truncated(prompts []string) int {
	most, seen := s.model.Config.Text.MaxPositions, map[string]bool{}
	for _, prompt := range prompts {
		if !seen[prompt] && len(s.words.Encode(prompt, 0)) > most {
			seen[prompt] = true
		}
	}
	return len(seen)
}

// MaxTokens is the length that Tokens cuts prompts to.
func (s *SciScore) MaxTokens() int { return s.model.Config.Text.MaxPositions }

// TextFeatures gives the features of a prompt, of length 1. They are computed once for each prompt, by itself, so they do
// not depend on what else was scored. The slice must not be changed.
func (s *SciScore) TextFeatures(ctx context.Context, prompt string) ([]float32, error) {
	s.mu.Lock()
	f, ok := s.text[prompt]
	s.mu.Unlock()
	if ok {
		return f, nil
	}
	ids := s.Tokens(prompt)
	f, err := s.model.TextFeatures(ctx, ids, len(ids))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.text) >= cachedPrompts {
		clear(s.text)
	}
	s.text[prompt] = f
	return f, nil
}

// Pixels is what the vision tower sees of a picture: [3, S, S], resized, cropped and normalised.
func (s *SciScore) Pixels(p *picture.Picture) ([]float32, error) { return s.prep.Process(p) }

// ImageFeatures gives the features of n pictures [n, projection], each of length 1. at(i) is picture i; it is called from
// several goroutines.
func (s *SciScore) ImageFeatures(ctx context.Context, n int, at func(i int) (*picture.Picture, error)) ([]float32, error) {
	c := s.model.Config
	per := c.Vision.Patches() * c.Vision.PatchWidth()
	patches := make([]float32, min(n, s.batch)*per)
	features := make([]float32, 0, n*c.Projection)
	for from := 0; from < n; from += s.batch {
		count := min(s.batch, n-from)
		err := parallel(count, func(i int) error {
			p, err := at(from + i)
			if err != nil {
				return err
			}
			pixels, err := s.prep.Process(p)
			if err != nil {
				return fmt.Errorf("picture %d: %w", from+i, err)
			}
			c.Vision.Patchify(patches[i*per:(i+1)*per], pixels)
			return nil
		})
		if err != nil {
			return nil, err
		}
		part, err := s.model.ImageFeatures(ctx, patches[:count*per])
		if err != nil {
			return nil, err
		}
		features = append(features, part...)
	}
	return features, nil
}

// Score rates picture i for prompt i. Pictures are rounded to 8 bits first, as if they had been saved.
func (s *SciScore) Score(ctx context.Context, prompts []string, images Images) ([]float64, error) {
	return s.score(ctx, prompts, images.B, images.Picture)
}

// ScorePictures rates 8-bit picture at(i) for prompt i. at is called from several goroutines, so reading files in it costs
// little.
func (s *SciScore) ScorePictures(ctx context.Context, prompts []string, at func(i int) (*picture.Picture, error)) ([]float64, error) {
	return s.score(ctx, prompts, len(prompts), at)
}

func (s *SciScore) score(ctx context.Context, prompts []string, n int, at func(i int) (*picture.Picture, error)) ([]float64, error) {
	if len(prompts) != n {
		return nil, fmt.Errorf("score %d pictures for %d prompts: give one prompt for each picture", n, len(prompts))
	}
	features, err := s.ImageFeatures(ctx, n, at)
	if err != nil {
		return nil, fmt.Errorf("score pictures: %w", err)
	}
	scores, width := make([]float64, n), s.model.Config.Projection
	for i, prompt := range prompts {
		text, err := s.TextFeatures(ctx, prompt)
		if err != nil {
			return nil, fmt.Errorf("score pictures: prompt %d: %w", i, err)
		}
		scores[i] = s.Similarity(text, features[i*width:(i+1)*width])
		if math.IsNaN(scores[i]) || math.IsInf(scores[i], 0) {
			return nil, &NonFiniteError{Picture: i, Prompt: prompt, Value: scores[i]}
		}
	}
	return scores, nil
}

// Similarity is the score of features.
func (s *SciScore) Similarity(text, image []float32) float64 { return s.model.Score(text, image) }

// parallel runs f for 0 … n-1 on all processors and returns the error of the lowest index that has one.
func parallel(n int, f func(i int) error) error {
	errs := make([]error, n)
	var next atomic.Int64
	var wait sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wait.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				errs[i] = f(i)
			}
		})
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
