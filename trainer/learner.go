package trainer

import (
	"context"
	"fmt"
	"math"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/model/lora"
)

// Setting is the fixed surrounding of a training run or a rollout.
type Setting struct {
	Grid     flow.Grid
	Guidance float64 // used by models with a guidance embedder
	// BatchTokens bounds the text and image tokens of one network call; 0 is flux.DefaultBatchTokens. A call takes at least
	// one sample. It is part of a run's identity: another bound adds the same gradients in another order.
	BatchTokens int
	// OnCall hears of every pass through the network, forward or backward; it may be nil.
	OnCall func()
}

// Samples is how many samples with that many text tokens one network call takes.
func (s Setting) Samples(textTokens int) int {
	return flux.SamplesPerCall(s.BatchTokens, s.Grid.Tokens()+textTokens)
}

func (s Setting) called() {
	if s.OnCall != nil {
		s.OnCall()
	}
}

// Learner trains one adapter. A step is the sum of the gradients of its micro-batches (SFTGradient, DPOGradient), in their
// order, and then Apply; SFT and DPO are whole steps. What a micro-batch adds depends on nothing that was added before, so
// micro-batches may be computed apart and their sums added in that order to the same bits. A step that memory runs out in is
// an error with an *engine.OutOfMemory in it: nothing is held, the adapter has not moved, and the step can be taken again.
type Learner struct {
	Adapter   *lora.Adapter // its numbers lie in memory of the backend until Close
	Optimizer *Optimizer
	Setting   Setting

	be      engine.Backend
	model   *flux.Model
	session *flux.Session
	grads   *lora.Gradients
	home    *engine.Tensor // where the adapter's numbers lay before
}

// NewLearner prepares training of the adapter with fresh moments. It moves the adapter's numbers into memory of the
// backend; Close brings them back. Where there is no room for all of it the error is an *engine.OutOfMemory, and the
// adapter stays where it is.
func NewLearner(be engine.Backend, model *flux.Model, adapter *lora.Adapter, c OptimizerConfig, set Setting,
	o flux.SessionOptions) (l *Learner, err error) {
	defer engine.Guard(&err)
	scope := engine.NewScope(be)
	defer scope.Close()
	sum, weights := scope.Alloc(adapter.Parameters()), adapter.Upload(scope).Weights
	o.Latents = false // their gradient is nobody's
	l = &Learner{
		Adapter: adapter, Optimizer: NewOptimizer(be, adapter.Parameters(), c), Setting: set,
		be: be, model: model, session: model.NewSession(o), grads: adapter.GradientsIn(sum), home: adapter.Weights,
	}
	scope.Close(sum, weights)
	adapter.Weights = weights
	l.Clear()
	return l, nil
}

// Close frees what the learner allocated. The adapter stays, with its numbers where they were before.
func (l *Learner) Close() {
	l.session.Release()
	l.Optimizer.Free()
	l.be.Download(l.home.Floats(), l.Adapter.Weights)
	l.be.Free(l.Adapter.Weights)
	l.be.Free(l.grads.Sum)
	l.Adapter.Weights = l.home
}

// Clear forgets the gradients added so far.
func (l *Learner) Clear() { l.be.Zero(engine.All(l.grads.Sum)) }

// Apply moves the adapter along the sum of gradients, and tells the sum's norm before clipping and the rate used. A sum
// that is not finite is refused and changes nothing.
func (l *Learner) Apply() (norm, rate float64, err error) {
	defer engine.Guard(&err)
	return l.Optimizer.Update(l.Adapter.Weights, l.grads.Sum)
}

// StepResult is what one optimiser step reports.
type StepResult struct {
	Loss   float64   // mean over micro-batches
	Micro  []float64 // loss of each micro-batch
	Norm   float64   // of the gradient before clipping
	Rate   float64
	Graded int // samples that the loss was computed of
}

// forward is the policy's velocities [B, N, C] of all batches. One batch keeps what backward needs. Of several, none can
// wait for its gradient while the others run, so they are run at once, to the same bits, and backward runs them again.
func (l *Learner) forward(ctx context.Context, batches flux.Batches) ([]float32, error) {
	if len(batches) > 1 {
		return l.velocities(ctx, "velocity", batches, l.Adapter)
	}
	v, err := l.session.Forward(ctx, batches[0], l.Adapter)
	if err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	host := make([]float32, v.Len())
	l.be.Download(host, v)
	l.be.Free(v)
	l.Setting.called()
	return host, l.finite("velocity", host)
}

// velocities are those of all batches without a way back to gradients.
func (l *Learner) velocities(ctx context.Context, what string, batches flux.Batches, ad *lora.Adapter) ([]float32, error) {
	v, err := batches.Velocity(ctx, ad, l.Setting.OnCall)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return v, l.finite(what, v)
}

// finite refuses values that no loss can be read from, before anything more is paid for them.
func (l *Learner) finite(what string, values []float32) error {
	for _, v := range values {
		if x := float64(v); math.IsNaN(x) || math.IsInf(x, 0) {
			return l.nonFinite(what, x)
		}
	}
	return nil
}

func (l *Learner) nonFinite(what string, v float64) error {
	return &NonFiniteError{What: what, Step: l.Optimizer.Steps + 1, Value: v}
}

// backward adds the adapter's gradient for the gradient dv [B, N, C] of the velocities of all batches. A batch whose dv is
// zero adds nothing and is not run.
func (l *Learner) backward(ctx context.Context, batches flux.Batches, dv []float32) error {
	for _, b := range batches {
		n := b.B * b.N * b.OutChannels
		part := dv[:n]
		dv = dv[n:]
		if allZero(part) {
			continue
		}
		if len(batches) > 1 {
			v, err := l.session.Forward(ctx, b, l.Adapter)
			if err != nil {
				return fmt.Errorf("forward: %w", err)
			}
			l.be.Free(v)
			l.Setting.called()
		}
		if err := l.backwardOne(ctx, part, b); err != nil {
			return fmt.Errorf("backward: %w", err)
		}
	}
	return nil
}

func (l *Learner) backwardOne(ctx context.Context, dv []float32, b *flux.Batch) (err error) {
	defer engine.Guard(&err)
	t := l.be.Alloc(b.B, b.N, b.OutChannels)
	defer l.be.Free(t)
	l.be.Upload(t, dv)
	_, err = l.session.Backward(ctx, t, l.grads)
	l.Setting.called()
	return err
}

func allZero(values []float32) bool {
	for _, v := range values {
		if v != 0 {
			return false
		}
	}
	return true
}
