package graph

import (
	"fmt"

	"github.com/sciflux/sciflux/engine"
)

// assert panics when a function does not fit its shapes; Build returns it as an error that names operation and sizes. What
// it finds would else fail in a kernel, far from the mistake, in the first pass through the graph.
func assert(ok bool, format string, args ...any) {
	if !ok {
		panic(fmt.Sprintf(format, args...))
	}
}

// fitProject checks inputs and segments against the layers.
func (b *builder) fitProject(segs []engine.Segment, xs []Value) {
	assert(len(segs) > 0 && len(xs) > 0, "project: %d segments of %d inputs", len(segs), len(xs))
	name, rows, in := segs[0].Layers[0], 0, 0
	for _, x := range xs {
		assert(x.rows() == xs[0].rows(), "project %s: inputs of %d and %d rows", name, xs[0].rows(), x.rows())
		in += x.cols()
	}
	for _, seg := range segs {
		rows += seg.Rows
		if seg.Rows > 0 {
			b.fitSegment(seg, in, b.weights.Width(segs))
		}
	}
	assert(rows == xs[0].rows(), "project %s: segments of %d rows in all, the input has %d", name, rows, xs[0].rows())
}

func (b *builder) fitSegment(seg engine.Segment, in, width int) {
	out, flat, low := 0, 0, b.weights.Adapter(seg)
	n := len(seg.Layers)
	assert(low == nil || len(low.Ranks) == n && len(low.Scales) == n, "project %s: an adapter for other than its %d layers", seg.Layers[0], n)
	for i, name := range seg.Layers {
		l := b.weights.Layer(name)
		assert(l.Weight.In == in, "project %s: %d input columns, the layer takes %d", name, in, l.Weight.In)
		assert(l.Bias == nil || len(l.Bias) == l.Weight.Out, "project %s: %d values of bias for %d outputs", name, len(l.Bias), l.Weight.Out)
		out += l.Weight.Out
		if low != nil {
			flat += low.Ranks[i] * l.Weight.Out
		}
	}
	assert(out == width, "project %s: %d columns beside a segment of %d", seg.Layers[0], out, width)
	if low != nil {
		assert(low.A.Rows() == low.Rank() && low.A.Cols() == in && low.B.Len() == flat,
			"project %s: adapter of A %v and %d values of B, want [%d %d] and %d", seg.Layers[0], low.A.Shape, low.B.Len(), low.Rank(), in, flat)
	}
}

// fitAttend checks a matrix of q, k and v, and what is applied to its heads.
func (b *builder) fitAttend(qkv Value, h engine.Heads) {
	assert(qkv.rows() == h.Layout.Rows() && qkv.cols() == 3*h.Heads*h.Dim, "attend: a %d×%d matrix, want %d×%d for %d heads of %d",
		qkv.rows(), qkv.cols(), h.Layout.Rows(), 3*h.Heads*h.Dim, h.Heads, h.Dim)
	for _, name := range append(h.NormQ[:], h.NormK[:]...) {
		if w, ok := b.weights.Norms[name]; ok {
			assert(len(w) == h.Dim, "attend: norm %s of %d values for heads of %d", name, len(w), h.Dim)
		}
	}
	for _, table := range []*engine.Tensor{b.weights.Cos, b.weights.Sin} {
		assert(table == nil || 2*table.Len() == h.Layout.L()*h.Dim, "attend: %d values of rotation for %d tokens of %d",
			tableLen(table), h.Layout.L(), h.Dim)
	}
}

func tableLen(t *engine.Tensor) int {
	if t == nil {
		return 0
	}
	return t.Len()
}

// fitRuns checks that the runs cover x, that each By has a row per sample, and that it has the chunks.
func fitRuns(op string, x Value, ms []engine.Modulation[Value], chunks func(m engine.Modulation[Value]) []int) {
	rows := 0
	for _, m := range ms {
		rows += m.Rows
		assert(m.Rows == m.PerSample*m.By.rows(), "%s: %d rows, %d per sample, by %d rows", op, m.Rows, m.PerSample, m.By.rows())
		for _, c := range chunks(m) {
			assert(c >= 0 && (c+1)*x.cols() <= m.By.cols(), "%s: chunk %d of %d columns in a matrix of %d", op, c, x.cols(), m.By.cols())
		}
	}
	assert(rows == x.rows(), "%s: runs of %d rows in all, the input has %d", op, rows, x.rows())
}

// alike checks that two matrices have one shape.
func alike(op string, x, y Value) {
	assert(x.rows() == y.rows() && x.cols() == y.cols(), "%s: %d×%d and %d×%d", op, x.rows(), x.cols(), y.rows(), y.cols())
}
