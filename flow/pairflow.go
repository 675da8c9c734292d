package flow

import "math"

// The pairs that PairFlow takes of a group.
const (
	PairsExtremes = "extremes" // the first best with the first worst
	PairsAll      = "all"      // every two with different rewards
)

// PairFlow is online Diffusion-DPO on velocities (dpo_flow; Wallace et al. 2023 on the model's own pictures). With the rise
// Δ = E(v) − E(v_ref), winner w and loser l of one group:
//
//	z = −(β/2)(Δ_w−Δ_l),  L = mean over pairs of softplus(−min(z, cap))
//	dL/dE_w = (β/2)·sigmoid(−z)·[z ≤ cap]/pairs, dL/dE_l its negative
//
// Rewards no further apart than MinGap are no pair; a group without a pair has loss 0. Cap 0 is none.
type PairFlow struct {
	Beta, MinGap, Cap float64
	Pairs             string // PairsExtremes | PairsAll
	Anchor            Anchor
}

// Needs implements Matching.
func (PairFlow) Needs() (reference, old bool) { return true, false }

// Gradient implements Matching.
func (p PairFlow) Gradient(grad [][]float32, v Velocities, at []Sample, scale float64) Matched {
	m := measure(grad, v, at)
	rewards, q := make([]float64, len(at)), make([]float64, len(at))
	for i, s := range at {
		rewards[i] = s.Reward
	}
	pairs := p.Choose(rewards)
	for _, pair := range pairs {
		w, l := pair[0], pair[1]
		z := -p.Beta / 2 * (m.Rise[w] - m.Rise[l])
		value, pull := cappedSoftplus(z, p.Cap)
		m.Loss += value / float64(len(pairs))
		q[w] += p.Beta / 2 * pull / float64(len(pairs))
		q[l] -= p.Beta / 2 * pull / float64(len(pairs))
	}
	for i, s := range at {
		s.addErrorGradient(grad[i], v.Policy[i], scale*q[i])
	}
	m.Loss += p.Anchor.add(grad, v, at, scale)
	return m
}

// Choose lists the pairs (winner, loser) of a group.
func (p PairFlow) Choose(rewards []float64) [][2]int {
	if len(rewards) == 0 {
		return nil
	}
	if p.Pairs != PairsAll {
		best, worst := Extremes(rewards)
		if rewards[best]-rewards[worst] > p.MinGap {
			return [][2]int{{best, worst}}
		}
		return nil
	}
	var pairs [][2]int
	for i, a := range rewards {
		for j, b := range rewards {
			if a-b > p.MinGap {
				pairs = append(pairs, [2]int{i, j})
			}
		}
	}
	return pairs
}

// Extremes are the first best and the first worst of at least one reward.
func Extremes(rewards []float64) (best, worst int) {
	for i, r := range rewards {
		if r > rewards[best] {
			best = i
		}
		if r < rewards[worst] {
			worst = i
		}
	}
	return best, worst
}

// cappedSoftplus is softplus(−min(z, limit)) and sigmoid(−z), the slope's size, which is 0 beyond the limit. Limit 0 is none.
// With a pairwise loss alone Adam scales small gradients up again, so that only an exact 0 stops a pair that is won.
func cappedSoftplus(z, limit float64) (value, pull float64) {
	if limit > 0 && z > limit {
		return softplus(-limit), 0
	}
	return softplus(-z), sigmoid(-z)
}

func softplus(x float64) float64 { return math.Max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }
func sigmoid(x float64) float64  { return 1 / (1 + math.Exp(-x)) }
