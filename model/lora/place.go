package lora

import "github.com/sciflux/sciflux/engine"

// Upload is the adapter with its numbers copied to memory of a backend, for passes and training there. The caller frees
// its Weights.
func (a *Adapter) Upload(be engine.Backend) *Adapter {
	u := *a
	u.Weights = be.Alloc(a.Weights.Len())
	be.Upload(u.Weights, a.Numbers(be))
	return &u
}

// Download is the adapter with its numbers, which may lie in memory of a backend, copied to ordinary memory.
func (a *Adapter) Download(be engine.Backend) *Adapter {
	d := *a
	d.Weights = engine.Wrap(make([]float32, a.Weights.Len()), a.Weights.Len())
	copy(d.Weights.Floats(), a.Numbers(be))
	return &d
}

// Numbers is the flat buffer in ordinary memory: itself, or a copy where it lies in a device's.
func (a *Adapter) Numbers(be engine.Backend) []float32 {
	if a.Weights.Host {
		return a.Weights.Floats()
	}
	values := make([]float32, a.Weights.Len())
	be.Download(values, a.Weights)
	return values
}

// GradientsIn makes gradients of the adapter whose sums lie in a buffer of the caller's, as it is.
func (a *Adapter) GradientsIn(sum *engine.Tensor) *Gradients { return &Gradients{Sum: sum, adapter: a} }
