package flow

import "math"

// Step is one stochastic step from sigma to Next: x' = mean + Std·ξ with mean = X·x + V·v. Every form of the step is
// linear in sample and velocity, so sampling, log-probability and gradient need these numbers only. They are stored with
// a trajectory, so that training never depends on a scheduler's state.
type Step struct {
	Sigma, Next float64
	Std         float64 // of the injected noise, 0 for a deterministic step
	X, V        float64 // coefficients of the mean
	// Square makes a log-probability −(x'−mean)² without scale and constants, as the published programs for CPS do: the
	// Gaussian's times 2·Std², a weight by σ'² over the steps.
	Square bool
}

// maxExactStd is the largest share of sigma' that the exact form injects as fresh noise.
const maxExactStd = 0.95

// NewStep is the step between two neighbours of a schedule of n steps under churn (the authors use 0.1): γ = min(churn/n,
// √2−1), std = σ√((1+γ)²−1). For CPS the number is η instead, in [0, 1]. Churn or η 0 is the Euler step in every form.
//
//	paper      δ = v + std²/(2σ)·(−x + (1−σ)v), mean = x + (σ'−σ)δ
//	corrected  mean = x + (σ'−σ)v − std²/(2σ)·(x + (1−σ)v), which keeps the marginal to first order
//	exact      mean = (1−σ')·x̂0 + √(σ'²−std²)·ε̂ with x̂0 = x−σv, ε̂ = x+(1−σ)v and std ≤ 0.95σ', which keeps it for
//	           any std and makes the last step noise-free
//	cps        std = σ'·sin(ηπ/2), mean = (1−σ')·x̂0 + σ'·cos(ηπ/2)·ε̂ (coefficients-preserving sampling): as exact, with a
//	           std that follows from σ' and not from the number of steps
func NewStep(form Form, sigma, next float64, n int, churn float64) Step {
	if form == CPS && churn != 0 {
		return preserving(sigma, next, next*math.Sin(churn*math.Pi/2), next*math.Cos(churn*math.Pi/2))
	}
	gamma := math.Min(churn/float64(n), math.Sqrt2-1)
	std := sigma * math.Sqrt((1+gamma)*(1+gamma)-1)
	s := Step{Sigma: sigma, Next: next, Std: std}
	dt := next - sigma
	if churn == 0 {
		s.X, s.V = 1, dt
		return s
	}
	k := std * std / (2 * sigma)
	switch form {
	case Paper:
		s.X, s.V = 1-dt*k, dt*(1+k*(1-sigma))
	case Exact:
		std = math.Min(std, maxExactStd*next)
		return preserving(sigma, next, std, math.Sqrt(next*next-std*std))
	default:
		s.X, s.V = 1-k, dt-k*(1-sigma)
	}
	return s
}

// preserving is the step whose mean is (1−σ')·x̂0 + keep·ε̂: with std² + keep² = σ'² it keeps the marginal.
func preserving(sigma, next, std, keep float64) Step {
	return Step{Sigma: sigma, Next: next, Std: std, X: 1 - next + keep, V: -sigma*(1-next) + keep*(1-sigma)}
}

// Steps are all steps of a schedule of len(sigmas)−1 steps.
func Steps(form Form, sigmas []float32, churn float64) []Step {
	n := len(sigmas) - 1
	steps := make([]Step, n)
	for i := range steps {
		steps[i] = NewStep(form, float64(sigmas[i]), float64(sigmas[i+1]), n, churn)
	}
	return steps
}

// Advance writes next = mean + Std·noise for one sample. noise may be nil when Std is 0; next may be sample.
func (s Step) Advance(next, sample, velocity, noise []float32) {
	for k := range next {
		mean := s.X*float64(sample[k]) + s.V*float64(velocity[k])
		if s.Std != 0 {
			mean += s.Std * float64(noise[k])
		}
		next[k] = float32(mean)
	}
}

// Mean writes the mean of the step.
func (s Step) Mean(mean, sample, velocity []float32) {
	s.noiseFree().Advance(mean, sample, velocity, nil)
}

func (s Step) noiseFree() Step {
	s.Std = 0
	return s
}

// logNormaliser is the constant −ln std − ½ ln 2π of an element's log-probability.
func (s Step) logNormaliser() float64 {
	if s.Square {
		return 0
	}
	return -math.Log(s.Std) - 0.5*math.Log(2*math.Pi)
}

// doubleVariance is what squares are divided by in a log-probability: 2·std².
func (s Step) doubleVariance() float64 {
	if s.Square {
		return 1
	}
	return 2 * s.Std * s.Std
}

// LogProbElements writes ℓ_k = −(x'_k−mean_k)²/(2·std²) − ln std − ½ ln 2π, all 0 for a step without noise.
func (s Step) LogProbElements(out, sample, velocity, next []float32) {
	if s.Std == 0 {
		clear(out)
		return
	}
	c, n := 1/s.doubleVariance(), s.logNormaliser()
	for k := range out {
		d := float64(next[k]) - s.X*float64(sample[k]) - s.V*float64(velocity[k])
		out[k] = float32(n - d*d*c)
	}
}

// LogProb is the mean of ℓ over the elements that the mask keeps; see Mask for what "mean" divides by. A step without
// noise has no density: its log-probability is 0 for every policy.
func (s Step) LogProb(sample, velocity, next []float32, mask *Mask) float64 {
	if s.Std == 0 {
		return 0
	}
	var square float64
	mask.each(len(sample), func(k int) {
		d := float64(next[k]) - s.X*float64(sample[k]) - s.V*float64(velocity[k])
		square += d * d
	})
	kept, divisor := mask.counts(len(sample))
	return (float64(kept)*s.logNormaliser() - square/s.doubleVariance()) / float64(divisor)
}

// addLogProbGradient adds factor·dℓ/dv to grad: dℓ/dv_k = m_k·(x'_k−mean_k)·V/(D·std²).
func (s Step) addLogProbGradient(grad, sample, velocity, next []float32, mask *Mask, factor float64) {
	if s.Std == 0 || factor == 0 {
		return
	}
	_, divisor := mask.counts(len(sample))
	f := factor * s.V / (float64(divisor) * s.Std * s.Std)
	if s.Square {
		f *= 2 * s.Std * s.Std
	}
	mask.each(len(sample), func(k int) {
		d := float64(next[k]) - s.X*float64(sample[k]) - s.V*float64(velocity[k])
		grad[k] += float32(f * d)
	})
}

// KL is the divergence of the policy's step from the reference's, a Gaussian of the same std around another mean:
// (V·(v−vref))²/(2·std²), averaged over the elements that the mask keeps. 0 for a step without noise.
func (s Step) KL(velocity, velocityRef []float32, mask *Mask) float64 {
	if s.Std == 0 {
		return 0
	}
	var square float64
	mask.each(len(velocity), func(k int) {
		d := float64(velocity[k]) - float64(velocityRef[k])
		square += d * d
	})
	kept, _ := mask.counts(len(velocity))
	return square * s.V * s.V / (2 * s.Std * s.Std * float64(max(1, kept)))
}
