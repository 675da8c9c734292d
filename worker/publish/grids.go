package publish

import (
	"context"

	"github.com/sciflux/sciflux/eval"
	"github.com/sciflux/sciflux/report"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/worker/measure"
	"github.com/sciflux/sciflux/worker/opened"
	"github.com/sciflux/sciflux/worker/pairs"
	"github.com/sciflux/sciflux/worker/sampling"
)

// gridOf lays the pictures of a split side by side: what SP and EP look like, then the implicit prompt by each variant.
func gridOf(ctx context.Context, r *opened.Run, split measure.Split) (report.Grid, error) {
	g := report.Grid{Title: "Before and after, " + split.Name, Columns: []string{"base, superficial prompt", "base, explicit prompt"},
		About: "Each row is one held-out tuple; implicit-prompt pictures of a row start from the same noise in every column. The number is the SciScore against the implicit prompt, the box is where the subject was found."}
	rows, err := r.Data.Test(ctx, split.Name)
	if err != nil {
		return g, err
	}
	var variants []run.Variant
	for _, v := range run.Variants() {
		if split.Parts[v] != nil {
			variants = append(variants, v)
			g.Columns = append(g.Columns, report.VariantName(v))
		}
	}
	base := split.Parts[run.VariantBase]
	if base == nil {
		return g, nil
	}
	for i, t := range base.Tuples {
		if base.Implicit[t.Index] == nil {
			continue
		}
		row := report.Row{Prompt: rows[t.Index].Prompt(eval.Implicit), Note: t.Law, Pictures: []report.Picture{
			cell(base.Superficial[t.Index], t.Superficial, "superficial prompt", false), cell(base.Explicit[t.Index], t.Explicit, "explicit prompt", false)}}
		for _, v := range variants {
			part := split.Parts[v]
			if i < len(part.Tuples) {
				row.Pictures = append(row.Pictures, cell(part.Implicit[t.Index], part.Tuples[i].Implicit, "implicit prompt, "+report.VariantName(v), true))
			}
		}
		g.Rows = append(g.Rows, row)
	}
	return g, nil
}

func cell(png []byte, measured []eval.Picture, alt string, box bool) report.Picture {
	p := report.Picture{PNG: png, Alt: alt}
	if len(measured) > 0 {
		p.Verdict, p.Score, p.Scored = measured[0].Verdict, measured[0].Score, true
		if b := measured[0].Box; b != nil && box {
			p.Box = &report.Box{CX: b[0], CY: b[1], W: b[2], H: b[3]}
		}
	}
	return p
}

// maskPairs bounds the pairs of the last epoch that the report shows.
const maskPairs = 6

// maskGrid shows the last epoch's pairs with the boxes that the preference counted in.
func maskGrid(ctx context.Context, r *opened.Run, state run.State) (report.Grid, error) {
	g := report.Grid{Title: "Pairs of the last epoch", Columns: []string{"sample 1", "sample 2"},
		About: "What stage 2 compared: two pictures of one prompt, their scores, and the mask inside which the preference counted."}
	rollouts, scores, err := lastPairs(ctx, r, state)
	if rollouts == nil || err != nil {
		return g, err
	}
	for p := range rollouts.Prompts[:min(maskPairs, len(rollouts.Prompts), len(scores.Rewards))] {
		row := report.Row{Prompt: rollouts.Prompts[p].Text}
		for k := range min(len(g.Columns), len(scores.Rewards[p])) {
			pic, err := rollouts.Images.Picture(p*len(scores.Rewards[p]) + k)
			if err != nil {
				return g, err
			}
			png, err := pic.PNG()
			if err != nil {
				return g, err
			}
			cell := report.Picture{PNG: png, Alt: "sample", Score: scores.Rewards[p][k], Scored: true}
			if s := scores.Subjects[p][k]; s.Masked {
				cell.Box = &report.Box{CX: float64(s.Box.CX), CY: float64(s.Box.CY), W: float64(s.Box.W), H: float64(s.Box.H)}
			}
			row.Pictures = append(row.Pictures, cell)
		}
		g.Rows = append(g.Rows, row)
	}
	return g, nil
}

// lastPairs is the first shard of the last epoch that was trained; nil when there is none, or it is not kept any more.
func lastPairs(ctx context.Context, r *opened.Run, state run.State) (*pairs.Rollouts, pairs.Scores, error) {
	epoch := 0
	for _, c := range state.Checkpoints {
		if c.Stage == run.StageOFT {
			epoch = max(epoch, c.Epoch)
		}
	}
	if epoch == 0 {
		return nil, pairs.Scores{}, nil
	}
	keys := run.Keys(r.Job.Run)
	at, ok, err := store.Finished(ctx, r.Objects, keys.Pairs(epoch-1, 0, sampling.Rollouts(r.Recipe.Config.Worker.Shards)))
	if !ok {
		return nil, pairs.Scores{}, err
	}
	rated, ok, err := store.Finished(ctx, r.Objects, keys.Pairs(epoch-1, 0, sampling.Scores(r.Recipe.Config.Worker.Shards)))
	if !ok {
		return nil, pairs.Scores{}, err
	}
	rollouts, err := pairs.ReadRollouts(ctx, r.Objects, at)
	if err != nil {
		return nil, pairs.Scores{}, err
	}
	scores, err := pairs.ReadScores(ctx, r.Objects, rated)
	return rollouts, scores, err
}
