package flux

import (
	"math"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/reference"
	"github.com/sciflux/sciflux/model/lora"
)

// The oracle is a second implementation of engine.Ops for tests: a float64 tape that records each operation with its way
// back, over the kernels of engine/reference. It shares the forward text with the program and nothing of engine.Fused or
// engine/graph.

type matrix = reference.Matrix[float64]

// number is a matrix on the tape with its gradient.
type number struct{ value, grad matrix }

func newNumber(m matrix) *number { return &number{m, reference.Zeros[float64](m.Rows, m.Cols)} }

// adapter64 is the adapter of one layer in float64 with its gradients.
type adapter64 struct {
	a, b  *number
	scale float64
}

// tape runs operations at once and remembers how to go back.
type tape struct {
	model    *Model
	prefix   string
	cos, sin []float64
	adapters map[string]*adapter64 // by full name
	back     []func()
}

var _ engine.Ops[*number] = (*tape)(nil)

func widen(v []float32) []float64 {
	w := make([]float64, len(v))
	for i, x := range v {
		w[i] = float64(x)
	}
	return w
}

func wide(t *engine.Tensor) *number {
	return newNumber(reference.Dense(widen(t.Floats()), t.Rows(), t.Cols()))
}

func denseWeight(w *engine.Weight) matrix {
	m := reference.Zeros[float64](w.Out, w.In)
	for o := range w.Out {
		copy(m.Row(o), widen(w.F32[o*w.Stride:][:w.In]))
	}
	return m
}

func rowsOf(m matrix, from, n int) matrix {
	if n == 0 {
		return matrix{Cols: m.Cols, Stride: m.Stride}
	}
	return matrix{Data: m.Data[from*m.Stride:], Rows: n, Cols: m.Cols, Stride: m.Stride}
}

// product is the new matrix op(a)·op(b).
func product(a matrix, ta bool, b matrix, tb bool, alpha float64) matrix {
	rows, cols := a.Rows, b.Cols
	if ta {
		rows = a.Cols
	}
	if tb {
		cols = b.Rows
	}
	c := reference.Zeros[float64](rows, cols)
	reference.MatMul(c, a, ta, b, tb, alpha, 0)
	return c
}

func accumulate(dst, src matrix) { reference.Axpy(dst, 1, src) }

func (t *tape) Project(segs []engine.Segment, xs ...*number) *number {
	rows, width := xs[0].value.Rows, 0
	for _, name := range segs[0].Layers {
		width += t.model.layers[t.prefix+name].Weight.Out
	}
	y := newNumber(reference.Zeros[float64](rows, width))
	row := 0
	for _, seg := range segs {
		col := 0
		for _, name := range seg.Layers {
			l := t.model.layers[t.prefix+name]
			t.linear(y, xs, l, t.adapters[t.prefix+name], row, seg.Rows, col)
			col += l.Weight.Out
		}
		row += seg.Rows
	}
	return y
}

// linear is one layer on rows [row, row+n), its outputs from column col on.
func (t *tape) linear(y *number, xs []*number, l engine.Layer, ad *adapter64, row, n, col int) {
	x := reference.Zeros[float64](n, l.Weight.In)
	at := 0
	for _, part := range xs {
		reference.Copy(x.Columns(at, part.value.Cols), rowsOf(part.value, row, n))
		at += part.value.Cols
	}
	w := denseWeight(l.Weight)
	if ad != nil {
		reference.MatMul(w, ad.b.value, false, ad.a.value, false, ad.scale, 1)
	}
	out := rowsOf(y.value, row, n).Columns(col, l.Weight.Out)
	reference.Linear(out, x, w, widen(l.Bias), 0)
	t.back = append(t.back, func() {
		dy := rowsOf(y.grad, row, n).Columns(col, l.Weight.Out)
		dx, at := product(dy, false, w, false, 1), 0
		for _, part := range xs {
			accumulate(rowsOf(part.grad, row, n), dx.Columns(at, part.value.Cols))
			at += part.value.Cols
		}
		if ad != nil { // through the whole gradient of the merged weight
			dw := product(dy, true, x, false, ad.scale)
			accumulate(ad.b.grad, product(dw, false, ad.a.value, true, 1))
			accumulate(ad.a.grad, product(ad.b.value, true, dw, false, 1))
		}
	})
}

func (t *tape) Attend(qkv *number, h engine.Heads) *number {
	c := h.Heads * h.Dim
	o := newNumber(reference.Zeros[float64](qkv.value.Rows, c))
	a := &reference.Attention[float64]{Layout: h.Layout, Heads: h.Heads, Dim: h.Dim, Scale: 1 / math.Sqrt(float64(h.Dim)), Eps: float64(h.Eps), Cos: t.cos, Sin: t.sin}
	for i := range 2 {
		a.NormQ[i], a.NormK[i] = widen(t.model.norms[t.prefix+h.NormQ[i]]), widen(t.model.norms[t.prefix+h.NormK[i]])
	}
	q, k, v := qkv.value.Columns(0, c), qkv.value.Columns(c, c), qkv.value.Columns(2*c, c)
	reference.Attend(o.value, q, k, v, a)
	t.back = append(t.back, func() {
		d := reference.Zeros[float64](qkv.value.Rows, 3*c)
		reference.AttendBack(d.Columns(0, c), d.Columns(c, c), d.Columns(2*c, c), o.grad, o.value, q, k, v, a)
		accumulate(qkv.grad, d)
	})
	return o
}

func (t *tape) Activate(x *number, f engine.Activation) *number {
	y := newNumber(reference.Zeros[float64](x.value.Rows, x.value.Cols))
	reference.Activate(y.value, x.value, f)
	t.back = append(t.back, func() {
		d := reference.Zeros[float64](x.value.Rows, x.value.Cols)
		reference.ActivateBack(d, y.grad, x.value, f)
		accumulate(x.grad, d)
	})
	return y
}

func (t *tape) Modulate(x *number, ms ...engine.Modulation[*number]) *number {
	y := newNumber(reference.Zeros[float64](x.value.Rows, x.value.Cols))
	row, c := 0, x.value.Cols
	for _, m := range ms {
		in, from := rowsOf(x.value, row, m.Rows), row
		scale := m.By.value.Columns(m.Scale*c, c)
		reference.Modulate(rowsOf(y.value, row, m.Rows), in, m.By.value.Columns(m.Shift*c, c), scale, m.PerSample)
		t.back = append(t.back, func() {
			dx := reference.Zeros[float64](m.Rows, c)
			shift, mul := reference.Zeros[float64](m.By.value.Rows, c), reference.Zeros[float64](m.By.value.Rows, c)
			reference.ModulateBack(dx, shift, mul, in, scale, rowsOf(y.grad, from, m.Rows), m.PerSample, 0)
			accumulate(rowsOf(x.grad, from, m.Rows), dx)
			accumulate(m.By.grad.Columns(m.Shift*c, c), shift)
			accumulate(m.By.grad.Columns(m.Scale*c, c), mul)
		})
		row += m.Rows
	}
	return y
}

func (t *tape) GateAdd(s, x *number, ms ...engine.Modulation[*number]) *number {
	y := newNumber(reference.Zeros[float64](x.value.Rows, x.value.Cols))
	row, c := 0, x.value.Cols
	for _, m := range ms {
		in, from, gate := rowsOf(x.value, row, m.Rows), row, m.By.value.Columns(m.Gate*c, c)
		reference.GateAdd(rowsOf(y.value, row, m.Rows), rowsOf(s.value, row, m.Rows), in, gate, m.PerSample)
		t.back = append(t.back, func() {
			dy, dx, dgate := rowsOf(y.grad, from, m.Rows), reference.Zeros[float64](m.Rows, c), reference.Zeros[float64](m.By.value.Rows, c)
			reference.GateBack(dx, dgate, dy, in, gate, m.PerSample)
			accumulate(rowsOf(x.grad, from, m.Rows), dx)
			accumulate(rowsOf(s.grad, from, m.Rows), dy)
			accumulate(m.By.grad.Columns(m.Gate*c, c), dgate)
		})
		row += m.Rows
	}
	return y
}

func (t *tape) Add(a, b *number) *number {
	y := newNumber(reference.Zeros[float64](a.value.Rows, a.value.Cols))
	reference.Add(y.value, a.value, b.value)
	t.back = append(t.back, func() { accumulate(a.grad, y.grad); accumulate(b.grad, y.grad) })
	return y
}

func (t *tape) Stack(top, bottom *number) *number {
	n, k := top.value.Rows, bottom.value.Rows
	y := newNumber(reference.Zeros[float64](n+k, top.value.Cols))
	reference.Copy(rowsOf(y.value, 0, n), top.value)
	reference.Copy(rowsOf(y.value, n, k), bottom.value)
	t.back = append(t.back, func() { accumulate(top.grad, rowsOf(y.grad, 0, n)); accumulate(bottom.grad, rowsOf(y.grad, n, k)) })
	return y
}

func (t *tape) Rows(x *number, from, n int) *number {
	y := newNumber(reference.Zeros[float64](n, x.value.Cols))
	reference.Copy(y.value, rowsOf(x.value, from, n))
	t.back = append(t.back, func() { accumulate(rowsOf(x.grad, from, n), y.grad) })
	return y
}

// oracle is one forward and backward pass in float64.
type oracle struct {
	tape     *tape
	in       *Input
	shape    shape
	latents  *number
	velocity *number
}

// newOracle widens model, input and adapter; times and tables keep the values that the program gives its kernels.
func newOracle(m *Model, in *Input, ad *lora.Adapter) *oracle {
	s, err := m.shape(in)
	if err != nil {
		panic(err)
	}
	o := &oracle{tape: &tape{model: m, adapters: map[string]*adapter64{}}, in: in, shape: s, latents: wide(in.Latents)}
	if ad != nil {
		for _, mod := range ad.Modules {
			o.tape.adapters[mod.Name] = &adapter64{
				a: newNumber(reference.Dense(widen(ad.A(mod)), mod.Rank, mod.In)), b: newNumber(reference.Dense(widen(ad.B(mod)), mod.Out, mod.Rank)), scale: float64(mod.Scale()),
			}
		}
	}
	return o
}

// run computes the velocity from the current numbers.
func (o *oracle) run() matrix {
	t, m, b := o.tape, o.tape.model, testBackend()
	c, err := m.NewBatch(b, o.in)
	if err != nil {
		panic(err)
	}
	defer c.Free()
	t.back, t.prefix = nil, ""
	t.cos, t.sin = widen(c.cos.Floats()), widen(c.sin.Floats())
	var guidance, text *number
	if m.GuidanceEmbed {
		guidance = wide(c.guidance)
	}
	if o.shape.T > 0 {
		text = wide(o.in.Text)
	}
	cond := condition(t, o.shape, wide(c.times), guidance, wide(o.in.Pooled))
	x := stem(t, o.shape, text, o.latents)
	for i := range m.DoubleBlocks {
		t.at(doubleName(i))
		x = doubleBlock(t, o.shape, x, cond)
	}
	for i := range m.SingleBlocks {
		t.at(singleName(i))
		x = singleBlock(t, o.shape, x, cond, i == m.SingleBlocks-1)
	}
	t.at("")
	o.velocity = head(t, o.shape, x, cond)
	return o.velocity.value
}

// at changes the block; the way back has to know it, too.
func (t *tape) at(prefix string) { t.prefix = prefix }

// backward fills all gradients for the gradient dv of the velocity.
func (o *oracle) backward(dv []float32) {
	o.latents.clear()
	for _, a := range o.tape.adapters {
		a.a.clear()
		a.b.clear()
	}
	copy(o.velocity.grad.Data, widen(dv))
	for i := len(o.tape.back) - 1; i >= 0; i-- {
		o.tape.back[i]()
	}
}

func (n *number) clear() { clear(n.grad.Data) }
