package trainer

import "github.com/sciflux/sciflux/model/lora"

// Average is an exponential moving average of an adapter's weights.
type Average struct {
	Adapter *lora.Adapter // the mean
	decay   float32
}

// NewAverage starts from the adapter as it is. decay is the share of the old mean that a step keeps, e.g. 0.99.
func NewAverage(a *lora.Adapter, decay float64) *Average {
	return &Average{Adapter: a.Clone(), decay: float32(decay)}
}

// Add takes one step's weights into the mean.
func (m *Average) Add(a *lora.Adapter) {
	mean := m.Adapter.Weights.Floats()
	for i, w := range a.Weights.Floats() {
		mean[i] += (1 - m.decay) * (w - mean[i])
	}
}

// Restore sets the mean, as a checkpoint holds it.
func (m *Average) Restore(mean *lora.Adapter) {
	copy(m.Adapter.Weights.Floats(), mean.Weights.Floats())
}
