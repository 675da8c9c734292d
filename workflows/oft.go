package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
)

// OFT is stage 2, online fine-tuning. One epoch is
//
//  1. Wait while paused.
//  2. Generate the pairs of the epoch with the policy and score them, shard by shard, all shards at once.
//  3. Train on them in shard order. The chunk commits the policy of the next epoch.
//  4. Ask the stop rules; measure, when an evaluation is due.
//  5. Continue as new when the history has grown long; again from 1 until all epochs are done.
func OFT(ctx workflow.Context, in StageInput) (StageResult, error) {
	w, err := openStage(ctx, in, run.StageOFT, in.Plan.StepsTotal(run.StageOFT))
	if err != nil {
		return StageResult{}, err
	}
	at := in.From
	if in.Unjudged != nil {
		if stopped := w.guard(ctx, in.Unjudged.Pairs, in.Unjudged.Chunk); stopped != "" {
			return w.result(at, stopped), nil
		}
	}
	for at.Epoch < in.Plan.OFTEpochs {
		if err := w.gate.wait(ctx); err != nil {
			return StageResult{}, err
		}
		next, stopped, err := w.epoch(ctx, at)
		if err != nil {
			return StageResult{}, err
		}
		if at = next; stopped != "" {
			return w.result(at, stopped), nil
		}
		if err := w.between(ctx, at); err != nil {
			return StageResult{}, err
		}
	}
	return w.result(at, ""), nil
}

// epoch does one epoch from checkpoint at and returns the next checkpoint, and why the stage ends when it does.
func (w *stage) epoch(ctx workflow.Context, at run.CheckpointRef) (run.CheckpointRef, string, error) {
	policy := at
	if policy.IsZero() {
		policy = w.in.Reference
	}
	chunk := activities.DPOChunk{Job: w.in.Job, Epoch: at.Epoch, From: policy, Reference: w.in.Reference, Guard: w.in.Guard}
	done := at.Epoch + 1
	chunk.Relay = done%w.in.Plan.OFTChunk != 0 && done != w.in.Plan.OFTEpochs
	spans, err := w.pairs(ctx, &chunk)
	if err != nil {
		return at, "", err
	}
	chunk.Spent = at.Seconds + run.BusySeconds(spans...)
	var r activities.ChunkResult
	if err := workflow.ExecuteActivity(work(ctx, w.in.Queues.GPU, w.in.Plan.HeartbeatTimeout), act.TrainDPO, chunk).Get(ctx, &r); err != nil {
		return at, "", err
	}
	stopped := w.guard(ctx, chunk.Summary, r.Summary)
	if err := w.edge(ctx, r.Checkpoint, done); err != nil || chunk.Relay && stopped == "" && !w.gate.held {
		return r.Checkpoint, stopped, err // attributes cost a write of the server's index; full checkpoints are often enough
	}
	return r.Checkpoint, stopped, w.attributes(ctx)
}

// pairs generates and scores the pairs of the chunk's epoch and fills in where they are. A shard is scored as soon as it
// is generated; the order in which shards finish does not matter.
func (w *stage) pairs(ctx workflow.Context, chunk *activities.DPOChunk) ([]run.Span, error) {
	n := w.in.Plan.Shards
	spans, scores, errs := make([]run.Span, 2*n), make([]activities.ScoreResult, n), make([]error, n)
	chunk.Rollouts, chunk.Scores = make([]run.ObjectRef, n), make([]run.ObjectRef, n)
	var all = workflow.NewWaitGroup(ctx)
	for i := range n {
		all.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer all.Done()
			generate := activities.PairShard{Job: w.in.Job, Epoch: chunk.Epoch, Shard: i, Shards: n, Policy: chunk.From}
			var g activities.PairsResult
			if errs[i] = workflow.ExecuteActivity(work(ctx, w.in.Queues.GPU, w.in.Plan.HeartbeatTimeout), act.GeneratePairs, generate).Get(ctx, &g); errs[i] != nil {
				return
			}
			score := activities.ScoreShard{Job: w.in.Job, Epoch: chunk.Epoch, Shard: i, Rollouts: g.Rollouts}
			errs[i] = workflow.ExecuteActivity(work(ctx, w.in.Queues.CPU, w.in.Plan.HeartbeatTimeout), act.ScorePairs, score).Get(ctx, &scores[i])
			chunk.Rollouts[i], chunk.Scores[i] = g.Rollouts, scores[i].Scores
			spans[2*i], spans[2*i+1] = g.Span, scores[i].Span
		})
	}
	all.Wait(ctx)
	for i := range n {
		if errs[i] != nil {
			return nil, errs[i]
		}
		chunk.Summary = chunk.Summary.Add(scores[i].Summary)
	}
	return spans, nil
}

// guard asks the stop rules. It returns the reason when the stage must end; a rule that pauses closes the gate and
// forgets what it saw, so that it does not act again at once after a resume.
func (w *stage) guard(_ workflow.Context, pairs run.PairSummary, chunk run.ChunkSummary) string {
	switch v := judge(&w.in.Guard, w.in.Plan.Stop, pairs, chunk); v.action {
	case actionStop:
		return v.reason
	case actionPause:
		w.in.Guard = run.GuardState{}
		w.gate.pause(v.reason)
	}
	return ""
}

// between measures when due, and continues as new when the history has grown long and nothing holds the stage back.
func (w *stage) between(ctx workflow.Context, at run.CheckpointRef) error {
	if crossed(at.Epoch-1, at.Epoch, w.in.Plan.EveryEpochs) {
		if err := w.quick(ctx, run.VariantOFT, at); err != nil {
			return err
		}
	}
	suggested := workflow.GetInfo(ctx).GetContinueAsNewSuggested()
	if !suggested || w.gate.held || at.Epoch >= w.in.Plan.OFTEpochs {
		return nil
	}
	next := w.in
	next.From, next.Unjudged, next.Quick = at, nil, w.state.Quick
	return workflow.NewContinueAsNewError(ctx, OFT, next)
}

// unjudged is the newest epoch that Recover found: the lost execution may have ended before its stop rules saw it.
func unjudged(p activities.Position) *Unjudged {
	if p.OFT.IsZero() {
		return nil
	}
	return &Unjudged{Pairs: p.OFTScores, Chunk: p.OFTSummary}
}
