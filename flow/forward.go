package flow

// The forward-process methods of stage 2 (PairFlow, GroupFlow, NFT, AWM) train on clean pictures of the model's own: x0 is
// mixed with fresh noise ε, x_σ = (1−σ)x0 + σε, and the network's velocities there are compared with the target u = ε − x0.
// A rollout for them needs no noise, and nothing of it is kept but x0.
//
// With m the box mask of a sample and D what its mean divides by (Mask), the error of velocities v is
//
//	E(v) = Σ m(v−u)²/D,  dE/dv = 2m(v−u)/D
//
// The mask of a sample is that of every network's velocities of it. An empty mask has error and gradient 0.

// Sample is one picture of a group at one noise level.
type Sample struct {
	Latents, Noise []float32 // x0 and ε, packed [N·C]; the network saw Noised
	Sigma          float64
	Mask           *Mask
	Reward         float64
	Advantage      float64 // of the reward in its group or round, see Advantages
}

// Velocities are what networks made of the samples of a group, a slice each: the policy, whose gradient is asked for, the
// frozen reference and the old policy. Reference and Old may be nil where Matching.Needs says so.
type Velocities struct{ Policy, Reference, Old [][]float32 }

// Matching is the loss of a forward-process method on a group of samples of one prompt at one noise level.
type Matching interface {
	// Needs tells which velocities beside the policy's the loss reads.
	Needs() (reference, old bool)
	// Gradient is the loss of the group; grad, one slice a sample, is overwritten with scale·dL/dv.
	Gradient(grad [][]float32, v Velocities, at []Sample, scale float64) Matched
}

// Matched is what one group at one noise level gives. Slices hold a value a sample; those that the method or the velocities
// at hand have no value for are nil.
type Matched struct {
	Loss     float64
	Error    []float64 // E(v)
	ErrorRef []float64 // E(v_ref)
	Rise     []float64 // E(v) − E(v_ref), summed as a difference
	Distance []float64 // mean of (v−v_ref)² over the elements kept
	Drift    []float64 // as Distance, from the old policy
	Closed   []bool    // the trust rule stops the sample's gradient

	Score                float64   // GroupFlow: S, mean over the samples of advantage times rise
	Optimality           []float64 // NFT: r
	Positive, Negative   []float64 // NFT: weighted squares of the two branches
	PositiveW, NegativeW []float64 // NFT: their weights
	LogProb, LogProbOld  []float64 // AWM: ℓ of policy and old policy
}

// target is element k of u = ε − x0.
func (s Sample) target(k int) float64 { return float64(s.Noise[k]) - float64(s.Latents[k]) }

// err is E(v).
func (s Sample) err(v []float32) float64 {
	var sum float64
	s.Mask.each(len(v), func(k int) {
		d := float64(v[k]) - s.target(k)
		sum += d * d
	})
	return sum / s.divisor()
}

// rise is E(v) − E(other) = Σ m(v−other)(v+other−2u)/D: both errors are nearly equal, so they are not subtracted.
func (s Sample) rise(v, other []float32) float64 {
	var sum float64
	s.Mask.each(len(v), func(k int) {
		a, b := float64(v[k]), float64(other[k])
		sum += (a - b) * (a + b - 2*s.target(k))
	})
	return sum / s.divisor()
}

// distance is the mean of (v−other)² over the elements kept, whatever the form of the mean.
func (s Sample) distance(v, other []float32) float64 {
	kept, _ := s.Mask.counts(len(v))
	return s.squares(v, other) / float64(max(1, kept))
}

func (s Sample) squares(v, other []float32) float64 {
	var sum float64
	s.Mask.each(len(v), func(k int) {
		d := float64(v[k]) - float64(other[k])
		sum += d * d
	})
	return sum
}

// divisor is D.
func (s Sample) divisor() float64 {
	_, d := s.Mask.counts(len(s.Latents))
	return float64(d)
}

// addErrorGradient adds q·dE/dv to grad.
func (s Sample) addErrorGradient(grad, v []float32, q float64) {
	if q == 0 {
		return
	}
	f := 2 * q / s.divisor()
	s.Mask.each(len(v), func(k int) { grad[k] += float32(f * (float64(v[k]) - s.target(k))) })
}

// The regions that an Anchor can hold.
const (
	RegionAll  = "all"  // every element: it guards the background that a mask leaves free
	RegionMask = "mask" // those the mask keeps
)

// Anchor holds the policy near the reference: Weight·K with K the mean over the samples of the mean of (v−v_ref)². Weight 0
// is none. Over the mask, K's mean divides as E's does.
type Anchor struct {
	Weight float64
	Region string
}

// add adds scale·Weight·dK/dv to grad and returns Weight·K.
func (a Anchor) add(grad [][]float32, v Velocities, at []Sample, scale float64) float64 {
	if a.Weight == 0 {
		return 0
	}
	var k float64
	for i, s := range at {
		if a.Region == RegionAll {
			s.Mask = nil
		}
		policy, reference, out := v.Policy[i], v.Reference[i], grad[i]
		share := a.Weight / (float64(len(at)) * s.divisor())
		k += share * s.squares(policy, reference)
		s.Mask.each(len(policy), func(j int) {
			out[j] += float32(2 * share * scale * (float64(policy[j]) - float64(reference[j])))
		})
	}
	return k
}

// measure fills in what every method tells of its samples, and clears the gradient.
func measure(grad [][]float32, v Velocities, at []Sample) Matched {
	var m Matched
	for i, s := range at {
		clear(grad[i])
		m.Error = append(m.Error, s.err(v.Policy[i]))
		if v.Reference != nil {
			m.ErrorRef = append(m.ErrorRef, s.err(v.Reference[i]))
			m.Rise = append(m.Rise, s.rise(v.Policy[i], v.Reference[i]))
			m.Distance = append(m.Distance, s.distance(v.Policy[i], v.Reference[i]))
		}
		if v.Old != nil {
			m.Drift = append(m.Drift, s.distance(v.Policy[i], v.Old[i]))
		}
	}
	return m
}

// beyond tells whether a ratio of policy to old policy lies past the clip on the side that its advantage drives it to.
func beyond(advantage, ratio, clip float64) bool {
	if advantage > 0 {
		return ratio > 1+clip
	}
	return ratio < 1-clip
}
