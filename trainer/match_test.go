package trainer

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/reference"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/random"
)

// group is a prompt's n pictures with rewards n, n−1, …, trained at two levels with shared noise.
func group(seed uint64, n int, masks ...*flow.Mask) Group {
	g := Group{Conditioning: conditioning(seed, 1), Masks: masks}
	for i := range n {
		g.Latents = append(g.Latents, normal(random.New(seed).Purpose("x0").Index(uint64(i)), size))
		g.Rewards = append(g.Rewards, float64(n-i))
	}
	g.Advantages = flow.Advantages{Kind: "zscore", Clip: 5}.Of([][]float64{g.Rewards})[0]
	for j, sigma := range []float32{0.8, 0.4} {
		g.Levels = append(g.Levels, Level{Sigma: sigma, Noise: func(_ int, dst []float32) {
			random.New(seed).Purpose("forward").Index(uint64(j)).Normal(dst)
		}})
	}
	return g
}

func match(t testing.TB, l *Learner, p Peers, loss flow.Matching, groups ...Group) MatchResult {
	t.Helper()
	r, err := l.Match(context.Background(), groups, 0, 2, p, loss)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// matchings are all methods with an anchor, so that each reads every adapter that it can.
var matchings = map[string]flow.Matching{
	"dpo_flow": flow.PairFlow{Beta: 5, Pairs: flow.PairsAll, Anchor: flow.Anchor{Weight: 0.1, Region: flow.RegionAll}},
	"dgpo":     flow.GroupFlow{Beta: 5, Clip: 100, Anchor: flow.Anchor{Weight: 0.1, Region: flow.RegionMask}},
	"nft":      flow.NFT{Beta: 0.5, AdvantageClip: 5, WeightMin: 1e-5, Anchor: flow.Anchor{Weight: 0.1, Region: flow.RegionAll}},
	"awm":      flow.AWM{Weighting: "ghuber", Power: 0.25, Clip: 0.9, Anchor: flow.Anchor{Weight: 0.1, Region: flow.RegionAll}},
}

func peersOf(t testing.TB, m *flux.Model) Peers {
	return Peers{Reference: moved(t, m, 4), Old: moved(t, m, 5)}
}

// TestMatchGradientByDifferences: the gradient is the slope of the mean loss over groups and levels, with a mask on one
// sample. NFT's weights are constants to its gradient but not to its loss, so it is left to the oracle of its formula.
func TestMatchGradientByDifferences(t *testing.T) {
	m, be := tiny(t), reference.New()
	mask := flow.NewMask(flow.AllForms(flow.Corrected), flow.Box{CX: 0.4, CY: 0.5, W: 0.6, H: 0.7}, setting.Grid)
	groups := []Group{group(31, 2, mask, nil), group(32, 3)}
	for name, loss := range matchings {
		if name == "nft" {
			continue
		}
		policy := moved(t, m, 3)
		l, peers := learner(t, be, m, policy, still), peersOf(t, m)
		match(t, l, peers, loss, groups...)
		grad := l.gradient()
		t.Run(name, func(t *testing.T) {
			byDifferences(t, policy.Weights.Floats(), grad, 5, 83, 5e-3, 1e-2, func() float64 { return match(t, l, peers, loss, groups...).Loss })
		})
	}
}

// TestMatchPrefersTheBetterPictures: from one adapter as policy, reference and old policy, a few steps of any method bring the
// better picture's error further down than the worse one's, and away from the reference.
func TestMatchPrefersTheBetterPictures(t *testing.T) {
	m, be := tiny(t), fast(t, 0)
	c := plain
	c.LR = 2e-4
	for name, loss := range matchings {
		policy := moved(t, m, 3)
		start := policy.Clone()
		l, g := learner(t, be, m, policy, c), group(33, 4)
		var r MatchResult
		for range 6 {
			r = match(t, l, Peers{start, start}, loss, g)
		}
		if r.Winners >= r.Losers || r.Distance <= 0 {
			t.Errorf("%s: errors moved by %v and %v, distance %v", name, r.Winners, r.Losers, r.Distance)
		}
		if _, old := loss.Needs(); old != (r.Drift > 0) {
			t.Errorf("%s: drift %v", name, r.Drift)
		}
	}
}

// TestPeersThatAreThePolicyCostNoPass: the weights of a peer decide, and what comes out is the same bits as with its passes.
func TestPeersThatAreThePolicyCostNoPass(t *testing.T) {
	m, be := tiny(t), &meter{Backend: fast(t, 1)}
	policy := moved(t, m, 3)
	g := group(34, 2)
	step := func(p Peers, loss flow.Matching) ([]float32, int) {
		l := bounded(t, be, m, policy.Clone(), 2*sampleTokens)
		be.passes(t)
		match(t, l, p, loss, g)
		forward, _ := be.passes(t)
		return l.gradient(), forward
	}
	free := flow.NFT{Beta: 1, AdvantageClip: 5, WeightMin: 1e-5}
	for _, c := range []struct {
		name  string
		peers Peers
		loss  flow.Matching
		want  int
	}{
		{"both the policy", Peers{policy, policy}, matchings["nft"], 2},
		{"one the policy", Peers{moved(t, m, 4), policy}, matchings["nft"], 4},
		{"both others", peersOf(t, m), matchings["nft"], 6},
		{"reference for the first group alone", peersOf(t, m), free, 5},
		{"no old policy", Peers{Reference: moved(t, m, 4)}, matchings["dpo_flow"], 4},
	} {
		if _, forward := step(c.peers, c.loss); forward != c.want {
			t.Errorf("%s: %d passes forwards, want %d", c.name, forward, c.want)
		}
	}
	nudged := policy.Clone()
	nudged.Weights.Floats()[3] += 1e-30 // the same velocities, other weights
	same, _ := step(Peers{policy, policy}, matchings["dgpo"])
	other, forward := step(Peers{nudged, nudged}, matchings["dgpo"])
	if policy.Weights.Floats()[3] != nudged.Weights.Floats()[3] && forward != 6 {
		t.Errorf("%d passes forwards for another adapter", forward)
	}
	if !slices.Equal(same, other) {
		t.Error("another gradient with the passes than without")
	}
}

// TestEveryBoundGivesTheSameMatch: whatever a network call may hold, gradient and report are the same up to the order of sums.
func TestEveryBoundGivesTheSameMatch(t *testing.T) {
	m, be := tiny(t), &meter{Backend: fast(t, 0)}
	policy, peers := moved(t, m, 3), peersOf(t, m)
	groups := []Group{group(35, 3), group(36, 2)}
	for name, loss := range matchings {
		whole := bounded(t, be, m, policy.Clone(), 1000*sampleTokens)
		want := match(t, whole, peers, loss, groups...)
		for _, samples := range []int{1, 2, 3, 5} {
			l := bounded(t, be, m, policy.Clone(), samples*sampleTokens)
			be.largest = 0
			got := match(t, l, peers, loss, groups...)
			near(t, name, l.gradient(), whole.gradient(), 1e-4)
			if math.Abs(got.Loss-want.Loss) > 1e-5*math.Abs(want.Loss) || got.Graded != 10 || math.Abs(got.Winners-want.Winners) > 1e-5 || be.largest > samples {
				t.Errorf("%s, %d samples a call: %+v, want %+v", name, samples, got.StepResult, want.StepResult)
			}
		}
	}
}

// TestEmptyGroupsCountInTheMean: a group without samples costs nothing and takes its share of the gradient.
func TestEmptyGroupsCountInTheMean(t *testing.T) {
	m, be := tiny(t), &meter{Backend: fast(t, 1)}
	policy := moved(t, m, 3)
	peers, g := Peers{Reference: moved(t, m, 4)}, group(37, 2)
	empty := Group{Levels: g.Levels, Conditioning: g.Conditioning}
	loss := flow.PairFlow{Beta: 5, Pairs: flow.PairsExtremes}
	alone := match(t, learner(t, be, m, policy.Clone(), plain), peers, loss, g)
	be.passes(t)
	both := match(t, learner(t, be, m, policy.Clone(), plain), peers, loss, empty, g)
	if forward, _ := be.passes(t); forward != 2 || math.Abs(both.Norm-alone.Norm/2) > 1e-6*alone.Norm || math.Abs(both.Loss-alone.Loss/2) > 1e-12 {
		t.Errorf("%d passes, norm %v and loss %v, want half of %v and %v", forward, both.Norm, both.Loss, alone.Norm, alone.Loss)
	}
	if r := match(t, learner(t, be, m, policy.Clone(), plain), peers, loss, empty); r.Norm != 0 || r.Loss != 0 || r.Graded != 0 {
		t.Errorf("nothing but an empty group: %+v", r.StepResult)
	}
}

// TestBadGroups: what cannot be compared or does not belong together is an error before any pass, and velocities that are not
// finite leave the adapter and no memory behind.
func TestBadGroups(t *testing.T) {
	m, be := tiny(t), &meter{Backend: reference.New()}
	policy, loss := moved(t, m, 3), matchings["nft"]
	good := group(38, 2)
	nan, short, text := group(38, 2), group(38, 2), group(38, 2)
	nan.Rewards = []float64{1, math.NaN()}
	short.Advantages = short.Advantages[:1]
	text.Text = text.Text[:2*5]
	broken := policy.Clone()
	broken.B(broken.Modules[len(broken.Modules)-1])[0] = float32(math.Inf(1))
	for name, c := range map[string]struct {
		group Group
		old   *lora.Adapter
		says  string
	}{
		"reward":    {nan, policy, "group 1: the reward of sample 1 is NaN"},
		"advantage": {short, policy, "do not belong together"},
		"text":      {text, policy, "same number of tokens"},
		"old":       {good, broken, "velocity of the old policy"},
	} {
		l := learner(t, be, m, policy.Clone(), plain)
		before := save(l)
		live, _ := be.Memory()
		be.passes(t)
		_, err := l.Match(context.Background(), []Group{good, c.group}, 0, 2, Peers{policy, c.old}, loss)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v", name, err)
		}
		var refused *RewardError
		if errors.As(err, &refused) != (name == "reward") {
			t.Errorf("%s: %T", name, err)
		}
		if _, backward := be.passes(t); backward != 0 {
			t.Errorf("%s: %d backward passes", name, backward)
		}
		if after, _ := be.Memory(); after != live || !slices.Equal(save(l).weights, before.weights) {
			t.Errorf("%s: %d bytes held, %d before", name, after, live)
		}
	}
}

// TestMatchThreadsKeepTheBits: a step is the same bits for any number of threads and on repetition.
func TestMatchThreadsKeepTheBits(t *testing.T) {
	m := tiny(t)
	for name, loss := range matchings {
		var want []float32
		for _, threads := range []int{1, 2, 2, 5} {
			var be engine.Backend = fast(t, threads)
			l := learner(t, be, m, moved(t, m, 3), plain)
			match(t, l, peersOf(t, m), loss, group(39, 3), group(40, 3))
			if got := save(l).weights; want == nil {
				want = got
			} else if !slices.Equal(got, want) {
				t.Errorf("%s, %d threads: other weights", name, threads)
			}
		}
	}
}

// TestPartsOfAPair: the parts of a pair are its noisy steps, each once and in order.
func TestPartsOfAPair(t *testing.T) {
	m, be := tiny(t), fast(t, 1)
	p := plan(flow.Corrected)
	p.First, p.Noisy = 1, 3
	if first, end := p.Window(); first != 1 || end != 4 {
		t.Errorf("window %d to %d", first, end)
	}
	whole := pair(rollout(t, be, m, moved(t, m, 3), p, 24, 2), 24)
	at := 1
	for u := range 3 {
		part := whole.Part(u, 3)
		if len(part.Steps) != 1 || part.Steps[0] != whole.Steps[at] || part.Timesteps[0] != whole.Timesteps[at] ||
			!slices.Equal(part.Latents[1][0], whole.Latents[1][at]) || !slices.Equal(part.Latents[1][1], whole.Latents[1][at+1]) {
			t.Errorf("part %d is not step %d", u, at)
		}
		at++
	}
	if one := whole.Part(0, 1); len(one.Steps) != 3 || len(one.Latents[0]) != 4 {
		t.Errorf("the whole has %d steps", len(one.Steps))
	}
}

// TestAverageFollows: an old policy takes the policy's bits at first and lags later.
func TestAverageFollows(t *testing.T) {
	m, be := tiny(t), fast(t, 1)
	start, policy := moved(t, m, 3), moved(t, m, 4)
	old := NewAverage(be, start, 0)
	schedule := flow.OldPolicy{Ramp: 0.25, Cap: 0.5}
	old.Follow(policy, schedule, 2)
	if a, b, c := old.Adapter.Weights.Floats()[7], start.Weights.Floats()[7], policy.Weights.Floats()[7]; a != 0.5*b+0.5*c {
		t.Errorf("%v, want half of %v and %v", a, b, c)
	}
	if old.Follow(policy, schedule, 0); !slices.Equal(old.Adapter.Weights.Floats(), policy.Weights.Floats()) {
		t.Error("it is not the policy")
	}
}
