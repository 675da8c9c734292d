package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/worker/checkpoint"
	"github.com/sciflux/sciflux/worker/pairs"
)

// methods are settings under which each method of stage 2 uses whatever it can, with two steps an epoch.
var methods = map[string][]string{
	"dpo, window": {"oft.noisy_steps=0", "oft.noise_window.size=2", "oft.noise_window.high=3", "oft.updates=2", "oft.accumulate_pairs=2", "oft.forms.step=cps",
		"oft.eta=0.5", "oft.trust=kl_mask", "oft.kl_limit=1e-6", "oft.margin_cap=3", "oft.log_prob=square"},
	"dpo_flow": {"oft.method=dpo_flow", "oft.times.count=2", "oft.dpo_flow.pairs=all"},
	"dgpo":     {"oft.method=dgpo", "oft.times.count=2", "oft.dgpo.clip=1e-2", "oft.dgpo.old.ramp=0.1", "oft.kl.weight=0.01"},
	"nft":      {"oft.method=nft", "oft.times.count=2", "oft.times.noise=own", "oft.nft.old.ramp=0.1", "oft.advantage.scope=round"},
	"awm":      {"oft.method=awm", "oft.times.count=2", "oft.awm.old.cap=0.2", "oft.awm.old.ramp=0.1", "oft.advantage.kind=winrate", "oft.kl.weight=0.01", "oft.kl.region=mask"},
}

func methodSpec(t *testing.T, method string) run.Spec {
	t.Helper()
	return testSpec(t, append([]string{"data.train_tuples=12", "sft.batch=2", "sft.ema=0.5", "oft.ema=0.5", "oft.prompts_per_epoch=2", "oft.images_per_prompt=3", "oft.lr=1e-2"}, methods[method]...)...)
}

// prepared is a store with the run's SFT checkpoint, and a worker on it.
func prepared(t *testing.T, spec run.Spec) (*Worker, store.Objects, run.CheckpointRef) {
	t.Helper()
	objects := &store.Mem{}
	s := newWorker(t, objects)
	must[activities.PrepareResult](t)(s.Prepare(t.Context(), spec, newWatcher(0)))
	c := activities.SFTChunk{Job: spec.Job(), Stage: run.StageSFT, To: 2}
	return s, objects, must[activities.ChunkResult](t)(s.TrainSFT(t.Context(), c, newWatcher(0))).Checkpoint
}

// TestEveryMethodResumesToTheSameBits: two epochs of each method, by one process from one shard, and by processes that are
// stopped after each step, from three shards: weights, average, old policy, moments, counters and summaries are the same.
func TestEveryMethodResumesToTheSameBits(t *testing.T) {
	seen := map[string]string{}
	for _, method := range slices.Sorted(maps.Keys(methods)) {
		spec := methodSpec(t, method)
		job := spec.Job()
		parts := everyPart
		if method == "dgpo" || method == "nft" || method == "awm" {
			parts = append(slices.Clone(parts), checkpoint.OldPart)
		}
		one, whole, sft := prepared(t, spec)
		other, cut, from := prepared(t, spec)
		at, behind := sft, from
		for epoch := range 2 {
			want := trainEpoch(t, one, job, epoch, 1, at, sft, newWatcher(0))
			c, stops := dpoChunk(t, other, job, epoch, 3, behind, from), 0
			var got activities.ChunkResult
			for ; ; stops++ {
				var err error
				if got, err = newWorker(t, cut).TrainDPO(t.Context(), c, newWatcher(1)); err == nil {
					break
				}
				if !errors.Is(err, run.ErrPreempted) || stops > 2 {
					t.Fatalf("%s, epoch %d, attempt %d: %v", method, epoch, stops, err)
				}
			}
			what := fmt.Sprintf("%s, epoch %d stopped %d times", method, epoch, stops)
			samePrints(t, what, prints(t, cut, got.Checkpoint), prints(t, whole, want.Checkpoint), parts...)
			if got.Summary != want.Summary || stops != 1 || want.Summary.Steps != 2 {
				t.Errorf("%s: summary %+v, want %+v", what, got.Summary, want.Summary)
			}
			at, behind = want.Checkpoint, got.Checkpoint
		}
		if twin, ok := seen[at.Adapter.SHA256]; ok {
			t.Errorf("%s and %s give the same adapter", method, twin)
		}
		seen[at.Adapter.SHA256] = method
	}
}

// TestOldPolicyTrailsThePolicy: nft's checkpoints hold another old policy than policy once its schedule lets it lag, and the
// rollouts of the next round are that one's.
func TestOldPolicyTrailsThePolicy(t *testing.T) {
	spec := methodSpec(t, "nft")
	s, objects, sft := prepared(t, spec)
	job := spec.Job()
	first := trainEpoch(t, s, job, 0, 1, sft, sft, newWatcher(0)).Checkpoint
	held := prints(t, objects, first)
	if held[checkpoint.OldPart] == held[checkpoint.PolicyPart] || held[checkpoint.OldPart] == held[store.AdapterPart] {
		t.Error("after two updates the old policy is the policy or the average still")
	}
	r, done, err := s.open(t.Context(), job, newWatcher(0))
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	sampler, err := checkpoint.Sampler(t.Context(), r, first)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := checkpoint.Trained(t.Context(), r, first)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Equal(sampler.Weights.Floats(), policy.Weights.Floats()) {
		t.Error("the policy does the rollouts")
	}
	begin, err := checkpoint.Sampler(t.Context(), r, sft)
	if err != nil {
		t.Fatal(err)
	}
	evaluated, err := checkpoint.Evaluated(t.Context(), r, sft)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(begin.Weights.Floats(), evaluated.Weights.Floats()) {
		t.Error("the first rollouts are not by what stage 2 starts from")
	}
}

// TestRoundsKeepWhatTheirMethodReads: finished latents alone for methods on finished pictures, the states around the noisy
// steps for dpo.
func TestRoundsKeepWhatTheirMethodReads(t *testing.T) {
	for method, want := range map[string]int{"dpo, window": 3, "nft": 1, "dgpo": 1} {
		spec := methodSpec(t, method)
		s, objects, sft := prepared(t, spec)
		c := dpoChunk(t, s, spec.Job(), 0, 1, sft, sft)
		stored := must[*pairs.Rollouts](t)(pairs.ReadRollouts(t.Context(), objects, c.Rollouts[0]))
		if n := len(stored.Latents[0][0]); n != want || len(stored.Latents[0]) != 3 {
			t.Errorf("%s: %d states of %d pictures, want %d", method, n, len(stored.Latents[0]), want)
		}
	}
}

// TestAnotherMethodsCheckpoint: training does not go on from moments and old policy of another method, nor without an old
// policy; one error names the step, both methods and the cure.
func TestAnotherMethodsCheckpoint(t *testing.T) {
	spec := methodSpec(t, "nft")
	s, objects, sft := prepared(t, spec)
	job, ctx := spec.Job(), context.Background()
	good := trainEpoch(t, s, job, 0, 1, sft, sft, newWatcher(0)).Checkpoint
	checkpoints := store.Checkpoints{Objects: objects, Run: "test"}
	loaded := must[*store.Loaded](t)(checkpoints.Load(ctx, good))
	state := func(method string) []byte {
		var counters map[string]any
		if err := json.Unmarshal(loaded.Parts[checkpoint.StatePart], &counters); err != nil {
			t.Fatal(err)
		}
		counters["method"] = method
		return must[[]byte](t)(json.Marshal(counters))
	}
	for i, c := range []struct {
		name   string
		change func(parts map[string][]byte)
		says   []string
	}{
		{"of dgpo", func(p map[string][]byte) { p[checkpoint.StatePart] = state("dgpo") }, []string{"dgpo", "nft", "another name"}},
		{"of dpo", func(p map[string][]byte) { p[checkpoint.StatePart] = state("") }, []string{"oft.method dpo", "nft"}},
		{"without old policy", func(p map[string][]byte) { delete(p, checkpoint.OldPart) }, []string{"no part old.safetensors"}},
	} {
		parts := maps.Clone(loaded.Parts)
		c.change(parts)
		var list []store.Part
		for _, name := range slices.Sorted(maps.Keys(parts)) {
			list = append(list, store.BytesPart(name, parts[name]))
		}
		bad := must[run.CheckpointRef](t)(checkpoints.Save(ctx, store.Manifest{Stage: run.StageOFT, Step: 3 + i, Epoch: 1, ConfigHash: job.ConfigHash}, list))
		m := newWatcher(0)
		_, err := s.TrainDPO(ctx, activities.DPOChunk{Job: job, Epoch: 9, From: bad, Reference: sft}, m)
		for _, word := range c.says {
			if err == nil || !strings.Contains(err.Error(), word) || len(m.reports) > 0 {
				t.Errorf("%s: error %v, want one about %q", c.name, err, word)
			}
		}
	}
}

// TestNotesOnStageTwo: what makes a method's work doubtful is told before it begins.
func TestNotesOnStageTwo(t *testing.T) {
	for set, want := range map[string]string{"oft.images_per_prompt=2": "z-scores of a group of 2", "oft.images_per_prompt=3": ""} {
		spec := testSpec(t, "oft.method=dgpo", set)
		m := newWatcher(0)
		must[activities.PrepareResult](t)(newWorker(t, &store.Mem{}).Prepare(t.Context(), spec, m))
		told := ""
		for _, p := range m.reports {
			told += p.Note + "\n"
		}
		if strings.Contains(told, "z-scores") != (want != "") || strings.Contains(told, "distilled") {
			t.Errorf("%s: told %q", set, told)
		}
	}
}
