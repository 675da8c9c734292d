package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
)

// SFT is stage 1, supervised fine-tuning.
//
//  1. Wait while paused.
//  2. Train to the next multiple of the chunk length, or to the end. The chunk commits its checkpoint.
//  3. Measure, when an evaluation is due.
//  4. Again from 1 until all steps are taken.
func SFT(ctx workflow.Context, in StageInput) (StageResult, error) {
	w, err := openStage(ctx, in, run.StageSFT, in.Plan.SFTSteps)
	if err != nil {
		return StageResult{}, err
	}
	at := in.From
	if at.IsZero() && in.Plan.EverySteps > 0 {
		if err := w.quick(ctx, run.VariantBase, at); err != nil {
			return StageResult{}, err
		}
	}
	for at.Step < in.Plan.SFTSteps {
		if err := w.gate.wait(ctx); err != nil {
			return StageResult{}, err
		}
		before := at.Step
		to := min((before/in.Plan.SFTChunk+1)*in.Plan.SFTChunk, in.Plan.SFTSteps)
		if at, err = w.train(ctx, at, to); err != nil {
			return StageResult{}, err
		}
		if crossed(before, at.Step, in.Plan.EverySteps) {
			if err := w.quick(ctx, run.VariantSFT, at); err != nil {
				return StageResult{}, err
			}
		}
	}
	return w.result(at, ""), nil
}

// Compare continues SFT from its checkpoint until it has worked as long as OFT has (in.Budget seconds), so that the
// report can say what OFT's time is worth.
func Compare(ctx workflow.Context, in StageInput) (StageResult, error) {
	w, err := openStage(ctx, in, run.StageCompare, 0)
	if err != nil {
		return StageResult{}, err
	}
	at, spent := in.From, in.From.Seconds
	if at.IsZero() {
		at = in.Reference
	}
	for spent < in.Budget {
		if err := w.gate.wait(ctx); err != nil {
			return StageResult{}, err
		}
		to := at.Step + stepsFor(in, at, spent)
		w.state.StepsTotal = to
		if at, err = w.trainFor(ctx, at, to, spent); err != nil {
			return StageResult{}, err
		}
		spent = at.Seconds
	}
	return w.result(at, ""), nil
}

// stepsFor is the length of Compare's next chunk: what fits into the time left at the pace so far, at most a chunk.
func stepsFor(in StageInput, at run.CheckpointRef, spent float64) int {
	pace, steps := in.Reference.Seconds, in.Reference.Step
	if done := at.Step - in.Reference.Step; done > 0 && spent > 0 {
		pace, steps = spent, done
	}
	if pace <= 0 || steps <= 0 {
		return in.Plan.SFTChunk
	}
	left := (in.Budget - spent) * float64(steps) / pace
	return min(max(int(left+0.5), 1), in.Plan.SFTChunk)
}

// train takes SFT steps up to `to`; the stage's working time so far is that of the checkpoint.
func (w *stage) train(ctx workflow.Context, from run.CheckpointRef, to int) (run.CheckpointRef, error) {
	return w.trainFor(ctx, from, to, from.Seconds)
}

func (w *stage) trainFor(ctx workflow.Context, from run.CheckpointRef, to int, spent float64) (run.CheckpointRef, error) {
	chunk := activities.SFTChunk{Job: w.in.Job, Stage: w.state.Stage, From: from, To: to, Spent: spent}
	var r activities.ChunkResult
	if err := workflow.ExecuteActivity(work(ctx, w.in.Queues.GPU, w.in.Plan.HeartbeatTimeout), act.TrainSFT, chunk).Get(ctx, &r); err != nil {
		return from, err
	}
	if err := w.edge(ctx, r.Checkpoint, 0); err != nil {
		return from, err
	}
	return r.Checkpoint, w.attributes(ctx)
}
