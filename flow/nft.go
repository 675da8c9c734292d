package flow

import "math"

// NFT is DiffusionNFT (Zheng et al. 2025). The policy's velocities stand for two branches around the old policy's,
// v± = v_old ± b(v−v_old), of which the sample's optimality r = clamp(A/(2C)+½, 0, 1) pulls the first to the target and the
// rest, 1−r, the second. With e± = v±−u and weights w± = max(WeightMin, Σ m|σe±|/D) taken as constants:
//
//	L = mean over samples of (C/b)·[r·Σ m(σe⁺)²/(D·w⁺) + (1−r)·Σ m(σe⁻)²/(D·w⁻)]
//	dL/dv = (2Cσ²/(G·D))·m·[r·e⁺/w⁺ − (1−r)·e⁻/w⁻]
//
// σe± is the error of the clean latents that a branch predicts. Both branches are convex in v, so a step ends near
// v − v_old = (2r−1)(u−v_old)/b; a flat group (r = ½) pulls back to the old policy. The weights take the mask's area out.
type NFT struct {
	Beta          float64 // b: smaller steps for larger ones
	AdvantageClip float64 // C
	WeightMin     float64
	Anchor        Anchor
}

// Needs implements Matching.
func (n NFT) Needs() (reference, old bool) { return n.Anchor.Weight > 0, true }

// Optimality is r of an advantage under the clip C.
func Optimality(advantage, limit float64) float64 {
	return math.Min(math.Max(advantage/(2*limit)+0.5, 0), 1)
}

// Gradient implements Matching.
func (n NFT) Gradient(grad [][]float32, v Velocities, at []Sample, scale float64) Matched {
	m := measure(grad, v, at)
	for i, s := range at {
		r := Optimality(s.Advantage, n.AdvantageClip)
		share := n.AdvantageClip / (n.Beta * float64(len(at)))
		wp, lp := n.branch(grad[i], v.Policy[i], v.Old[i], s, n.Beta, scale*share*r)
		wn, ln := n.branch(grad[i], v.Policy[i], v.Old[i], s, -n.Beta, scale*share*(1-r))
		m.Optimality = append(m.Optimality, r)
		m.PositiveW, m.Positive = append(m.PositiveW, wp), append(m.Positive, lp)
		m.NegativeW, m.Negative = append(m.NegativeW, wn), append(m.Negative, ln)
		m.Loss += share * (r*lp + (1-r)*ln)
	}
	m.Loss += n.Anchor.add(grad, v, at, scale)
	return m
}

// branch is the weight and the weighted square of the branch v_old + b(v−v_old); it adds factor times its gradient to grad.
func (n NFT) branch(grad, v, old []float32, s Sample, b, factor float64) (weight, square float64) {
	e := func(k int) float64 { return float64(old[k]) + b*(float64(v[k])-float64(old[k])) - s.target(k) }
	s.Mask.each(len(v), func(k int) {
		x := s.Sigma * e(k)
		weight += math.Abs(x)
		square += x * x
	})
	weight = math.Max(weight/s.divisor(), n.WeightMin)
	square /= s.divisor() * weight
	f := factor * 2 * b * s.Sigma * s.Sigma / (s.divisor() * weight)
	if f != 0 {
		s.Mask.each(len(v), func(k int) { grad[k] += float32(f * e(k)) })
	}
	return weight, square
}
