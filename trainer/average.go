package trainer

import (
	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/lora"
)

// Average is an exponential moving average of an adapter's weights, kept in ordinary memory.
type Average struct {
	Adapter *lora.Adapter // the mean
	decay   float32
	be      engine.Backend
}

// NewAverage starts from the adapter, whose numbers may lie in memory of the backend, as it is. decay is the share of the
// old mean that a step keeps, e.g. 0.99.
func NewAverage(be engine.Backend, a *lora.Adapter, decay float64) *Average {
	return &Average{Adapter: a.Download(be), decay: float32(decay), be: be}
}

// Add takes one step's weights into the mean.
func (m *Average) Add(a *lora.Adapter) {
	mean := m.Adapter.Weights.Floats()
	for i, w := range a.Numbers(m.be) {
		mean[i] += (1 - m.decay) * (w - mean[i])
	}
}

// Follow moves the mean after update k on the schedule of an old policy, which takes the place of the decay.
func (m *Average) Follow(a *lora.Adapter, o flow.OldPolicy, k int) {
	o.Follow(m.Adapter.Weights.Floats(), a.Numbers(m.be), k)
}

// Restore sets the mean, as a checkpoint holds it.
func (m *Average) Restore(mean *lora.Adapter) {
	copy(m.Adapter.Weights.Floats(), mean.Weights.Floats())
}
