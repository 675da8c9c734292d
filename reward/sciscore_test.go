package reward

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/reference"
	"github.com/sciflux/sciflux/picture"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/run"
)

const sciscoreFolder = "../testdata/golden/sciscore_model" // pictures of 32 px

func scorer(t *testing.T, o SciScoreOptions) (*SciScore, engine.Backend) {
	t.Helper()
	be := reference.New()
	s, err := OpenSciScore(sciscoreFolder, be, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		if live, _ := be.Memory(); live != 0 {
			t.Errorf("%d bytes are still allocated", live)
		}
	})
	return s, be
}

// noisy are B random pictures, some values outside [0, 1].
func noisy(b, h, w int) Images {
	m := Images{Data: make([]float32, b*3*h*w), B: b, H: h, W: w}
	key := random.New(11)
	for i := range m.Data {
		m.Data[i] = float32(key.Float64(uint64(i)))*1.1 - 0.05
	}
	return m
}

func TestScoresDoNotDependOnTheBatch(t *testing.T) {
	ctx := context.Background()
	images := noisy(7, 40, 35)
	prompts := []string{"an apple", "rust", "an apple", "", "snow", "rust", "ice"}
	whole, _ := scorer(t, SciScoreOptions{})
	want, err := whole.Score(ctx, prompts, images)
	if err != nil {
		t.Fatal(err)
	}
	three, _ := scorer(t, SciScoreOptions{Batch: 3})
	got, err := three.Score(ctx, prompts, images)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if math.Abs(got[i]-want[i]) > 1e-4 {
			t.Errorf("picture %d scores %g three at a time, %g all at once", i, got[i], want[i])
		}
	}
	if want[0] == want[2] {
		t.Error("two pictures have the same score for one prompt")
	}
	one := Images{Data: images.Data[4*3*40*35 : 5*3*40*35], B: 1, H: 40, W: 35}
	if got, err = three.Score(ctx, prompts[4:5], one); err != nil || math.Abs(got[0]-want[4]) > 1e-4 {
		t.Errorf("alone picture 4 scores %v, beside others %g: %v", got, want[4], err)
	}
}

func TestSavedPicturesScoreTheSame(t *testing.T) {
	ctx := context.Background()
	s, _ := scorer(t, SciScoreOptions{})
	images := noisy(3, 36, 50)
	prompts := []string{"an apple", "rust", "snow"}
	want, err := s.Score(ctx, prompts, images)
	if err != nil {
		t.Fatal(err)
	}
	saved := make([]*picture.Picture, images.B)
	for i := range saved {
		p, err := images.Picture(i)
		if err != nil {
			t.Fatal(err)
		}
		file, err := p.PNG()
		if err != nil {
			t.Fatal(err)
		}
		if saved[i], err = picture.Decode(file); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.ScorePictures(ctx, prompts, func(i int) (*picture.Picture, error) { return saved[i], nil })
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("picture %d scores %g saved, %g as numbers", i, got[i], want[i])
		}
	}
}

func TestPromptsAreEncodedOnce(t *testing.T) {
	ctx := context.Background()
	s, _ := scorer(t, SciScoreOptions{})
	first, err := s.TextFeatures(ctx, "an unripe apple")
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.TextFeatures(ctx, "an unripe apple")
	if err != nil {
		t.Fatal(err)
	}
	if &first[0] != &again[0] || len(s.text) != 1 {
		t.Error("a prompt was encoded twice")
	}
	long := strings.Repeat("apple ", 200)
	if ids := s.Tokens(long); len(ids) != 77 || ids[76] != 538 {
		t.Errorf("a long prompt has %d ids ending in %d, want 77 ending in 538", len(ids), ids[len(ids)-1])
	}
}

func TestBadPicturesAndPrompts(t *testing.T) {
	s, _ := scorer(t, SciScoreOptions{Batch: 2})
	ctx := context.Background()
	if _, err := s.Score(ctx, []string{"one"}, noisy(2, 32, 32)); err == nil || !strings.Contains(err.Error(), "2 pictures for 1 prompts") {
		t.Errorf("one prompt for two pictures: %v", err)
	}
	broken := noisy(3, 32, 32)
	broken.Data[2*3*32*32] = float32(math.NaN())
	if _, err := s.Score(ctx, []string{"a", "b", "c"}, broken); err == nil || !strings.Contains(err.Error(), "not a number") {
		t.Errorf("NaN: %v", err)
	}
	short := noisy(2, 32, 32)
	short.Data = short.Data[1:]
	if _, err := s.Score(ctx, []string{"a", "b"}, short); err == nil {
		t.Error("a value too few is accepted")
	}
	if scores, err := s.Score(ctx, nil, Images{}); err != nil || len(scores) != 0 {
		t.Errorf("no pictures: %v, %v", scores, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Score(ctx, []string{"a"}, noisy(1, 32, 32)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestScoresAreFinite: a score that is NaN or infinite is an error that names its picture, never a number to compare.
func TestScoresAreFinite(t *testing.T) {
	s, _ := scorer(t, SciScoreOptions{Batch: 2})
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		broken := make([]float32, s.model.Config.Projection)
		for i := range broken {
			broken[i] = float32(bad)
		}
		s.text["rust"] = broken // as a text tower of bad weights leaves it
		_, err := s.Score(context.Background(), []string{"an apple", "snow", "rust"}, noisy(3, 32, 32))
		var refused *NonFiniteError
		if !errors.As(err, &refused) || refused.Picture != 2 || refused.Prompt != "rust" || !strings.Contains(err.Error(), "picture 2") {
			t.Errorf("%v in the features: error %v", bad, err)
		}
	}
}

func TestOpenSciScoreSaysWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(dir string) error
		says   string
	}{
		"no weights":      {func(dir string) error { return os.Remove(filepath.Join(dir, "model.safetensors")) }, "model.safetensors"},
		"no preprocessor": {func(dir string) error { return os.Remove(filepath.Join(dir, "preprocessor_config.json")) }, "preprocessor_config.json"},
		"no vocabulary": {func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "vocab.json")), os.Remove(filepath.Join(dir, "merges.txt")), os.Remove(filepath.Join(dir, "tokenizer.json")))
		}, "tokenizer"},
		"another size": {func(dir string) error {
			return change(filepath.Join(dir, "preprocessor_config.json"), `"width": 32`, `"width": 48`)
		}, "48×32"},
		"another vocabulary": {func(dir string) error {
			return change(filepath.Join(dir, "config.json"), `"vocab_size": 539`, `"vocab_size": 500`)
		}, "token_embedding"},
	} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(sciscoreFolder)); err != nil {
			t.Fatal(err)
		}
		if err := c.damage(dir); err != nil {
			t.Fatal(err)
		}
		s, err := OpenSciScore(dir, reference.New(), SciScoreOptions{})
		if err == nil {
			s.Close()
		}
		if run.ClassOf(err) != run.ClassModel || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want mention of %q", name, err, c.says)
		}
	}
}

// TestFolderOfTransformers5: without the files that it no longer writes the scores are the same.
func TestFolderOfTransformers5(t *testing.T) {
	ctx, prompts := context.Background(), []string{"an unripe apple", "a rusty nail 果"}
	score := func(dir string) []float64 {
		t.Helper()
		s, err := OpenSciScore(dir, reference.New(), SciScoreOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		scores, err := s.Score(ctx, prompts, noisy(2, 40, 32))
		if err != nil {
			t.Fatal(err)
		}
		long := strings.Repeat("nail ", 200)
		if n := s.Truncated([]string{"nail", long, long}); n != 1 || len(s.Tokens(long)) != s.MaxTokens() || len(s.Notes()) != 0 {
			t.Errorf("%d prompts are too long, notes %q", n, s.Notes())
		}
		return scores
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(sciscoreFolder)); err != nil {
		t.Fatal(err)
	}
	settings, err := os.ReadFile(filepath.Join(dir, "preprocessor_config.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{"preprocessor_config.json", "vocab.json", "merges.txt", "special_tokens_map.json"} {
		if err := os.Remove(filepath.Join(dir, gone)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "processor_config.json"), []byte(`{"image_processor": `+string(settings)+`}`),
		0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := score(dir), score(sciscoreFolder); !slices.Equal(got, want) {
		t.Errorf("scores %v, want %v", got, want)
	}
}

func change(path, old, new string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(strings.Replace(string(text), old, new, 1)), 0o600)
}

func TestParallelReportsTheFirstFailure(t *testing.T) {
	err := parallel(50, func(i int) error {
		if i%7 == 3 {
			return errors.New(strings.Repeat("x", i))
		}
		return nil
	})
	if err == nil || err.Error() != "xxx" {
		t.Errorf("error %v, want that of index 3", err)
	}
}

// The tiny scorer that comes with the repository loads like any other.
func TestWorldSciScore(t *testing.T) {
	const world = "../models/world-sciscore"
	if _, err := os.Stat(world); err != nil {
		t.Skip("the world's models are not in this tree")
	}
	s, err := OpenSciScore(world, reference.New(), SciScoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	scores, err := s.Score(context.Background(), []string{"an unripe apple", "an unripe apple"}, noisy(2, 64, 64))
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range scores {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			t.Errorf("picture %d scores %g", i, v)
		}
	}
}
