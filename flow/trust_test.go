package flow

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestCPSKeepsTheMarginal: std² and the share that is kept make up σ'² for every η, and the last step is free of noise.
func TestCPSKeepsTheMarginal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sigma, eta := rapid.Float64Range(0.1, 1).Draw(t, "sigma"), rapid.Float64Range(0.01, 1).Draw(t, "eta")
		next := rapid.Float64Range(0, sigma-0.05).Draw(t, "next")
		s := NewStep(CPS, sigma, next, 10, eta)
		// For data at 0 the velocity is x/σ; x̂0 is 0 then.
		slope := s.X + s.V/sigma
		if variance := slope*slope*sigma*sigma + s.Std*s.Std; math.Abs(variance-next*next) > 1e-12 {
			t.Fatalf("variance %v, want %v", variance, next*next)
		}
		if want := next * math.Sin(eta*math.Pi/2); math.Abs(s.Std-want) > 1e-15 {
			t.Fatalf("std %v, want %v", s.Std, want)
		}
	})
	if s := NewStep(CPS, 0.3, 0, 10, 0.7); s.Std != 0 {
		t.Errorf("the last step has std %v", s.Std)
	}
	if NewStep(CPS, 0.7, 0.4, 10, 0) != NewStep(Exact, 0.7, 0.4, 10, 0) {
		t.Error("eta 0 is not Euler")
	}
}

// TestSquaresAreScaledGaussians: without scale and constants ℓ and its gradient are the Gaussian's times 2·std².
func TestSquaresAreScaledGaussians(t *testing.T) {
	x, v, next := normal(1, "x", 24), normal(1, "v", 24), normal(1, "next", 24)
	gauss := NewStep(CPS, 0.8, 0.6, 10, 0.5)
	square := gauss
	square.Square = true
	factor := 2 * gauss.Std * gauss.Std
	if l := square.LogProb(x, v, next, nil); math.Abs(l-(gauss.LogProb(x, v, next, nil)-gauss.logNormaliser())*factor) > 1e-9 {
		t.Errorf("log-probability %v", l)
	}
	a, b, elements := make([]float32, 24), make([]float32, 24), make([]float32, 24)
	gauss.addLogProbGradient(a, x, v, next, nil, factor)
	square.addLogProbGradient(b, x, v, next, nil, 1)
	square.LogProbElements(elements, x, v, next)
	mean := 0.0
	for k := range a {
		if math.Abs(float64(a[k]-b[k])) > 1e-5*(1+math.Abs(float64(a[k]))) {
			t.Fatalf("gradient %v, want %v", b[k], a[k])
		}
		mean += float64(elements[k]) / 24
	}
	if math.Abs(mean-square.LogProb(x, v, next, nil)) > 1e-5 {
		t.Errorf("elements have mean %v", mean)
	}
	if still := NewStep(CPS, 0.8, 0, 10, 0.5); still.LogProb(x, v, next, nil) != 0 {
		t.Error("a step without noise has a density")
	}
}

// trusted is a pair beyond the reference on one stochastic step: sample 0 is better and has become likelier, sample 1 worse
// and less likely.
func trusted(t *testing.T) (v Velocities, at []Transition) {
	t.Helper()
	step := NewStep(Exact, 0.8, 0.6, 10, 2)
	for i := range 2 {
		x, ref, noise := normal(uint64(i), "x", 40), normal(uint64(i), "v", 40), normal(uint64(i), "noise", 40)
		next, policy := make([]float32, 40), make([]float32, 40)
		step.Advance(next, x, ref, noise)
		sign := float32(1 - 2*i)
		for k := range policy { // towards or away from where the noise went
			policy[k] = ref[k] + sign*0.3*noise[k]*float32(step.Std/step.V)
		}
		v.Policy, v.Reference = append(v.Policy, policy), append(v.Reference, ref)
		at = append(at, Transition{Step: step, Sample: x, Next: next})
	}
	return v, at
}

// TestKLMaskStopsWhatMovesAway: samples past the limit stop where the gradient leads further away, and go on where it leads
// back; the loss keeps its value.
func TestKLMaskStopsWhatMovesAway(t *testing.T) {
	v, at := trusted(t)
	run := func(d DPO, v Velocities, rewards []float64) (Outcome, [][]float32) {
		grad := [][]float32{make([]float32, 40), make([]float32, 40)}
		return d.VelocityGradient(grad, v, at, rewards, 1), grad
	}
	free := DPO{Beta: 1, Trust: TrustNone}
	open, want := run(free, v, []float64{2, 1})
	least := slices.Min(open.KL)
	for _, c := range []struct {
		name    string
		limit   float64
		rewards []float64
		closed  bool
	}{
		{"away, beyond", least / 2, []float64{2, 1}, true},
		{"away, within", 10 * slices.Max(open.KL), []float64{2, 1}, false},
		{"back, beyond", least / 2, []float64{1, 2}, false},
		{"tie", least / 2, []float64{1, 1}, false},
	} {
		d := DPO{Beta: 1, Trust: TrustKLMask, KLLimit: c.limit}
		got, grad := run(d, v, c.rewards)
		if slices.Contains(got.Clamped, !c.closed) {
			t.Errorf("%s: closed %v", c.name, got.Clamped)
		}
		if c.closed && (got.Loss != open.Loss || slices.ContainsFunc(grad[0], func(g float32) bool { return g != 0 })) {
			t.Errorf("%s: loss %v, want %v, and no gradient", c.name, got.Loss, open.Loss)
		}
		if c.name == "away, within" && !slices.Equal(grad[1], want[1]) {
			t.Errorf("%s: another gradient than without the rule", c.name)
		}
	}
	anchored := v
	anchored.Old = v.Policy // the policy is where it was at the round's start
	if got, _ := run(DPO{Beta: 1, Trust: TrustKLMask, KLLimit: 1e-9}, anchored, []float64{2, 1}); slices.Contains(got.Clamped, true) || got.Moved[0] != 0 || got.KL[0] == 0 {
		t.Errorf("anchored at itself: %+v", got)
	}
}

// TestMarginCap: a pair that is won by more than the cap counts as at it and pulls no more.
func TestMarginCap(t *testing.T) {
	d := DPO{Beta: 2, Trust: TrustNone, Cap: 1}
	loss, grad, _ := d.PairLoss([]float64{1, 0}, []float64{0, 0}, []float64{2, 1})
	if math.Abs(loss-softplus(-1)) > 1e-15 || grad[0] != 0 || grad[1] != 0 {
		t.Errorf("beyond the cap: loss %v, gradient %v", loss, grad)
	}
	if _, grad, _ = d.PairLoss([]float64{0.4, 0}, []float64{0, 0}, []float64{2, 1}); grad[0] >= 0 || grad[1] <= 0 {
		t.Errorf("within the cap: gradient %v", grad)
	}
	d.MinGap = 1
	if loss, grad, _ = d.PairLoss([]float64{0.4, 0}, []float64{0, 0}, []float64{2, 1}); loss != 0 || grad[0] != 0 {
		t.Errorf("within the gap: loss %v, gradient %v", loss, grad)
	}
}
