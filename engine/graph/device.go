package graph

import (
	"errors"
	"fmt"

	"gorgonia.org/tensor"

	"github.com/sciflux/sciflux/engine"
)

// device is the tensor.Engine of one graph. It knows the tensor behind every token while a program runs.
type device struct {
	fused   engine.Fused
	nodes   []*node
	sums    map[[2]int]int // the node of Gorgonia's addition of two nodes, in their order: a + b and b + a may both be there
	program *program

	values []*engine.Tensor // by node, while a program runs
	owned  []bool           // the value is the program's to free
	uses   []int            // reads of the value that are still to come
	kept   *Kept            // values kept from the forward pass, nil in a pass without gradient
	err    error            // the first failure inside an operation
}

var errToken = errors.New("graph: an operation on the memory of a token")

// Interface of tensor.Engine. Tokens have no memory of their own, so everything that would make or move memory fails.

func (*device) AllocAccessible() bool                           { return false }
func (*device) NonStdAlloc()                                    {}
func (*device) Alloc(int64) (tensor.Memory, error)              { return nil, errToken }
func (*device) Free(tensor.Memory, int64) error                 { return nil }
func (*device) Memset(tensor.Memory, interface{}) error         { return errToken }
func (*device) Memclr(tensor.Memory)                            { panic(errToken) }
func (*device) Memcpy(tensor.Memory, tensor.Memory) error       { return errToken }
func (*device) Accessible(tensor.Memory) (tensor.Memory, error) { return nil, errToken }
func (*device) WorksWith(tensor.DataOrder) bool                 { return true }
func (d *device) AddScalar(tensor.Tensor, interface{}, bool, ...tensor.FuncOpt) (tensor.Tensor, error) {
	return nil, errToken
}

// Add is Gorgonia's sum of two gradients. It never works in place, whatever the options ask for: an operand may be the
// gradient of another node as well.
func (d *device) Add(a, b tensor.Tensor, _ ...tensor.FuncOpt) (t tensor.Tensor, err error) {
	defer d.guard("sum of gradients", &err)
	in := []int{tokenID(a), tokenID(b)}
	id, ok := d.sums[[2]int{in[0], in[1]}]
	if !ok {
		return nil, fmt.Errorf("graph: sum of nodes %d and %d is not in the graph", in[0], in[1])
	}
	d.program.order = append(d.program.order, id)
	d.compute(id, in, d.sum)
	return d.nodes[id].token, nil
}

func (d *device) sum(in []*engine.Tensor, out *engine.Tensor) {
	d.fused.Backend.Add(engine.All(out), engine.All(in[0]), engine.All(in[1]))
}

// direct runs node id without Gorgonia.
func (d *device) direct(id int) (err error) {
	n := d.nodes[id]
	if n.op == nil {
		defer d.guard("sum of gradients", &err)
		d.compute(id, n.in, d.sum)
		return nil
	}
	defer d.guard(n.op.name, &err)
	d.step(id, n.in, n.op.on(d))
	return nil
}

// guard turns a panic of a kernel, which would end the process in Gorgonia's goroutine, into an error.
func (d *device) guard(what string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%s: %w", what, engine.Recovered(p))
	}
	if *err != nil && d.err == nil {
		d.err = *err
	}
}

// step runs the operation of node id as the program's plan says.
func (d *device) step(id int, in []int, run func(in []*engine.Tensor, out *engine.Tensor)) {
	switch d.program.plan[id] {
	case compute:
		d.compute(id, in, run)
	case recall:
		d.values[id], d.owned[id] = d.kept.take(id), true
	}
}

// compute allocates the value of node id, fills it and gives up what nobody reads any more.
func (d *device) compute(id int, in []int, run func(in []*engine.Tensor, out *engine.Tensor)) {
	args := make([]*engine.Tensor, len(in))
	for i, n := range in {
		if args[i] = d.values[n]; args[i] == nil {
			panic(fmt.Sprintf("graph: %s reads %s, which has no value", d.nodes[id].name(), d.nodes[n].name()))
		}
	}
	n := d.nodes[id]
	out := d.fused.Backend.Alloc(n.rows, n.cols)
	d.values[id], d.owned[id] = out, true
	run(args, out)
	for _, n := range in {
		d.release(n)
	}
}

// release counts one read of a value and frees or keeps it after the last.
func (d *device) release(id int) {
	if d.uses[id]--; d.uses[id] > 0 || !d.owned[id] {
		return
	}
	if d.program.keeps[id] && d.kept != nil {
		d.kept.put(id, d.values[id])
	} else {
		d.fused.Backend.Free(d.values[id])
	}
	d.values[id] = nil
}

// results are the values of nodes as tensors of the caller's own, all or none.
func (d *device) results(ids []int) (out []*engine.Tensor, err error) {
	defer func() {
		for _, t := range out {
			if err != nil {
				d.fused.Backend.Free(t)
			}
		}
	}()
	defer d.guard("copy of a result", &err)
	for _, id := range ids {
		out = append(out, d.result(id))
	}
	return out, nil
}

// result is the value of node id itself where nobody else needs it, or else a copy: of an input, which is somebody's, of
// what another output is too, of what stays for the backward pass.
func (d *device) result(id int) *engine.Tensor {
	t, kept := d.values[id], d.program.keeps[id] && d.kept != nil
	d.uses[id]--
	last := d.owned[id] && d.uses[id] == 0
	if last && !kept {
		d.values[id] = nil
		return t
	}
	c := d.fused.Backend.Alloc(d.nodes[id].rows, d.nodes[id].cols)
	d.fused.Backend.Copy(engine.All(c), engine.All(t))
	if last {
		d.kept.put(id, t)
		d.values[id] = nil
	}
	return c
}

// clear frees what a failed or finished program has left.
func (d *device) clear() {
	for id, t := range d.values {
		if t != nil && d.owned[id] {
			d.fused.Backend.Free(t)
		}
		d.values[id], d.owned[id] = nil, false
	}
}

// Kept is the values that one block's forward pass keeps for its backward pass.
type Kept struct {
	backend engine.Backend
	values  map[int]*engine.Tensor
}

func (k *Kept) put(id int, t *engine.Tensor) { k.values[id] = t }

func (k *Kept) take(id int) *engine.Tensor {
	t := k.values[id]
	delete(k.values, id)
	return t
}

// Free gives all values back; a Kept that is not used for a backward pass must be freed.
func (k *Kept) Free() {
	for id, t := range k.values {
		k.backend.Free(t)
		delete(k.values, id)
	}
}
