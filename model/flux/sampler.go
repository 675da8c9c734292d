package flux

import (
	"context"
	"fmt"
	"math"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/lora"
)

// Sampler takes latents along a flow, step by step: x' = X·x + V·v + Std·ξ with the network's velocity v (flow.Step). Euler
// steps are those without noise.
type Sampler struct {
	Model     *Model
	Backend   engine.Backend
	Adapter   *lora.Adapter // nil for the base model
	Steps     []flow.Step
	Timesteps []float32 // of each step, 1000·sigma as schedulers have it
	// BatchTokens bounds a network call, see SamplesPerCall. The last bits of a velocity depend on the size of its call.
	BatchTokens int
	// Noise fills ξ [B, N, C] of a step; it is not called for steps without noise and may be nil when there are none.
	Noise func(step int, xi []float32)
	// Visit sees every step: sample, velocity and result [B, N, C], which stay as they are. It may be nil.
	Visit func(step int, x, v, next []float32)
	// OnCall hears of every network call; it may be nil.
	OnCall func()
}

// ModelTime is the network's time input for a scheduler timestep: the reference's pipeline divides by 1000 in float32.
func ModelTime(timestep float32) float32 { return timestep / timeFactor }

// Run takes the input's latents through all steps and returns where they arrive. Conditioning, adapter and RoPE tables are
// copied to the backend once.
func (s *Sampler) Run(ctx context.Context, in *Input) (x []float32, err error) {
	defer engine.Guard(&err)
	batches, err := s.Model.NewBatches(s.Backend, in, s.BatchTokens)
	if err != nil {
		return nil, err
	}
	defer batches.Free()
	ad := s.Adapter
	if ad != nil {
		ad = ad.Upload(s.Backend)
		defer s.Backend.Free(ad.Weights)
	}
	x = in.Latents.Floats()
	xi := make([]float32, len(x))
	for i, step := range s.Steps {
		batches.Set(x, ModelTime(s.Timesteps[i]))
		v, err := batches.Velocity(ctx, ad, s.OnCall)
		if err != nil {
			return nil, err
		}
		if err := finite(i, v, in.Latents.Shape[0]); err != nil {
			return nil, err
		}
		if step.Std != 0 {
			s.Noise(i, xi)
		}
		next := make([]float32, len(x))
		step.Advance(next, x, v, xi)
		if s.Visit != nil {
			s.Visit(i, x, v, next)
		}
		x = next
	}
	return x, nil
}

// NonFiniteError says that a velocity became NaN or infinite while sampling, so that there is no picture to come.
type NonFiniteError struct {
	Step, Sample int // counted from 0
	Value        float64
}

// Error names step and sample, and what to try.
func (e *NonFiniteError) Error() string {
	return fmt.Sprintf("sampling step %d: the velocity of sample %d is %v; the adapter has left what the model can compute: "+
		"go back to an earlier one", e.Step, e.Sample, e.Value)
}

// finite refuses velocities of b samples that are not all finite.
func finite(step int, v []float32, b int) error {
	for i, x := range v {
		if f := float64(x); math.IsNaN(f) || math.IsInf(f, 0) {
			return &NonFiniteError{Step: step, Sample: i / (len(v) / b), Value: f}
		}
	}
	return nil
}
