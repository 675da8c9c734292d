package models

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/cpu"
	builtin "github.com/sciflux/sciflux/models"
	"github.com/sciflux/sciflux/reward"
)

// counting is a backend that counts calls of Linear.
type counting struct {
	engine.Backend
	linear int
}

func (c *counting) Linear(y, x engine.View, w *engine.Weight, bias []float32, beta float32) {
	c.linear++
	c.Backend.Linear(y, x, w, bias, beta)
}

// TestPromptsReachTheNetworkByBothEncoders: T5's states and CLIP's pooled ones, a row each, to the length asked for.
func TestPromptsReachTheNetworkByBothEncoders(t *testing.T) {
	be, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	s := openWorld(t, NewKeeper(be, builtin.Files, t.TempDir(), 0), "seed=1")
	prompts := []string{"an unripe apple", "a rusty nail"}
	for _, tokens := range []int{7, 16} {
		text, pooled, err := s.Pipeline.EncodePrompts(t.Context(), prompts, tokens)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Conditioning(t.Context(), prompts, tokens)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Text, text.Floats()) || !slices.Equal(got.Pooled, pooled.Floats()) || slices.Max(got.Pooled) == 0 {
			t.Errorf("%d tokens: the network sees other values than the encoders gave", tokens)
		}
	}
}

// TestScorerTakesPicturesTogether: reward.batch pictures go through the vision tower in one call.
func TestScorerTakesPicturesTogether(t *testing.T) {
	calls := func(batch string) int {
		be, err := cpu.New(cpu.Options{Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		c := &counting{Backend: be}
		s := openWorld(t, NewKeeper(c, builtin.Files, t.TempDir(), 0), "reward.batch="+batch)
		c.linear = 0
		images := reward.Images{B: 6, H: 64, W: 64, Data: make([]float32, 6*3*64*64)}
		if _, err := s.Scorer.Score(t.Context(), make([]string, 6), images); err != nil {
			t.Fatal(err)
		}
		return c.linear
	}
	one, three, six := calls("1"), calls("3"), calls("6")
	if text := 2*three - one; one <= three || three <= six || one-three != 4*(three-six) {
		t.Errorf("six pictures one by one, in threes and together take %d, %d and %d calls (%d)", one, three, six, text)
	}
}

// TestScorerIsTheOneThatIsNamed: a folder that reward.sciscore names is opened, and no other.
func TestScorerIsTheOneThatIsNamed(t *testing.T) {
	be, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := configs.Load(configs.Sources{Name: "world"})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Reward.SciScore = filepath.Join(t.TempDir(), "scorer-of-mine")
	_, err = NewKeeper(be, builtin.Files, t.TempDir(), 0).Open(t.Context(), cfg, func(string) {})
	if err == nil || !strings.Contains(err.Error(), "scorer-of-mine") {
		t.Errorf("a scorer that is not there: %v", err)
	}
}

// TestTheWholePromptIsScored: prompts of one length that differ in their last word alone have other scores for the same
// picture, and each picture has its own.
func TestTheWholePromptIsScored(t *testing.T) {
	be, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	s := openWorld(t, NewKeeper(be, builtin.Files, t.TempDir(), 0), "reward.batch=2")
	images := reward.Images{B: 3, H: 64, W: 64, Data: make([]float32, 3*3*64*64)}
	for i := range images.Data {
		images.Data[i] = float32(i%(7+i/(3*64*64))) / 10
	}
	scores := func(order ...int) (out []float64) {
		prompts := []string{"a photo of an apple that is green", "a photo of an apple that is brown", "a photo of an apple that is brown"}
		some, texts := reward.Images{H: 64, W: 64}, []string{}
		for _, i := range order {
			some, texts = some.Join(images.Slice(i, i+1)), append(texts, prompts[i])
		}
		out, err := s.Scorer.Score(t.Context(), texts, some)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	same := reward.Images{B: 2, H: 64, W: 64, Data: append(slices.Clone(images.Slice(0, 1).Data), images.Slice(0, 1).Data...)}
	two, err := s.Scorer.Score(t.Context(), []string{"a photo of an apple that is green", "a photo of an apple that is brown"}, same)
	if err != nil || math.Abs(two[0]-two[1]) < 1e-3 {
		t.Errorf("one picture scores %v for two prompts (%v)", two, err)
	}
	forth, back := scores(0, 1, 2), scores(2, 1, 0)
	for i := range forth {
		if math.Abs(forth[i]-back[2-i]) > 1e-3 || i > 0 && math.Abs(forth[i]-forth[i-1]) < 1e-3 {
			t.Errorf("three pictures score %v, in reverse order %v", forth, back)
		}
	}
}
