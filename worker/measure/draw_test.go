package measure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/eval"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/worker/data"
	"github.com/sciflux/sciflux/worker/data/datatest"
	"github.com/sciflux/sciflux/worker/models"
	"github.com/sciflux/sciflux/worker/opened"
	"github.com/sciflux/sciflux/worker/recipe"
)

// bare is an opened run with rows and a scorer and nothing else.
func bare(rows int, scorer reward.Scorer) *opened.Run {
	cfg, err := configs.Load(configs.Sources{Name: "world"})
	if err != nil {
		panic(err)
	}
	all, prompts := datatest.Rows(rows)
	return &opened.Run{Recipe: recipe.Recipe{Config: cfg}, Models: &models.Set{Scorer: scorer}, Data: &data.Set{Rows: all, Prompts: prompts}}
}

// ruler is a scorer whose scores are the first pixel of each picture; it remembers the prompts.
type ruler struct {
	prompts []string
	err     error
}

func (r *ruler) Score(_ context.Context, prompts []string, images reward.Images) ([]float64, error) {
	r.prompts = append(r.prompts, prompts...)
	out := make([]float64, images.B)
	for b := range out {
		out[b] = float64(images.Data[b*3*images.H*images.W])
	}
	return out, r.err
}

// pixels are pictures of 4×4 whose first pixel is given.
func pixels(first ...float32) reward.Images {
	m := reward.Images{B: len(first), H: 4, W: 4, Data: make([]float32, len(first)*48)}
	for b, v := range first {
		m.Data[b*48] = v
	}
	return m
}

// TestPicturesAreScoredAgainstTheImplicitPrompt: whatever prompt drew them, and each goes to its own tuple.
func TestPicturesAreScoredAgainstTheImplicitPrompt(t *testing.T) {
	r := &ruler{}
	d := bare(3, r)
	for _, kind := range eval.Kinds() {
		r.prompts = nil
		tuples := make([]eval.Tuple, 3)
		if err := assess(t.Context(), d, tuples, d.Data.Rows, kind, 2, pixels(1, 2, 3, 4, 5, 6)); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(r.prompts); got != "[implicit 0 implicit 0 implicit 1 implicit 1 implicit 2 implicit 2]" {
			t.Errorf("%s: scored against %s", kind, got)
		}
		for i, tuple := range tuples {
			pictures := map[eval.Kind][]eval.Picture{eval.Implicit: tuple.Implicit, eval.Explicit: tuple.Explicit, eval.Superficial: tuple.Superficial}
			for k, p := range pictures {
				if k == kind && (len(p) != 2 || p[0].Score != float64(2*i+1) || p[1].Score != float64(2*i+2)) || k != kind && len(p) > 0 {
					t.Errorf("%s: tuple %d has %s pictures %+v", kind, i, k, p)
				}
			}
		}
	}
	r.err = errors.New("out of order")
	if err := assess(t.Context(), d, make([]eval.Tuple, 3), d.Data.Rows, eval.Implicit, 1, pixels(1, 2, 3)); !errors.Is(err, r.err) {
		t.Errorf("%v", err)
	}
}

// TestShownPictures: the first of each tuple, base alone for explicit and superficial ones, no more than the report shows.
func TestShownPictures(t *testing.T) {
	const rows = 3
	m := newPart()
	for _, k := range eval.Kinds() {
		if err := m.show(pixels(0, 1, 0, 1, 0, 1), rows, shownTuples-2, k, 2, run.VariantBase); err != nil {
			t.Fatal(err)
		}
	}
	for name, shown := range map[string]map[int][]byte{"implicit": m.Implicit, "explicit": m.Explicit, "superficial": m.Superficial} {
		if len(shown) != 2 || !bytes.HasPrefix(shown[shownTuples-1], []byte("\x89PNG")) {
			t.Errorf("%s: %d pictures", name, len(shown))
		}
	}
	tuned := newPart()
	for _, k := range eval.Kinds() {
		if err := tuned.show(pixels(0, 1, 0), rows, 0, k, 1, run.VariantSFT); err != nil {
			t.Fatal(err)
		}
	}
	if len(tuned.Implicit) != 3 || len(tuned.Explicit)+len(tuned.Superficial) != 0 {
		t.Errorf("of a tuned variant: %d, %d and %d pictures", len(tuned.Implicit), len(tuned.Explicit), len(tuned.Superficial))
	}
}
