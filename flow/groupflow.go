package flow

import "math"

// GroupFlow is direct group preference optimisation (dgpo; Luo et al. 2025). With advantages A and rises Δ = E(v) − E(v_ref)
// of a group of G samples:
//
//	S = (1/G) Σ A·Δ,  L = softplus(−min(−βS, cap))/β
//	dL/dE_i = sigmoid(βS)·A_i·open_i·[−βS ≤ cap]/G
//
// The published programs log mean(sigmoid(βS)·A·E) with the sigmoid taken as constant: the same gradient, but no objective.
// Of two samples with advantages ±1, β·L is PairFlow's loss.
//
// Clip, 0 for none, compares with the old policy: ρ = exp(E(v_old)−E(v)); open is 0 where A > 0 and ρ > 1+Clip, or A ≤ 0 and
// ρ < 1−Clip. The value of the loss stays. Cap 0 is none.
type GroupFlow struct {
	Beta, Clip, Cap float64
	Anchor          Anchor
}

// Needs implements Matching.
func (g GroupFlow) Needs() (reference, old bool) { return true, g.Clip > 0 }

// Gradient implements Matching.
func (g GroupFlow) Gradient(grad [][]float32, v Velocities, at []Sample, scale float64) Matched {
	m := measure(grad, v, at)
	if len(at) == 0 {
		return m
	}
	n := float64(len(at))
	for i, s := range at {
		m.Score += s.Advantage * m.Rise[i] / n
	}
	// z = −βS, so that sigmoid(−z) is the weight sigmoid(βS) of the whole group.
	value, pull := cappedSoftplus(-g.Beta*m.Score, g.Cap)
	m.Loss = value / g.Beta
	for i, s := range at {
		q := pull * s.Advantage / n
		if g.Clip > 0 {
			ratio := math.Exp(s.rise(v.Old[i], v.Policy[i]))
			m.Closed = append(m.Closed, beyond(s.Advantage, ratio, g.Clip))
			if m.Closed[i] {
				q = 0
			}
		}
		s.addErrorGradient(grad[i], v.Policy[i], scale*q)
	}
	m.Loss += g.Anchor.add(grad, v, at, scale)
	return m
}
