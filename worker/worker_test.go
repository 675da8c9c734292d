package worker

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/dataset/world"
	"github.com/sciflux/sciflux/engine/cpu"
	"github.com/sciflux/sciflux/models"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
)

// watcher is a Monitor that can be told to stop after some reports of work.
type watcher struct {
	after   int
	reports []run.Progress
	stop    chan struct{}
}

func newWatcher(after int) *watcher { return &watcher{after: after, stop: make(chan struct{})} }

func (w *watcher) Report(p run.Progress) {
	if strings.HasPrefix(p.Note, "opening") || strings.HasPrefix(p.Note, "reading") {
		return // no work of the stage's own
	}
	w.reports = append(w.reports, p)
	if w.after > 0 && len(w.reports) == w.after {
		close(w.stop)
	}
}
func (w *watcher) Alive() {}

func (w *watcher) Stopping() <-chan struct{} { return w.stop }

// cacheDir holds drawn data and unpacked models for all tests of the package.
var cacheDir string

func TestMain(m *testing.M) {
	var err error
	if cacheDir, err = os.MkdirTemp("", "worker"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(cacheDir)
	os.Exit(code)
}

func newWorker(t testing.TB, objects store.Objects) *Worker {
	t.Helper()
	be, err := cpu.New(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{Objects: objects, Backend: be, Dir: cacheDir, Models: models.Files, CodeVersion: "test"})
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func testSpec(t testing.TB, set ...string) run.Spec {
	t.Helper()
	base := []string{"name=test", "data.train_tuples=24", "sft.steps=4", "sft.chunk_steps=4", "sft.batch=4", "oft.epochs=2", "oft.prompts_per_epoch=4",
		"oft.images_per_prompt=2", "oft.steps=4", "eval.tuples=3", "eval.pictures=2", "eval.steps=3", "eval.bootstrap=20"}
	if !slices.ContainsFunc(set, func(s string) bool { return strings.HasPrefix(s, "oft.method=") }) {
		base = append(base, "oft.accumulate_pairs=2", "oft.noisy_steps=3")
	}
	c, err := configs.Load(configs.Sources{Name: "world", Set: append(base, set...)})
	if err != nil {
		t.Fatal(err)
	}
	return run.Spec{Name: c.Name, Config: c.Resolved(), ConfigHash: c.Hash(), Seed: c.Seed, CodeVersion: "test"}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// whole runs every stage the way the workflows do and returns the OFT checkpoint.
func whole(t *testing.T, s *Worker, spec run.Spec, shards int) run.CheckpointRef {
	t.Helper()
	ctx, m, job := context.Background(), newWatcher(0), spec.Job()
	must[activities.PrepareResult](t)(s.Prepare(ctx, spec, m))
	at := must[activities.ChunkResult](t)(s.TrainSFT(ctx, activities.SFTChunk{Job: job, Stage: run.StageSFT, To: 4}, m)).Checkpoint
	reference := at
	for epoch := range 2 {
		at = trainEpoch(t, s, job, epoch, shards, at, reference, m).Checkpoint
	}
	return at
}

func trainEpoch(t *testing.T, s *Worker, job run.Job, epoch, shards int, from, reference run.CheckpointRef, m activities.Monitor) activities.ChunkResult {
	t.Helper()
	c := dpoChunk(t, s, job, epoch, shards, from, reference)
	return must[activities.ChunkResult](t)(s.TrainDPO(context.Background(), c, m))
}

func dpoChunk(t *testing.T, s *Worker, job run.Job, epoch, shards int, from, reference run.CheckpointRef) activities.DPOChunk {
	t.Helper()
	ctx, m := context.Background(), newWatcher(0)
	c := activities.DPOChunk{Job: job, Epoch: epoch, From: from, Reference: reference}
	for k := range shards {
		rollouts := must[run.ObjectRef](t)(s.GeneratePairs(ctx, activities.PairShard{Job: job, Epoch: epoch, Shard: k, Shards: shards, Policy: from}, m))
		scores := must[activities.ScoreResult](t)(s.ScorePairs(ctx, activities.ScoreShard{Job: job, Epoch: epoch, Shard: k, Rollouts: rollouts}, m))
		c.Rollouts, c.Scores, c.Summary = append(c.Rollouts, rollouts), append(c.Scores, scores.Scores), c.Summary.Add(scores.Summary)
	}
	return c
}

// TestShardsAndRepetition: the adapter is the same for every number of shards and on repetition in another store.
func TestShardsAndRepetition(t *testing.T) {
	spec := testSpec(t)
	first := whole(t, newWorker(t, &store.Mem{}), spec, 1)
	for _, shards := range []int{1, 3} {
		if again := whole(t, newWorker(t, &store.Mem{}), spec, shards); again.Adapter.SHA256 != first.Adapter.SHA256 {
			t.Errorf("%d shards: adapter %.12s, want %.12s", shards, again.Adapter.SHA256, first.Adapter.SHA256)
		}
	}
	other := whole(t, newWorker(t, &store.Mem{}), testSpec(t, "seed=2"), 1)
	if other.Adapter.SHA256 == first.Adapter.SHA256 {
		t.Error("another seed gives the same adapter")
	}
}

// TestPreemption: a stage that is stopped after any step and continued by another studio ends at the same bits and
// reports the same summary.
func TestPreemption(t *testing.T) {
	ctx, spec := context.Background(), testSpec(t)
	job := spec.Job()
	want := whole(t, newWorker(t, &store.Mem{}), spec, 2)
	objects := &store.Mem{}
	s := newWorker(t, objects)
	must[activities.PrepareResult](t)(s.Prepare(ctx, spec, newWatcher(0)))
	sft := activities.SFTChunk{Job: job, Stage: run.StageSFT, To: 4}
	for stop := 1; ; stop++ {
		r, err := newWorker(t, objects).TrainSFT(ctx, sft, newWatcher(1))
		if err == nil {
			if stop != 4 {
				t.Errorf("finished at attempt %d", stop)
			}
			sft.From = r.Checkpoint
			break
		}
		if !errors.Is(err, run.ErrPreempted) {
			t.Fatal(err)
		}
	}
	at := sft.From
	for epoch := range 2 {
		c := dpoChunk(t, newWorker(t, objects), job, epoch, 2, at, sft.From)
		if _, err := newWorker(t, objects).TrainDPO(ctx, c, newWatcher(1)); !errors.Is(err, run.ErrPreempted) {
			t.Fatalf("epoch %d: %v", epoch, err)
		}
		at = must[activities.ChunkResult](t)(newWorker(t, objects).TrainDPO(ctx, c, newWatcher(0))).Checkpoint
	}
	if at.Adapter.SHA256 != want.Adapter.SHA256 {
		t.Errorf("interrupted: adapter %.12s, want %.12s", at.Adapter.SHA256, want.Adapter.SHA256)
	}
}

// TestChunksAreIdempotent: asking again for a finished chunk returns its result without work.
func TestChunksAreIdempotent(t *testing.T) {
	ctx, spec := context.Background(), testSpec(t)
	s := newWorker(t, &store.Mem{})
	must[activities.PrepareResult](t)(s.Prepare(ctx, spec, newWatcher(0)))
	c := activities.SFTChunk{Job: spec.Job(), Stage: run.StageSFT, To: 4, Spent: 10}
	first := must[activities.ChunkResult](t)(s.TrainSFT(ctx, c, newWatcher(0)))
	m := newWatcher(0)
	again := must[activities.ChunkResult](t)(s.TrainSFT(ctx, c, m))
	if again.SaveSeconds != 0 {
		t.Errorf("saved again in %v s", again.SaveSeconds)
	}
	if again.SaveSeconds = first.SaveSeconds; again != first || len(m.reports) != 0 {
		t.Errorf("again: %+v with %d steps, first %+v", again, len(m.reports), first)
	}
	if first.Checkpoint.Seconds <= 10 {
		t.Errorf("seconds %v do not add to those spent before", first.Checkpoint.Seconds)
	}
	p := must[activities.Position](t)(s.Recover(ctx, spec.Job()))
	if p.SFT != first.Checkpoint || !p.OFT.IsZero() {
		t.Errorf("recovered %+v", p)
	}
}

// TestWholeRunMakesAReport goes through evaluation, export and report.
func TestWholeRunMakesAReport(t *testing.T) {
	ctx, spec, objects := context.Background(), testSpec(t, "sft.ema=0.9"), &store.Mem{}
	s, m := newWorker(t, objects), newWatcher(0)
	oft := whole(t, s, spec, 2)
	job := spec.Job()
	p := must[activities.Position](t)(s.Recover(ctx, job))
	longer := must[activities.ChunkResult](t)(s.TrainSFT(ctx, activities.SFTChunk{Job: job, Stage: run.StageCompare, From: p.SFT, To: 6}, m)).Checkpoint
	var parts []activities.EvalPart
	for v, ref := range map[run.Variant]run.CheckpointRef{run.VariantBase: {}, run.VariantSFT: p.SFT, run.VariantOFT: oft, run.VariantLonger: longer} {
		for k := range 2 {
			parts = append(parts, must[activities.EvalPart](t)(s.Evaluate(ctx, activities.EvalShard{Job: job, Variant: v, Checkpoint: ref, Split: "test_S", Shard: k, Shards: 2}, m)))
		}
	}
	results := must[[]run.EvalResult](t)(s.Summarise(ctx, activities.SummaryJob{Job: job, Parts: parts}, m))
	if len(results) != 4 || results[0].Tuples != 3 {
		t.Fatalf("%+v", results)
	}
	quick := must[activities.EvalPart](t)(s.Evaluate(ctx, activities.EvalShard{Job: job, Variant: run.VariantOFT, Checkpoint: oft, Split: "test_S", Shards: 1, Quick: true}, m)).Quick
	if quick.Stage != run.StageOFT || quick.IP == 0 {
		t.Errorf("quick evaluation %+v", quick)
	}
	state := run.State{Run: spec.Name, Results: results, Checkpoints: []run.CheckpointRef{p.SFT, oft}, Adapter: oft.Adapter, Quick: []run.QuickEval{quick}}
	exported := must[activities.ExportResult](t)(s.Export(ctx, activities.ExportJob{Job: job, Variant: run.VariantOFT, Checkpoint: oft, Results: results}, m))
	if exported.Adapter.SHA256 != oft.Adapter.SHA256 {
		t.Error("the exported adapter is not the checkpoint's")
	}
	page := must[run.ObjectRef](t)(s.Report(ctx, activities.ReportJob{Job: job, State: state, Parts: parts}, m))
	html, _, err := store.ReadAll(ctx, objects, page.Key)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Before and after, test_S", "Pairs of the last epoch", "data:image/png", "<polyline", "SFT, same extra time"} {
		if !bytes.Contains(html, []byte(want)) {
			t.Errorf("report lacks %q", want)
		}
	}
	if err := s.Prune(ctx, activities.PruneJob{Job: job, Stage: run.StageOFT, KeepLast: 1, Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	left, err := objects.List(ctx, "runs/test/pairs/epoch-00000/rollouts")
	if err != nil || len(left) != 0 {
		t.Errorf("trajectories left after pruning: %v %v", left, err)
	}
}

// TestBadInputs: what is wrong is said by Prepare, with its class, file and cure.
func TestBadInputs(t *testing.T) {
	own := filepath.Join(t.TempDir(), "data")
	if err := world.Export(t.Context(), own, world.ExportOptions{Train: 8, Side: 64, Seed: 1}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		set   []string
		class run.Class
		says  string
	}{
		{"no such pipeline", []string{"model.pipeline=/nowhere"}, run.ClassModel, "/nowhere"},
		{"no such data", []string{"data.source=/nowhere", "oft.mask.policy=full"}, run.ClassData, "/nowhere"},
		{"no such split", []string{"data.train_split=trian"}, run.ClassData, "trian"},
		{"no such scorer", []string{"reward.sciscore=/nowhere"}, run.ClassModel, "/nowhere"},
		{"no such adapter", []string{"model.adapter=/nowhere.safetensors"}, run.ClassModel, "/nowhere.safetensors"},
		{"no such layer", []string{"lora.targets=[to_x]"}, run.ClassConfig, "to_x"},
		{"no such prompts", []string{"data.source=" + own, "oft.mask.policy=full", "data.prompts=" + filepath.Join(cacheDir, "none.json")}, run.ClassData, "none.json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := newWorker(t, &store.Mem{}).Prepare(context.Background(), testSpec(t, c.set...), newWatcher(0))
			if run.ClassOf(err) != c.class || err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("class %q, error %v", run.ClassOf(err), err)
			}
		})
	}
}

// TestNameIsTaken: a run's name stands for one config as soon as anything has come of it.
func TestNameIsTaken(t *testing.T) {
	objects := &store.Mem{}
	must[activities.PrepareResult](t)(newWorker(t, objects).Prepare(context.Background(), testSpec(t), newWatcher(0)))
	must[activities.PrepareResult](t)(newWorker(t, objects).Prepare(context.Background(), testSpec(t, "sft.lr=2"), newWatcher(0)))
	must[activities.PrepareResult](t)(newWorker(t, objects).Prepare(context.Background(), testSpec(t), newWatcher(0)))
	must[activities.ChunkResult](t)(newWorker(t, objects).TrainSFT(context.Background(), activities.SFTChunk{Job: testSpec(t).Job(), Stage: run.StageSFT, To: 1}, newWatcher(0)))
	_, err := newWorker(t, objects).Prepare(context.Background(), testSpec(t, "sft.lr=1"), newWatcher(0))
	if run.ClassOf(err) != run.ClassConfig || !strings.Contains(err.Error(), "--name") {
		t.Errorf("%v", err)
	}
	_, err = newWorker(t, objects).TrainSFT(context.Background(), activities.SFTChunk{Job: testSpec(t, "sft.lr=1").Job(), Stage: run.StageSFT, To: 1}, newWatcher(0))
	if run.ClassOf(err) != run.ClassConfig {
		t.Errorf("another config's job: %v", err)
	}
}
