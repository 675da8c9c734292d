package training

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"testing"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/trainer"
	"github.com/sciflux/sciflux/worker/checkpoint"
	"github.com/sciflux/sciflux/worker/opened"
	"github.com/sciflux/sciflux/worker/pairs"
)

// latentsOf are the states of a made-up path.
func latentsOf(r *opened.Run, number, sample int) [][]float32 {
	out := make([][]float32, 3)
	for i := range out {
		out[i] = make([]float32, r.Recipe.LatentSize())
		random.New(60).Index(uint64(number), uint64(sample), uint64(i)).Normal(out[i])
	}
	return out
}

func textOf(number int) string { return fmt.Sprintf("an apple of %d days", number) }

func rewardsOf(number int) []float64 { return []float64{float64(number * number % 7), 3.5} }

func subjectsOf(number int) []reward.Subject {
	box := func(k int) flow.Box {
		return flow.Box{CX: 0.3 + 0.1*float32(number%4), CY: 0.5, W: 0.5, H: 0.4 + 0.3*float32(k)}
	}
	return []reward.Subject{{Box: box(0), Masked: true}, {Box: box(1), Masked: true}}
}

// stored writes made-up pairs of an epoch, whose first prompt's number is first, as two shards of which the second holds the
// middle prompts. The states that the method reads are kept of each path.
func stored(t *testing.T, r *opened.Run, epoch, first int) (rollouts, scores []run.ObjectRef) {
	t.Helper()
	kept := 0
	if r.Recipe.Config.OFT.Forward() {
		kept = 2
	}
	for shard, numbers := range [][]int{{first, first + 3}, {first + 1, first + 2}} {
		made, rated := &pairs.Rollouts{Tokens: r.Recipe.Grid.Tokens()}, pairs.Scores{}
		for _, n := range numbers {
			made.Prompts = append(made.Prompts, pairs.Prompt{Number: n, Text: textOf(n), Object: "apple"})
			made.Latents = append(made.Latents, [][][]float32{latentsOf(r, n, 0)[kept:], latentsOf(r, n, 1)[kept:]})
			rated.Rewards, rated.Subjects = append(rated.Rewards, rewardsOf(n)), append(rated.Subjects, subjectsOf(n))
		}
		made.Images = reward.Images{B: 4, H: 1, W: 1, Data: make([]float32, 12)}
		keys := run.Keys("test")
		ref, err := store.Finish(t.Context(), r.Objects, keys.Pairs(epoch, shard, "rollouts"), made.Write)
		if err != nil {
			t.Fatal(err)
		}
		rollouts = append(rollouts, ref)
		write := func(w io.Writer) error { return json.NewEncoder(w).Encode(rated) }
		if ref, err = store.Finish(t.Context(), r.Objects, keys.Pairs(epoch, shard, "scores"), write); err != nil {
			t.Fatal(err)
		}
		scores = append(scores, ref)
	}
	return rollouts, scores
}

// pairsByHand are the pairs that a step of an epoch trains, in the order of their prompts.
func pairsByHand(t *testing.T, r *opened.Run, first int) []trainer.Pair {
	t.Helper()
	sigmas := r.Recipe.Scheduler.Sigmas(2, r.Recipe.Grid.Tokens())
	var out []trainer.Pair
	for n := first; n < first+2; n++ {
		c, err := r.Models.Conditioning(t.Context(), []string{textOf(n)}, 9)
		if err != nil {
			t.Fatal(err)
		}
		p := trainer.Pair{Latents: [][][]float32{latentsOf(r, n, 0), latentsOf(r, n, 1)}, Rewards: rewardsOf(n), Conditioning: c,
			Steps: flow.Steps(flow.Corrected, sigmas, 1.5), Timesteps: r.Recipe.Scheduler.Timesteps(sigmas)}
		for _, s := range subjectsOf(n) {
			p.Masks = append(p.Masks, flow.NewMask(flow.AllForms(flow.Corrected), s.Box, r.Recipe.Grid))
		}
		out = append(out, p)
	}
	return out
}

// TestOFTTakesTheStepsOfTheRecipe: over two epochs, the first of them taken up again after a step, the adapter is to the bit
// what the trainer makes of the pairs in the order of their prompts, with stage 2's constants, from stage 1's average and
// against it.
func TestOFTTakesTheStepsOfTheRecipe(t *testing.T) {
	r := opening(t)
	sft := stage1(t, r)
	start, err := checkpoint.Evaluated(t.Context(), r, sft)
	if err != nil {
		t.Fatal(err)
	}
	reference := start.Clone()
	want := byHand(t, r, start, 4, trainer.OptimizerConfig{LR: 0.03, Beta1: 0.6, Beta2: 0.8, Eps: 1e-5, WeightDecay: 1e-4, MaxGradNorm: 0.2})
	from := sft
	for epoch := range 2 {
		e := float64(epoch)
		summary := run.PairSummary{Pairs: 4, RewardMean: 3 + e, RewardBest: 5 + e, Masks: run.Masks{Total: 8, Full: epoch}}
		guard := run.GuardState{KLOver: 2 + epoch, Rewards: []float64{1}}
		c := activities.DPOChunk{Job: r.Job, Epoch: epoch, From: from, Reference: sft, Summary: summary, Spent: 70, Guard: guard}
		c.Rollouts, c.Scores = stored(t, r, epoch, 4*epoch)
		if epoch == 0 {
			if _, err := OFT(t.Context(), r, c, stopping(1)); err == nil {
				t.Fatal("the work does not leave")
			}
		}
		got, err := OFT(t.Context(), r, c, stopping(0))
		if err != nil {
			t.Fatal(err)
		}
		var taken trainer.DPOResult
		var kl, clamped float64
		for step := range 2 {
			group := pairsByHand(t, r, 4*epoch+2*step)
			if taken, err = want.DPO(t.Context(), group, reference, flow.DPO{Beta: 3, Eps: 0.05, Pairs: flow.Corrected}); err != nil {
				t.Fatal(err)
			}
			kl, clamped = kl+taken.KL/2, clamped+taken.Clamped/2
		}
		values := map[string]float64{"loss": taken.Loss, "grad_norm": taken.Norm, "learning_rate": 0.03, "kl": taken.KL, "clamped": taken.Clamped,
			"reward": summary.RewardMean, "reward_best": summary.RewardBest, "reward_spread": 0, "flat_groups": 0}
		last := run.Event{Stage: run.StageOFT, Step: 2*epoch + 2, Epoch: epoch + 1, Kind: "step", Masks: summary.Masks, Values: values}
		name := fmt.Sprintf("oft-%06d.jsonl", 2*epoch+2)
		sameAdapter(t, name, r, got.Checkpoint, want.Adapter)
		if events := logged(t, r, name); fmt.Sprint(events[len(events)-1]) != fmt.Sprint(last) {
			t.Errorf("%s: logged %+v, want %+v", name, events[len(events)-1], last)
		}
		m := manifest(t, r, run.StageOFT, 2*epoch+2)
		result, err := checkpoint.ReadResult(m)
		if err != nil {
			t.Fatal(err)
		}
		if m.Epoch != epoch+1 || m.StageEnd != (epoch == 1) || m.Reference != sft.Adapter.SHA256 || m.Seconds <= 70 ||
			result.Pairs != summary || result.Guard.KLOver != 2+epoch || !slices.Equal(result.Guard.Rewards, []float64{1}) {
			t.Errorf("%s: result %+v, manifest %+v", name, result, m)
		}
		if s := got.Summary; s.Steps != 2 || math.Abs(s.KL-kl) > 1e-12 || math.Abs(s.Clamped-clamped) > 1e-12 || kl == 0 || clamped == 0 {
			t.Errorf("%s: summary %+v, want KL %v and %v clamped", name, s, kl, clamped)
		}
		from = got.Checkpoint
	}
}
