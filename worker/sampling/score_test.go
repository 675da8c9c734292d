package sampling

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/trainer"
	"github.com/sciflux/sciflux/worker/models"
	"github.com/sciflux/sciflux/worker/opened"
	"github.com/sciflux/sciflux/worker/pairs"
	"github.com/sciflux/sciflux/worker/recipe"
)

// bare is an opened run with a config and a scorer and nothing else.
func bare(t *testing.T, set ...string) *opened.Run {
	t.Helper()
	cfg, err := configs.Load(configs.Sources{Name: "world", Set: set})
	if err != nil {
		t.Fatal(err)
	}
	facts := recipe.Facts{Scheduler: flow.DefaultScheduler(), Grid: flow.Grid{Rows: 2, Columns: 3}}
	return &opened.Run{Recipe: recipe.Recipe{Config: cfg, Facts: facts}, Models: &models.Set{Scorer: ruler{}}}
}

// ruler is a scorer whose scores are the first pixel of each picture.
type ruler struct{}

func (ruler) Score(_ context.Context, _ []string, images reward.Images) ([]float64, error) {
	out := make([]float64, images.B)
	for b := range out {
		out[b] = float64(images.Slice(b, b+1).Data[0])
	}
	return out, nil
}

// pixels are pictures of 4×4 whose first pixel is given.
func pixels(first ...float32) reward.Images {
	m := reward.Images{B: len(first), H: 4, W: 4, Data: make([]float32, len(first)*48)}
	for b, v := range first {
		m.Data[b*48] = v
	}
	return m
}

// nowhere is a detector that finds a subject in pictures whose first pixel is above 0.
type nowhere struct{}

func (nowhere) Detect(_ context.Context, images reward.Images, _ []string) ([][]flow.Box, error) {
	found := make([][]flow.Box, images.B)
	for b := range found {
		if images.Data[b*48] > 0 {
			found[b] = []flow.Box{{CX: 0.5, CY: 0.5, W: 0.4, H: 0.4}}
		}
	}
	return found, nil
}

// TestPicturesWithoutASubject: what the policies full, skip and stop make of pictures in which the detector finds
// nothing, from the scores of a shard to what training sees.
func TestPicturesWithoutASubject(t *testing.T) {
	r := &pairs.Rollouts{Prompts: []pairs.Prompt{{Text: "a", Object: "apple", Row: 0}, {Text: "b", Object: "stone", Row: 1}}, Images: pixels(0.5, 0.7, 0.6, -1)}
	for _, c := range []struct {
		onEmpty string
		masks   run.Masks
		rewards []float64 // of the second pair, as trained
		fails   string
	}{
		{reward.EmptyFull, run.Masks{Total: 4, Missing: 1, Full: 1}, []float64{0.6, -1}, ""},
		{reward.EmptySkip, run.Masks{Total: 4, Missing: 1, Full: 1}, []float64{0, 0}, ""},
		{reward.EmptyStop, run.Masks{}, nil, `no "stone" found`},
	} {
		d := bare(t, "oft.mask.policy=detector", "oft.mask.on_empty="+c.onEmpty, "oft.images_per_prompt=2")
		sc, err := score(t.Context(), d, r, nowhere{}, func() {})
		if c.fails != "" {
			if run.ClassOf(err) != run.ClassData || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: %v of class %s", c.onEmpty, err, run.ClassOf(err))
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if sc.Summary.Masks != c.masks || sc.Summary.Pairs != 2 {
			t.Errorf("%s: %+v, want masks %+v", c.onEmpty, sc.Summary, c.masks)
		}
		var back pairs.Scores // as training reads it
		text, err := json.Marshal(sc)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		pair := func(p int) trainer.Pair {
			return d.Recipe.Pair(0, [][][]float32{{{1}}, {{1}}}, back.Rewards[p], back.Subjects[p])
		}
		first, second := pair(0), pair(1)
		near := func(a, b []float64) bool {
			return slices.EqualFunc(a, b, func(x, y float64) bool { return math.Abs(x-y) < 1e-6 })
		}
		if !near(second.Rewards, c.rewards) || !near(first.Rewards, []float64{0.5, 0.7}) {
			t.Errorf("%s: rewards %v and %v, want 0.5, 0.7 and %v", c.onEmpty, first.Rewards, second.Rewards, c.rewards)
		}
		if second.Masks[1].Kept() != 1 || second.Masks[0].Kept() == 1 {
			t.Errorf("%s: a picture without a subject keeps %v, one with %v", c.onEmpty, second.Masks[1].Kept(), second.Masks[0].Kept())
		}
	}
}
