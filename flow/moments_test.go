package flow

import (
	"fmt"
	"math"
	"testing"

	"github.com/sciflux/sciflux/random"
)

// strata are n places evenly over (0, 1): averages over them are integrals to about 1/n².
func strata(n int) []float64 {
	u := make([]float64, n)
	for i := range u {
		u[i] = (float64(i) + 0.5) / float64(n)
	}
	return u
}

func moments(x []float64) (mean, variance float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		variance += (v - mean) * (v - mean) / float64(len(x))
	}
	return mean, variance
}

// TestMomentsOfDensities against their closed forms: uniform has variance 1/12; mode keeps the mean ½ and has variance
// (1+s)²/12 − 2s(1+s)/π² + s²/8 at scale s.
func TestMomentsOfDensities(t *testing.T) {
	for _, s := range []float64{0, 0.5, 1, 1.29, -0.4} {
		d := Density{Kind: "mode", Scale: s}
		var at []float64
		for _, u := range strata(20_000) {
			at = append(at, d.U(u))
		}
		mean, variance := moments(at)
		want := (1+s)*(1+s)/12 - 2*s*(1+s)/(math.Pi*math.Pi) + s*s/8
		if math.Abs(mean-0.5) > 1e-6 || math.Abs(variance-want) > 1e-6 {
			t.Errorf("mode %v: mean %v, variance %v, want 1/2 and %v", s, mean, variance, want)
		}
	}
	mean, variance := moments(strata(20_000))
	if u := (Density{Kind: "uniform"}).U(0.25); u != 0.25 || math.Abs(mean-0.5) > 1e-9 || math.Abs(variance-1./12) > 1e-6 {
		t.Errorf("uniform: %v of 0.25, mean %v, variance %v", u, mean, variance)
	}
}

// TestQuantilesOfLogitNormal: the share of draws below q is Φ((logit q − mean)/std), the definition of the density.
func TestQuantilesOfLogitNormal(t *testing.T) {
	const n = 40_000
	z := make([]float32, n)
	random.New(5).Normal(z)
	for _, d := range []Density{{Kind: "logit_normal", Std: 1}, {Kind: "logit_normal", Mean: -0.5, Std: 1}, {Kind: "logit_normal", Mean: 0.8, Std: 2}} {
		for _, q := range []float64{0.1, 0.3, 0.5, 0.8, 0.95} {
			below := 0
			for _, v := range z {
				if d.U(float64(v)) < q {
					below++
				}
			}
			want := 0.5 * math.Erfc(-(math.Log(q/(1-q))-d.Mean)/d.Std/math.Sqrt2)
			if got := float64(below) / n; math.Abs(got-want) > 4*math.Sqrt(want*(1-want)/n) {
				t.Errorf("%+v: %v of the draws below %v, want %v", d, got, q, want)
			}
		}
	}
}

// TestGridIsDrawnEvenly: a uniform density draws every noise level equally often.
func TestGridIsDrawnEvenly(t *testing.T) {
	const levels, draws = 50, 50_000
	counts := make([]int, levels)
	for _, u := range strata(draws) {
		counts[GridIndex((Density{Kind: "uniform"}).U(u), levels)]++
	}
	for i, n := range counts {
		if n != draws/levels {
			t.Errorf("level %d is drawn %d times, want %d", i, n, draws/levels)
		}
	}
}

// TestLossWeights: cosmap is a density over σ (its integral is 1) symmetric about ½, sigma_sqrt is σ⁻².
func TestLossWeights(t *testing.T) {
	weight := func(kind string, sigma float64) float64 {
		w, err := LossWeight(kind, sigma)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	sum := 0.0
	for _, s := range strata(5000) {
		sum += weight("cosmap", s) / 5000
		if a, b := weight("cosmap", s), weight("cosmap", 1-s); math.Abs(a-b) > 1e-12 {
			t.Fatalf("cosmap of %v: %v, of its mirror %v", s, a, b)
		}
	}
	if math.Abs(sum-1) > 1e-6 || math.Abs(weight("cosmap", 0.5)-4/math.Pi) > 1e-12 {
		t.Errorf("cosmap: integral %v, at 1/2 %v", sum, weight("cosmap", 0.5))
	}
	if weight("sigma_sqrt", 0.5) != 4 || weight("none", 0.3) != 1 || weight("", 0.3) != 1 {
		t.Error("sigma_sqrt of 1/2 is not 4, or no weighting not 1")
	}
}

// stepForms are the three forms with enough noise to see it.
var stepForms = []Form{Paper, Corrected, Exact}

// TestStepsByMonteCarlo: samples of a Gaussian go through a step under the ideal velocity of data at one point x0; mean
// and variance of what comes out are those of the linear map plus the injected noise, which for the exact form are the
// marginal's own, (1−σ')x0 and σ'².
func TestStepsByMonteCarlo(t *testing.T) {
	const n, x0 = 60_000, 1.5
	for _, form := range stepForms {
		for _, p := range [][2]float64{{1, 0.85}, {0.6, 0.45}, {0.3, 0.1}} {
			s := NewStep(form, p[0], p[1], 10, 3)
			key := random.New(9).Purpose(string(form))
			x, v, noise := make([]float32, n), make([]float32, n), make([]float32, n)
			key.Purpose("x").Normal(x)
			key.Purpose("noise").Normal(noise)
			for k := range x {
				x[k] = float32((1-p[0])*x0 + p[0]*float64(x[k]))
				v[k] = float32((float64(x[k]) - x0) / p[0])
			}
			s.Advance(x, x, v, noise)
			out := make([]float64, n)
			for k, a := range x {
				out[k] = float64(a)
			}
			mean, variance := moments(out)
			slope := s.X + s.V/p[0]
			wantMean, wantVariance := slope*(1-p[0])*x0-s.V*x0/p[0], slope*slope*p[0]*p[0]+s.Std*s.Std
			if form == Exact {
				wantMean, wantVariance = (1-p[1])*x0, p[1]*p[1]
			}
			what := fmt.Sprintf("%s from %v to %v", form, p[0], p[1])
			if math.Abs(mean-wantMean) > 4*math.Sqrt(wantVariance/n) {
				t.Errorf("%s: mean %v, want %v", what, mean, wantMean)
			}
			if math.Abs(variance-wantVariance) > 4*wantVariance*math.Sqrt(2./n) {
				t.Errorf("%s: variance %v, want %v", what, variance, wantVariance)
			}
		}
	}
}

// TestNoiseOfAStep: around its mean a step's outcome is Gaussian with the stored std, and the log-probability is the
// logarithm of that density: it integrates to 1 and its mean is −½ − ln std − ½ ln 2π.
func TestNoiseOfAStep(t *testing.T) {
	const n = 4001
	for _, form := range stepForms {
		s := NewStep(form, 0.7, 0.55, 10, 2)
		x, v, next := make([]float32, n), make([]float32, n), make([]float32, n)
		width := 12 * s.Std / (n - 1)
		for k := range x {
			x[k], v[k] = 0.4, -0.9
			next[k] = float32(s.X*0.4 + s.V*-0.9 - 6*s.Std + float64(k)*width)
		}
		l := make([]float32, n)
		s.LogProbElements(l, x, v, next)
		total, entropy := 0.0, 0.0
		for _, a := range l {
			p := math.Exp(float64(a)) * width
			total, entropy = total+p, entropy-p*float64(a)
		}
		want := 0.5 + math.Log(s.Std) + 0.5*math.Log(2*math.Pi)
		if math.Abs(total-1) > 1e-4 || math.Abs(entropy-want) > 1e-4 {
			t.Errorf("%s: the density has mass %v and entropy %v, want 1 and %v", form, total, entropy, want)
		}
	}
}

// TestKLByMonteCarlo: KL is the mean of ℓ − ℓref over the policy's own steps.
func TestKLByMonteCarlo(t *testing.T) {
	const n = 50_000
	for _, form := range stepForms {
		s := NewStep(form, 0.6, 0.5, 10, 1)
		x, v, ref, noise, next := normal(1, "x", n), normal(1, "v", n), make([]float32, n), normal(1, "noise", n), make([]float32, n)
		for k := range ref {
			ref[k] = v[k] + float32(s.Std/s.V) // one std between the means, in either direction
		}
		s.Advance(next, x, v, noise)
		got, sampled := s.KL(v, ref, nil), s.LogProb(x, v, next, nil)-s.LogProb(x, ref, next, nil)
		if math.Abs(got-0.5) > 1e-4 || math.Abs(sampled-got) > 4/math.Sqrt(n) {
			t.Errorf("%s: KL %v, sampled %v, want 1/2", form, got, sampled)
		}
	}
}

// TestNoiseFallsWithTheChurn: γ = churn/n is capped at √2−1, where fresh noise is as strong as the old one.
func TestNoiseFallsWithTheChurn(t *testing.T) {
	last := -1.0
	for _, churn := range []float64{0, 0.01, 0.1, 1, 4} {
		s := NewStep(Corrected, 0.8, 0.7, 10, churn)
		if s.Std <= last {
			t.Errorf("churn %v: std %v after %v", churn, s.Std, last)
		}
		last = s.Std
	}
	for _, churn := range []float64{4.5, 100} {
		if s := NewStep(Corrected, 0.8, 0.7, 10, churn); math.Abs(s.Std-0.8) > 1e-12 {
			t.Errorf("churn %v: std %v, want σ", churn, s.Std)
		}
	}
}
