package graph

import (
	"fmt"
	"hash"
	"hash/fnv"

	"github.com/chewxy/hm"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/sciflux/sciflux/engine"
)

// matrix is the type of every node: a matrix of float32.
var matrix = gorgonia.TensorType{Dims: 2, Of: tensor.Float32}

// kernels compute the value of an operation from those of its inputs.
type kernels func(f engine.Fused, in []*engine.Tensor, out *engine.Tensor)

// op is one fused operation of a graph. Each op belongs to one node.
type op struct {
	name       string
	serial     int // within the graph, so that no two ops have one hash and none are merged
	arity      int
	rows, cols int
	cheap      bool // computed again rather than kept under Selective
	id         int  // of its node, set when the graph is complete

	run kernels
	// wrt tells which inputs get a gradient, diff builds their nodes, nil for the others.
	wrt  []bool
	diff func(out, grad *gorgonia.Node) gorgonia.Nodes
}

var _ gorgonia.SDOp = (*op)(nil)

// Interface of gorgonia.Op.

func (o *op) Arity() int           { return o.arity }
func (o *op) ReturnsPtr() bool     { return true }
func (o *op) CallsExtern() bool    { return false } // true would make the machine allocate outputs of its own
func (o *op) OverwritesInput() int { return -1 }
func (o *op) String() string       { return o.name }
func (o *op) WriteHash(h hash.Hash) {
	fmt.Fprintf(h, "%d %s %d %d×%d", o.serial, o.name, o.arity, o.rows, o.cols)
}

func (o *op) Hashcode() uint32 {
	h := fnv.New32a()
	o.WriteHash(h)
	return h.Sum32()
}

func (o *op) Type() hm.Type {
	types := make([]hm.Type, o.arity+1)
	for i := range types {
		types[i] = matrix
	}
	return hm.NewFnType(types...)
}

func (o *op) InferShape(...gorgonia.DimSizer) (tensor.Shape, error) {
	return tensor.Shape{o.rows, o.cols}, nil
}

// DiffWRT implements gorgonia.SDOp.
func (o *op) DiffWRT(int) []bool { return o.wrt }

// SymDiff implements gorgonia.SDOp.
func (o *op) SymDiff(_ gorgonia.Nodes, out, grad *gorgonia.Node) (grads gorgonia.Nodes, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("gradient of %s: %v", o.name, p)
		}
	}()
	return o.diff(out, grad), nil
}

// Do implements gorgonia.Op: it runs on the tensors behind the tokens.
func (o *op) Do(in ...gorgonia.Value) (v gorgonia.Value, err error) {
	d, ok := in[0].(*tensor.Dense).Engine().(*device)
	if !ok {
		return nil, fmt.Errorf("%s: input of a foreign engine", o.name)
	}
	defer d.guard(o.name, &err)
	ids := make([]int, len(in))
	for i, t := range in {
		ids[i] = tokenID(t.(*tensor.Dense))
	}
	d.program.order = append(d.program.order, o.id)
	d.step(o.id, ids, o.on(d))
	return d.nodes[o.id].token, nil
}

// on is the operation on the backend and weights that d runs with.
func (o *op) on(d *device) func(in []*engine.Tensor, out *engine.Tensor) {
	return func(in []*engine.Tensor, out *engine.Tensor) { o.run(d.fused, in, out) }
}
