package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
)

// StageInput starts the workflow of a stage.
type StageInput struct {
	Job    run.Job
	Queues run.Queues
	Plan   run.Plan
	// From is the newest checkpoint of the stage; zero at its beginning.
	From run.CheckpointRef
	// Reference is where the stage starts from: the SFT checkpoint for OFT and Compare; zero: the initial adapter.
	Reference run.CheckpointRef
	// Budget is the working time of Compare, in seconds.
	Budget float64
	// Guard is the memory of OFT's stop rules before the epoch in Unjudged, or up to From when that is nil.
	Guard    run.GuardState
	Unjudged *Unjudged
	// Quick holds the newest quick evaluations, carried over a continue-as-new.
	Quick []run.QuickEval
}

// Unjudged is an epoch that the stop rules have not seen: it was committed by an execution that is lost.
type Unjudged struct {
	Pairs run.PairSummary
	Chunk run.ChunkSummary
}

// StageResult is what a stage ends with.
type StageResult struct {
	Checkpoint run.CheckpointRef
	Stopped    string // the stop rule that ended it early, with its numbers
	Quick      []run.QuickEval
}

// pruneEvery is the number of chunks between two prunings: removing old objects is not worth a round trip each time.
const pruneEvery = 10

// keptQuick bounds the quick evaluations that a state carries; all of them are in the metric files.
const keptQuick = 64

// stage is the common part of the stage workflows: state, gate and the small duties at a chunk edge.
type stage struct {
	in     StageInput
	state  run.State
	gate   gate
	chunks int // since the start of this execution
}

// openStage sets up state, query and pause of a stage workflow.
func openStage(ctx workflow.Context, in StageInput, s run.Stage, total int) (*stage, error) {
	w := &stage{in: in, state: run.State{
		Run: in.Job.Run, Status: run.StatusRunning, Stage: s, StepsTotal: total,
		ConfigHash: in.Job.ConfigHash, Seed: in.Job.Seed, Quick: in.Quick,
	}}
	if s == run.StageOFT {
		w.state.EpochsTotal = in.Plan.OFTEpochs
	}
	w.gate = gate{state: &w.state}
	w.reached(in.From)
	if err := workflow.SetQueryHandler(ctx, QueryState, func() (run.State, error) { return w.state, nil }); err != nil {
		return nil, err
	}
	w.gate.listen(ctx)
	return w, w.attributes(ctx)
}

// reached takes a checkpoint into the state.
func (w *stage) reached(c run.CheckpointRef) {
	if c.IsZero() {
		return
	}
	w.state.Step, w.state.Epoch, w.state.Adapter = c.Step, c.Epoch, c.Adapter
	w.state.Checkpoints = []run.CheckpointRef{c}
}

// attributes keeps the search attributes of the stage.
func (w *stage) attributes(ctx workflow.Context) error {
	if !w.in.Plan.Attributes {
		return nil
	}
	return workflow.UpsertTypedSearchAttributes(ctx,
		attrKind.ValueSet(string(w.state.Stage)), attrStage.ValueSet(string(w.state.Stage)), attrStatus.ValueSet(string(w.state.Status)),
		attrHash.ValueSet(w.state.ConfigHash), attrStep.ValueSet(int64(w.state.Step)), attrEpoch.ValueSet(int64(w.state.Epoch)))
}

// edge does what follows a committed chunk: state, and now and then pruning.
func (w *stage) edge(ctx workflow.Context, c run.CheckpointRef, epoch int) error {
	w.reached(c)
	if w.chunks++; w.chunks%pruneEvery == 0 {
		if err := w.prune(ctx, epoch); err != nil {
			return err
		}
	}
	return nil
}

// prune removes old checkpoints of the stage, and pair files of epochs before epoch.
func (w *stage) prune(ctx workflow.Context, epoch int) error {
	p := activities.PruneJob{Job: w.in.Job, Stage: w.state.Stage, KeepLast: w.in.Plan.KeepLast, Epoch: epoch}
	if key := w.in.Reference.Manifest.Key; key != "" {
		p.Protect = append(p.Protect, key)
	}
	return workflow.ExecuteActivity(tiny(ctx, w.in.Queues.Control, w.in.Plan.HeartbeatTimeout), act.Prune, p).Get(ctx, nil)
}

// quick measures a checkpoint on the fixed small set of prompts.
func (w *stage) quick(ctx workflow.Context, v run.Variant, c run.CheckpointRef) error {
	shard := activities.EvalShard{Job: w.in.Job, Variant: v, Checkpoint: c, Split: w.in.Plan.Splits[0], Shards: 1, Quick: true}
	var part activities.EvalPart
	if err := workflow.ExecuteActivity(work(ctx, w.in.Queues.GPU, w.in.Plan.HeartbeatTimeout), act.Evaluate, shard).Get(ctx, &part); err != nil {
		return err
	}
	q := part.Quick
	q.Stage, q.Step, q.Epoch = w.state.Stage, c.Step, c.Epoch
	w.state.Quick = append(w.state.Quick, q)
	if n := len(w.state.Quick); n > keptQuick {
		w.state.Quick = w.state.Quick[n-keptQuick:]
	}
	return nil
}

// result ends the stage.
func (w *stage) result(c run.CheckpointRef, stopped string) StageResult {
	return StageResult{Checkpoint: c, Stopped: stopped, Quick: w.state.Quick}
}

// crossed reports whether a multiple of every lies in (before, now]; every 0 has none.
func crossed(before, now, every int) bool {
	return every > 0 && now/every > before/every
}
