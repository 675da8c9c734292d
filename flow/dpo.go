package flow

import "math"

// DPO holds the constants of the pairwise loss: β scales the log-ratio, Eps clamps the ratio to [1−ε, 1+ε], Pairs is the
// form of the mean.
type DPO struct {
	Beta, Eps float64
	Pairs     Form
}

// PairLoss is the loss over all samples of one prompt at one timestep, with its gradient by each log-probability:
//
//	ρ_i = ln clamp(exp(ℓ_i−ℓref_i), 1−ε, 1+ε),  L = mean softplus(−β(ρ_i−ρ_j)) over pairs with r_i > r_j
//
// Paper's mean runs over all B² entries, each without a preference adding ln 2. The ends of the clamp pass gradient,
// what lies beyond gets none. clamped tells which samples lie beyond.
func (d DPO) PairLoss(logProb, logProbRef, rewards []float64) (loss float64, grad []float64, clamped []bool) {
	b := len(logProb)
	rho, open := make([]float64, b), make([]float64, b)
	grad, clamped = make([]float64, b), make([]bool, b)
	for i := range rho {
		ratio := math.Exp(logProb[i] - logProbRef[i])
		if ratio < 1-d.Eps || ratio > 1+d.Eps {
			clamped[i] = true
		} else {
			open[i] = 1
		}
		rho[i] = math.Log(math.Min(math.Max(ratio, 1-d.Eps), 1+d.Eps))
	}
	ordered := 0
	for i := range b {
		for j := range b {
			if rewards[i] > rewards[j] {
				ordered++
				z := d.Beta * (rho[i] - rho[j])
				loss += softplus(-z)
				pull := d.Beta * sigmoid(-z)
				grad[i] -= pull * open[i]
				grad[j] += pull * open[j]
			}
		}
	}
	divisor := float64(max(1, ordered))
	if d.Pairs == Paper {
		divisor = float64(b * b)
		loss += float64(b*b-ordered) * math.Ln2
	}
	for i := range grad {
		grad[i] /= divisor
	}
	return loss / divisor, grad, clamped
}

func softplus(x float64) float64 { return math.Max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }
func sigmoid(x float64) float64  { return 1 / (1 + math.Exp(-x)) }

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
	Clamped             []bool    // per sample
	KL                  []float64 // per sample, Step.KL of the policy from the reference
}

// VelocityGradient is the DPO loss of one timestep of one prompt's samples and its gradient by the policy's velocities,
// the analytic dL/dv: with it one backward pass through the network is all that training needs. grad, velocity and
// velocityRef hold one slice per sample; grad is overwritten with scale·dL/dv.
func (d DPO) VelocityGradient(grad, velocity, velocityRef [][]float32, at []Transition, rewards []float64, scale float64) Outcome {
	b := len(at)
	out := Outcome{LogProb: make([]float64, b), LogProbRef: make([]float64, b), KL: make([]float64, b)}
	for i, t := range at {
		out.LogProb[i] = t.Step.LogProb(t.Sample, velocity[i], t.Next, t.Mask)
		out.LogProbRef[i] = t.Step.LogProb(t.Sample, velocityRef[i], t.Next, t.Mask)
		out.KL[i] = t.Step.KL(velocity[i], velocityRef[i], t.Mask)
	}
	loss, pull, clamped := d.PairLoss(out.LogProb, out.LogProbRef, rewards)
	out.Loss, out.Clamped = loss, clamped
	for i, t := range at {
		clear(grad[i])
		t.Step.addLogProbGradient(grad[i], t.Sample, velocity[i], t.Next, t.Mask, pull[i]*scale)
	}
	return out
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
