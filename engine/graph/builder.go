package graph

import (
	"fmt"
	"slices"

	"gorgonia.org/gorgonia"

	"github.com/sciflux/sciflux/engine"
)

// Value is a matrix of a graph that is being built.
type Value struct {
	node *gorgonia.Node
	grad bool // a gradient flows back through it
}

func (v Value) rows() int { return v.node.Shape()[0] }
func (v Value) cols() int { return v.node.Shape()[1] }

// builder writes a function over engine.Ops into a graph.
type builder struct {
	graph   *gorgonia.ExprGraph
	weights *engine.Binding // of one block of the kind, for shapes
	serial  int
	inputs  []input
}

// input is a leaf of the graph.
type input struct {
	name string
	Value
}

var _ engine.Ops[Value] = (*builder)(nil)

// leaf makes an input; names must be unique, or Gorgonia would take two inputs of one shape for the same.
func (b *builder) leaf(name string, rows, cols int, grad bool) Value {
	for _, i := range b.inputs {
		if i.name == name {
			panic("graph: two inputs named " + name)
		}
	}
	n := gorgonia.NewMatrix(b.graph, gorgonia.Float32, gorgonia.WithShape(rows, cols), gorgonia.WithName(name))
	b.inputs = append(b.inputs, input{name, Value{n, grad}})
	return Value{n, grad}
}

// operation is what apply needs beside the inputs.
type operation struct {
	name       string
	rows, cols int
	cheap      bool
	run        kernels
	diff       func(out, grad *gorgonia.Node) gorgonia.Nodes
	noGradient int // so many first inputs get no gradient from this operation, though one flows back through them
}

func (b *builder) apply(o operation, in ...Value) Value {
	nodes, wrt, any := make(gorgonia.Nodes, len(in)), make([]bool, len(in)), false
	for i, v := range in {
		nodes[i], wrt[i] = v.node, v.grad && i >= o.noGradient
		any = any || wrt[i]
	}
	b.serial++
	n, err := gorgonia.ApplyOp(&op{
		name: o.name, serial: b.serial, arity: len(in), rows: o.rows, cols: o.cols, cheap: o.cheap, run: o.run, wrt: wrt, diff: o.diff,
	}, nodes...)
	if err != nil {
		panic(fmt.Errorf("graph: %s: %w", o.name, err))
	}
	return Value{n, any}
}

// back applies an operation of the backward pass; nothing is differentiated twice.
func (b *builder) back(name string, rows, cols int, run kernels, in ...*gorgonia.Node) *gorgonia.Node {
	values := make([]Value, len(in))
	for i, n := range in {
		values[i] = Value{node: n}
	}
	return b.apply(operation{name: name, rows: rows, cols: cols, run: run}, values...).node
}

// pair is the adapter of one segment in the graph.
type pair struct {
	segment int
	name    string
	a, b, t Value // A, B, and x·Aᵀ
}

// AdapterInputs are the names of a segment's adapter as inputs of the graph.
func adapterInputs(key string) (a, b string) { return "A " + key, "B " + key }

// Project implements engine.Ops. The product x·Aᵀ is a node of its own, so that its gradient u = dy·B is shared by dx and
// dA; dx is one operation that sums over all layers and adapters, so the way from x through x·Aᵀ is hidden from Gorgonia.
func (b *builder) Project(segs []engine.Segment, xs ...Value) Value {
	b.fitProject(segs, xs)
	segs = slices.Clone(segs)
	pairs := b.pairs(segs, xs)
	in := slices.Clone(xs)
	for _, p := range pairs {
		in = append(in, p.t, p.b)
	}
	nx := len(xs)
	name := "project " + segs[0].Layers[0]
	return b.apply(operation{
		name: name, rows: xs[0].rows(), cols: b.weights.Width(segs),
		run: func(f engine.Fused, in []*engine.Tensor, out *engine.Tensor) {
			f.Project(out, segs, in[:nx], place(len(segs), pairs, in[nx:], 2, 0), place(len(segs), pairs, in[nx:], 2, 1))
		},
		diff: func(_, dy *gorgonia.Node) gorgonia.Nodes { return b.projectBack(name, segs, xs, pairs, dy) },
	}, in...)
}

// place puts each pair's tensor, the which-th of its stride ones in list, at its segment's index.
func place(n int, pairs []pair, list []*engine.Tensor, stride, which int) []*engine.Tensor {
	out := make([]*engine.Tensor, n)
	for i, p := range pairs {
		out[p.segment] = list[i*stride+which]
	}
	return out
}

func (b *builder) pairs(segs []engine.Segment, xs []Value) []pair {
	width := 0
	for _, x := range xs {
		width += x.cols()
	}
	var pairs []pair
	for s, seg := range segs {
		low := b.weights.Adapter(seg)
		if low == nil {
			continue
		}
		p := pair{segment: s, name: seg.Layers[0]}
		nameA, nameB := adapterInputs(p.name)
		p.a = b.leaf(nameA, low.Rank(), width, true)
		p.b = b.leaf(nameB, low.B.Len(), 1, true)
		nx := len(xs)
		p.t = b.apply(operation{
			name: "down " + p.name, rows: seg.Rows, cols: low.Rank(), noGradient: nx,
			run: func(f engine.Fused, in []*engine.Tensor, out *engine.Tensor) { f.Down(out, segs, s, in[nx], in[:nx]) },
			diff: func(_, u *gorgonia.Node) gorgonia.Nodes {
				grads := make(gorgonia.Nodes, nx+1)
				grads[nx] = b.back("gradient of A "+p.name, low.Rank(), width, func(f engine.Fused, in []*engine.Tensor, out *engine.Tensor) {
					f.BackA(out, segs, s, in[0], in[1:])
				}, append(gorgonia.Nodes{u}, nodesOf(xs)...)...)
				return grads
			},
		}, append(slices.Clone(xs), p.a)...)
		pairs = append(pairs, p)
	}
	return pairs
}

func nodesOf(values []Value) gorgonia.Nodes {
	nodes := make(gorgonia.Nodes, len(values))
	for i, v := range values {
		nodes[i] = v.node
	}
	return nodes
}

// projectBack is the gradients of Project's inputs: xs, then t and B of every pair.
func (b *builder) projectBack(name string, segs []engine.Segment, xs []Value, pairs []pair, dy *gorgonia.Node) gorgonia.Nodes {
	grads := make(gorgonia.Nodes, 0, len(xs)+2*len(pairs))
	var us, as gorgonia.Nodes
	for _, p := range pairs {
		down := func(f engine.Fused, in []*engine.Tensor, out *engine.Tensor) {
			f.BackDown(out, segs, p.segment, in[0], in[1])
		}
		us = append(us, b.back("gradient of x·Aᵀ "+p.name, p.t.rows(), p.t.cols(), down, dy, p.b.node))
		as = append(as, p.a.node)
	}
	first := 0
	for _, x := range xs {
		from := first
		first += x.cols()
		if !x.grad {
			grads = append(grads, nil)
			continue
		}
		grads = append(grads, b.back("gradient of x of "+name, x.rows(), x.cols(), func(f engine.Fused, in []*engine.Tensor, out *engine.Tensor) {
			f.BackInput(out, segs, from, in[0], place(len(segs), pairs, in[1:], 1, 0), place(len(segs), pairs, in[1+len(pairs):], 1, 0))
		}, append(append(gorgonia.Nodes{dy}, us...), as...)...))
	}
	for i, p := range pairs {
		up := func(f engine.Fused, in []*engine.Tensor, out *engine.Tensor) {
			f.BackB(out, segs, p.segment, in[0], in[1])
		}
		grads = append(grads, us[i], b.back("gradient of B "+p.name, p.b.rows(), 1, up, dy, p.t.node))
	}
	return grads
}

// Attend implements engine.Ops.
func (b *builder) Attend(qkv Value, h engine.Heads) Value {
	b.fitAttend(qkv, h)
	rows, cols := qkv.rows(), qkv.cols()
	return b.apply(operation{
		name: "attend", rows: rows, cols: h.Heads * h.Dim,
		run: func(f engine.Fused, in []*engine.Tensor, out *engine.Tensor) { f.Attend(out, in[0], h) },
		diff: func(out, grad *gorgonia.Node) gorgonia.Nodes {
			return gorgonia.Nodes{b.back("gradient of attend", rows, cols, func(f engine.Fused, in []*engine.Tensor, out *engine.Tensor) {
				f.BackAttend(out, in[0], in[1], in[2], h)
			}, grad, out, qkv.node)}
		},
	}, qkv)
}

// Activate implements engine.Ops.
func (b *builder) Activate(x Value, a engine.Activation) Value {
	return b.apply(operation{
		name: "activate", rows: x.rows(), cols: x.cols(), cheap: true,
		run: func(f engine.Fused, in []*engine.Tensor, out *engine.Tensor) {
			f.Backend.Activate(engine.All(out), engine.All(in[0]), a)
		},
		diff: func(_, grad *gorgonia.Node) gorgonia.Nodes {
			return gorgonia.Nodes{b.back("gradient of activate", x.rows(), x.cols(), func(f engine.Fused, in []*engine.Tensor, out *engine.Tensor) {
				f.Backend.ActivateBack(engine.All(out), engine.All(in[0]), engine.All(in[1]), a)
			}, grad, x.node)}
		},
	}, x)
}

// Add implements engine.Ops.
func (b *builder) Add(x, y Value) Value {
	alike("add", x, y)
	return b.apply(operation{
		name: "add", rows: x.rows(), cols: x.cols(), cheap: true,
		run: func(f engine.Fused, in []*engine.Tensor, out *engine.Tensor) {
			f.Backend.Add(engine.All(out), engine.All(in[0]), engine.All(in[1]))
		},
		diff: func(_, grad *gorgonia.Node) gorgonia.Nodes {
			return gorgonia.Nodes{given(x, grad), given(y, grad)}
		},
	}, x, y)
}

// given is grad where v gets a gradient, else nil.
func given(v Value, grad *gorgonia.Node) *gorgonia.Node {
	if v.grad {
		return grad
	}
	return nil
}

// Stack implements engine.Ops.
func (b *builder) Stack(top, bottom Value) Value {
	assert(top.cols() == bottom.cols(), "stack: %d columns above %d", top.cols(), bottom.cols())
	return b.apply(operation{
		name: "stack", rows: top.rows() + bottom.rows(), cols: top.cols(), cheap: true,
		run: func(f engine.Fused, in []*engine.Tensor, out *engine.Tensor) { f.Stack(out, in[0], in[1]) },
		diff: func(_, grad *gorgonia.Node) gorgonia.Nodes {
			return gorgonia.Nodes{b.cut(top, grad, 0), b.cut(bottom, grad, top.rows())}
		},
	}, top, bottom)
}

// cut is the gradient of v, which is rows of a stack, where v gets one.
func (b *builder) cut(v Value, grad *gorgonia.Node, from int) *gorgonia.Node {
	if !v.grad {
		return nil
	}
	return b.back("gradient of stack", v.rows(), v.cols(), func(f engine.Fused, in []*engine.Tensor, out *engine.Tensor) {
		f.Rows(out, in[0], from)
	}, grad)
}

// Rows implements engine.Ops.
func (b *builder) Rows(x Value, from, n int) Value {
	assert(from >= 0 && n >= 0 && from+n <= x.rows(), "rows: %d from %d of %d", n, from, x.rows())
	return b.apply(operation{
		name: "rows", rows: n, cols: x.cols(), cheap: true,
		run: func(f engine.Fused, in []*engine.Tensor, out *engine.Tensor) { f.Rows(out, in[0], from) },
		diff: func(_, grad *gorgonia.Node) gorgonia.Nodes {
			return gorgonia.Nodes{b.back("gradient of rows", x.rows(), x.cols(), func(f engine.Fused, in []*engine.Tensor, out *engine.Tensor) {
				f.BackRows(out, in[0], from)
			}, grad)}
		},
	}, x)
}
