package recipe

import (
	"math"
	"slices"
	"testing"

	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/reward"
)

// scored is a prompt of four pictures, of which some are to be skipped.
func scored(number int, rewards []float64, skip ...int) Scored {
	s := Scored{Number: number, Rewards: rewards}
	for i := range rewards {
		s.Latents = append(s.Latents, []float32{float32(i)})
		s.Subjects = append(s.Subjects, reward.Subject{Box: reward.WholePicture, Masked: true, Skip: slices.Contains(skip, i)})
	}
	return s
}

// TestGroupsLeaveOutSkippedPictures: advantages are over those that are left, and each keeps its latents and its noise.
func TestGroupsLeaveOutSkippedPictures(t *testing.T) {
	r, _, _ := bare(2, "oft.method=dgpo", "oft.advantage.kind=centred", "oft.times.noise=own")
	groups := r.Groups([]Scored{scored(7, []float64{1, 2, 9, 3}, 2), scored(8, []float64{5, 5, 5, 5}), scored(9, []float64{1, 2, 3, 4}, 0, 1, 2, 3)})
	if g := groups[0]; !slices.Equal(g.Rewards, []float64{1, 2, 3}) || !slices.Equal(g.Advantages, []float64{-1, 0, 1}) || g.Latents[2][0] != 3 || len(g.Masks) != 3 {
		t.Errorf("%+v", g)
	}
	if g := groups[1]; !slices.Equal(g.Advantages, []float64{0, 0, 0, 0}) {
		t.Errorf("equal scores have advantages %v", g.Advantages)
	}
	if g := groups[2]; len(g.Rewards) != 0 || len(g.Levels) != 4 {
		t.Errorf("nothing is left, but %+v", g)
	}
	got, want := make([]float32, 8), make([]float32, 8)
	groups[0].Levels[1].Noise(2, got)
	if r.ForwardNoise(7, 1, 3).Normal(want); !slices.Equal(got, want) {
		t.Error("the last picture has lost its own noise")
	}
}

// TestExtremesAreTrainedAlone: dpo_flow's pairs are the best and the worst of what is left, or nothing.
func TestExtremesAreTrainedAlone(t *testing.T) {
	r, _, _ := bare(2, "oft.method=dpo_flow", "oft.min_gap=0.5")
	for _, c := range []struct {
		s    Scored
		want []float64
	}{
		{scored(1, []float64{2, 4, 1, 3}), []float64{4, 1}},
		{scored(2, []float64{2, 4, 1, 3}, 1), []float64{3, 1}},
		{scored(3, []float64{2, 2.5, 2, 2}), nil},
		{scored(4, []float64{2, 4, 1, 3}, 0, 1, 2), nil},
	} {
		if g := r.Groups([]Scored{c.s})[0]; !slices.Equal(g.Rewards, c.want) {
			t.Errorf("prompt %d: %v, want %v", c.s.Number, g.Rewards, c.want)
		}
	}
	all, _, _ := bare(2, "oft.method=dpo_flow", "oft.dpo_flow.pairs=all")
	if g := all.Groups([]Scored{scored(1, []float64{2, 4, 1, 3})})[0]; len(g.Rewards) != 4 {
		t.Errorf("all pairs are of %d pictures", len(g.Rewards))
	}
}

// TestLevelsAndNoisesAreKeyed: levels are the rollout's own in their strata, drawn for a prompt and not for a group or shard;
// shared noise is one for all samples, own noise each sample's.
func TestLevelsAndNoisesAreKeyed(t *testing.T) {
	r, _, _ := bare(2, "oft.method=nft", "oft.steps=10", "oft.times.count=4")
	sigmas := r.Scheduler.Sigmas(10, r.Grid.Tokens())
	seen := map[float32]bool{}
	for number := range 40 {
		levels := r.levels(number, []int{0, 1})
		for j, l := range levels {
			draw := random.New(r.Seed).Purpose("oft times").Index(uint64(number)).Float64(uint64(j))
			low, high := j*7/4, (j+1)*7/4
			if want := sigmas[low+int(draw*float64(high-low))]; l.Sigma != want {
				t.Fatalf("prompt %d level %d: %v, want %v", number, j, l.Sigma, want)
			}
			seen[l.Sigma] = true
		}
	}
	if len(seen) != 7 {
		t.Errorf("%d levels are trained, want the noisiest seven", len(seen))
	}
	noise := func(r Recipe, number, j, sample int) []float32 {
		x := make([]float32, 6)
		r.levels(number, []int{0, 1, 2})[j].Noise(sample, x)
		return x
	}
	own, _, _ := bare(2, "oft.method=nft", "oft.times.noise=own")
	if !slices.Equal(noise(r, 3, 1, 0), noise(r, 3, 1, 2)) || slices.Equal(noise(r, 3, 1, 0), noise(r, 3, 2, 0)) || slices.Equal(noise(r, 3, 1, 0), noise(r, 4, 1, 0)) {
		t.Error("shared noise")
	}
	if slices.Equal(noise(own, 3, 1, 0), noise(own, 3, 1, 2)) {
		t.Error("own noise is shared")
	}
}

// TestWindowsOfEpochs: where noise enters follows from seed and epoch, and what is kept of a rollout from that.
func TestWindowsOfEpochs(t *testing.T) {
	r, _, _ := bare(2, "oft.steps=10", "oft.noisy_steps=0", "oft.noise_window.size=2", "oft.noise_window.high=6", "oft.updates=2")
	places := map[int]bool{}
	for epoch := range 60 {
		first, end := r.Kept(epoch)
		steps, times := r.TrainedSteps(epoch)
		if end-first != 3 || len(steps) != 2 || len(times) != 2 || steps[0].Std == 0 || first < 0 || end > 7 {
			t.Fatalf("epoch %d keeps states %d to %d of %d steps", epoch, first, end, len(steps))
		}
		for i, s := range r.Rollout(epoch).Steps() {
			if (s.Std != 0) != (i >= first && i < end-1) {
				t.Fatalf("epoch %d step %d has std %v, window at %d", epoch, i, s.Std, first)
			}
		}
		places[first] = true
	}
	if len(places) != 5 {
		t.Errorf("the window was at %v, want five places", places)
	}
	moving, _, _ := bare(2, "oft.steps=10", "oft.noisy_steps=0", "oft.noise_window.size=2", "oft.noise_window.strategy=progressive", "oft.noise_window.every=2")
	for epoch, want := range []int{0, 0, 1, 1, 2, 2, 3, 3, 0, 0} {
		if first, _ := moving.Kept(epoch); first != want {
			t.Errorf("epoch %d: window at %d, want %d", epoch, first, want)
		}
	}
}

// TestOptionsReachTheLoss: the loss of each method has the config's constants, and dpo_flow's picture is what is kept.
func TestOptionsReachTheLoss(t *testing.T) {
	anchor := flow.Anchor{Weight: 0.02, Region: flow.RegionMask}
	for method, c := range map[string]struct {
		set  []string
		want flow.Matching
		old  flow.OldPolicy
	}{
		"dpo_flow": {[]string{"oft.dpo_flow.beta=7", "oft.dpo_flow.pairs=all", "oft.dpo_flow.margin_cap=2", "oft.min_gap=0.1"},
			flow.PairFlow{Beta: 7, MinGap: 0.1, Cap: 2, Pairs: flow.PairsAll, Anchor: anchor}, flow.OldPolicy{}},
		"dgpo": {[]string{"oft.dgpo.beta=9", "oft.dgpo.clip=1e-3", "oft.dgpo.margin_cap=2", "oft.dgpo.old.ramp=0.1"},
			flow.GroupFlow{Beta: 9, Clip: 1e-3, Cap: 2, Anchor: anchor}, flow.OldPolicy{Ramp: 0.1, Cap: 0.3}},
		"nft": {[]string{"oft.nft.beta=0.1", "oft.nft.weight_min=0.5", "oft.advantage.clip=2", "oft.nft.old.flat=3"},
			flow.NFT{Beta: 0.1, AdvantageClip: 2, WeightMin: 0.5, Anchor: anchor}, flow.OldPolicy{Flat: 3, Ramp: 0.001, Cap: 0.5}},
		"awm": {[]string{"oft.awm.weighting=huber", "oft.awm.power=0.5", "oft.awm.clip=0.2"},
			flow.AWM{Weighting: "huber", Power: 0.5, Clip: 0.2, Anchor: anchor}, flow.OldPolicy{Ramp: 0.001}},
	} {
		r, _, _ := bare(2, append(c.set, "oft.method="+method, "oft.kl.weight=0.02", "oft.kl.region=mask", "oft.steps=8")...)
		if got := r.Matching(); got != c.want {
			t.Errorf("%s: %+v, want %+v", method, got, c.want)
		}
		if got := r.OldPolicy(); got != c.old {
			t.Errorf("%s: old policy %+v, want %+v", method, got, c.old)
		}
		if first, end := r.Kept(3); first != 8 || end != 9 {
			t.Errorf("%s keeps states %d to %d", method, first, end)
		}
		for _, s := range r.Rollout(0).Steps() {
			if s.Std != 0 {
				t.Errorf("%s: noise in a rollout", method)
			}
		}
	}
	r, _, _ := bare(2, "oft.trust=kl_mask", "oft.kl_limit=1e-5", "oft.margin_cap=3", "oft.min_gap=0.2", "oft.log_prob=square", "oft.forms.step=cps", "oft.eta=0.4")
	if got, want := r.DPO(), (flow.DPO{Beta: 10, Eps: 0.1, Pairs: flow.Corrected, MinGap: 0.2, Cap: 3, Trust: flow.TrustKLMask, KLLimit: 1e-5}); got != want {
		t.Errorf("dpo: %+v, want %+v", got, want)
	}
	if s := r.Rollout(0).Steps()[0]; !s.Square || math.Abs(s.Std-s.Next*math.Sin(0.2*math.Pi)) > 1e-15 {
		t.Errorf("dpo: step %+v", s)
	}
}
