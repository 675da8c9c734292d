package flux

import (
	"context"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/graph"
)

// idle is a backend whose kernels do nothing, so that what remains is the cost of calling them.
type idle struct{ engine.Backend }

func (idle) Linear(y, x engine.View, w *engine.Weight, bias []float32, beta float32)                {}
func (idle) LinearBack(dx, dy engine.View, w *engine.Weight, beta float32)                          {}
func (idle) MatMul(c, a engine.View, ta bool, b engine.View, tb bool, alpha, beta float32)          {}
func (idle) Copy(dst, src engine.View)                                                              {}
func (idle) Zero(dst engine.View)                                                                   {}
func (idle) Add(y, a, b engine.View)                                                                {}
func (idle) Axpy(y engine.View, alpha float32, x engine.View)                                       {}
func (idle) Activate(y, x engine.View, f engine.Activation)                                         {}
func (idle) ActivateBack(dx, dy, x engine.View, f engine.Activation)                                {}
func (idle) Modulate(y, x, shift, scale engine.View, perSample int)                                 {}
func (idle) ModulateBack(dx, dshift, dscale, x, scale, dy engine.View, perSample int, beta float32) {}
func (idle) GateAdd(y, s, x, gate engine.View, perSample int)                                       {}
func (idle) GateBack(dx, dgate, dy, x, gate engine.View, perSample int)                             {}
func (idle) Attend(o, q, k, v engine.View, a *engine.Attention)                                     {}
func (idle) AttendBack(dq, dk, dv, do, o, q, k, v engine.View, a *engine.Attention)                 {}

// world is about the transformer of the procedural world.
func world() Config {
	c := Config{
		InChannels: 64, DoubleBlocks: 2, SingleBlocks: 4, HeadDim: 32, Heads: 4, TextWidth: 64, PooledWidth: 64,
		GuidanceEmbed: true, Axes: []int{4, 14, 14},
	}
	c.defaults()
	return c
}

func benchmarkStep(b *testing.B, be engine.Backend, direct bool) {
	c := world()
	m, in := randomModel(c, 1), randomInput(c, 2, 16, 16, 16)
	ad := randomAdapter(b, c, 3, attentionTargets, 16, 16)
	s := m.NewSession(SessionOptions{Memory: graph.None, Direct: direct})
	grads := ad.NewGradients()
	step := func() {
		batch, err := m.NewBatch(be, in)
		if err != nil {
			b.Fatal(err)
		}
		defer batch.Free()
		v, err := s.Forward(context.Background(), batch, ad)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Backward(context.Background(), v, grads); err != nil {
			b.Fatal(err)
		}
		be.Free(v)
	}
	step()
	b.ReportAllocs()
	for b.Loop() {
		step()
	}
}

// BenchmarkOverhead is a step of the world's size on kernels that do nothing: with Gorgonia, and the same calls without.
func BenchmarkOverhead(b *testing.B) {
	b.Run("gorgonia", func(b *testing.B) { benchmarkStep(b, idle{testBackend()}, false) })
	b.Run("direct", func(b *testing.B) { benchmarkStep(b, idle{testBackend()}, true) })
}

// BenchmarkStep is the same step on the fast backend.
func BenchmarkStep(b *testing.B) {
	b.Run("gorgonia", func(b *testing.B) { benchmarkStep(b, fastBackend(b), false) })
	b.Run("direct", func(b *testing.B) { benchmarkStep(b, fastBackend(b), true) })
}
