package graph

import (
	"fmt"
	"slices"

	"gorgonia.org/gorgonia"

	"github.com/sciflux/sciflux/engine"
)

// Input declares a matrix that a function is given. Grad asks that its gradient can be had.
type Input struct {
	Name       string
	Rows, Cols int
	Grad       bool
}

// Graph is one kind of block, built, differentiated and compiled for fixed shapes. It serves one goroutine at a time.
type Graph struct {
	// Direct makes programs that have run once repeat their operations in the same order without Gorgonia, so that a
	// benchmark can tell what Gorgonia costs.
	Direct bool

	memory   Memory
	graph    *gorgonia.ExprGraph
	dev      *device
	ids      map[*gorgonia.Node]int
	inputs   []Input
	adapters []string       // first layers of the segments that have an adapter
	output   int            // node of the function's result
	grads    map[string]int // node of the gradient of an input, by its name
	forward  *program
	// The gradient programs, nil where there is nothing to compute: of the declared inputs and the adapters, and of the
	// adapters alone.
	backward, adapted *program
}

const gradient = "gradient of output"

// Function is what a graph computes, written over operations.
type Function = func(o engine.Ops[Value], in []Value) Value

// Build writes function as a graph. weights are those of any block of the kind: only shapes and the presence of adapters
// matter. function must depend on nothing but its arguments.
func Build(weights *engine.Binding, inputs []Input, memory Memory, function Function) (g *Graph, err error) {
	defer func() {
		if p := recover(); p != nil {
			g, err = nil, fmt.Errorf("build graph: %v", p)
		}
	}()
	b := &builder{graph: gorgonia.NewGraph(), weights: weights}
	values := make([]Value, len(inputs))
	for i, in := range inputs {
		values[i] = b.leaf(in.Name, in.Rows, in.Cols, in.Grad)
	}
	out := function(b, values)
	g = &Graph{memory: memory, graph: b.graph, inputs: inputs, grads: map[string]int{}, ids: map[*gorgonia.Node]int{}}
	forward := slices.Clone(b.graph.AllNodes())
	grads, err := differentiate(b, out)
	if err != nil {
		return nil, fmt.Errorf("build graph: %w", err)
	}
	if err := g.number(forward); err != nil {
		return nil, fmt.Errorf("build graph: %w", err)
	}
	for _, in := range inputs {
		if in.Grad && grads[in.Name] == nil {
			return nil, fmt.Errorf("build graph: input %s asks for a gradient, but the result does not depend on it", in.Name)
		}
	}
	g.output = g.ids[out.node]
	for _, in := range b.inputs {
		if n, ok := grads[in.name]; ok {
			g.grads[in.name] = g.ids[n]
		}
	}
	for key := range weights.Adapters {
		if a, _ := adapterInputs(key); hasInput(b, a) {
			g.adapters = append(g.adapters, key)
		}
	}
	slices.Sort(g.adapters)
	return g, g.programs()
}

func hasInput(b *builder, name string) bool {
	return slices.ContainsFunc(b.inputs, func(i input) bool { return i.name == name })
}

// differentiate runs Gorgonia's one Backpropagate and gives the gradient node of every input that has one.
func differentiate(b *builder, out Value) (map[string]*gorgonia.Node, error) {
	grads := map[string]*gorgonia.Node{}
	if !out.grad {
		return grads, nil
	}
	var wrt gorgonia.Nodes
	var names []string
	for _, in := range b.inputs {
		if in.grad {
			wrt, names = append(wrt, in.node), append(names, in.name)
		}
	}
	dy := b.leaf(gradient, out.rows(), out.cols(), false)
	nodes, err := gorgonia.Backpropagate(gorgonia.Nodes{out.node}, gorgonia.Nodes{dy.node}, wrt)
	if err != nil {
		return nil, err
	}
	for i, n := range nodes {
		grads[names[i]] = n
	}
	return grads, nil
}

// number gives every node its token, and checks that no two nodes could be taken for one another.
func (g *Graph) number(forward gorgonia.Nodes) error {
	all := g.graph.AllNodes()
	if len(all) > maxTokens {
		return fmt.Errorf("%d nodes, the limit is %d", len(all), maxTokens)
	}
	d := &device{sums: map[[2]int]int{}, values: make([]*engine.Tensor, len(all)), owned: make([]bool, len(all)), uses: make([]int, len(all))}
	g.dev = d
	hashes := map[uint32]*gorgonia.Node{}
	for id, n := range all {
		if other, ok := hashes[n.Hashcode()]; ok {
			return fmt.Errorf("nodes %s and %s have one hash", other.Name(), n.Name())
		}
		hashes[n.Hashcode()] = n
		shape := n.Shape()
		if len(shape) != 2 {
			return fmt.Errorf("node %s of shape %v, want a matrix", n.Name(), shape)
		}
		token, err := newToken(d, id, shape[0], shape[1])
		if err != nil {
			return err
		}
		g.ids[n] = id
		d.nodes = append(d.nodes, &node{id: id, graph: n, rows: shape[0], cols: shape[1], token: token, forward: slices.Contains(forward, n)})
	}
	return g.link()
}

// link tells each node what it reads, and the device which node a sum of two others is.
func (g *Graph) link() error {
	for _, n := range g.dev.nodes {
		children := g.graph.From(n.graph.ID())
		if children != nil {
			for children.Next() {
				n.in = append(n.in, g.ids[children.Node().(*gorgonia.Node)])
			}
		}
		switch o := n.graph.Op().(type) {
		case *op:
			if o.id != 0 {
				return fmt.Errorf("operation %s serves two nodes", o.name)
			}
			o.id, n.op = n.id, o
		case nil:
		default:
			if len(n.in) != 2 || o.Arity() != 2 {
				return fmt.Errorf("operation %v of Gorgonia's own is not a sum of two", o)
			}
			g.dev.sums[[2]int{n.in[0], n.in[1]}] = n.id
		}
	}
	return nil
}

// programs compiles the forward pass and the gradients, and decides what the one keeps for the other.
func (g *Graph) programs() (err error) {
	if g.forward, err = g.compile([]int{g.output}); err != nil {
		return err
	}
	g.need(g.output)
	if g.backward, err = g.gradients(true); err != nil {
		return err
	}
	if g.adapted, err = g.gradients(false); err != nil {
		return err
	}
	g.forward.count(g.dev.nodes)
	return nil
}

// gradients compiles a gradient program, nil when it would have no outputs, and notes what the forward pass has to keep for
// it.
func (g *Graph) gradients(all bool) (*program, error) {
	var outputs []int
	for _, in := range g.inputs {
		if id, ok := g.grads[in.Name]; ok && all {
			outputs = append(outputs, id)
		}
	}
	dins := len(outputs)
	for _, key := range g.adapters {
		a, b := adapterInputs(key)
		outputs = append(outputs, g.grads[a], g.grads[b])
	}
	if len(outputs) == 0 {
		return nil, nil
	}
	p, err := g.compile(outputs)
	if err != nil {
		return nil, err
	}
	p.dins = dins
	g.plan(p)
	p.count(g.dev.nodes)
	for id, a := range p.plan {
		g.forward.keeps[id] = g.forward.keeps[id] || a == recall
	}
	return p, nil
}

// need plans the operations that the value of node id is made of. A function may hold others, whose results it does not use;
// the machine does not run those, so they must not count as readers.
func (g *Graph) need(id int) {
	n := g.dev.nodes[id]
	if n.op == nil || g.forward.plan[id] == compute {
		return
	}
	g.forward.plan[id] = compute
	for _, in := range n.in {
		g.need(in)
	}
}

// plan decides what a gradient program computes: all of the backward pass that its outputs need, and from the forward
// pass what that reads and is not kept.
func (g *Graph) plan(p *program) {
	var visit func(id int)
	visit = func(id int) {
		n := g.dev.nodes[id]
		if p.plan[id] != skip || len(n.in) == 0 {
			return
		}
		p.plan[id] = compute
		if n.forward && g.memory.keeps(n.op) {
			p.plan[id] = recall
			return
		}
		for _, in := range n.in {
			visit(in)
		}
	}
	for _, id := range p.outputs {
		visit(id)
	}
}

// Forward computes the function's result, which belongs to the caller. ins are the declared inputs. When kept is wanted, it
// holds what Backward needs beside the inputs, which must then stay as they are until Backward.
func (g *Graph) Forward(f engine.Fused, ins []*engine.Tensor, keep bool) (y *engine.Tensor, kept *Kept, err error) {
	if keep {
		kept = &Kept{backend: f.Backend, values: map[int]*engine.Tensor{}}
	}
	out, err := g.run(g.forward, f, kept, g.source(f, ins, nil))
	if err != nil {
		if kept != nil {
			kept.Free()
		}
		return nil, nil, err
	}
	return out[0], kept, nil
}

// Backward computes gradients for the gradient dy of the result, with the same weights and inputs as the Forward that
// made kept. Gradients of adapters are added to sums, by the first layer of their segment. With all, dins are the
// gradients of the declared inputs that asked for one, in order, owned by the caller.
func (g *Graph) Backward(f engine.Fused, ins []*engine.Tensor, kept *Kept, dy *engine.Tensor, sums map[string]*engine.LowRank,
	all bool) (dins []*engine.Tensor, err error) {
	defer kept.Free()
	p := g.adapted
	if all {
		p = g.backward
	}
	if p == nil {
		return nil, nil
	}
	out, err := g.run(p, f, kept, g.source(f, ins, dy))
	if err != nil {
		return nil, err
	}
	dins, pairs := out[:p.dins], out[p.dins:]
	for i, key := range g.adapters {
		accumulate(f.Backend, sums[key].A, pairs[2*i])
		accumulate(f.Backend, sums[key].B, pairs[2*i+1])
	}
	return dins, nil
}

// accumulate adds the gradient d, which it frees, to a sum of as many values.
func accumulate(b engine.Backend, sum, d *engine.Tensor) {
	flat := func(t *engine.Tensor) engine.View { return engine.View{T: t, Rows: 1, Cols: t.Len(), Stride: t.Len()} }
	b.Axpy(flat(sum), 1, flat(d))
	b.Free(d)
}

// source finds the tensors of a program's inputs.
func (g *Graph) source(f engine.Fused, ins []*engine.Tensor, dy *engine.Tensor) func(name string) *engine.Tensor {
	named := map[string]*engine.Tensor{gradient: dy}
	for i, in := range g.inputs {
		named[in.Name] = ins[i]
	}
	for _, key := range g.adapters {
		if low := f.Adapters[key]; low != nil {
			a, b := adapterInputs(key)
			named[a], named[b] = low.A, low.B
		}
	}
	return func(name string) *engine.Tensor { return named[name] }
}

// Adapters are the first layers of the segments with an adapter, sorted.
func (g *Graph) Adapters() []string { return g.adapters }
