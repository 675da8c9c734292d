// Package rehearsal stands in for trainer, sampler, evaluator and store when the workflows themselves are tested. Its
// weights are a hash chain over the steps taken: two runs end with the same adapter exactly when they took the same
// steps from the same states with the same pairs.
package rehearsal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
)

// Stages are stages that only pretend. The functions and durations say how; what happened is kept for the test to look
// at after the run.
type Stages struct {
	Plan     run.Plan
	Position activities.Position            // what Recover answers when Store is nil
	Store    *Disk                          // where manifests are kept; nil: in Made alone
	Fail     func(call string, n int) error // what a call fails with; n counts the calls of this name from 1
	Reward   func(epoch int) float64        // mean reward
	Clamped  func(epoch int) float64        // clamp saturation
	KL       func(epoch int) float64        // distance to the reference
	Dead     func(epoch int) float64        // share of masks that keep nothing, in quarters
	Step     time.Duration                  // work of a step
	PairWork func(shard int) time.Duration  // work of generating one shard

	mu       sync.Mutex
	Made     map[string]activities.ChunkResult // committed manifests by key
	Calls    []string
	Recorded []run.State
	Reports  []activities.ReportJob
	DPO      []activities.DPOChunk
	Pruned   []activities.PruneJob
}

var _ activities.Stages = (*Stages)(nil)

// New makes stages that follow a plan without taking any time.
func New(plan run.Plan) *Stages {
	return &Stages{Plan: plan, Made: map[string]activities.ChunkResult{},
		Reward: func(int) float64 { return 10 }, Clamped: func(int) float64 { return 0 }, KL: func(int) float64 { return 0 },
		Dead: func(int) float64 { return 0 }, PairWork: func(int) time.Duration { return 0 }}
}

// note records a call and answers what the test wants to fail.
func (f *Stages) note(format string, args ...any) error {
	call := fmt.Sprintf(format, args...)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Calls = append(f.Calls, call)
	if f.Fail == nil {
		return nil
	}
	name, _, _ := strings.Cut(call, " ")
	n := 0
	for _, c := range f.Calls {
		if c == name || strings.HasPrefix(c, name+" ") {
			n++
		}
	}
	return f.Fail(call, n)
}

// Count is the number of calls that begin with prefix.
func (f *Stages) Count(prefix string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.Calls {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	return n
}

// chain is the weights after something was done to them.
func chain(parts ...any) string {
	sum := sha256.Sum256([]byte(fmt.Sprint(parts...)))
	return hex.EncodeToString(sum[:])
}

// Prepare answers with the plan.
func (f *Stages) Prepare(_ context.Context, spec run.Spec, m activities.Monitor) (activities.PrepareResult, error) {
	m.Report(run.Progress{Stage: run.StagePrepare})
	return activities.PrepareResult{Plan: f.Plan, Tuples: map[string]int{"train": 8}}, f.note("prepare %s", spec.Name)
}

// Recover answers with Position, or with what Store holds.
func (f *Stages) Recover(context.Context, run.Job) (activities.Position, error) {
	if err := f.note("recover"); err != nil || f.Store == nil {
		return f.Position, err
	}
	return f.Store.position()
}

// commit stores the result of a chunk, or returns what is stored.
func (f *Stages) commit(stage run.Stage, step, epoch int, adapter string, seconds float64, s run.ChunkSummary) (activities.ChunkResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := fmt.Sprintf("%s/%06d", stage, step)
	if r, ok := f.Made[key]; ok {
		return r, nil
	}
	r := activities.ChunkResult{Summary: s, Checkpoint: run.CheckpointRef{
		Manifest: run.ObjectRef{Key: key, SHA256: chain(key, adapter)}, Stage: stage, Step: step, Epoch: epoch,
		Adapter: run.ObjectRef{Key: key + "/adapter", SHA256: adapter}, Seconds: seconds}}
	if f.Store != nil {
		var err error
		if r, err = f.Store.commit(key, r); err != nil {
			return r, err
		}
	}
	f.Made[key] = r
	return r, nil
}

// resume finds the checkpoint that a stopped attempt left inside a chunk.
func (f *Stages) resume(c activities.SFTChunk) (run.CheckpointRef, error) {
	at := c.From
	if c.Stage == run.StageCompare && at.Stage == run.StageSFT {
		at.Seconds = 0 // the comparison's own time begins here
	}
	if f.Store == nil {
		return at, nil
	}
	r, found, err := f.Store.newest(c.Stage, at.Step, c.To)
	if found {
		at = r.Checkpoint
	}
	return at, err
}

// TrainSFT takes steps, each a link of the chain. Asked to leave, it commits what it has.
func (f *Stages) TrainSFT(ctx context.Context, c activities.SFTChunk, m activities.Monitor) (activities.ChunkResult, error) {
	if err := f.note("sft %s %d-%d", c.Stage, c.From.Step, c.To); err != nil {
		return activities.ChunkResult{}, err
	}
	at, err := f.resume(c)
	if err != nil {
		return activities.ChunkResult{}, err
	}
	adapter, step := at.Adapter.SHA256, at.Step
	commit := func() (activities.ChunkResult, error) {
		return f.commit(c.Stage, step, 0, adapter, c.Spent+float64(step-c.From.Step), run.ChunkSummary{Steps: step - c.From.Step})
	}
	for ; step < c.To; step++ {
		select {
		case <-ctx.Done():
			return activities.ChunkResult{}, ctx.Err()
		case <-m.Stopping():
			if step > at.Step {
				if _, err := commit(); err != nil {
					return activities.ChunkResult{}, err
				}
			}
			return activities.ChunkResult{}, run.ErrPreempted
		case <-time.After(f.Step):
		}
		adapter = chain(adapter, "sft", step)
		m.Report(run.Progress{Stage: c.Stage, Step: step + 1, StepsTotal: f.Plan.SFTSteps})
		if f.Store != nil {
			if err := f.Store.mark(step + 1); err != nil {
				return activities.ChunkResult{}, err
			}
		}
	}
	return commit()
}

// GeneratePairs names rollouts that depend on the policy.
func (f *Stages) GeneratePairs(_ context.Context, s activities.PairShard, _ activities.Monitor) (run.ObjectRef, error) {
	time.Sleep(f.PairWork(s.Shard))
	key := fmt.Sprintf("rollouts-%d-%d", s.Epoch, s.Shard)
	return run.ObjectRef{Key: key, SHA256: chain(key, s.Policy.Adapter.SHA256)}, f.note("generate %d.%d/%d", s.Epoch, s.Shard, s.Shards)
}

// ScorePairs names scores that depend on the rollouts.
func (f *Stages) ScorePairs(_ context.Context, s activities.ScoreShard, _ activities.Monitor) (activities.ScoreResult, error) {
	key := fmt.Sprintf("scores-%d-%d", s.Epoch, s.Shard)
	return activities.ScoreResult{Scores: run.ObjectRef{Key: key, SHA256: chain(key, s.Rollouts.SHA256)},
		Summary: run.PairSummary{Pairs: 2, RewardMean: f.Reward(s.Epoch), Masks: run.Masks{Total: 4, Empty: int(4 * f.Dead(s.Epoch))}}}, f.note("score %d.%d", s.Epoch, s.Shard)
}

// TrainDPO makes an adapter that depends on policy, reference and every pair in its order.
func (f *Stages) TrainDPO(_ context.Context, c activities.DPOChunk, _ activities.Monitor) (activities.ChunkResult, error) {
	if err := f.note("dpo %d", c.Epoch); err != nil {
		return activities.ChunkResult{}, err
	}
	f.mu.Lock()
	f.DPO = append(f.DPO, c)
	f.mu.Unlock()
	time.Sleep(f.Step)
	adapter := chain(c.From.Adapter.SHA256, c.Reference.Adapter.SHA256, c.Rollouts, c.Scores)
	return f.commit(run.StageOFT, (c.Epoch+1)*f.Plan.OFTSteps, c.Epoch+1, adapter, c.Spent+3,
		run.ChunkSummary{Steps: f.Plan.OFTSteps, Clamped: f.Clamped(c.Epoch), KL: f.KL(c.Epoch)})
}

// Evaluate names a part.
func (f *Stages) Evaluate(_ context.Context, s activities.EvalShard, _ activities.Monitor) (activities.EvalPart, error) {
	p := activities.EvalPart{Variant: s.Variant, Split: s.Split, Data: run.ObjectRef{Key: fmt.Sprintf("eval-%s-%s-%d", s.Variant, s.Split, s.Shard)}}
	if s.Quick {
		p.Quick = run.QuickEval{IP: 20}
		return p, f.note("quick %s %d", s.Variant, s.Checkpoint.Step)
	}
	return p, f.note("evaluate %s %s %d/%d", s.Variant, s.Split, s.Shard, s.Shards)
}

// Summarise makes one result per split and variant.
func (f *Stages) Summarise(_ context.Context, s activities.SummaryJob, _ activities.Monitor) ([]run.EvalResult, error) {
	var results []run.EvalResult
	for _, p := range s.Parts {
		if n := len(results); n == 0 || results[n-1].Variant != p.Variant || results[n-1].Split != p.Split {
			results = append(results, run.EvalResult{Split: p.Split, Variant: p.Variant, RI: float64(len(results))})
		}
	}
	return results, f.note("summarise %d", len(s.Parts))
}

// Export publishes the adapter of the checkpoint.
func (f *Stages) Export(_ context.Context, e activities.ExportJob, _ activities.Monitor) (activities.ExportResult, error) {
	return activities.ExportResult{Adapter: run.ObjectRef{Key: "export", SHA256: e.Checkpoint.Adapter.SHA256}}, f.note("export %s", e.Variant)
}

// Report keeps the job.
func (f *Stages) Report(_ context.Context, r activities.ReportJob, _ activities.Monitor) (run.ObjectRef, error) {
	f.mu.Lock()
	f.Reports = append(f.Reports, r)
	f.mu.Unlock()
	return run.ObjectRef{Key: "report/index.html"}, f.note("report")
}

// Prune keeps the job and removes nothing.
func (f *Stages) Prune(_ context.Context, p activities.PruneJob) error {
	f.mu.Lock()
	f.Pruned = append(f.Pruned, p)
	f.mu.Unlock()
	return f.note("prune %s", p.Stage)
}

// Record keeps the state.
func (f *Stages) Record(_ context.Context, _ run.Job, s run.State) error {
	f.mu.Lock()
	f.Recorded = append(f.Recorded, s)
	f.mu.Unlock()
	return f.note("record %s", s.Status)
}
