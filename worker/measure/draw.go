package measure

import (
	"context"
	"fmt"

	"github.com/sciflux/sciflux/dataset/world"
	"github.com/sciflux/sciflux/eval"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/trainer"
	"github.com/sciflux/sciflux/worker/data"
	"github.com/sciflux/sciflux/worker/opened"
	"github.com/sciflux/sciflux/worker/recipe"
)

// picture is one picture to be drawn.
type picture struct {
	prompt string
	noises recipe.Noises
}

// draw generates n pictures of each row's prompt of a kind, row-major. first is the index of the first row in its split,
// which keys the noises.
func (w work) draw(ctx context.Context, rows []data.Row, first int, kind eval.Kind, n int) (reward.Images, error) {
	r := w.run
	var wanted []picture
	for i, row := range rows {
		for k := range n {
			wanted = append(wanted, picture{row.Prompt(kind), r.Recipe.EvalNoise(kind, first+i, k)})
		}
	}
	var all reward.Images
	for len(wanted) > 0 {
		batch := wanted[:min(r.Recipe.Batch(), len(wanted))]
		images, err := w.drawBatch(ctx, batch)
		if err != nil {
			return all, err
		}
		all, wanted = all.Join(images), wanted[len(batch):]
	}
	return all, nil
}

func (w work) drawBatch(ctx context.Context, batch []picture) (reward.Images, error) {
	r := w.run
	size := r.Recipe.LatentSize()
	start, texts := make([]float32, len(batch)*size), make([]string, len(batch))
	for b, p := range batch {
		texts[b] = p.prompt
		p.noises.Start().Normal(start[b*size : (b+1)*size])
	}
	cond, err := r.Models.Conditioning(ctx, texts, r.Recipe.TextTokens())
	if err != nil {
		return reward.Images{}, err
	}
	noise := func(step int, dst []float32) {
		for b, p := range batch {
			p.noises.Step(step).Normal(dst[b*size : (b+1)*size])
		}
	}
	set := r.Recipe.EvalSetting()
	set.OnCall = w.monitor.Alive
	t, err := trainer.Rollout(ctx, r.Models.Backend, r.Models.Pipeline.Transformer, w.adapter, set, r.Recipe.EvalPlan(), start, len(batch), cond, noise)
	if err != nil {
		return reward.Images{}, err
	}
	return r.Models.Decode(ctx, t.Latents[len(t.Latents)-1], len(batch), r.Recipe.Grid)
}

// assess scores pictures against the implicit prompt of their tuple and asks the judge where there is one.
func assess(ctx context.Context, r *opened.Run, tuples []eval.Tuple, rows []data.Row, kind eval.Kind, n int, images reward.Images) error {
	texts := make([]string, 0, images.B)
	for _, row := range rows {
		for range n {
			texts = append(texts, row.Prompt(eval.Implicit))
		}
	}
	scores, err := r.Models.Scorer.Score(ctx, texts, images)
	if err != nil {
		return err
	}
	for b, score := range scores {
		p := eval.Picture{Score: score}
		if judge := r.Data.Judge; judge != nil && rows[b/n].World {
			one := images.Slice(b, b+1)
			j, err := judge.Judge(world.FromPlanes(one.Data, one.W), rows[b/n].Tuple)
			if err != nil {
				return fmt.Errorf("judge picture of %s: %w", rows[b/n].ID, err)
			}
			p.Verdict, p.Outside = j.Verdict.String(), j.Outside
			if j.Found {
				p.Box = &[4]float64{j.Box.CX, j.Box.CY, j.Box.W, j.Box.H}
			}
		}
		tuples[b/n].Add(kind, p)
	}
	return nil
}
