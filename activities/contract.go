package activities

import (
	"context"

	"github.com/sciflux/sciflux/run"
)

// Monitor is how a stage talks to whoever runs it. Safe for concurrent use.
type Monitor interface {
	// Report says that something was finished: a step, a picture batch. It never blocks on the network.
	Report(run.Progress)
	// Alive says that work goes on inside a step: a network call returned, a picture was decoded. An attempt that calls
	// neither Alive nor Report for the hang time of the config is taken for hung.
	Alive()
	// Stopping is closed when the stage should leave: the worker stops, or the run was cancelled. The stage finishes the
	// step in hand, commits a checkpoint of it and returns run.ErrPreempted. Its context stays alive meanwhile, and is
	// cancelled when the grace time has passed.
	Stopping() <-chan struct{}
}

// Preparer makes a run ready and knows where it stands in the store.
type Preparer interface {
	// Prepare checks the spec against the data and the model (class config, data or model on error), writes the resolved
	// config to spec.Job().ConfigKey, draws or reads the data set, fills caches. Idempotent: what is there and whole is
	// left as it is.
	Prepare(ctx context.Context, spec run.Spec, m Monitor) (PrepareResult, error)
	// Recover reads the store and says how far the run came. Only manifests that verify count; a broken one is passed
	// over for the one before it, without deleting.
	Recover(ctx context.Context, job run.Job) (Position, error)
}

// Trainer takes gradient steps. Both methods keep the same contract:
//
//   - The input decides the result: state after = f(state in From, input, config, seed), bit for bit, wherever it runs.
//   - Idempotent: when the manifest of the chunk's end exists and verifies, its ChunkResult is returned at once.
//   - When a manifest inside the chunk exists (left by a stopped attempt), work goes on from it.
//   - It returns after the manifest of the chunk's end is durable, with the same ChunkResult that the manifest holds.
//   - Several attempts may run at once (a frozen worker can wake up late); the manifest commit decides which one counts,
//     and the loser returns the winner's result.
type Trainer interface {
	TrainSFT(ctx context.Context, c SFTChunk, m Monitor) (ChunkResult, error)
	TrainDPO(ctx context.Context, c DPOChunk, m Monitor) (ChunkResult, error)
}

// Sampler makes and scores the pairs of an epoch. Every random number depends on (seed, epoch, prompt, sample) and not
// on the shard, so the pairs are the same for every shard count. Idempotent: an object that is there and verifies is
// returned.
type Sampler interface {
	// GeneratePairs rolls out the prompts of one shard with the policy and stores trajectories and pictures.
	GeneratePairs(ctx context.Context, s PairShard, m Monitor) (run.ObjectRef, error)
	// ScorePairs scores the pictures of one shard, finds the boxes, and stores scores, boxes and masks' counts.
	ScorePairs(ctx context.Context, s ScoreShard, m Monitor) (ScoreResult, error)
}

// Evaluator measures a variant on held-out prompts with fixed noises.
type Evaluator interface {
	// Evaluate draws and measures one shard of the tuples of a split and stores the pictures and per-tuple numbers.
	// Idempotent: an object that is there and verifies is returned.
	Evaluate(ctx context.Context, s EvalShard, m Monitor) (EvalPart, error)
	// Summarise reduces parts, in the order given, to one result per split and variant.
	Summarise(ctx context.Context, s SummaryJob, m Monitor) ([]run.EvalResult, error)
}

// Publisher writes what a user takes away.
type Publisher interface {
	// Export writes the adapter of a checkpoint in the published formats and returns the main file.
	Export(ctx context.Context, e ExportJob, m Monitor) (ExportResult, error)
	// Report writes the report page and its data and returns the page.
	Report(ctx context.Context, r ReportJob, m Monitor) (run.ObjectRef, error)
}

// Keeper looks after the objects of a run.
type Keeper interface {
	// Prune removes checkpoints and pair files that nothing needs any more: all of the stage's but the newest KeepLast
	// and those in Protect, and aborts uploads of the run that died. It must only be called after a newer checkpoint is
	// durable. What cannot be removed is told and no error.
	Prune(ctx context.Context, p PruneJob) error
	// Record stores the state of the run as its summary object.
	Record(ctx context.Context, job run.Job, s run.State) error
}

// Stages is everything a worker that does all work needs.
type Stages interface {
	Preparer
	Trainer
	Sampler
	Evaluator
	Publisher
	Keeper
}

// PrepareResult is what the rest of the run needs to know about its inputs. Plan fixes every number that workflows
// decide by, so that a replay never reads a config.
type PrepareResult struct {
	Plan   run.Plan
	Tuples map[string]int // tuples per split found, such as train, test_S, test_C
	Span   run.Span       // filled by the activity
}

// Position says how far a run came according to the store. A stage that has no checkpoint has a zero one.
type Position struct {
	SFT     run.CheckpointRef
	OFT     run.CheckpointRef
	Compare run.CheckpointRef
	Guard   run.GuardState // stop-rule memory from the newest OFT manifest
	// What the newest OFT manifest holds and the guard has not seen yet.
	OFTSummary run.ChunkSummary
	OFTScores  run.PairSummary
	State      run.State // the last recorded summary; zero when there is none
}

// SFTChunk asks for the SFT steps From.Step+1 … To of a stage (StageSFT, or StageCompare which continues SFT for longer).
type SFTChunk struct {
	Job   run.Job
	Stage run.Stage
	From  run.CheckpointRef // zero: the initial adapter. In StageCompare the first chunk starts from the SFT checkpoint with its moments and counters
	To    int               // steps finished in this stage at the chunk's end (compare: total steps, SFT's included)
	// Spent is the working time of the stage before this chunk. Checkpoint.Seconds of the result is Spent plus the time
	// the trainer worked on the chunk, attempts that left a checkpoint included.
	Spent float64
}

// DPOChunk asks for the DPO steps of one epoch.
type DPOChunk struct {
	Job       run.Job
	Epoch     int               // 0-based
	From      run.CheckpointRef // state before the epoch. In epoch 0 it is the reference itself: its adapter is continued with fresh moments
	Reference run.CheckpointRef // the frozen adapter that ratios are taken against; zero: the initial adapter
	Rollouts  []run.ObjectRef   // in shard order
	Scores    []run.ObjectRef   // in shard order
	// Spent is as in SFTChunk; it includes generating and scoring this epoch's pairs.
	Spent float64
	// Relay asks for a light checkpoint: the next epoch follows at once, so one object with the whole state is enough.
	// It needs no manifest of parts and does not move the `latest` pointer; Checkpoint.Manifest names the object. A
	// trainer may make a full checkpoint instead. Recover does not look at relays.
	Relay bool
	// Summary and Guard are kept in the manifest for Recover; they do not change the result.
	Summary run.PairSummary
	Guard   run.GuardState
}

// ChunkResult is what a chunk made; the manifest holds the same value.
type ChunkResult struct {
	Checkpoint run.CheckpointRef
	Summary    run.ChunkSummary
	Span       run.Span // filled by the activity, not part of the manifest
	// SaveSeconds is the time that training waited until the checkpoint was durable; not part of the manifest.
	SaveSeconds float64 `json:",omitempty"`
}

// PairShard asks for one shard of an epoch's rollouts: the epoch's prompts stand in groups that do not depend on
// Shards, and the groups take turns among the shards.
type PairShard struct {
	Job    run.Job
	Epoch  int
	Shard  int
	Shards int
	Policy run.CheckpointRef // zero: the initial adapter
}

// PairsResult is one shard of rollouts.
type PairsResult struct {
	Rollouts run.ObjectRef
	Span     run.Span
}

// ScoreShard asks for the scores of one shard of rollouts.
type ScoreShard struct {
	Job      run.Job
	Epoch    int
	Shard    int
	Rollouts run.ObjectRef
}

// ScoreResult is a scored shard.
type ScoreResult struct {
	Scores  run.ObjectRef
	Summary run.PairSummary
	Span    run.Span // filled by the activity
}

// EvalShard asks for one shard of the evaluation of a variant: small groups of tuples take turns among the shards.
type EvalShard struct {
	Job        run.Job
	Variant    run.Variant
	Checkpoint run.CheckpointRef // ignored for VariantBase
	Split      string
	Shard      int
	Shards     int
	Of         int // measurements (a candidate on a split) in all, for progress
	// Quick asks for the small evaluation during training: implicit prompts only, the first eval.during.tuples tuples.
	Quick bool
}

// EvalPart is one evaluated shard.
type EvalPart struct {
	Variant run.Variant
	Split   string
	Data    run.ObjectRef // per-tuple numbers
	Quick   run.QuickEval // means of a quick evaluation; zero otherwise
	Span    run.Span      // filled by the activity
}

// SummaryJob asks for the results of all parts together (the base must be among them for ND, RI and intervals).
type SummaryJob struct {
	Job   run.Job
	Parts []EvalPart
}

// ExportJob asks for the published files of one checkpoint.
type ExportJob struct {
	Job        run.Job
	Variant    run.Variant
	Checkpoint run.CheckpointRef
	Results    []run.EvalResult // for the model card
}

// ExportResult is what was published.
type ExportResult struct {
	Adapter run.ObjectRef // the adapter file in diffusers names
	Files   int
}

// ReportJob asks for the report page.
type ReportJob struct {
	Job   run.Job
	State run.State
	Parts []EvalPart
}

// PruneJob asks to remove old checkpoints of a stage, and pair files of epochs before Epoch.
type PruneJob struct {
	Job      run.Job
	Stage    run.Stage
	KeepLast int
	Protect  []string // manifest keys that stay
	Epoch    int      // pair files of epochs before this one may go; 0: none
}
