package sampling

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/dataset/world"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/worker/data"
	"github.com/sciflux/sciflux/worker/models"
	"github.com/sciflux/sciflux/worker/pairs"
)

// listener is a scorer that remembers what it was asked, call by call. A picture's score is its first pixel.
type listener struct{ calls []string }

func (l *listener) Score(ctx context.Context, texts []string, images reward.Images) ([]float64, error) {
	scores, err := ruler{}.Score(ctx, texts, images)
	l.calls = append(l.calls, fmt.Sprint(texts, scores))
	return scores, err
}

// looker is a detector that remembers which object it was asked for in which picture. It finds a box as wide as the
// picture's first pixel.
type looker struct{ asked []string }

func (l *looker) Detect(_ context.Context, images reward.Images, objects []string) ([][]flow.Box, error) {
	found := make([][]flow.Box, images.B)
	for b := range found {
		first := images.Slice(b, b+1).Data[0]
		l.asked = append(l.asked, fmt.Sprintf("%s in %g", objects[b], first))
		found[b] = []flow.Box{{CX: 0.5, CY: 0.5, W: first / 10, H: 0.25}}
	}
	return found, nil
}

// TestPicturesAreScoredForTheirPrompt: each picture against its own prompt's text, in the groups in which pictures were
// drawn; its subject by its own prompt's object; scores and subjects go to the prompt and sample they belong to.
func TestPicturesAreScoredForTheirPrompt(t *testing.T) {
	heard, seen := &listener{}, &looker{}
	r := bare(t, "oft.mask.policy=detector", "oft.images_per_prompt=2", "oft.prompts_per_epoch=4", "oft.accumulate_pairs=1",
		"model.text_tokens=10", "model.batch_tokens=70") // four samples of 10 text and 6 picture tokens
	r.Models = &models.Set{Scorer: heard}
	rollouts := &pairs.Rollouts{Images: pixels(1, 2, 3, 4, 5, 6)}
	for i, object := range []string{"apple", "stone", "nail"} {
		rollouts.Prompts = append(rollouts.Prompts, pairs.Prompt{Number: 7 + i, Text: "an old " + object, Object: object})
	}
	sc, err := score(t.Context(), r, rollouts, seen, func() {})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"[an old apple an old apple an old stone an old stone] [1 2 3 4]", "[an old nail an old nail] [5 6]"}
	if !slices.Equal(heard.calls, want) {
		t.Errorf("the scorer was asked %q, want %q", heard.calls, want)
	}
	if want := "apple in 1, apple in 2, stone in 3, stone in 4, nail in 5, nail in 6"; strings.Join(seen.asked, ", ") != want {
		t.Errorf("the detector was asked for %q, want %s", seen.asked, want)
	}
	if got := fmt.Sprint(sc.Rewards); got != "[[1 2] [3 4] [5 6]]" {
		t.Errorf("rewards %s", got)
	}
	for p, subjects := range sc.Subjects {
		for k, s := range subjects {
			if want := float32(2*p+k+1) / 10; len(s.Found) != 1 || s.Found[0].W != want || s.Found[0].H != 0.25 {
				t.Errorf("picture %d of prompt %d has the subject %+v, want a width of %g", k, p, s.Found, want)
			}
		}
	}
	if s := sc.Summary; s.Pairs != 3 || s.RewardMean != 3.5 || s.RewardBest != 4 || s.Masks.Total != 6 {
		t.Errorf("summary %+v", s)
	}
}

// TestTheWorldsDetectorKnowsItsTuples: it looks in each picture for the subject of the prompt's row, and says where it is.
func TestTheWorldsDetectorKnowsItsTuples(t *testing.T) {
	const side = 32
	r := bare(t, "oft.images_per_prompt=2")
	var tuples []world.Tuple
	for _, drawn := range world.Tuples(world.Train, 3, 40) {
		if b := drawn.Box(); b.H-b.W > 0.1 || b.W-b.H > 0.1 { // no square, so that its sides can be told apart
			tuples = append(tuples, drawn)
		}
	}
	r.Data = &data.Set{Judge: world.NewJudge()}
	for _, drawn := range tuples[:4] {
		r.Data.Rows = append(r.Data.Rows, data.Row{Tuple: drawn})
	}
	if r.Data.Rows[1].Tuple.Task == r.Data.Rows[3].Tuple.Task {
		t.Fatalf("both tuples are of %s", tuples[1].Task)
	}
	prompts := []pairs.Prompt{{Number: 4, Row: 3, Object: "x"}, {Number: 5, Row: 1, Object: "y"}}
	images := reward.Images{H: side, W: side}
	var want []world.Box
	for _, p := range prompts {
		for range 2 {
			drawn := r.Data.Rows[p.Row].Tuple
			want = append(want, drawn.Box())
			images.Data, images.B = append(images.Data, planes(drawn.Draw(len(want)%2 == 0, side))...), images.B+1
		}
	}
	found, err := detectorOf(r, prompts).Detect(t.Context(), images, make([]string, 4))
	if err != nil {
		t.Fatal(err)
	}
	for b, w := range want {
		if len(found[b]) != 1 {
			t.Fatalf("picture %d: %d boxes", b, len(found[b]))
		}
		got := found[b][0]
		for _, d := range []float64{float64(got.CX) - w.CX, float64(got.CY) - w.CY, float64(got.W) - w.W, float64(got.H) - w.H} {
			if d > 0.06 || d < -0.06 {
				t.Errorf("picture %d: off by %.3f: %+v, drawn %+v", b, d, got, w)
			}
		}
	}
	r.Data.Judge = nil
	if detectorOf(r, prompts) != nil {
		t.Error("pictures that are not the world's have a detector")
	}
}

// planes are a picture as a pipeline decodes it.
func planes(p world.Picture) []float32 {
	n := p.Side * p.Side
	out := make([]float32, 3*n)
	for i, v := range p.Pix {
		out[i%3*n+i/3] = float32(v) / 255
	}
	return out
}
