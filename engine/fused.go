package engine

import "unsafe"

// Fused runs the operations of Ops, and their gradients, as sequences of kernels with the weights of one block. It
// allocates only scratch memory; results go to matrices of the caller. Eager and engine/graph differ in when they call
// it, not in what it does. Shapes: R rows of a matrix, r the sum of the ranks of a segment's adapters.
type Fused struct {
	Backend Backend
	*Binding
}

// Slice is the elements of t from offset on as a tensor of its own, in the same memory.
func Slice(t *Tensor, offset int, shape ...int) *Tensor {
	s := &Tensor{Shape: shape, Host: t.Host}
	n := s.Len()
	if offset < 0 || offset+n > t.Len() {
		panic("engine: slice outside its tensor")
	}
	if n > 0 {
		s.Addr = unsafe.Add(t.Addr, offset*4)
	}
	return s
}

// Layer is the layer of that name; it panics when the block has none.
func (b *Binding) Layer(name string) Layer {
	l, ok := b.Layers[name]
	if !ok {
		panic("engine: no layer " + name + " in this block")
	}
	return l
}

// Width is the number of columns of the segments' output.
func (b *Binding) Width(segs []Segment) int {
	n := 0
	for _, name := range segs[0].Layers {
		n += b.Layer(name).Weight.Out
	}
	return n
}

// Adapter is the low-rank pair of a segment, nil when it has none.
func (b *Binding) Adapter(s Segment) *LowRank {
	if s.Rows == 0 {
		return nil
	}
	return b.Adapters[s.Layers[0]]
}

// part is one layer of one segment: its rows, its output columns and its place in the segment's adapter.
type part struct {
	layer    Layer
	row, n   int
	col      int
	rank, lo int // rank and first column in t and u
	b        int // first element in the flat B
	scale    float32
}

// parts calls do for every layer of segment s that has rows.
func (f Fused) parts(segs []Segment, s int, do func(p part)) {
	p := part{n: segs[s].Rows}
	for _, before := range segs[:s] {
		p.row += before.Rows
	}
	low := f.Adapter(segs[s])
	for i, name := range segs[s].Layers {
		if p.n == 0 {
			return
		}
		p.layer = f.Layer(name)
		if low != nil {
			p.rank, p.scale = low.Ranks[i], low.Scales[i]
		}
		do(p)
		p.col += p.layer.Weight.Out
		p.lo += p.rank
		p.b += p.rank * p.layer.Weight.Out
	}
}

func (p part) rows(t *Tensor) View    { return All(t).RowRange(p.row, p.n) }
func (p part) outputs(t *Tensor) View { return p.rows(t).ColRange(p.col, p.layer.Weight.Out) }
func (p part) low(t *Tensor) View     { return All(t).ColRange(p.lo, p.rank) }
func (p part) up(b *Tensor) View {
	return View{T: b, Offset: p.b, Rows: p.layer.Weight.Out, Cols: p.rank, Stride: p.rank}
}

func columns(w *Weight, from, n int) *Weight {
	if from == 0 && n == w.In {
		return w
	}
	return w.ColRange(from, n)
}

// Down computes t [rows of segment s, r] = x·Aᵀ.
func (f Fused) Down(t *Tensor, segs []Segment, s int, a *Tensor, xs []*Tensor) {
	p, in := f.span(segs, s), 0
	for j, x := range xs {
		f.Backend.MatMul(All(t), p.rows(x), false, All(a).ColRange(in, x.Cols()), true, 1, accumulate(j))
		in += x.Cols()
	}
}

// span is the rows of segment s.
func (f Fused) span(segs []Segment, s int) part {
	p := part{n: segs[s].Rows}
	for _, before := range segs[:s] {
		p.row += before.Rows
	}
	return p
}

// accumulate is the beta of the j-th term of a sum: the first overwrites, the others add.
func accumulate(j int) float32 {
	if j > 0 {
		return 1
	}
	return 0
}

// frozen calls do for the frozen layers of segment s: for each, or once for all where they are stacked.
func (f Fused) frozen(segs []Segment, s int, do func(p part)) {
	stacked, ok := f.Stacked[segs[s].Layers[0]]
	if !ok {
		f.parts(segs, s, do)
	} else if p := f.span(segs, s); p.n > 0 {
		p.layer = stacked
		do(p)
	}
}

// Project computes y [R, width]. ts[s], the result of Down, and bs[s], the segment's B, are nil where the segment has no
// adapter.
func (f Fused) Project(y *Tensor, segs []Segment, xs, ts, bs []*Tensor) {
	for s := range segs {
		f.frozen(segs, s, func(p part) {
			in, bias := 0, p.layer.Bias
			for j, x := range xs {
				f.Backend.Linear(p.outputs(y), p.rows(x), columns(p.layer.Weight, in, x.Cols()), bias, accumulate(j))
				in, bias = in+x.Cols(), nil
			}
		})
		f.parts(segs, s, func(p part) {
			if p.rank > 0 {
				f.Backend.MatMul(p.outputs(y), p.low(ts[s]), false, p.up(bs[s]), true, p.scale, 1)
			}
		})
	}
}

// BackDown computes u [rows of segment s, r] = scale·dy·B, the gradient of Down's t.
func (f Fused) BackDown(u *Tensor, segs []Segment, s int, dy, b *Tensor) {
	f.parts(segs, s, func(p part) {
		if p.rank > 0 {
			f.Backend.MatMul(p.low(u), p.outputs(dy), false, p.up(b), false, p.scale, 0)
		}
	})
}

// BackInput computes dx [R, columns of x], the gradient of the j-th x that starts at input column in: the sum over layers
// of dy·W, and u·A of the adapters.
func (f Fused) BackInput(dx *Tensor, segs []Segment, in int, dy *Tensor, us, as []*Tensor) {
	for s := range segs {
		first := 0
		f.frozen(segs, s, func(p part) {
			f.Backend.LinearBack(p.rows(dx), p.outputs(dy), columns(p.layer.Weight, in, dx.Cols()), accumulate(first))
			first++
		})
		if us[s] != nil {
			p := f.span(segs, s)
			f.Backend.MatMul(p.rows(dx), All(us[s]), false, All(as[s]).ColRange(in, dx.Cols()), false, 1, 1)
		}
	}
}

// BackA computes da [r, In] = uᵀ·x.
func (f Fused) BackA(da *Tensor, segs []Segment, s int, u *Tensor, xs []*Tensor) {
	p, in := f.span(segs, s), 0
	for _, x := range xs {
		f.Backend.MatMul(All(da).ColRange(in, x.Cols()), All(u), true, p.rows(x), false, 1, 0)
		in += x.Cols()
	}
}

// BackB computes db, flat as B: scale·dyᵀ·t of each layer.
func (f Fused) BackB(db *Tensor, segs []Segment, s int, dy, t *Tensor) {
	f.parts(segs, s, func(p part) {
		if p.rank > 0 {
			f.Backend.MatMul(p.up(db), p.outputs(dy), true, p.low(t), false, p.scale, 0)
		}
	})
}

// attention is the kernel's description of h, and q, k, v as columns of qkv.
func (f Fused) attention(h Heads) *Attention {
	a := &Attention{Layout: h.Layout, Heads: h.Heads, Dim: h.Dim, Eps: h.Eps, Cos: f.Cos, Sin: f.Sin, Scale: inverseRoot(h.Dim)}
	for i := range 2 {
		a.NormQ[i], a.NormK[i] = f.norm(h.NormQ[i]), f.norm(h.NormK[i])
	}
	return a
}

func (b *Binding) norm(name string) []float32 {
	if name == "" {
		return nil
	}
	w, ok := b.Norms[name]
	if !ok {
		panic("engine: no norm " + name + " in this block")
	}
	return w
}

// splitQKV is q, k and v of a matrix that holds them side by side.
func splitQKV(qkv *Tensor) (q, k, v View) {
	c := qkv.Cols() / 3
	all := All(qkv)
	return all.ColRange(0, c), all.ColRange(c, c), all.ColRange(2*c, c)
}

// Attend computes o [R, H·D] of qkv [R, 3·H·D].
func (f Fused) Attend(o, qkv *Tensor, h Heads) {
	q, k, v := splitQKV(qkv)
	f.Backend.Attend(All(o), q, k, v, f.attention(h))
}

// BackAttend computes dqkv [R, 3·H·D] from the gradient do of the output o.
func (f Fused) BackAttend(dqkv, do, o, qkv *Tensor, h Heads) {
	q, k, v := splitQKV(qkv)
	dq, dk, dv := splitQKV(dqkv)
	f.Backend.AttendBack(dq, dk, dv, All(do), All(o), q, k, v, f.attention(h))
}

// chunk is columns [i·width, (i+1)·width) of m.
func chunk(m *Tensor, i, width int) View { return All(m).ColRange(i*width, width) }

// Modulate computes y [R, C] of x.
func (f Fused) Modulate(y, x *Tensor, ms []Modulation[*Tensor]) {
	row, c := 0, x.Cols()
	for _, m := range ms {
		shift, scale := chunk(m.By, m.Shift, c), chunk(m.By, m.Scale, c)
		f.Backend.Modulate(All(y).RowRange(row, m.Rows), All(x).RowRange(row, m.Rows), shift, scale, m.PerSample)
		row += m.Rows
	}
}

// BackModulate computes dx [R, C], the gradient of Modulate's x.
func (f Fused) BackModulate(dx, x, dy *Tensor, ms []Modulation[*Tensor]) {
	row, c := 0, x.Cols()
	for _, m := range ms {
		f.Backend.ModulateBack(All(dx).RowRange(row, m.Rows), View{}, View{}, All(x).RowRange(row, m.Rows), chunk(m.By, m.Scale, c),
			All(dy).RowRange(row, m.Rows), m.PerSample, 0)
		row += m.Rows
	}
}

// BackModulation computes dby [B, k·C], the gradient of Modulate's By: zero but for the chunks of shift and scale, which
// sum over the runs of rows that share it. Only runs where uses is true count.
func (f Fused) BackModulation(dby, x, dy *Tensor, ms []Modulation[*Tensor], uses []bool) {
	f.eachUse(dby, x, dy, ms, uses, func(be Backend, m Modulation[*Tensor], x, dy View) {
		b, c := dby.Rows(), x.Cols
		dx, sums := be.Alloc(m.Rows, c), be.Alloc(2*b, c)
		shift, scale := All(sums).RowRange(0, b), All(sums).RowRange(b, b)
		be.ModulateBack(All(dx), shift, scale, x, chunk(m.By, m.Scale, c), dy, m.PerSample, 0)
		be.Axpy(chunk(dby, m.Shift, c), 1, shift)
		be.Axpy(chunk(dby, m.Scale, c), 1, scale)
	})
}

// eachUse zeroes dby and calls add for the runs that count, with their rows of x and dy. What add allocates on its backend
// is freed.
func (f Fused) eachUse(dby, x, dy *Tensor, ms []Modulation[*Tensor], uses []bool, add func(be Backend, m Modulation[*Tensor], x, dy View)) {
	f.Backend.Zero(All(dby))
	row := 0
	for i, m := range ms {
		if uses[i] {
			scope := NewScope(f.Backend)
			func() {
				defer scope.Close()
				add(scope, m, All(x).RowRange(row, m.Rows), All(dy).RowRange(row, m.Rows))
			}()
		}
		row += m.Rows
	}
}

// GateAdd computes y [R, C] = s + gate·x.
func (f Fused) GateAdd(y, s, x *Tensor, ms []Modulation[*Tensor]) {
	row, c := 0, x.Cols()
	for _, m := range ms {
		part := func(t *Tensor) View { return All(t).RowRange(row, m.Rows) }
		f.Backend.GateAdd(part(y), part(s), part(x), chunk(m.By, m.Gate, c), m.PerSample)
		row += m.Rows
	}
}

// BackGate computes dx [R, C] = gate·dy. x is not read.
func (f Fused) BackGate(dx, dy *Tensor, ms []Modulation[*Tensor]) {
	row, c := 0, dx.Cols()
	for _, m := range ms {
		g := All(dy).RowRange(row, m.Rows)
		f.Backend.GateBack(All(dx).RowRange(row, m.Rows), View{}, g, g, chunk(m.By, m.Gate, c), m.PerSample)
		row += m.Rows
	}
}

// BackGates computes dby [B, k·C], the gradient of GateAdd's By; see BackModulation.
func (f Fused) BackGates(dby, x, dy *Tensor, ms []Modulation[*Tensor], uses []bool) {
	f.eachUse(dby, x, dy, ms, uses, func(be Backend, m Modulation[*Tensor], x, dy View) {
		c := x.Cols
		dx, sum := be.Alloc(m.Rows, c), be.Alloc(dby.Rows(), c)
		be.GateBack(All(dx), All(sum), dy, x, chunk(m.By, m.Gate, c), m.PerSample)
		be.Axpy(chunk(dby, m.Gate, c), 1, All(sum))
	})
}

// Stack copies top and bottom into y, one below the other.
func (f Fused) Stack(y, top, bottom *Tensor) {
	f.Backend.Copy(All(y).RowRange(0, top.Rows()), All(top))
	f.Backend.Copy(All(y).RowRange(top.Rows(), bottom.Rows()), All(bottom))
}

// Rows copies the y.Rows() rows of x from row from on.
func (f Fused) Rows(y, x *Tensor, from int) { f.Backend.Copy(All(y), All(x).RowRange(from, y.Rows())) }

// BackRows computes dx: dy in its rows, 0 in the others.
func (f Fused) BackRows(dx, dy *Tensor, from int) {
	f.Backend.Zero(All(dx))
	f.Backend.Copy(All(dx).RowRange(from, dy.Rows()), All(dy))
}
