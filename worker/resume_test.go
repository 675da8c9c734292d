package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/worker/checkpoint"
	"github.com/sciflux/sciflux/worker/training"
)

// prints are the hashes of everything that a checkpoint holds, by part.
func prints(t *testing.T, objects store.Objects, ref run.CheckpointRef) map[string]string {
	t.Helper()
	c := store.Checkpoints{Objects: objects, Run: "test"}
	loaded := must[*store.Loaded](t)(c.Load(t.Context(), ref))
	out := map[string]string{}
	for _, p := range loaded.Manifest.Parts {
		out[p.Name] = p.Object.SHA256
	}
	return out
}

func samePrints(t *testing.T, what string, got, want map[string]string, parts ...string) {
	t.Helper()
	if len(want) != len(parts) {
		t.Fatalf("%s: %d parts, want %v", what, len(want), parts)
	}
	for _, p := range parts {
		if got[p] != want[p] || got[p] == "" {
			t.Errorf("%s: %s is %.12s, want %.12s", what, p, got[p], want[p])
		}
	}
}

// train takes SFT steps of a stage in chunks that end at the given steps, each by a studio of its own as after a crash.
func train(t *testing.T, objects store.Objects, job run.Job, stage run.Stage, from run.CheckpointRef, ends ...int) run.CheckpointRef {
	t.Helper()
	for _, to := range ends {
		c := activities.SFTChunk{Job: job, Stage: stage, From: from, To: to}
		from = must[activities.ChunkResult](t)(newWorker(t, objects).TrainSFT(t.Context(), c, newWatcher(0))).Checkpoint
	}
	return from
}

var everyPart = []string{checkpoint.PolicyPart, store.AdapterPart, checkpoint.OptimizerPart, checkpoint.StatePart}

// TestResumedFromAnyCheckpoint: SFT and the comparison end with the same weights, average, moments and counters whether
// they run through or are taken up again from any of their checkpoints.
func TestResumedFromAnyCheckpoint(t *testing.T) {
	spec := testSpec(t, "sft.ema=0.9", "sft.batch=2", "data.train_tuples=12", "lora.rank=20", "lora.alpha=1.2") // a scale that float32 rounds
	whole, job := &store.Mem{}, spec.Job()
	must[activities.PrepareResult](t)(newWorker(t, whole).Prepare(t.Context(), spec, newWatcher(0)))
	sft := train(t, whole, job, run.StageSFT, run.CheckpointRef{}, 4)
	compare := train(t, whole, job, run.StageCompare, sft, 7)
	for _, ends := range [][]int{{1, 4}, {2, 3, 4}} {
		cut := &store.Mem{}
		must[activities.PrepareResult](t)(newWorker(t, cut).Prepare(t.Context(), spec, newWatcher(0)))
		at := train(t, cut, job, run.StageSFT, run.CheckpointRef{}, ends...)
		samePrints(t, fmt.Sprint("SFT in chunks up to ", ends), prints(t, cut, at), prints(t, whole, sft), everyPart...)
		if at.Adapter.SHA256 != sft.Adapter.SHA256 {
			t.Error("the reference does not name the average")
		}
		if ends[0] == 1 {
			longer := train(t, cut, job, run.StageCompare, at, 4+ends[0], 7)
			samePrints(t, "comparison in two chunks", prints(t, cut, longer), prints(t, whole, compare), everyPart...)
		}
	}
}

// TestOFTResumedFromAnyCheckpoint: an epoch of stage 2, stopped after any of its steps or begun by a new process, ends
// with the same weights, moments and counters, and its manifest holds the same summary.
func TestOFTResumedFromAnyCheckpoint(t *testing.T) {
	spec := testSpec(t, "data.train_tuples=12", "sft.batch=2", "oft.accumulate_pairs=1", "oft.prompts_per_epoch=3", "oft.ema=0.5")
	job := spec.Job()
	prepared := func() (store.Objects, run.CheckpointRef) {
		objects := &store.Mem{}
		must[activities.PrepareResult](t)(newWorker(t, objects).Prepare(t.Context(), spec, newWatcher(0)))
		return objects, train(t, objects, job, run.StageSFT, run.CheckpointRef{}, 4)
	}
	whole, sft := prepared()
	one := newWorker(t, whole)
	first := trainEpoch(t, one, job, 0, 1, sft, sft, newWatcher(0))
	second := trainEpoch(t, one, job, 1, 1, first.Checkpoint, sft, newWatcher(0))
	cut, from := prepared()
	at := from
	for epoch, want := range []activities.ChunkResult{first, second} {
		c := dpoChunk(t, newWorker(t, cut), job, epoch, 1, at, from)
		stops := 0
		var got activities.ChunkResult
		for ; ; stops++ { // each attempt, by a process of its own, is stopped after one step
			var err error
			if got, err = newWorker(t, cut).TrainDPO(t.Context(), c, newWatcher(1)); err == nil {
				break
			}
			if !errors.Is(err, run.ErrPreempted) || stops > 3 {
				t.Fatalf("epoch %d, attempt %d: %v", epoch, stops, err)
			}
		}
		what := fmt.Sprintf("epoch %d stopped %d times", epoch, stops)
		samePrints(t, what, prints(t, cut, got.Checkpoint), prints(t, whole, want.Checkpoint), everyPart...)
		if got.Summary != want.Summary || stops != 2 {
			t.Errorf("%s: summary %+v, want %+v", what, got.Summary, want.Summary)
		}
		at = got.Checkpoint
	}
}

// TestEveryNumberOfShardsGivesTheSamePairs: trajectories, rewards and masks of an epoch as training reads them, for
// shard counts below, between and above the number of groups.
func TestEveryNumberOfShardsGivesTheSamePairs(t *testing.T) {
	spec := testSpec(t, "data.train_tuples=12", "oft.prompts_per_epoch=7", "oft.accumulate_pairs=1", "oft.steps=2", "oft.noisy_steps=1")
	var want string
	for _, shards := range []int{1, 2, 3, 5, 7} {
		objects := &store.Mem{}
		s := newWorker(t, objects)
		must[activities.PrepareResult](t)(s.Prepare(t.Context(), spec, newWatcher(0)))
		c := dpoChunk(t, s, spec.Job(), 2, shards, run.CheckpointRef{}, run.CheckpointRef{})
		r, done, err := s.open(t.Context(), spec.Job(), newWatcher(0))
		if err != nil {
			t.Fatal(err)
		}
		defer done()
		pairs, err := training.EpochPairs(t.Context(), r, c, func() {})
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprint(c.Summary.Pairs, c.Summary.Ties, c.Summary.Masks)
		for _, p := range pairs {
			text += fmt.Sprint(p.Latents, p.Rewards, p.Timesteps, p.Conditioning)
			for _, m := range p.Masks {
				text += fmt.Sprint(m.Cells)
			}
		}
		if want == "" {
			want = text
		}
		if text != want || len(pairs) != 7 || len(c.Rollouts) != shards {
			t.Errorf("%d shards: other pairs than one shard's", shards)
		}
	}
}

// TestPairsThatDoNotMakeAnEpoch: a shard of another epoch, one twice, one missing, and one that was damaged are found
// before a step is taken.
func TestPairsThatDoNotMakeAnEpoch(t *testing.T) {
	spec, objects := testSpec(t, "data.train_tuples=12"), &store.Mem{}
	s, job := newWorker(t, objects), spec.Job()
	must[activities.PrepareResult](t)(s.Prepare(t.Context(), spec, newWatcher(0)))
	good := dpoChunk(t, s, job, 0, 2, run.CheckpointRef{}, run.CheckpointRef{})
	for name, change := range map[string]func(c *activities.DPOChunk){
		"other epoch": func(c *activities.DPOChunk) { c.Epoch = 1 },
		"twice":       func(c *activities.DPOChunk) { c.Rollouts[1], c.Scores[1] = c.Rollouts[0], c.Scores[0] },
		"missing":     func(c *activities.DPOChunk) { c.Rollouts, c.Scores = c.Rollouts[:1], c.Scores[:1] },
		"damaged":     func(c *activities.DPOChunk) { c.Rollouts[0].SHA256 = strings.Repeat("0", 64) },
		"gone":        func(c *activities.DPOChunk) { c.Scores[1].Key += "x" },
	} {
		c := good
		c.Rollouts, c.Scores = slices.Clone(good.Rollouts), slices.Clone(good.Scores)
		change(&c)
		m := newWatcher(0)
		if _, err := s.TrainDPO(t.Context(), c, m); err == nil || len(m.reports) > 0 {
			t.Errorf("%s: %d steps, error %v", name, len(m.reports), err)
		}
	}
}

// TestDamagedCheckpoints: a checkpoint whose parts do not fit the model or lack something is an error that names the part
// and what to do; nothing is trained.
func TestDamagedCheckpoints(t *testing.T) {
	spec, objects := testSpec(t, "data.train_tuples=12", "sft.batch=1"), &store.Mem{}
	s, job, ctx := newWorker(t, objects), spec.Job(), context.Background()
	must[activities.PrepareResult](t)(s.Prepare(ctx, spec, newWatcher(0)))
	good := train(t, objects, job, run.StageSFT, run.CheckpointRef{}, 1)
	checkpoints := store.Checkpoints{Objects: objects, Run: "test"}
	loaded := must[*store.Loaded](t)(checkpoints.Load(ctx, good))
	step := 1
	for name, c := range map[string]struct {
		change func(parts map[string][]byte)
		says   string
	}{
		"no adapter":       {func(p map[string][]byte) { delete(p, store.AdapterPart) }, "no part adapter.safetensors"},
		"broken adapter":   {func(p map[string][]byte) { p[store.AdapterPart] = []byte("x") }, "adapter.safetensors"},
		"broken counters":  {func(p map[string][]byte) { p[checkpoint.StatePart] = []byte("{") }, "counters"},
		"moments of other": {func(p map[string][]byte) { p[checkpoint.OptimizerPart] = p[store.AdapterPart] }, "moments"},
	} {
		parts := map[string][]byte{}
		for k, v := range loaded.Parts {
			parts[k] = v
		}
		c.change(parts)
		var list []store.Part
		for _, n := range []string{store.AdapterPart, checkpoint.OptimizerPart, checkpoint.StatePart} {
			if data, ok := parts[n]; ok {
				list = append(list, store.BytesPart(n, data))
			}
		}
		if parts[store.AdapterPart] == nil {
			list = append(list, store.BytesPart("other", nil))
		}
		step++
		bad, err := checkpoints.Save(ctx, store.Manifest{Stage: run.StageSFT, Step: step, ConfigHash: job.ConfigHash}, list)
		if err != nil {
			if name != "no adapter" {
				t.Errorf("%s: %v", name, err)
			}
			continue // such a checkpoint cannot even be made
		}
		m := newWatcher(0)
		_, err = s.TrainSFT(ctx, activities.SFTChunk{Job: job, Stage: run.StageSFT, From: bad, To: step + 20}, m)
		if err == nil || !strings.Contains(err.Error(), c.says) || len(m.reports) > 0 {
			t.Errorf("%s: %d steps, error %v, want one about %q", name, len(m.reports), err, c.says)
		}
	}
}

// TestRecoverKnowsWhereARunStands: the newest whole checkpoints, what OFT's manifest holds for the stop rules, and the
// state recorded last; a damaged newest checkpoint is passed over.
func TestRecoverKnowsWhereARunStands(t *testing.T) {
	ctx, objects := t.Context(), &store.Mem{}
	s := newWorker(t, objects)
	job := run.Job{Run: "test", ConfigHash: "h"}
	if p, err := s.Recover(ctx, job); err != nil || !p.SFT.IsZero() || !p.OFT.IsZero() || p.State.Run != "" {
		t.Errorf("an empty store: %+v, %v", p, err)
	}
	c := store.Checkpoints{Objects: objects, Run: "test"}
	save := func(stage run.Stage, step int, r checkpoint.Result) run.CheckpointRef {
		text := must[[]byte](t)(json.Marshal(r))
		return must[run.CheckpointRef](t)(c.Save(ctx, store.Manifest{Stage: stage, Step: step, Epoch: step, ConfigHash: "h", Result: text}, []store.Part{store.BytesPart(store.AdapterPart, []byte(fmt.Sprint(stage, step)))}))
	}
	guard := run.GuardState{Rewards: []float64{1, 2}, BestReward: 2, HasBest: true, KLOver: 1}
	sft := save(run.StageSFT, 8, checkpoint.Result{})
	before := save(run.StageOFT, 1, checkpoint.Result{Guard: guard, Pairs: run.PairSummary{Pairs: 4, RewardMean: 3}, Summary: run.ChunkSummary{Steps: 2, KL: 0.5}})
	newest := save(run.StageOFT, 2, checkpoint.Result{})
	if err := s.Record(ctx, job, run.State{Run: "test", Status: run.StatusPaused, Reason: "lunch"}); err != nil {
		t.Fatal(err)
	}
	if p := must[activities.Position](t)(s.Recover(ctx, job)); p.SFT != sft || p.OFT != newest || !p.Compare.IsZero() || p.State.Reason != "lunch" {
		t.Errorf("%+v", p)
	}
	if err := objects.Delete(ctx, newest.Adapter.Key); err != nil {
		t.Fatal(err)
	}
	p := must[activities.Position](t)(s.Recover(ctx, job))
	if p.OFT != before || p.Guard.KLOver != 1 || p.OFTScores.RewardMean != 3 || p.OFTSummary.KL != 0.5 || len(p.Guard.Rewards) != 2 {
		t.Errorf("with a damaged newest checkpoint: %+v", p)
	}
}

// TestPruneKeepsWhatIsNeeded: the newest, the protected, and trajectories of the epoch at work and of later ones; scores
// stay for the report.
func TestPruneKeepsWhatIsNeeded(t *testing.T) {
	ctx, objects := t.Context(), &store.Mem{}
	s, c := newWorker(t, objects), store.Checkpoints{Objects: objects, Run: "test"}
	var refs []run.CheckpointRef
	for step := range 6 {
		refs = append(refs, must[run.CheckpointRef](t)(c.Save(ctx, store.Manifest{Stage: run.StageOFT, Step: step, ConfigHash: "h"}, []store.Part{store.BytesPart(store.AdapterPart, []byte{byte(step)})})))
	}
	keys := run.Keys("test")
	for epoch := range 4 {
		for _, kind := range []string{"rollouts", "scores"} {
			for shard := range 2 {
				must[store.Object](t)(objects.Put(ctx, keys.Pairs(epoch, shard, kind), strings.NewReader("x")))
			}
		}
	}
	job := activities.PruneJob{Job: run.Job{Run: "test"}, Stage: run.StageOFT, KeepLast: 2, Protect: []string{refs[1].Manifest.Key}, Epoch: 3}
	for range 2 { // again is no error
		if err := s.Prune(ctx, job); err != nil {
			t.Fatal(err)
		}
	}
	var left []int
	for _, e := range must[[]store.Entry](t)(c.List(ctx, run.StageOFT)) {
		left = append(left, e.Checkpoint.Step)
	}
	if !slices.Equal(left, []int{1, 4, 5}) {
		t.Errorf("checkpoints %v are left, want 1, 4 and 5", left)
	}
	rollouts, scores := 0, 0
	for _, o := range must[[]store.Object](t)(objects.List(ctx, "runs/test/pairs/")) {
		if strings.Contains(o.Key, "rollouts") {
			rollouts++
			if !strings.Contains(o.Key, "epoch-00003") {
				t.Errorf("%s is left", o.Key)
			}
		} else {
			scores++
		}
	}
	if rollouts != 2 || scores != 8 {
		t.Errorf("%d trajectories and %d scores left, want 2 and 8", rollouts, scores)
	}
}
