package flow

import (
	"fmt"
	"math"
)

// awmTiny keeps the roots of AWM's weightings away from 0, as its authors do.
const awmTiny = 1e-10

// AWM is advantage-weighted matching (Xue et al. 2025): a clipped policy gradient whose log-probability is a sample's error,
// ℓ = −ψ(E). With ρ = exp(ℓ−ℓ_old):
//
//	L = mean over samples of max(−A·ρ, −A·clamp(ρ, 1−Clip, 1+Clip))
//	dL/dE = A·ρ·ψ'(E)·open/G, open 0 where the clamped branch counts
//
// ψ is, by Weighting, E (uniform), σE (sigma), σ²E (sigma_square), σ(√(E+ε)−√ε) (huber) or (σ/p)((E+ε)^p−ε^p) (ghuber, p is
// Power), ε = 1e-10, all of a sample's mean error. There is no reference, so nothing saturates: a bad sample is pushed away
// for ever.
type AWM struct {
	Weighting   string
	Power, Clip float64
	Anchor      Anchor
}

// Validate reports an unknown weighting.
func (a AWM) Validate() error {
	switch a.Weighting {
	case "uniform", "sigma", "sigma_square", "huber":
		return nil
	case "ghuber":
		if a.Power > 0 {
			return nil
		}
		return fmt.Errorf("weighting ghuber: power %v is not positive", a.Power)
	}
	return fmt.Errorf("weighting: %q is unknown; use uniform, sigma, sigma_square, huber or ghuber", a.Weighting)
}

// Needs implements Matching.
func (a AWM) Needs() (reference, old bool) { return a.Anchor.Weight > 0, true }

// psi is ψ(E) and ψ'(E) at a noise level.
func (a AWM) psi(e, sigma float64) (value, slope float64) {
	switch a.Weighting {
	case "sigma":
		return sigma * e, sigma
	case "sigma_square":
		return sigma * sigma * e, sigma * sigma
	case "huber":
		root := math.Sqrt(e + awmTiny)
		return sigma * (root - math.Sqrt(awmTiny)), sigma / (2 * root)
	case "ghuber":
		return sigma / a.Power * (math.Pow(e+awmTiny, a.Power) - math.Pow(awmTiny, a.Power)), sigma * math.Pow(e+awmTiny, a.Power-1)
	}
	return e, 1
}

// Gradient implements Matching.
func (a AWM) Gradient(grad [][]float32, v Velocities, at []Sample, scale float64) Matched {
	m := measure(grad, v, at)
	n := float64(len(at))
	for i, s := range at {
		psi, slope := a.psi(m.Error[i], s.Sigma)
		old, _ := a.psi(s.err(v.Old[i]), s.Sigma)
		ratio := math.Exp(old - psi)
		closed := beyond(s.Advantage, ratio, a.Clip)
		m.LogProb, m.LogProbOld, m.Closed = append(m.LogProb, -psi), append(m.LogProbOld, -old), append(m.Closed, closed)
		within := math.Min(math.Max(ratio, 1-a.Clip), 1+a.Clip)
		m.Loss += math.Max(-s.Advantage*ratio, -s.Advantage*within) / n
		if !closed {
			s.addErrorGradient(grad[i], v.Policy[i], scale*s.Advantage*ratio*slope/n)
		}
	}
	m.Loss += a.Anchor.add(grad, v, at, scale)
	return m
}
