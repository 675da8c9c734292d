package trainer

import (
	"context"
	"fmt"
	"math"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/graph"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/model/lora"
)

// Conditioning is what the network sees beside latents and time, one row a sample.
type Conditioning struct {
	Text   []float32 // [B, T, J]
	Pooled []float32 // [B, P]
}

// Setting is the fixed surrounding of a training run or a rollout.
type Setting struct {
	Grid     flow.Grid
	Guidance float64 // used by models with a guidance embedder
}

// Learner trains one adapter.
type Learner struct {
	Adapter   *lora.Adapter
	Optimizer *Optimizer
	Setting   Setting
	// MicroSamples bounds how many samples one network call takes. It is part of a run's identity: another value adds the
	// same gradients in another order.
	MicroSamples int

	be      engine.Backend
	model   *flux.Model
	session *flux.Session
	grads   *lora.Gradients
}

// NewLearner prepares training of the adapter with fresh moments.
func NewLearner(be engine.Backend, model *flux.Model, adapter *lora.Adapter, o OptimizerConfig, set Setting, memory graph.Memory) *Learner {
	return &Learner{
		Adapter: adapter, Optimizer: NewOptimizer(be, adapter.Parameters(), o), Setting: set, MicroSamples: 32,
		be: be, model: model, session: model.NewSession(be, flux.SessionOptions{Memory: memory}), grads: adapter.NewGradients(),
	}
}

// Close frees what the learner allocated; the adapter stays.
func (l *Learner) Close() {
	l.session.Release()
	l.Optimizer.Free()
}

// Example is a micro-batch of stage 1: clean latents and the noise to mix in, one sigma and loss weight a sample.
type Example struct {
	Latents, Noise []float32 // [B, N, C] packed
	Sigma          []float32 // [B]
	Weight         []float64 // [B]; nil for 1
	Conditioning
}

// StepResult is what one optimiser step reports.
type StepResult struct {
	Loss   float64   // mean over micro-batches
	Micro  []float64 // loss of each micro-batch
	Norm   float64   // of the gradient before clipping
	Rate   float64
	Graded int // samples that were back-propagated
}

// SFT takes one optimiser step: the gradients of the micro-batches' mean losses, averaged over the micro-batches.
func (l *Learner) SFT(ctx context.Context, micro []Example) (StepResult, error) {
	l.grads.Zero()
	var r StepResult
	for _, m := range micro {
		loss, err := l.sftGradient(ctx, m, 1/float64(len(micro)))
		if err != nil {
			return r, err
		}
		r.Micro = append(r.Micro, loss)
		r.Loss += loss / float64(len(micro))
		r.Graded += len(m.Sigma)
	}
	return l.update(r)
}

func (l *Learner) sftGradient(ctx context.Context, m Example, scale float64) (float64, error) {
	b, size := len(m.Sigma), len(m.Latents)/len(m.Sigma)
	x, grad := make([]float32, b*size), make([]float32, b*size)
	at := func(v []float32, i int) []float32 { return v[i*size : (i+1)*size] }
	for i, s := range m.Sigma {
		flow.Noised(at(x, i), at(m.Latents, i), at(m.Noise, i), float64(s))
	}
	// The reference hands the network 1000·σ in float32, which divides it by 1000 again.
	times := make([]float32, b)
	for i, s := range m.Sigma {
		times[i] = modelTime(s * 1000)
	}
	var loss float64
	err := l.differentiate(ctx, input(l.model, l.Setting, x, times, m.Conditioning), func(v []float32) []float32 {
		for i := range b {
			w := 1.0
			if m.Weight != nil {
				w = m.Weight[i]
			}
			loss += flow.MatchVelocity(at(grad, i), at(v, i), at(m.Latents, i), at(m.Noise, i), w, scale/float64(b)) / float64(b)
		}
		return grad
	})
	if err == nil && (math.IsNaN(loss) || math.IsInf(loss, 0)) {
		err = &NonFiniteError{What: "loss", Step: l.Optimizer.Steps + 1, Value: loss}
	}
	return loss, err
}

// differentiate runs the network forward, asks for the loss's derivative by the velocity, and adds the adapter's
// gradient.
func (l *Learner) differentiate(ctx context.Context, in *flux.Input, derivative func(v []float32) []float32) error {
	v, err := l.session.Forward(ctx, in, l.Adapter)
	if err != nil {
		return fmt.Errorf("forward: %w", err)
	}
	host, shape := make([]float32, v.Len()), v.Shape
	l.be.Download(host, v)
	l.be.Free(v)
	dv := l.be.Alloc(shape...)
	defer l.be.Free(dv)
	l.be.Upload(dv, derivative(host))
	if _, err := l.session.Backward(ctx, dv, l.grads, false); err != nil {
		return fmt.Errorf("backward: %w", err)
	}
	return nil
}

func (l *Learner) update(r StepResult) (StepResult, error) {
	norm, rate, err := l.Optimizer.Update(l.Adapter.Weights, l.grads.Sum)
	r.Norm, r.Rate = norm, rate
	return r, err
}

// modelTime is the network's time input for a scheduler timestep, in float32 as the reference divides it.
func modelTime(timestep float32) float32 { return timestep / 1000 }

// input is the network's input for a batch of packed latents.
func input(model *flux.Model, set Setting, latents, times []float32, c Conditioning) *flux.Input {
	b := len(times)
	in := &flux.Input{
		Latents: matrix(latents, b, set.Grid.Tokens()), Text: matrix(c.Text, b, len(c.Text)/b/model.TextWidth), Pooled: engine.Wrap(c.Pooled, b, model.PooledWidth),
		Timestep: times, ImgIDs: flux.ImageIDs(2*set.Grid.Rows, 2*set.Grid.Columns),
	}
	if model.GuidanceEmbed {
		in.Guidance = make([]float32, b)
		for i := range in.Guidance {
			in.Guidance[i] = float32(set.Guidance)
		}
	}
	return in
}

// matrix wraps values as [b, rows, rest].
func matrix(values []float32, b, rows int) *engine.Tensor {
	if len(values) == 0 {
		return nil
	}
	return engine.Wrap(values, b, rows, len(values)/(b*rows))
}
