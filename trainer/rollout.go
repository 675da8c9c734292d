package trainer

import (
	"context"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/model/lora"
)

// Trajectory is a batch of sampled paths with what training needs to know about each step.
type Trajectory struct {
	Batch     int
	Latents   [][]float32 // n+1 of [B, N, C]; the first is the start noise, the last the picture's latents
	Steps     []flow.Step // n
	Timesteps []float32   // n, what the network saw ·1000
	LogProb   [][]float64 // n of [B], mean over all elements; nil without churn
}

// Plan says how a rollout is done.
type Plan struct {
	Form      flow.Form
	Sigmas    []float32 // n+1
	Timesteps []float32 // n
	Churn     float64   // of the stochastic steps; η where Form is flow.CPS
	First     int       // first step that gets noise
	Noisy     int       // steps from First on that get noise, the rest being Euler's; 0 means all
	Square    bool      // see flow.Step
}

// Steps are the steps of the rollout.
func (p Plan) Steps() []flow.Step {
	steps, quiet := flow.Steps(p.Form, p.Sigmas, p.Churn), flow.Steps(p.Form, p.Sigmas, 0)
	first, end := p.Window()
	for i := range steps {
		steps[i].Square = p.Square
		if i < first || i >= end {
			steps[i] = quiet[i]
		}
	}
	return steps
}

// Window is the range of steps [first, end) that get noise.
func (p Plan) Window() (first, end int) {
	n := len(p.Sigmas) - 1
	if p.Noisy == 0 {
		return p.First, n
	}
	return p.First, min(p.First+p.Noisy, n)
}

// Rollout samples from the start latents with the given adapter (nil for the base). noise fills the step noise of step i
// for the whole batch [B, N, C]; it is not called for steps without noise.
func Rollout(ctx context.Context, be engine.Backend, model *flux.Model, adapter *lora.Adapter, set Setting, p Plan,
	start []float32, batch int, c Conditioning, noise func(step int, dst []float32)) (*Trajectory, error) {
	prompts, err := c.prompts(model, batch)
	if err != nil {
		return nil, err
	}
	in, err := set.input(model, start, prompts, c)
	if err != nil {
		return nil, err
	}
	t := &Trajectory{Batch: batch, Latents: [][]float32{start}, Steps: p.Steps(), Timesteps: p.Timesteps}
	s := flux.Sampler{
		Model: model, Backend: be, Adapter: adapter, Steps: t.Steps, Timesteps: p.Timesteps, BatchTokens: set.BatchTokens,
		Noise: noise, OnCall: set.OnCall,
		Visit: func(i int, x, v, next []float32) {
			t.Latents = append(t.Latents, next)
			if p.Churn == 0 {
				return
			}
			xs, vs, nexts, logProb := split(x, batch), split(v, batch), split(next, batch), make([]float64, batch)
			for b := range logProb {
				logProb[b] = t.Steps[i].LogProb(xs[b], vs[b], nexts[b], nil)
			}
			t.LogProb = append(t.LogProb, logProb)
		},
	}
	if _, err := s.Run(ctx, in); err != nil {
		return nil, err
	}
	return t, nil
}
