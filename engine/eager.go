package engine

import "math"

func inverseRoot(d int) float32 { return float32(1 / math.Sqrt(float64(d))) }

// Eager runs Ops at once. Results live until Release; one Eager serves one goroutine.
type Eager struct {
	fused Fused
	scope []*Tensor
}

var _ Ops[*Tensor] = (*Eager)(nil)

// NewEager makes an Eager over a backend; Bind must be called before layers or norms are used.
func NewEager(b Backend) *Eager { return &Eager{fused: Fused{Backend: b, Binding: &Binding{}}} }

// Bind changes what the names of layers and norms mean.
func (e *Eager) Bind(b *Binding) { e.fused.Binding = b }

// Release frees every result but keep, which the caller owns from then on.
func (e *Eager) Release(keep ...*Tensor) {
	for _, t := range e.scope {
		held := false
		for _, k := range keep {
			held = held || t == k
		}
		if !held {
			e.fused.Backend.Free(t)
		}
	}
	e.scope = e.scope[:0]
}

// Free gives back a result that Release kept.
func (e *Eager) Free(t *Tensor) { e.fused.Backend.Free(t) }

func (e *Eager) alloc(rows, cols int) *Tensor {
	t := e.fused.Backend.Alloc(rows, cols)
	e.scope = append(e.scope, t)
	return t
}

// Project implements Ops.
func (e *Eager) Project(segs []Segment, xs ...*Tensor) *Tensor {
	y := e.alloc(xs[0].Rows(), e.fused.Width(segs))
	scope := NewScope(e.fused.Backend)
	defer scope.Close()
	ts, bs := make([]*Tensor, len(segs)), make([]*Tensor, len(segs))
	for s, seg := range segs {
		if low := e.fused.Adapter(seg); low != nil {
			ts[s], bs[s] = scope.Alloc(seg.Rows, low.Rank()), low.B
			e.fused.Down(ts[s], segs, s, low.A, xs)
		}
	}
	e.fused.Project(y, segs, xs, ts, bs)
	return y
}

// Attend implements Ops.
func (e *Eager) Attend(qkv *Tensor, h Heads) *Tensor {
	o := e.alloc(qkv.Rows(), h.Heads*h.Dim)
	e.fused.Attend(o, qkv, h)
	return o
}

// Activate implements Ops.
func (e *Eager) Activate(x *Tensor, f Activation) *Tensor {
	y := e.alloc(x.Rows(), x.Cols())
	e.fused.Backend.Activate(All(y), All(x), f)
	return y
}

// Modulate implements Ops.
func (e *Eager) Modulate(x *Tensor, ms ...Modulation[*Tensor]) *Tensor {
	y := e.alloc(x.Rows(), x.Cols())
	e.fused.Modulate(y, x, ms)
	return y
}

// GateAdd implements Ops.
func (e *Eager) GateAdd(s, x *Tensor, ms ...Modulation[*Tensor]) *Tensor {
	y := e.alloc(x.Rows(), x.Cols())
	e.fused.GateAdd(y, s, x, ms)
	return y
}

// Add implements Ops.
func (e *Eager) Add(a, b *Tensor) *Tensor {
	y := e.alloc(a.Rows(), a.Cols())
	e.fused.Backend.Add(All(y), All(a), All(b))
	return y
}

// Stack implements Ops.
func (e *Eager) Stack(top, bottom *Tensor) *Tensor {
	y := e.alloc(top.Rows()+bottom.Rows(), top.Cols())
	e.fused.Stack(y, top, bottom)
	return y
}

// Rows implements Ops.
func (e *Eager) Rows(x *Tensor, from, n int) *Tensor {
	y := e.alloc(n, x.Cols())
	e.fused.Rows(y, x, from)
	return y
}
