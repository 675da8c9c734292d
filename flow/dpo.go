package flow

import "math"

// The rules by which DPO trusts a policy that has moved away from what it is compared with.
const (
	TrustClamp  = "clamp"   // the probability ratio to the reference is clamped to 1±Eps; also the empty value
	TrustKLMask = "kl_mask" // samples beyond KLLimit stop where their gradient leads further away
	TrustNone   = "none"
)

// DPO holds the constants of the pairwise loss on stochastic steps: β scales the log-ratio, Eps clamps the ratio to
// [1−ε, 1+ε], Pairs is the form of the mean. Rewards no further apart than MinGap are a tie. Cap bounds a pair's margin
// β(ρ_w−ρ_l): a pair beyond it counts as being at it and has no gradient; 0 is none. Trust is one of the rules above.
type DPO struct {
	Beta, Eps   float64
	Pairs       Form
	MinGap, Cap float64
	Trust       string
	KLLimit     float64 // nats per element
}

// PairLoss is the loss over all samples of one prompt at one timestep, with its gradient by each log-probability:
//
//	ρ_i = ln clamp(exp(ℓ_i−ℓref_i), 1−ε, 1+ε),  L = mean softplus(−β(ρ_i−ρ_j)) over pairs with r_i > r_j
//
// Paper's mean runs over all B² entries, each without a preference adding ln 2. The ends of the clamp pass gradient,
// what lies beyond gets none. clamped tells which samples lie beyond. Under another rule of trust nothing is clamped here.
func (d DPO) PairLoss(logProb, logProbRef, rewards []float64) (loss float64, grad []float64, clamped []bool) {
	rho, clamped := d.ratios(logProb, logProbRef)
	loss, grad = d.margins(rho, rewards)
	for i := range grad {
		if clamped[i] {
			grad[i] = 0
		}
	}
	return loss, grad, clamped
}

// ratios are the logarithms ρ of the ratios of probabilities.
func (d DPO) ratios(logProb, logProbRef []float64) (rho []float64, clamped []bool) {
	rho, clamped = make([]float64, len(logProb)), make([]bool, len(logProb))
	for i := range rho {
		if d.Trust == TrustKLMask || d.Trust == TrustNone {
			rho[i] = logProb[i] - logProbRef[i]
			continue
		}
		ratio := math.Exp(logProb[i] - logProbRef[i])
		clamped[i] = ratio < 1-d.Eps || ratio > 1+d.Eps
		rho[i] = math.Log(math.Min(math.Max(ratio, 1-d.Eps), 1+d.Eps))
	}
	return rho, clamped
}

// margins is the loss of the ratios and its gradient by each of them.
func (d DPO) margins(rho, rewards []float64) (loss float64, pull []float64) {
	b, ordered := len(rho), 0
	pull = make([]float64, b)
	for i := range b {
		for j := range b {
			if rewards[i]-rewards[j] > d.MinGap {
				ordered++
				value, slope := cappedSoftplus(d.Beta*(rho[i]-rho[j]), d.Cap)
				loss += value
				pull[i] -= d.Beta * slope
				pull[j] += d.Beta * slope
			}
		}
	}
	divisor := float64(max(1, ordered))
	if d.Pairs == Paper {
		divisor = float64(b * b)
		loss += float64(b*b-ordered) * math.Ln2
	}
	for i := range pull {
		pull[i] /= divisor
	}
	return loss / divisor, pull
}

// Transition is one stored step of a rollout: the network saw Sample, the trajectory went to Next. Mask may be nil.
type Transition struct {
	Step         Step
	Sample, Next []float32 // packed latents [N·C]
	Mask         *Mask
}

// Outcome is what one timestep of one prompt's samples gives.
type Outcome struct {
	Loss                float64
	LogProb, LogProbRef []float64 // per sample
	Clamped             []bool    // per sample: the rule of trust stops its gradient
	KL                  []float64 // per sample, Step.KL of the policy from the reference
	Moved               []float64 // per sample, Step.KL of the policy from the anchor: the old policy where given, else the reference
}

// VelocityGradient is the DPO loss of one timestep of one prompt's samples and its gradient by the policy's velocities,
// the analytic dL/dv: with it one backward pass through the network is all that training needs. grad and the velocities
// hold one slice per sample; grad is overwritten with scale·dL/dv. The anchor of TrustKLMask is the old policy where its
// velocities are given, else the reference.
func (d DPO) VelocityGradient(grad [][]float32, v Velocities, at []Transition, rewards []float64, scale float64) Outcome {
	b := len(at)
	out := Outcome{LogProb: make([]float64, b), LogProbRef: make([]float64, b), KL: make([]float64, b)}
	for i, t := range at {
		out.LogProb[i] = t.logProb(v.Policy[i])
		out.LogProbRef[i] = t.logProb(v.Reference[i])
		out.KL[i] = t.Step.KL(v.Policy[i], v.Reference[i], t.Mask)
	}
	loss, pull, clamped := d.PairLoss(out.LogProb, out.LogProbRef, rewards)
	out.Loss, out.Clamped = loss, clamped
	d.mask(&out, pull, v, at)
	for i, t := range at {
		clear(grad[i])
		t.Step.addLogProbGradient(grad[i], t.Sample, v.Policy[i], t.Next, t.Mask, pull[i]*scale)
	}
	return out
}

func (t Transition) logProb(velocity []float32) float64 {
	return t.Step.LogProb(t.Sample, velocity, t.Next, t.Mask)
}

// mask stops, under TrustKLMask, the pull on samples whose step is KLLimit or more away from the anchor's and whose
// log-probability is driven further from it. The exact divergence of two Gaussians takes the place of a ratio that one draw
// of noise decides. The loss keeps its value.
func (d DPO) mask(out *Outcome, pull []float64, v Velocities, at []Transition) {
	out.Moved = out.KL
	anchored := out.LogProbRef
	if v.Old != nil {
		anchored, out.Moved = make([]float64, len(at)), make([]float64, len(at))
		for i, t := range at {
			anchored[i], out.Moved[i] = t.logProb(v.Old[i]), t.Step.KL(v.Policy[i], v.Old[i], t.Mask)
		}
	}
	if d.Trust != TrustKLMask {
		return
	}
	for i := range pull {
		up, away := pull[i] < 0, out.LogProb[i]-anchored[i] // the update goes against the gradient
		out.Clamped[i] = out.Moved[i] >= d.KLLimit && (up && away > 0 || pull[i] > 0 && away < 0)
		if out.Clamped[i] {
			pull[i] = 0
		}
	}
}

// Velocity matching, stage 1.

// Noised writes x_σ = (1−σ)·latents + σ·noise.
func Noised(x, latents, noise []float32, sigma float64) {
	s, c := float32(sigma), float32(1-sigma)
	for k := range x {
		x[k] = c*latents[k] + s*noise[k]
	}
}

// MatchVelocity is the weighted mean squared error of one sample's velocity against noise − latents, and writes
// scale·gradient: 2·weight·(v−target)/len.
func MatchVelocity(grad, velocity, latents, noise []float32, weight, scale float64) float64 {
	var sum float64
	f := 2 * weight * scale / float64(len(velocity))
	for k, v := range velocity {
		d := float64(v) - (float64(noise[k]) - float64(latents[k]))
		sum += d * d
		grad[k] = float32(f * d)
	}
	return weight * sum / float64(len(velocity))
}
