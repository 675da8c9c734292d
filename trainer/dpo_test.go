package trainer

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/sciflux/sciflux/engine/reference"
	"github.com/sciflux/sciflux/flow"
)

var loss = flow.DPO{Beta: 10, Eps: 0.2, Pairs: flow.Corrected}

// TestFirstPassHasRatioOne: while policy and reference are one adapter, both log-probabilities are the same bits in every
// form, so every pair costs exactly ln 2, nothing is clamped and the divergence is 0.
func TestFirstPassHasRatioOne(t *testing.T) {
	m, be := tiny(t), fast(t, 0)
	for _, form := range []flow.Form{flow.Paper, flow.Corrected, flow.Exact} {
		policy := moved(t, m, 3)
		tr := rollout(t, be, m, policy, plan(form), 11, 2)
		r := dpo(t, learner(t, be, m, policy, plain), policy.Clone(), loss, pair(tr, 11))
		for j, o := range r.Outcomes[0] {
			if tr.Steps[j].Std == 0 {
				continue
			}
			if !slices.Equal(o.LogProb, o.LogProbRef) || slices.Contains(o.Clamped, true) {
				t.Errorf("%s step %d: log-probabilities %v, of the reference %v", form, j, o.LogProb, o.LogProbRef)
			}
			if math.Abs(o.Loss-math.Ln2) > 1e-12 {
				t.Errorf("%s step %d: loss %v, want ln 2", form, j, o.Loss)
			}
		}
		if r.KL != 0 || r.Clamped != 0 || r.Norm == 0 || math.Abs(r.Loss-math.Ln2) > 1e-12 {
			t.Errorf("%s: KL %v, clamped %v, gradient norm %v, loss %v", form, r.KL, r.Clamped, r.Norm, r.Loss)
		}
	}
}

// TestRolloutLogProbsAreReproduced: what the rollout stored is what training computes for the same weights, because σ, σ'
// and std travel with the steps: the same bits when the network sees the same batch, the same to rounding else.
func TestRolloutLogProbsAreReproduced(t *testing.T) {
	m, be := tiny(t), fast(t, 0)
	policy := moved(t, m, 3)
	tr := rollout(t, be, m, policy, plan(flow.Corrected), 12, 2)
	l := learner(t, be, m, policy.Clone(), plain)
	whole := dpo(t, l, nil, loss, pair(tr, 12))
	l = learner(t, be, m, policy.Clone(), plain)
	l.Setting.BatchTokens = 2 * sampleTokens
	r := dpo(t, l, nil, loss, pair(tr, 12))
	for j, o := range r.Outcomes[0] {
		if !slices.Equal(o.LogProb, tr.LogProb[j]) {
			t.Errorf("step %d: %v, the rollout stored %v", j, o.LogProb, tr.LogProb[j])
		}
		for i, l := range whole.Outcomes[0][j].LogProb {
			if math.Abs(l-tr.LogProb[j][i]) > 1e-6 {
				t.Errorf("step %d in a bigger batch: %v, the rollout stored %v", j, l, tr.LogProb[j][i])
			}
		}
		if slices.Equal(o.LogProb, o.LogProbRef) {
			t.Errorf("step %d: the base has the policy's log-probability", j)
		}
	}
}

// margin is the mean over steps of the preferred sample's log-ratio minus the other's.
func margin(r DPOResult) float64 {
	sum := 0.0
	for _, o := range r.Outcomes[0] {
		sum += (o.LogProb[0] - o.LogProbRef[0]) - (o.LogProb[1] - o.LogProbRef[1])
	}
	return sum / float64(len(r.Outcomes[0]))
}

// TestDPOPrefersTheBetterPicture: steps raise the log-ratio of the preferred picture over the other's, lower the loss and
// move away from the reference; with the rewards the other way round the margin turns its sign.
func TestDPOPrefersTheBetterPicture(t *testing.T) {
	m, be := tiny(t), fast(t, 0)
	c := plain
	c.LR = 1e-4
	for _, sign := range []float64{1, -1} {
		policy := moved(t, m, 3)
		reference := policy.Clone()
		p := pair(rollout(t, be, m, policy, plan(flow.Corrected), 13, 2), 13)
		p.Rewards = []float64{sign, 0}
		l := learner(t, be, m, policy, c)
		first := dpo(t, l, reference, loss, p)
		var last DPOResult
		for range 4 {
			last = dpo(t, l, reference, loss, p)
		}
		if sign*margin(last) <= 0 || last.Loss >= first.Loss || last.KL <= 0 {
			t.Errorf("reward %v: margin %v, loss %v to %v, KL %v", sign, margin(last), first.Loss, last.Loss, last.KL)
		}
	}
}

// TestDPOGradientByDifferences: the gradient is the slope of the mean loss over pairs and steps, with a mask on one sample.
func TestDPOGradientByDifferences(t *testing.T) {
	m, be := tiny(t), reference.New()
	policy := moved(t, m, 3)
	other := moved(t, m, 4)
	mask := flow.NewMask(flow.AllForms(flow.Corrected), flow.Box{CX: 0.4, CY: 0.5, W: 0.6, H: 0.7}, setting.Grid)
	wide := flow.DPO{Beta: 0.5, Eps: 0.99, Pairs: flow.Corrected} // nothing is clamped, so the loss is smooth
	pairs := []Pair{
		pair(rollout(t, be, m, policy, plan(flow.Corrected), 14, 2), 14, mask, nil),
		pair(rollout(t, be, m, policy, plan(flow.Corrected), 15, 3), 15),
	}
	l := learner(t, be, m, policy, OptimizerConfig{Beta2: 0.5, Eps: 1})
	dpo(t, l, other, wide, pairs...)
	grad := l.gradient()
	byDifferences(t, policy.Weights.Floats(), grad, 5, 41, 5e-3, 1e-2, func() float64 { return dpo(t, l, other, wide, pairs...).Loss })
}

// TestTiesHaveNoGradient: a pair of equal rewards counts in the mean and pulls nowhere.
func TestTiesHaveNoGradient(t *testing.T) {
	m, be := tiny(t), fast(t, 1)
	policy := moved(t, m, 3)
	p := pair(rollout(t, be, m, policy, plan(flow.Corrected), 18, 2), 18)
	tie := p
	tie.Rewards = []float64{2, 2}
	alone := dpo(t, learner(t, be, m, policy.Clone(), plain), nil, loss, p)
	both := dpo(t, learner(t, be, m, policy.Clone(), plain), nil, loss, p, tie)
	if math.Abs(both.Norm-alone.Norm/2) > 1e-6*alone.Norm {
		t.Errorf("norm %v with a tie beside it, want half of %v", both.Norm, alone.Norm)
	}
	if r := dpo(t, learner(t, be, m, policy.Clone(), plain), nil, loss, tie); r.Norm != 0 || r.Loss != 0 {
		t.Errorf("a tie alone has norm %v and loss %v", r.Norm, r.Loss)
	}
}

// TestStepsWithoutNoiseAreNotTrained: they have no density; they are left out of the mean, not counted as zero.
func TestStepsWithoutNoiseAreNotTrained(t *testing.T) {
	m, be := tiny(t), fast(t, 1)
	policy := moved(t, m, 3)
	few := plan(flow.Exact) // its last step is free of noise as well
	few.Noisy = 2
	p := pair(rollout(t, be, m, policy, few, 19, 2), 19)
	r := dpo(t, learner(t, be, m, policy.Clone(), plain), policy, loss, p)
	if r.Graded != 4 || math.Abs(r.Loss-math.Ln2) > 1e-12 {
		t.Errorf("%d samples graded with loss %v, want 4 with ln 2", r.Graded, r.Loss)
	}
	for j, o := range r.Outcomes[0] {
		if trained := o.LogProb != nil; trained != (j < 2) {
			t.Errorf("step %d trained: %v", j, trained)
		}
	}
	cut := p
	cut.Steps, cut.Timesteps = p.Steps[:2], p.Timesteps[:2]
	if c := dpo(t, learner(t, be, m, policy.Clone(), plain), policy, loss, cut); c.Norm != r.Norm {
		t.Errorf("norm %v with the quiet steps, %v without", r.Norm, c.Norm)
	}
	p.Steps = flow.Steps(flow.Corrected, few.Sigmas, 0)
	still := learner(t, be, m, policy.Clone(), plain)
	if r := dpo(t, still, policy, loss, p); r.Graded != 0 || r.Loss != 0 || !slices.Equal(still.Adapter.Weights.Floats(), policy.Weights.Floats()) {
		t.Errorf("a rollout without noise trained %d samples with loss %v", r.Graded, r.Loss)
	}
}

// TestMaskHidesWhatIsOutside: under masks, what a trajectory did outside the box moves no weight.
func TestMaskHidesWhatIsOutside(t *testing.T) {
	m, be := tiny(t), fast(t, 1)
	policy := moved(t, m, 3)
	mask := flow.NewMask(flow.AllForms(flow.Corrected), flow.Box{CX: 1. / 6, CY: 0.25, W: 1. / 3, H: 0.5}, setting.Grid) // the first token
	step := func(changed int) float64 {
		p := pair(rollout(t, be, m, policy, plan(flow.Corrected), 20, 2), 20, mask, mask)
		p.Steps, p.Timesteps = p.Steps[:1], p.Timesteps[:1]
		for i := range p.Latents { // the landing point alone, not what the network sees
			p.Latents[i][1] = slices.Clone(p.Latents[i][1])
			p.Latents[i][1][changed] += 0.5
		}
		return dpo(t, learner(t, be, m, policy.Clone(), plain), policy, loss, p).Norm
	}
	outside, elsewhere, inside := step(channels), step(size-1), step(0)
	if outside != elsewhere || inside == outside {
		t.Errorf("gradient norms %v and %v for changes outside, %v inside", outside, elsewhere, inside)
	}
}

func TestNonFiniteDPOLossLeavesTheAdapter(t *testing.T) {
	m, be := tiny(t), fast(t, 1)
	policy := moved(t, m, 3)
	p := pair(rollout(t, be, m, policy, plan(flow.Corrected), 21, 2), 21)
	p.Latents[1][3] = slices.Clone(p.Latents[1][3])
	p.Latents[1][3][4] = float32(math.NaN())
	l := learner(t, be, m, policy, plain)
	before := save(l)
	_, err := l.DPO(context.Background(), []Pair{p}, nil, loss)
	var bad *NonFiniteError
	if !errors.As(err, &bad) {
		t.Fatalf("error %v", err)
	}
	if after := save(l); !slices.Equal(after.weights, before.weights) || after.steps != 0 {
		t.Error("the adapter or its steps changed")
	}
}

// TestClampStopsTheGradient: a policy far from its reference lies beyond the clamp, and such samples pull no more.
func TestClampStopsTheGradient(t *testing.T) {
	m, be := tiny(t), fast(t, 1)
	policy := moved(t, m, 3)
	far := policy.Clone()
	for i := range far.Weights.Floats() {
		far.Weights.Floats()[i] *= 3
	}
	p := pair(rollout(t, be, m, policy, plan(flow.Corrected), 22, 2), 22)
	tight := flow.DPO{Beta: 10, Eps: 1e-9, Pairs: flow.Corrected}
	if r := dpo(t, learner(t, be, m, policy, plain), far, tight, p); r.Clamped != 1 || r.Norm != 0 || r.KL <= 0 {
		t.Errorf("clamped %v, norm %v, KL %v", r.Clamped, r.Norm, r.KL)
	}
}

// TestDPOThreadsKeepTheBits: a step of stage 2 is the same bits for any number of threads and on repetition.
func TestDPOThreadsKeepTheBits(t *testing.T) {
	m := tiny(t)
	var want []float32
	for _, threads := range []int{1, 2, 2, 5} {
		be := fast(t, threads)
		policy := moved(t, m, 3)
		l := learner(t, be, m, policy, plain)
		p := pair(rollout(t, be, m, policy, plan(flow.Exact), 23, 3), 23)
		dpo(t, l, moved(t, m, 4), loss, p)
		got := save(l).weights
		if want == nil {
			want = got
		} else if !slices.Equal(got, want) {
			t.Errorf("%d threads: other weights", threads)
		}
	}
}
