package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
)

// Candidate is a variant to evaluate.
type Candidate struct {
	Variant    run.Variant
	Checkpoint run.CheckpointRef
}

// EvaluateInput starts Evaluate.
type EvaluateInput struct {
	Job        run.Job
	Queues     run.Queues
	Plan       run.Plan
	Candidates []Candidate // the base first
}

// Evaluation is what Evaluate ends with.
type Evaluation struct {
	Parts   []activities.EvalPart
	Results []run.EvalResult
}

// Evaluate measures every candidate on every split.
//
//  1. For each candidate: all shards of all splits at once.
//  2. Reduce all parts, in a fixed order, to results.
func Evaluate(ctx workflow.Context, in EvaluateInput) (Evaluation, error) {
	total := len(in.Candidates) * len(in.Plan.Splits) * in.Plan.Shards
	w, err := openStage(ctx, StageInput{Job: in.Job, Queues: in.Queues, Plan: in.Plan}, run.StageEvaluate, total)
	if err != nil {
		return Evaluation{}, err
	}
	var e Evaluation
	for _, c := range in.Candidates {
		if err := w.gate.wait(ctx); err != nil {
			return Evaluation{}, err
		}
		parts, err := w.measure(ctx, c, len(in.Candidates)*len(in.Plan.Splits))
		if err != nil {
			return Evaluation{}, err
		}
		e.Parts = append(e.Parts, parts...)
	}
	job := activities.SummaryJob{Job: in.Job, Parts: e.Parts}
	ctx = work(ctx, in.Queues.CPU, in.Plan.HeartbeatTimeout)
	if err := workflow.ExecuteActivity(ctx, act.Summarise, job).Get(ctx, &e.Results); err != nil {
		return Evaluation{}, err
	}
	return e, nil
}

// measure evaluates one candidate in one of `all` measurements for each split; the parts come back by split, then shard.
func (w *stage) measure(ctx workflow.Context, c Candidate, all int) ([]activities.EvalPart, error) {
	ctx = work(ctx, w.in.Queues.GPU, w.in.Plan.HeartbeatTimeout)
	var running []workflow.Future
	for _, split := range w.in.Plan.Splits {
		for i := range w.in.Plan.Shards {
			shard := activities.EvalShard{Job: w.in.Job, Variant: c.Variant, Checkpoint: c.Checkpoint, Split: split, Shard: i, Shards: w.in.Plan.Shards, Of: all}
			running = append(running, workflow.ExecuteActivity(ctx, act.Evaluate, shard))
		}
	}
	parts := make([]activities.EvalPart, len(running))
	var first error
	for i, f := range running {
		if err := f.Get(ctx, &parts[i]); err != nil && first == nil {
			first = err
		}
		w.state.Step++
	}
	return parts, first
}
