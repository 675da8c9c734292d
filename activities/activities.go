package activities

import (
	"context"
	"time"

	"github.com/sciflux/sciflux/run"
)

// Activities are the durable steps, registered with every worker of a run. Fields that a worker's queues do not need may
// be nil. Workflows name the methods through a nil pointer of this type, so that a rename is a compile error.
type Activities struct {
	Preparer  Preparer
	Trainer   Trainer
	Sampler   Sampler
	Evaluator Evaluator
	Publisher Publisher
	Keeper    Keeper
	Limits    Limits
	// Sink, when set, also gets every progress report: how a process shows its own work without asking the server.
	Sink func(run.Progress)
}

// New makes the activities of a worker that does all work.
func New(s Stages, limits Limits) *Activities {
	return &Activities{Preparer: s, Trainer: s, Sampler: s, Evaluator: s, Publisher: s, Keeper: s, Limits: limits}
}

// Limits are the times a worker keeps.
type Limits struct {
	// HangAfter is how long an attempt may go without a report before its heartbeats stop; 0: for ever.
	HangAfter time.Duration
	// StopGrace is how long an attempt that was asked to leave may take to commit a checkpoint.
	StopGrace time.Duration
}

// Prepare makes the run ready. See Preparer.
func (a *Activities) Prepare(ctx context.Context, spec run.Spec) (PrepareResult, error) {
	return attempt(ctx, a, "prepare", func(ctx context.Context, m Monitor) (PrepareResult, error) {
		start := time.Now()
		r, err := a.Preparer.Prepare(ctx, spec, m)
		r.Span = run.Span{Start: start, End: time.Now()}
		return r, err
	})
}

// Recover says how far the run came according to the store. See Preparer.
func (a *Activities) Recover(ctx context.Context, job run.Job) (Position, error) {
	return attempt(ctx, a, "recover", func(ctx context.Context, _ Monitor) (Position, error) {
		return a.Preparer.Recover(ctx, job)
	})
}

// TrainSFT takes the SFT steps of a chunk. See Trainer.
func (a *Activities) TrainSFT(ctx context.Context, c SFTChunk) (ChunkResult, error) {
	return attempt(ctx, a, "train sft", func(ctx context.Context, m Monitor) (ChunkResult, error) {
		start := time.Now()
		r, err := a.Trainer.TrainSFT(ctx, c, m)
		r.Span = run.Span{Start: start, End: time.Now()}
		return r, err
	})
}

// TrainDPO takes the DPO steps of an epoch. See Trainer.
func (a *Activities) TrainDPO(ctx context.Context, c DPOChunk) (ChunkResult, error) {
	return attempt(ctx, a, "train dpo", func(ctx context.Context, m Monitor) (ChunkResult, error) {
		start := time.Now()
		r, err := a.Trainer.TrainDPO(ctx, c, m)
		r.Span = run.Span{Start: start, End: time.Now()}
		return r, err
	})
}

// GeneratePairs rolls out one shard of an epoch's prompts. See Sampler.
func (a *Activities) GeneratePairs(ctx context.Context, s PairShard) (PairsResult, error) {
	return attempt(ctx, a, "generate pairs", func(ctx context.Context, m Monitor) (PairsResult, error) {
		start := time.Now()
		ref, err := a.Sampler.GeneratePairs(ctx, s, m)
		return PairsResult{Rollouts: ref, Span: run.Span{Start: start, End: time.Now()}}, err
	})
}

// ScorePairs scores one shard of rollouts. See Sampler.
func (a *Activities) ScorePairs(ctx context.Context, s ScoreShard) (ScoreResult, error) {
	return attempt(ctx, a, "score pairs", func(ctx context.Context, m Monitor) (ScoreResult, error) {
		start := time.Now()
		r, err := a.Sampler.ScorePairs(ctx, s, m)
		r.Span = run.Span{Start: start, End: time.Now()}
		return r, err
	})
}

// Evaluate measures one shard of a split. See Evaluator.
func (a *Activities) Evaluate(ctx context.Context, s EvalShard) (EvalPart, error) {
	return attempt(ctx, a, "evaluate", func(ctx context.Context, m Monitor) (EvalPart, error) {
		start := time.Now()
		r, err := a.Evaluator.Evaluate(ctx, s, m)
		r.Span = run.Span{Start: start, End: time.Now()}
		return r, err
	})
}

// Summarise reduces evaluated shards to results. See Evaluator.
func (a *Activities) Summarise(ctx context.Context, s SummaryJob) ([]run.EvalResult, error) {
	return attempt(ctx, a, "summarise", func(ctx context.Context, m Monitor) ([]run.EvalResult, error) {
		return a.Evaluator.Summarise(ctx, s, m)
	})
}

// Export publishes an adapter. See Publisher.
func (a *Activities) Export(ctx context.Context, e ExportJob) (ExportResult, error) {
	return attempt(ctx, a, "export", func(ctx context.Context, m Monitor) (ExportResult, error) {
		return a.Publisher.Export(ctx, e, m)
	})
}

// Report writes the report page. See Publisher.
func (a *Activities) Report(ctx context.Context, r ReportJob) (run.ObjectRef, error) {
	return attempt(ctx, a, "report", func(ctx context.Context, m Monitor) (run.ObjectRef, error) {
		return a.Publisher.Report(ctx, r, m)
	})
}

// Prune removes what nothing needs any more. See Keeper.
func (a *Activities) Prune(ctx context.Context, p PruneJob) error {
	_, err := attempt(ctx, a, "prune", func(ctx context.Context, _ Monitor) (struct{}, error) {
		return struct{}{}, a.Keeper.Prune(ctx, p)
	})
	return err
}

// Record stores the state of the run. See Keeper.
func (a *Activities) Record(ctx context.Context, job run.Job, s run.State) error {
	_, err := attempt(ctx, a, "record", func(ctx context.Context, _ Monitor) (struct{}, error) {
		return struct{}{}, a.Keeper.Record(ctx, job, s)
	})
	return err
}
