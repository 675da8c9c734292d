package workflows

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/run"
)

// fakeStages stands for trainer, evaluator and store. Its weights are a hash chain over the steps taken, so that two
// runs end with the same adapter exactly when they took the same steps from the same states with the same pairs.
type fakeStages struct {
	mu       sync.Mutex
	plan     run.Plan
	position activities.Position
	made     map[string]activities.ChunkResult // committed manifests by key
	calls    []string
	fail     func(call string, n int) error // n counts the calls of this name from 1
	reward   func(epoch int) float64
	clamped  func(epoch int) float64
	step     time.Duration // work per step
	pairWork func(shard int) time.Duration
	recorded []run.State
	reports  []activities.ReportJob
	dpo      []activities.DPOChunk
	pruned   []activities.PruneJob
}

var _ activities.Stages = (*fakeStages)(nil)

func newFake(plan run.Plan) *fakeStages {
	return &fakeStages{plan: plan, made: map[string]activities.ChunkResult{},
		reward: func(int) float64 { return 10 }, clamped: func(int) float64 { return 0 }, pairWork: func(int) time.Duration { return 0 }}
}

// note records a call and answers what the test wants to fail.
func (f *fakeStages) note(format string, args ...any) error {
	call := fmt.Sprintf(format, args...)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call)
	if f.fail == nil {
		return nil
	}
	name, _, _ := strings.Cut(call, " ")
	n := 0
	for _, c := range f.calls {
		if c == name || strings.HasPrefix(c, name+" ") {
			n++
		}
	}
	return f.fail(call, n)
}

// count is the number of calls that begin with prefix.
func (f *fakeStages) count(prefix string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.calls {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	return n
}

func chain(parts ...any) string {
	sum := sha256.Sum256([]byte(fmt.Sprint(parts...)))
	return hex.EncodeToString(sum[:])
}

func (f *fakeStages) Prepare(_ context.Context, spec run.Spec, m activities.Monitor) (activities.PrepareResult, error) {
	m.Report(run.Progress{Stage: run.StagePrepare})
	return activities.PrepareResult{Plan: f.plan, Tuples: map[string]int{"train": 8}}, f.note("prepare %s", spec.Name)
}

func (f *fakeStages) Recover(context.Context, run.Job) (activities.Position, error) {
	return f.position, f.note("recover")
}

// commit stores the result of a chunk, or returns what is stored.
func (f *fakeStages) commit(stage run.Stage, step, epoch int, adapter string, seconds float64, s run.ChunkSummary) activities.ChunkResult {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := fmt.Sprintf("%s/%06d", stage, step)
	if r, ok := f.made[key]; ok {
		return r
	}
	r := activities.ChunkResult{Summary: s, Checkpoint: run.CheckpointRef{
		Manifest: run.ObjectRef{Key: key, SHA256: chain(key, adapter)}, Stage: stage, Step: step, Epoch: epoch,
		Adapter: run.ObjectRef{Key: key + "/adapter", SHA256: adapter}, Seconds: seconds}}
	f.made[key] = r
	return r
}

func (f *fakeStages) TrainSFT(ctx context.Context, c activities.SFTChunk, m activities.Monitor) (activities.ChunkResult, error) {
	if err := f.note("sft %s %d-%d", c.Stage, c.From.Step, c.To); err != nil {
		return activities.ChunkResult{}, err
	}
	adapter, steps := c.From.Adapter.SHA256, c.To-c.From.Step
	for s := c.From.Step; s < c.To; s++ {
		if f.step > 0 {
			select {
			case <-m.Stopping():
				return activities.ChunkResult{}, run.ErrPreempted
			case <-ctx.Done():
				return activities.ChunkResult{}, ctx.Err()
			case <-time.After(f.step):
			}
		}
		adapter = chain(adapter, "sft", s)
		m.Report(run.Progress{Stage: c.Stage, Step: s + 1})
	}
	return f.commit(c.Stage, c.To, 0, adapter, c.Spent+float64(steps), run.ChunkSummary{Steps: steps}), nil
}

func (f *fakeStages) GeneratePairs(_ context.Context, s activities.PairShard, _ activities.Monitor) (run.ObjectRef, error) {
	time.Sleep(f.pairWork(s.Shard))
	key := fmt.Sprintf("rollouts-%d-%d", s.Epoch, s.Shard)
	return run.ObjectRef{Key: key, SHA256: chain(key, s.Policy.Adapter.SHA256)}, f.note("generate %d.%d/%d", s.Epoch, s.Shard, s.Shards)
}

func (f *fakeStages) ScorePairs(_ context.Context, s activities.ScoreShard, _ activities.Monitor) (activities.ScoreResult, error) {
	key := fmt.Sprintf("scores-%d-%d", s.Epoch, s.Shard)
	return activities.ScoreResult{Scores: run.ObjectRef{Key: key, SHA256: chain(key, s.Rollouts.SHA256)},
		Summary: run.PairSummary{Pairs: 2, RewardMean: f.reward(s.Epoch), Masks: run.Masks{Total: 4}}}, f.note("score %d.%d", s.Epoch, s.Shard)
}

func (f *fakeStages) TrainDPO(_ context.Context, c activities.DPOChunk, _ activities.Monitor) (activities.ChunkResult, error) {
	if err := f.note("dpo %d", c.Epoch); err != nil {
		return activities.ChunkResult{}, err
	}
	f.mu.Lock()
	f.dpo = append(f.dpo, c)
	f.mu.Unlock()
	adapter := chain(c.From.Adapter.SHA256, c.Reference.Adapter.SHA256, c.Rollouts, c.Scores)
	return f.commit(run.StageOFT, (c.Epoch+1)*f.plan.OFTSteps, c.Epoch+1, adapter, c.Spent+3,
		run.ChunkSummary{Steps: f.plan.OFTSteps, Clamped: f.clamped(c.Epoch)}), nil
}

func (f *fakeStages) Evaluate(_ context.Context, s activities.EvalShard, _ activities.Monitor) (activities.EvalPart, error) {
	p := activities.EvalPart{Variant: s.Variant, Split: s.Split, Data: run.ObjectRef{Key: fmt.Sprintf("eval-%s-%s-%d", s.Variant, s.Split, s.Shard)}}
	if s.Quick {
		p.Quick = run.QuickEval{IP: 20}
		return p, f.note("quick %s %d", s.Variant, s.Checkpoint.Step)
	}
	return p, f.note("evaluate %s %s %d/%d", s.Variant, s.Split, s.Shard, s.Shards)
}

func (f *fakeStages) Summarise(_ context.Context, s activities.SummaryJob) ([]run.EvalResult, error) {
	var results []run.EvalResult
	for _, p := range s.Parts {
		if n := len(results); n == 0 || results[n-1].Variant != p.Variant || results[n-1].Split != p.Split {
			results = append(results, run.EvalResult{Split: p.Split, Variant: p.Variant, RI: float64(len(results))})
		}
	}
	return results, f.note("summarise %d", len(s.Parts))
}

func (f *fakeStages) Export(_ context.Context, e activities.ExportJob, _ activities.Monitor) (activities.ExportResult, error) {
	return activities.ExportResult{Adapter: run.ObjectRef{Key: "export", SHA256: e.Checkpoint.Adapter.SHA256}}, f.note("export %s", e.Variant)
}

func (f *fakeStages) Report(_ context.Context, r activities.ReportJob, _ activities.Monitor) (run.ObjectRef, error) {
	f.mu.Lock()
	f.reports = append(f.reports, r)
	f.mu.Unlock()
	return run.ObjectRef{Key: "report/index.html"}, f.note("report")
}

func (f *fakeStages) Prune(_ context.Context, p activities.PruneJob) error {
	f.mu.Lock()
	f.pruned = append(f.pruned, p)
	f.mu.Unlock()
	return f.note("prune %s", p.Stage)
}

func (f *fakeStages) Record(_ context.Context, _ run.Job, s run.State) error {
	f.mu.Lock()
	f.recorded = append(f.recorded, s)
	f.mu.Unlock()
	return f.note("record %s", s.Status)
}

// smallPlan is a run of 7 SFT steps in chunks of 3, and 3 epochs in 2 shards.
func smallPlan() run.Plan {
	return run.Plan{SFTSteps: 7, SFTChunk: 3, OFTEpochs: 3, OFTChunk: 2, OFTSteps: 2, Compare: true, Shards: 2,
		Splits: []string{"test_S", "test_C"}, KeepLast: 2, Attributes: true, HeartbeatTimeout: 5 * time.Second,
		Stop: configs.Default().Stop}
}

func spec() run.Spec {
	return run.Spec{Name: "r", ConfigHash: "h", Seed: 3, Queues: run.QueuesWithPrefix("q"), HeartbeatTimeout: 5 * time.Second}
}
