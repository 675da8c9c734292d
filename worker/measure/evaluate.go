// Package measure evaluates a variant of the model on held-out prompts: it draws pictures from fixed noises, has them
// scored and judged, and reduces what was measured to results.
package measure

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/eval"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/worker/checkpoint"
	"github.com/sciflux/sciflux/worker/data"
	"github.com/sciflux/sciflux/worker/opened"
)

// group is the number of tuples that are drawn together.
const group = 8

// Evaluate measures one shard of a split, or a few implicit prompts alone. See activities.Evaluator.
func Evaluate(ctx context.Context, r *opened.Run, c activities.EvalShard, m activities.Monitor) (activities.EvalPart, error) {
	part := activities.EvalPart{Variant: c.Variant, Split: c.Split}
	rows, err := r.Data.Test(ctx, c.Split)
	if err != nil {
		return part, err
	}
	w := work{run: r, shard: c, monitor: m, rows: rows}
	if c.Variant != run.VariantBase {
		if w.adapter, err = checkpoint.Evaluated(ctx, r, c.Checkpoint); err != nil {
			return part, err
		}
	}
	if c.Quick {
		part.Quick, err = w.quick(ctx)
		return part, err
	}
	w.key = fmt.Sprintf("%s%s-%s-%03d-of-%03d.json", run.Keys(c.Job.Run).Eval(), c.Variant, c.Split, c.Shard, c.Shards)
	ref, ok, err := store.Finished(ctx, r.Objects, w.key)
	if err != nil {
		return part, err
	}
	if ok {
		part.Data = ref
		w.tell(shardRows(len(rows), c), time.Now())
		return part, nil
	}
	out, err := w.all(ctx)
	if err != nil {
		return part, err
	}
	part.Data, err = store.Finish(ctx, r.Objects, w.key, func(w io.Writer) error { return json.NewEncoder(w).Encode(out) })
	return part, err
}

// work is one shard's evaluation.
type work struct {
	run     *opened.Run
	shard   activities.EvalShard
	monitor activities.Monitor
	rows    []data.Row    // of the split
	adapter *lora.Adapter // nil for the base
	key     string        // of the object with the result
}

// tell reports how many tuples of the shard are measured.
func (w work) tell(tuples int, since time.Time) {
	w.monitor.Report(run.Progress{Stage: run.StageEvaluate, Part: w.key, Step: tuples, StepsTotal: w.shard.Of * len(w.rows), Note: fmt.Sprintf("%s %s", w.shard.Variant, w.shard.Split),
		StepSeconds: time.Since(since).Seconds(), At: time.Now()})
}

// all measures every tuple of the shard, which takes every Shards-th group.
func (w work) all(ctx context.Context) (Part, error) {
	out := newPart()
	for from := w.shard.Shard * group; from < len(w.rows); from += w.shard.Shards * group {
		select {
		case <-w.monitor.Stopping():
			return out, run.ErrPreempted
		default:
		}
		start := time.Now()
		if err := w.measure(ctx, &out, w.rows[from:min(from+group, len(w.rows))], from); err != nil {
			return out, err
		}
		w.tell(len(out.Tuples), start)
	}
	return out, nil
}

// shardRows is the number of tuples of a shard.
func shardRows(rows int, c activities.EvalShard) (n int) {
	for from := c.Shard * group; from < rows; from += c.Shards * group {
		n += min(group, rows-from)
	}
	return n
}

// measure draws and measures some tuples, the first of them at an index of the split, with every kind of prompt.
func (w work) measure(ctx context.Context, out *Part, rows []data.Row, first int) error {
	tuples := make([]eval.Tuple, len(rows))
	for i, r := range rows {
		tuples[i] = eval.Tuple{Index: first + i, ID: r.ID, Law: r.Law, Category: r.Category}
	}
	for _, kind := range eval.Kinds() {
		n := w.run.Recipe.Pictures(kind)
		images, err := w.draw(ctx, rows, first, kind, n)
		if err != nil {
			return err
		}
		w.monitor.Alive()
		if err := assess(ctx, w.run, tuples, rows, kind, n, images); err != nil {
			return err
		}
		if err := out.show(images, len(rows), first, kind, n, w.shard.Variant); err != nil {
			return err
		}
	}
	out.Tuples = append(out.Tuples, tuples...)
	return nil
}

// quick measures the first tuples' implicit prompts alone.
func (w work) quick(ctx context.Context) (run.QuickEval, error) {
	during := w.run.Recipe.Config.Eval.During
	rows := w.rows[:min(during.Tuples, len(w.rows))]
	tuples := make([]eval.Tuple, len(rows))
	images, err := w.draw(ctx, rows, 0, eval.Implicit, during.Pictures)
	if err != nil {
		return run.QuickEval{}, err
	}
	if err := assess(ctx, w.run, tuples, rows, eval.Implicit, during.Pictures, images); err != nil {
		return run.QuickEval{}, err
	}
	means, at := eval.Summarise(tuples), w.shard.Checkpoint
	return run.QuickEval{Stage: at.Stage, Step: at.Step, Epoch: at.Epoch, IP: means.IP, JudgeIP: means.JudgeIP}, nil
}
