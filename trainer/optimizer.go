package trainer

import (
	"fmt"
	"math"

	"github.com/sciflux/sciflux/engine"
)

// OptimizerConfig are the constants of AdamW with warm-up and clipping by global norm.
type OptimizerConfig struct {
	LR          float64
	Beta1       float64
	Beta2       float64
	Eps         float64
	WeightDecay float64
	MaxGradNorm float64 // 0 for no clipping
	WarmupSteps int
}

// Optimizer is AdamW over one flat float32 buffer, in the order of torch and accelerate: norm, clip factor
// min(1, c/(norm+1e-6)), decoupled decay, moments, update with the rate of this step, then the next rate.
type Optimizer struct {
	Config OptimizerConfig
	Steps  int            // updates taken
	M, V   *engine.Tensor // first and second moments

	be engine.Backend
}

// NewOptimizer has zero moments for n parameters. It panics with an *engine.OutOfMemory, holding nothing, where there is no room.
func NewOptimizer(be engine.Backend, n int, c OptimizerConfig) *Optimizer {
	scope := engine.NewScope(be)
	defer scope.Close()
	o := &Optimizer{Config: c, be: be, M: scope.Alloc(n), V: scope.Alloc(n)}
	be.Zero(engine.All(o.M))
	be.Zero(engine.All(o.V))
	scope.Close(o.M, o.V)
	return o
}

// Free gives the moments' memory back.
func (o *Optimizer) Free() {
	o.be.Free(o.M)
	o.be.Free(o.V)
}

// Rate is the learning rate of the next update: LR·min(1, steps/warm-up). With warm-up the first update has rate 0 and
// moves the moments only.
func (o *Optimizer) Rate() float64 {
	if o.Config.WarmupSteps <= 0 {
		return o.Config.LR
	}
	return o.Config.LR * math.Min(1, float64(o.Steps)/float64(o.Config.WarmupSteps))
}

// Update takes one step on params along grad and returns the gradient's norm before clipping and the rate used. A
// gradient that is not finite is refused and changes nothing.
func (o *Optimizer) Update(params, grad *engine.Tensor) (norm, rate float64, err error) {
	norm = math.Sqrt(o.be.SumSquares(grad))
	if math.IsNaN(norm) || math.IsInf(norm, 0) {
		return norm, 0, &NonFiniteError{What: "gradient norm", Step: o.Steps + 1, Value: norm}
	}
	scale := 1.0
	if o.Config.MaxGradNorm > 0 {
		scale = math.Min(1, o.Config.MaxGradNorm/(norm+1e-6))
	}
	rate = o.Rate()
	o.be.Update(params, o.M, o.V, grad, scale, engine.AdamW{
		LR: rate, Beta1: o.Config.Beta1, Beta2: o.Config.Beta2, Eps: o.Config.Eps, Decay: o.Config.WeightDecay, Step: o.Steps + 1,
	})
	o.Steps++
	return norm, rate, nil
}

// NonFiniteError says that a loss or gradient became NaN or infinite. The adapter is as it was before the step.
type NonFiniteError struct {
	What  string
	Step  int
	Value float64
}

// Error says what became not finite in which step, and what to try.
func (e *NonFiniteError) Error() string {
	return fmt.Sprintf("optimiser step %d: %s is %v; lower the learning rate or go back to an earlier checkpoint", e.Step, e.What, e.Value)
}
