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
)

// still measures gradients and moves nothing.
var still = OptimizerConfig{Beta2: 0.5, Eps: 1}

// bounded is a learner with a bound on its calls.
func bounded(t testing.TB, be engine.Backend, m *flux.Model, a *lora.Adapter, tokens int) *Learner {
	l := learner(t, be, m, a, still)
	l.Setting.BatchTokens = tokens
	return l
}

// TestEveryBoundGivesTheSameGradient: whatever a network call may hold, be it less than one pair, the gradient and what is
// reported are the same up to the order of sums, and no call holds more than the bound allows.
func TestEveryBoundGivesTheSameGradient(t *testing.T) {
	m, be := tiny(t), &meter{Backend: fast(t, 0)}
	policy, other := moved(t, m, 3), moved(t, m, 4)
	micro := []Example{example(4, 5), example(5, 1), example(6, 3)}
	pairs := []Pair{pair(rollout(t, be, m, policy, plan(flow.Exact), 16, 2), 16), pair(rollout(t, be, m, policy, plan(flow.Exact), 17, 3), 17)}
	whole := bounded(t, be, m, policy.Clone(), 1000*sampleTokens)
	sftWant := sft(t, whole, micro...)
	sftGrad := whole.gradient()
	dpoWant := dpo(t, whole, other, loss, pairs...)
	dpoGrad := whole.gradient()
	for tokens := 1; tokens <= 9*sampleTokens; tokens += sampleTokens - 1 {
		l := bounded(t, be, m, policy.Clone(), tokens)
		be.largest = 0
		r := sft(t, l, micro...)
		near(t, "gradient of stage 1", l.gradient(), sftGrad, 1e-5)
		if math.Abs(r.Loss-sftWant.Loss) > 1e-6*sftWant.Loss || r.Graded != sftWant.Graded || len(r.Micro) != len(micro) {
			t.Errorf("%d tokens: %+v, want %+v", tokens, r, sftWant)
		}
		d := dpo(t, l, other, loss, pairs...)
		near(t, "gradient of stage 2", l.gradient(), dpoGrad, 1e-4)
		if math.Abs(d.Loss-dpoWant.Loss) > 1e-6 || math.Abs(d.KL-dpoWant.KL) > 1e-5*dpoWant.KL || d.Graded != dpoWant.Graded ||
			d.Clamped != dpoWant.Clamped {
			t.Errorf("%d tokens: %+v, want %+v", tokens, d, dpoWant)
		}
		if most := max(1, tokens/sampleTokens); be.largest > most {
			t.Errorf("a call of %d samples under a bound of %d tokens, want at most %d", be.largest, tokens, most)
		}
	}
}

// TestPairsAreSplitOnlyWhenTheyMust: a pair's samples share a call where they fit; where not, the policy runs once more
// forwards for each part of the gradient.
func TestPairsAreSplitOnlyWhenTheyMust(t *testing.T) {
	m, be := tiny(t), &meter{Backend: fast(t, 1)}
	policy := moved(t, m, 3)
	p := pair(rollout(t, be, m, policy, plan(flow.Corrected), 16, 2), 16) // five items of two samples
	be.passes(t)
	for samples, want := range map[int][2]int{1: {5 * 6, 5 * 2}, 2: {5 * 2, 5}, 3: {5 * 2, 5}, 4: {3 * 2, 3}, 10: {2, 1}} {
		l := bounded(t, be, m, policy.Clone(), samples*sampleTokens)
		dpo(t, l, policy, loss, p) // its own reference: nothing is clamped
		if forward, backward := be.passes(t); forward != want[0] || backward != want[1] {
			t.Errorf("%d samples a call: %d passes forwards and %d backwards, want %v", samples, forward, backward, want)
		}
	}
}

// TestRolloutKeepsTheBound: a bounded rollout is the rollouts of its parts, to the bit.
func TestRolloutKeepsTheBound(t *testing.T) {
	m, be := tiny(t), &meter{Backend: fast(t, 0)}
	a := moved(t, m, 3)
	draw := func(tokens, batch int, start []float32, first int) *Trajectory {
		set := setting
		set.BatchTokens = tokens
		tr, err := Rollout(context.Background(), be, m, a, set, plan(flow.Corrected), start, batch, conditioning(40, 1), func(step int, dst []float32) {
			for i := range dst {
				dst[i] = float32(math.Sin(float64(step*1000 + first*size + i)))
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
	start := example(41, 5).Noise
	be.largest = 0
	all := draw(2*sampleTokens, 5, start, 0)
	if be.largest != 2 {
		t.Errorf("calls of up to %d samples, want 2", be.largest)
	}
	for from := 0; from < 5; from += 2 {
		n := min(2, 5-from)
		part := draw(0, n, start[from*size:(from+n)*size], from)
		for i, x := range part.Latents {
			if !slices.Equal(all.Latents[i][from*size:(from+n)*size], x) {
				t.Fatalf("step %d: samples from %d on differ from a rollout of their own", i, from)
			}
		}
		for i, l := range part.LogProb {
			if !slices.Equal(all.LogProb[i][from:from+n], l) {
				t.Errorf("step %d: other log-probabilities", i)
			}
		}
	}
}

// TestRowsOfConditioningAreShared: each row is that of consecutive samples, as if it were there for each.
func TestRowsOfConditioningAreShared(t *testing.T) {
	m, be := tiny(t), fast(t, 1)
	draw := func(c Conditioning) []float32 {
		p := plan(flow.Corrected)
		p.Churn = 0
		tr, err := Rollout(context.Background(), be, m, nil, setting, p, example(41, 6).Noise, 6, c, nil)
		if err != nil {
			t.Fatal(err)
		}
		return tr.Latents[5]
	}
	rows := conditioning(42, 2)
	var copies Conditioning
	for i := range 6 {
		text, pooled := split(rows.Text, 2), split(rows.Pooled, 2)
		copies.Text, copies.Pooled = append(copies.Text, text[i/3]...), append(copies.Pooled, pooled[i/3]...)
	}
	if !slices.Equal(draw(rows), draw(copies)) {
		t.Error("two rows for six samples draw another path than a copy for each")
	}
}

// TestMicroBatchesApart: gradients of micro-batches computed by learners of their own and added in order are the step's
// own gradient, to the bit, so a step can be shared out.
func TestMicroBatchesApart(t *testing.T) {
	m, be := tiny(t), fast(t, 0)
	policy, other := moved(t, m, 3), moved(t, m, 4)
	sum := make([]float32, policy.Parameters())
	apart := func(gradient func(l *Learner) error) {
		l := learner(t, be, m, policy.Clone(), still)
		if err := gradient(l); err != nil {
			t.Fatal(err)
		}
		for i, g := range l.gradient() {
			sum[i] += g
		}
	}
	whole := learner(t, be, m, policy.Clone(), still)
	micro := []Example{example(4, 2), example(5, 1), example(6, 3)}
	sft(t, whole, micro...)
	for _, e := range micro {
		apart(func(l *Learner) error { _, err := l.SFTGradient(context.Background(), e, 1./3); return err })
	}
	if !slices.Equal(sum, whole.gradient()) {
		t.Error("stage 1: other bits than in one step")
	}
	clear(sum)
	whole.Setting.BatchTokens = 4 * sampleTokens
	pairs := []Pair{
		pair(rollout(t, be, m, policy, plan(flow.Corrected), 16, 2), 16), pair(rollout(t, be, m, policy, plan(flow.Corrected), 17, 3), 17),
	}
	dpo(t, whole, other, loss, pairs...)
	items := itemsOf(pairs)
	for rest := items; len(rest) > 0; {
		n := whole.together(rest)
		apart(func(l *Learner) error {
			_, err := l.DPOGradient(context.Background(), rest[:n], other, loss, 1/float64(len(items)))
			return err
		})
		rest = rest[n:]
	}
	if !slices.Equal(sum, whole.gradient()) {
		t.Error("stage 2: other bits than in one step")
	}
}

// TestNothingToPullRunsNoBackwardPass: where every sample's gradient is zero, by a tie or beyond the clamp, the backward
// pass is left out; one sample that pulls brings it back.
func TestNothingToPullRunsNoBackwardPass(t *testing.T) {
	m, be := tiny(t), &meter{Backend: fast(t, 1)}
	policy := moved(t, m, 3)
	nearby := policy.Clone() // not so far that a wide clamp is reached
	for i := range nearby.Weights.Floats() {
		nearby.Weights.Floats()[i] *= 1.001
	}
	p := pair(rollout(t, be, m, policy, plan(flow.Corrected), 18, 2), 18)
	tie := p
	tie.Rewards = []float64{2, 2}
	be.passes(t)
	tight, wide := flow.DPO{Beta: 10, Eps: 1e-9, Pairs: flow.Corrected}, flow.DPO{Beta: 0.5, Eps: 0.99, Pairs: flow.Corrected}
	for name, c := range map[string]struct {
		loss     flow.DPO
		pairs    []Pair
		backward int
	}{
		"tie":            {loss, []Pair{tie}, 0},
		"beyond clamp":   {tight, []Pair{p}, 0},
		"preference":     {wide, []Pair{p}, 5},
		"one of a group": {wide, []Pair{tie, p, tie}, 5},
	} {
		l := bounded(t, be, m, policy.Clone(), 2*sampleTokens)
		r := dpo(t, l, nearby, c.loss, c.pairs...)
		if forward, backward := be.passes(t); backward != c.backward || forward != 2*5*len(c.pairs) {
			t.Errorf("%s: %d passes forwards and %d backwards, want %d backwards", name, forward, backward, c.backward)
		}
		if r.Graded != 10*len(c.pairs) || r.KL <= 0 {
			t.Errorf("%s: %d samples graded, KL %v: samples that do not pull count in the means", name, r.Graded, r.KL)
		}
	}
}

// TestRewardsAreFinite: a reward that is NaN or infinite is an error that names it, before any work, and never a tie.
func TestRewardsAreFinite(t *testing.T) {
	m, be := tiny(t), &meter{Backend: fast(t, 1)}
	policy := moved(t, m, 3)
	good := pair(rollout(t, be, m, policy, plan(flow.Corrected), 18, 2), 18)
	be.passes(t)
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		p := good
		p.Rewards = []float64{1, bad}
		_, err := learner(t, be, m, policy.Clone(), plain).DPO(context.Background(), []Pair{good, p}, nil, loss)
		var refused *RewardError
		if !errors.As(err, &refused) || refused.Pair != 1 || refused.Sample != 1 || !strings.Contains(err.Error(), "pair 1: the reward of sample 1") {
			t.Errorf("reward %v: error %v", bad, err)
		}
		if forward, _ := be.passes(t); forward != 0 {
			t.Errorf("reward %v: %d passes before the error", bad, forward)
		}
	}
}

// TestBadVelocitiesCostNoBackwardPass: velocities that are not finite end a step before a backward pass is paid, those of
// tied pairs, whose loss does not show them, as well; the adapter stays as it was and no memory is held.
func TestBadVelocitiesCostNoBackwardPass(t *testing.T) {
	m, be := tiny(t), &meter{Backend: reference.New()}
	policy := moved(t, m, 3)
	tr := rollout(t, be, m, policy, plan(flow.Corrected), 18, 2)
	broken := func() *lora.Adapter {
		a := policy.Clone()
		b := a.B(a.Modules[len(a.Modules)-1])
		b[0] = float32(math.Inf(1))
		return a
	}
	tie := pair(tr, 18)
	tie.Rewards = []float64{2, 2}
	for name, c := range map[string]struct {
		policy, reference *lora.Adapter
		what              string
		step              func(l *Learner, reference *lora.Adapter) error
	}{
		"supervised": {broken(), nil, "velocity", func(l *Learner, _ *lora.Adapter) error {
			_, err := l.SFT(context.Background(), []Example{example(4, 2)})
			return err
		}},
		"preference": {broken(), policy, "velocity", func(l *Learner, r *lora.Adapter) error {
			_, err := l.DPO(context.Background(), []Pair{pair(tr, 18)}, r, loss)
			return err
		}},
		"tie": {broken(), policy, "velocity", func(l *Learner, r *lora.Adapter) error {
			_, err := l.DPO(context.Background(), []Pair{tie}, r, loss)
			return err
		}},
		"reference": {policy.Clone(), broken(), "velocity of the reference", func(l *Learner, r *lora.Adapter) error {
			_, err := l.DPO(context.Background(), []Pair{tie}, r, loss)
			return err
		}},
	} {
		be.passes(t)
		l := learner(t, be, m, c.policy, plain)
		before := save(l)
		live, _ := be.Memory()
		err := c.step(l, c.reference)
		var bad *NonFiniteError
		if !errors.As(err, &bad) || bad.What != c.what || bad.Step != 1 {
			t.Errorf("%s: error %v, want one about the %s", name, err, c.what)
		}
		if _, backward := be.passes(t); backward != 0 {
			t.Errorf("%s: %d backward passes", name, backward)
		}
		if after := save(l); after.steps != 0 || !slices.Equal(after.m, before.m) {
			t.Errorf("%s: the optimiser moved", name)
		}
		if after, _ := be.Memory(); after != live {
			t.Errorf("%s: %d bytes held after the error, %d before", name, after, live)
		}
	}
}

// TestShapesOfBatches: what does not fit together is an error, not a panic of a kernel.
func TestShapesOfBatches(t *testing.T) {
	m, be := tiny(t), fast(t, 1)
	policy := moved(t, m, 3)
	p := pair(rollout(t, be, m, policy, plan(flow.Corrected), 18, 2), 18)
	other := p
	other.Text = p.Text[:2*5]
	l := learner(t, be, m, policy.Clone(), plain)
	if _, err := l.DPO(context.Background(), []Pair{p, other}, nil, loss); err == nil || !strings.Contains(err.Error(), "same number of tokens") {
		t.Errorf("pairs of different text lengths: %v", err)
	}
	short := example(4, 2)
	short.Pooled = short.Pooled[:3]
	for name, e := range map[string]Example{"one row of conditioning": short, "no samples": {}} {
		if _, err := l.SFT(context.Background(), []Example{e}); err == nil || !strings.Contains(err.Error(), "each with a row") {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := Rollout(context.Background(), be, m, nil, setting, plan(flow.Corrected), example(4, 3).Noise, 3, conditioning(4, 2), nil)
	if err == nil || !strings.Contains(err.Error(), "2 rows of conditioning for 3 samples") {
		t.Errorf("rows that cannot be shared out: %v", err)
	}
	if _, err = Rollout(context.Background(), be, m, nil, setting, plan(flow.Corrected), make([]float32, 7), 1, conditioning(4, 1), nil); err == nil {
		t.Error("seven latent values were accepted")
	}
}
