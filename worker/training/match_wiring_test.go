package training

import (
	"math"
	"slices"
	"testing"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/trainer"
	"github.com/sciflux/sciflux/worker/checkpoint"
	"github.com/sciflux/sciflux/worker/opened"
	"github.com/sciflux/sciflux/worker/recipe"
)

// TestUpdatesShareTheStepsOfARound: of two updates on the same pairs the first trains the first half of their noisy steps,
// the second the other, and each goes through all pairs of the round before the next begins.
func TestUpdatesShareTheStepsOfARound(t *testing.T) {
	r := opening(t, "oft.updates=2", "oft.eps_clamp=0.9")
	sft := stage1(t, r)
	start, err := checkpoint.Evaluated(t.Context(), r, sft)
	if err != nil {
		t.Fatal(err)
	}
	reference := start.Clone()
	want := byHand(t, r, start, 4, trainer.OptimizerConfig{LR: 0.03, Beta1: 0.6, Beta2: 0.8, Eps: 1e-5, WeightDecay: 1e-4, MaxGradNorm: 0.2})
	c := activities.DPOChunk{Job: r.Job, From: sft, Reference: sft}
	c.Rollouts, c.Scores = stored(t, r, 0, 0)
	got, err := OFT(t.Context(), r, c, stopping(0))
	if err != nil {
		t.Fatal(err)
	}
	for step := range 4 {
		u, pairs := step/2, pairsByHand(t, r, step%2*2)
		for i := range pairs {
			p := &pairs[i]
			p.Steps, p.Timesteps = p.Steps[u:u+1], p.Timesteps[u:u+1]
			for k := range p.Latents {
				p.Latents[k] = p.Latents[k][u : u+2]
			}
		}
		taken, err := want.DPO(t.Context(), pairs, reference, flow.DPO{Beta: 3, Eps: 0.9, Pairs: flow.Corrected})
		if err != nil {
			t.Fatal(err)
		}
		if taken.Norm == 0 {
			t.Fatalf("step %d has no gradient, so that it does not matter what it trains", step)
		}
	}
	sameAdapter(t, "two updates", r, got.Checkpoint, want.Adapter)
}

// groupsByHand are an epoch's groups, in the order of their prompts.
func groupsByHand(t *testing.T, r *opened.Run, epoch int) []trainer.Group {
	t.Helper()
	var round []recipe.Scored
	for n := 4 * epoch; n < 4*epoch+4; n++ {
		c, err := r.Models.Conditioning(t.Context(), []string{textOf(n)}, 9)
		if err != nil {
			t.Fatal(err)
		}
		pictures := [][]float32{latentsOf(r, n, 0)[2], latentsOf(r, n, 1)[2]}
		round = append(round, recipe.Scored{Number: n, Latents: pictures, Rewards: rewardsOf(n), Subjects: subjectsOf(n), Conditioning: c})
	}
	return r.Recipe.Groups(round)
}

// TestMethodsTakeTheStepsOfTheRecipe: over two epochs of each method on finished pictures, the first of them taken up again
// after a step, the adapter and the old policy are to the bit what follows from the groups, level by level, with stage 2's
// constants and from stage 1's average. An old policy that does the rollouts follows after each epoch, another after each step.
func TestMethodsTakeTheStepsOfTheRecipe(t *testing.T) {
	nft := []string{"oft.nft.old.flat=1", "oft.nft.old.ramp=0.25", "oft.nft.old.cap=0.75", "oft.advantage.kind=centred"}
	dgpo := []string{"oft.dgpo.clip=0.01", "oft.dgpo.old.flat=1", "oft.dgpo.old.ramp=0.5", "oft.dgpo.old.cap=0.75"}
	for method, c := range map[string]struct {
		set []string
		old flow.OldPolicy
		at  int // steps between two moves of the old policy; 0: there is none
	}{
		"nft":      {nft, flow.OldPolicy{Flat: 1, Ramp: 0.25, Cap: 0.75}, 2},
		"dgpo":     {dgpo, flow.OldPolicy{Flat: 1, Ramp: 0.5, Cap: 0.75}, 1},
		"dpo_flow": {nil, flow.OldPolicy{}, 0},
	} {
		r := opening(t, append(c.set, "oft.method="+method, "oft.times.count=2", "oft.kl.weight=0.1")...)
		sft := stage1(t, r)
		start, err := checkpoint.Evaluated(t.Context(), r, sft)
		if err != nil {
			t.Fatal(err)
		}
		reference, old := start.Clone(), start.Clone()
		want := byHand(t, r, start, 4, trainer.OptimizerConfig{LR: 0.03, Beta1: 0.6, Beta2: 0.8, Eps: 1e-5, WeightDecay: 1e-4, MaxGradNorm: 0.2})
		from := sft
		for epoch := range 2 {
			chunk := activities.DPOChunk{Job: r.Job, Epoch: epoch, From: from, Reference: sft, Summary: run.PairSummary{Pairs: 4}}
			chunk.Rollouts, chunk.Scores = stored(t, r, epoch, 4*epoch)
			if epoch == 0 {
				if _, err := OFT(t.Context(), r, chunk, stopping(1)); err == nil {
					t.Fatal("the work does not leave")
				}
			}
			got, err := OFT(t.Context(), r, chunk, stopping(0))
			if err != nil {
				t.Fatal(err)
			}
			groups, peers := groupsByHand(t, r, epoch), trainer.Peers{Reference: reference}
			for level := range 2 {
				if c.at > 0 {
					peers.Old = old
				}
				if _, err := want.Match(t.Context(), groups, level, level+1, peers, r.Recipe.Matching()); err != nil {
					t.Fatal(err)
				}
				step := 2*epoch + level
				if c.at == 1 || c.at == 2 && level == 1 {
					c.old.Follow(old.Weights.Floats(), want.Adapter.Weights.Floats(), step+c.at-1)
				}
			}
			sameAdapter(t, method, r, got.Checkpoint, want.Adapter)
			sampler, err := checkpoint.Sampler(t.Context(), r, got.Checkpoint)
			if err != nil {
				t.Fatal(err)
			}
			if c.at == 2 && !slices.Equal(sampler.Weights.Floats(), old.Weights.Floats()) {
				t.Errorf("%s: another old policy after epoch %d", method, epoch)
			}
			from = got.Checkpoint
		}
	}
}

// TestGroupsAreShownAsTheyAre: the error that a method measures of a picture at a noise level is stage 1's loss of it there,
// with the picture's own noise; an old policy that is the policy is at no distance from it, the reference at some.
func TestGroupsAreShownAsTheyAre(t *testing.T) {
	r := opening(t, "oft.method=nft", "oft.times.count=2", "oft.times.noise=own", "oft.mask.policy=none", "oft.kl.weight=0.1")
	start, err := checkpoint.Evaluated(t.Context(), r, stage1(t, r))
	if err != nil {
		t.Fatal(err)
	}
	l := byHand(t, r, start, 4, trainer.OptimizerConfig{LR: 1e-9, Beta1: 0.9, Beta2: 0.9, Eps: 1})
	groups := groupsByHand(t, r, 0)
	for g := range groups {
		groups[g].Masks = nil
	}
	got, err := l.Match(t.Context(), groups, 0, 2, trainer.Peers{Old: start.Clone()}, r.Recipe.Matching())
	if err != nil {
		t.Fatal(err)
	}
	for g, group := range groups {
		for level, at := range group.Levels {
			for i, x0 := range group.Latents {
				noise := make([]float32, len(x0))
				r.Recipe.ForwardNoise(g, level, i).Normal(noise)
				alone := trainer.Example{Latents: x0, Noise: noise, Sigma: []float32{at.Sigma}, Conditioning: group.Conditioning}
				want, err := l.SFTGradient(t.Context(), alone, 1)
				if err != nil {
					t.Fatal(err)
				}
				o := got.Outcomes[g][level]
				if math.Abs(o.Error[i]-want) > 1e-4*want || o.Drift[i] != 0 || !(o.Distance[i] > 0) {
					t.Errorf("group %d, level %g, picture %d: error %v, stage 1's loss %v; %v from the old policy, %v from the reference",
						g, at.Sigma, i, o.Error[i], want, o.Drift[i], o.Distance[i])
				}
			}
		}
	}
}
