package graph

import (
	"slices"

	"gorgonia.org/gorgonia"

	"github.com/sciflux/sciflux/engine"
)

// modulated is the modulations of one operation with each By once: two runs of rows may share one.
type modulated struct {
	runs []engine.Modulation[Value]
	by   []Value
	of   []int // index in by of each run
}

func newModulated(ms []engine.Modulation[Value]) modulated {
	m := modulated{runs: slices.Clone(ms)}
	for _, r := range ms {
		i := slices.IndexFunc(m.by, func(v Value) bool { return v.node == r.By.node })
		if i < 0 {
			i = len(m.by)
			m.by = append(m.by, r.By)
		}
		m.of = append(m.of, i)
	}
	return m
}

// with is the runs over tensors, by holding one for each of m.by.
func (m modulated) with(by []*engine.Tensor) []engine.Modulation[*engine.Tensor] {
	out := make([]engine.Modulation[*engine.Tensor], len(m.runs))
	for i, r := range m.runs {
		out[i] = engine.Modulation[*engine.Tensor]{
			Rows: r.Rows, PerSample: r.PerSample, By: by[m.of[i]], Shift: r.Shift, Scale: r.Scale, Gate: r.Gate,
		}
	}
	return out
}

// sums is the gradients of m.by: each the sum over the runs that use it, by an operation of (dy, x, by…).
func (m modulated) sums(b *builder, name string, x Value, dy *gorgonia.Node,
	run func(f engine.Fused, dby, x, dy *engine.Tensor, ms []engine.Modulation[*engine.Tensor], uses []bool)) gorgonia.Nodes {
	grads := make(gorgonia.Nodes, len(m.by))
	for i, by := range m.by {
		if !by.grad {
			continue
		}
		uses := make([]bool, len(m.runs))
		for r, k := range m.of {
			uses[r] = k == i
		}
		grads[i] = b.back(name, by.rows(), by.cols(), func(f engine.Fused, in []*engine.Tensor, out *engine.Tensor) {
			run(f, out, in[1], in[0], m.with(in[2:]), uses)
		}, append(gorgonia.Nodes{dy, x.node}, nodesOf(m.by)...)...)
	}
	return grads
}

// Modulate implements engine.Ops.
func (b *builder) Modulate(x Value, ms ...engine.Modulation[Value]) Value {
	fitRuns("modulate", x, ms, func(m engine.Modulation[Value]) []int { return []int{m.Shift, m.Scale} })
	m := newModulated(ms)
	return b.apply(operation{
		name: "modulate", rows: x.rows(), cols: x.cols(), cheap: true,
		run: func(f engine.Fused, in []*engine.Tensor, out *engine.Tensor) { f.Modulate(out, in[0], m.with(in[1:])) },
		diff: func(_, dy *gorgonia.Node) gorgonia.Nodes {
			grads := gorgonia.Nodes{nil}
			if x.grad {
				grads[0] = b.back("gradient of modulate", x.rows(), x.cols(), func(f engine.Fused, in []*engine.Tensor, out *engine.Tensor) {
					f.BackModulate(out, in[1], in[0], m.with(in[2:]))
				}, append(gorgonia.Nodes{dy, x.node}, nodesOf(m.by)...)...)
			}
			return append(grads, m.sums(b, "gradient of shift and scale", x, dy, engine.Fused.BackModulation)...)
		},
	}, append([]Value{x}, m.by...)...)
}

// GateAdd implements engine.Ops.
func (b *builder) GateAdd(s, x Value, ms ...engine.Modulation[Value]) Value {
	alike("gate", s, x)
	fitRuns("gate", x, ms, func(m engine.Modulation[Value]) []int { return []int{m.Gate} })
	m := newModulated(ms)
	return b.apply(operation{
		name: "gate", rows: x.rows(), cols: x.cols(), cheap: true,
		run: func(f engine.Fused, in []*engine.Tensor, out *engine.Tensor) {
			f.GateAdd(out, in[0], in[1], m.with(in[2:]))
		},
		diff: func(_, dy *gorgonia.Node) gorgonia.Nodes {
			grads := gorgonia.Nodes{given(s, dy), nil}
			if x.grad {
				grads[1] = b.back("gradient of gate", x.rows(), x.cols(), func(f engine.Fused, in []*engine.Tensor, out *engine.Tensor) {
					f.BackGate(out, in[0], m.with(in[1:]))
				}, append(gorgonia.Nodes{dy}, nodesOf(m.by)...)...)
			}
			return append(grads, m.sums(b, "gradient of gates", x, dy, engine.Fused.BackGates)...)
		},
	}, append([]Value{s, x}, m.by...)...)
}
