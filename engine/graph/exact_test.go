package graph

import (
	"math"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/reference"
)

type matrix64 = reference.Matrix[float64]

// exact runs Ops in float64, forward only, straight from their definitions: what finite differences are taken of.
type exact struct {
	weights  *engine.Binding
	adapters map[string][2][]float64 // A and B
}

var _ engine.Ops[matrix64] = (*exact)(nil)

func newExact(w *engine.Binding) *exact {
	e := &exact{weights: w, adapters: map[string][2][]float64{}}
	for key, low := range w.Adapters {
		e.adapters[key] = [2][]float64{widen(low.A.Floats()), widen(low.B.Floats())}
	}
	return e
}

func widen(v []float32) []float64 {
	w := make([]float64, len(v))
	for i, x := range v {
		w[i] = float64(x)
	}
	return w
}

func cutRows(m matrix64, from, n int) matrix64 {
	if n == 0 || m.Cols == 0 {
		return matrix64{Rows: n, Cols: m.Cols, Stride: m.Stride}
	}
	return matrix64{Data: m.Data[from*m.Stride:], Rows: n, Cols: m.Cols, Stride: m.Stride}
}

func (e *exact) Project(segs []engine.Segment, xs ...matrix64) matrix64 {
	in := 0
	for _, x := range xs {
		in += x.Cols
	}
	joined := reference.Zeros[float64](xs[0].Rows, in)
	at := 0
	for _, x := range xs {
		reference.Copy(joined.Columns(at, x.Cols), x)
		at += x.Cols
	}
	y := reference.Zeros[float64](xs[0].Rows, e.weights.Width(segs))
	row := 0
	for _, seg := range segs {
		if seg.Rows > 0 {
			e.segment(cutRows(y, row, seg.Rows), cutRows(joined, row, seg.Rows), seg)
		}
		row += seg.Rows
	}
	return y
}

// segment adds the adapters to the weights themselves and multiplies once.
func (e *exact) segment(y, x matrix64, seg engine.Segment) {
	low, pair := e.weights.Adapter(seg), e.adapters[seg.Layers[0]]
	col, first, flat := 0, 0, 0
	for i, name := range seg.Layers {
		l := e.weights.Layer(name)
		w := reference.Dense(widen(l.Weight.F32), l.Weight.Out, l.Weight.In)
		if low != nil && low.Ranks[i] > 0 {
			r := low.Ranks[i]
			a := reference.Dense(pair[0][first*x.Cols:(first+r)*x.Cols], r, x.Cols)
			b := reference.Dense(pair[1][flat:flat+r*w.Rows], w.Rows, r)
			reference.MatMul(w, b, false, a, false, float64(low.Scales[i]), 1)
			first, flat = first+r, flat+r*w.Rows
		}
		var bias []float64
		if l.Bias != nil {
			bias = widen(l.Bias)
		}
		reference.Linear(y.Columns(col, w.Rows), x, w, bias, 0)
		col += w.Rows
	}
}

func (e *exact) Attend(qkv matrix64, h engine.Heads) matrix64 {
	a := &reference.Attention[float64]{Layout: h.Layout, Heads: h.Heads, Dim: h.Dim, Scale: 1 / math.Sqrt(float64(h.Dim)), Eps: float64(h.Eps)}
	if e.weights.Cos != nil {
		a.Cos, a.Sin = widen(e.weights.Cos.Floats()), widen(e.weights.Sin.Floats())
	}
	for i := range 2 {
		if h.NormQ[i] != "" {
			a.NormQ[i], a.NormK[i] = widen(e.weights.Norms[h.NormQ[i]]), widen(e.weights.Norms[h.NormK[i]])
		}
	}
	c := h.Heads * h.Dim
	o := reference.Zeros[float64](qkv.Rows, c)
	reference.Attend(o, qkv.Columns(0, c), qkv.Columns(c, c), qkv.Columns(2*c, c), a)
	return o
}

func (e *exact) Activate(x matrix64, f engine.Activation) matrix64 {
	y := reference.Zeros[float64](x.Rows, x.Cols)
	reference.Activate(y, x, f)
	return y
}

func (e *exact) Modulate(x matrix64, ms ...engine.Modulation[matrix64]) matrix64 {
	y := reference.Zeros[float64](x.Rows, x.Cols)
	row := 0
	for _, m := range ms {
		if m.Rows > 0 {
			reference.Modulate(cutRows(y, row, m.Rows), cutRows(x, row, m.Rows), m.By.Columns(m.Shift*x.Cols, x.Cols),
				m.By.Columns(m.Scale*x.Cols, x.Cols), m.PerSample)
		}
		row += m.Rows
	}
	return y
}

func (e *exact) GateAdd(s, x matrix64, ms ...engine.Modulation[matrix64]) matrix64 {
	y := reference.Zeros[float64](x.Rows, x.Cols)
	row := 0
	for _, m := range ms {
		if m.Rows > 0 {
			reference.GateAdd(cutRows(y, row, m.Rows), cutRows(s, row, m.Rows), cutRows(x, row, m.Rows), m.By.Columns(m.Gate*x.Cols, x.Cols),
				m.PerSample)
		}
		row += m.Rows
	}
	return y
}

func (e *exact) Add(a, b matrix64) matrix64 {
	y := reference.Zeros[float64](a.Rows, a.Cols)
	reference.Add(y, a, b)
	return y
}

func (e *exact) Stack(top, bottom matrix64) matrix64 {
	y := reference.Zeros[float64](top.Rows+bottom.Rows, top.Cols)
	reference.Copy(cutRows(y, 0, top.Rows), top)
	reference.Copy(cutRows(y, top.Rows, bottom.Rows), bottom)
	return y
}

func (e *exact) Rows(x matrix64, from, n int) matrix64 {
	y := reference.Zeros[float64](n, x.Cols)
	reference.Copy(y, cutRows(x, from, n))
	return y
}
