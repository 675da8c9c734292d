package graph

import (
	"fmt"
	"slices"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/sciflux/sciflux/engine"
)

// Memory says how much of the forward pass is computed again in the backward pass.
type Memory uint8

// The policies. All give the same bits.
const (
	None      Memory = iota // nothing is computed again: fastest, most memory
	Selective               // norms, activations and gates are computed again, products and attention are kept
	Full                    // everything is computed again from the inputs of the block
)

// ParseMemory reads a policy as configurations write it.
func ParseMemory(s string) (Memory, error) {
	for m := None; m <= Full; m++ {
		if m.String() == s {
			return m, nil
		}
	}
	return 0, fmt.Errorf("memory policy %q: use none, selective or full", s)
}

// String is the word that ParseMemory reads.
func (m Memory) String() string { return [...]string{"none", "selective", "full"}[m] }

// keeps tells whether the value of an operation that the backward pass needs is kept.
func (m Memory) keeps(o *op) bool { return m == None || m == Selective && !o.cheap }

// action is what a program does with a node.
type action uint8

const (
	skip    action = iota // its value is not needed
	compute               // it is computed
	recall                // its value is the one kept by the forward pass
)

// node is a node of a graph as the device knows it.
type node struct {
	id         int
	graph      *gorgonia.Node
	op         *op // nil for inputs and for sums of gradients
	rows, cols int
	token      *tensor.Dense
	in         []int
	forward    bool // made by the function, not by differentiation
}

func (n *node) name() string {
	if n.op != nil {
		return n.op.name
	}
	if n.graph.IsVar() {
		return n.graph.Name()
	}
	return "sum of gradients"
}

// program is a compiled part of a graph.
type program struct {
	machine gorgonia.VM
	inputs  []int
	outputs []int
	dins    int      // of a gradient program: so many outputs are gradients of declared inputs, then come A and B of each adapter
	plan    []action // by node
	uses    []int    // reads of each node's value, its use as an output counted as one
	keeps   []bool   // values that outlive a forward program
	order   []int    // nodes in the order in which Gorgonia ran them
}

// compile makes the program that computes outputs.
func (g *Graph) compile(outputs []int) (*program, error) {
	n := len(g.dev.nodes)
	p := &program{outputs: outputs, plan: make([]action, n), uses: make([]int, n), keeps: make([]bool, n)}
	var roots, leaves gorgonia.Nodes
	for _, id := range outputs {
		roots = append(roots, g.dev.nodes[id].graph)
	}
	for _, n := range g.graph.ExactSubgraphRoots(roots...).AllNodes() {
		if n.Op() == nil && !slices.Contains(leaves, n) {
			leaves = append(leaves, n)
			p.inputs = append(p.inputs, g.ids[n])
		}
	}
	prog, locations, err := gorgonia.CompileFunction(g.graph, leaves, roots)
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	p.machine = gorgonia.NewTapeMachine(g.graph, gorgonia.WithEngine(g.dev), gorgonia.WithPrecompiled(prog, locations))
	return p, nil
}

// count fills uses from the plan.
func (p *program) count(nodes []*node) {
	for id, a := range p.plan {
		if a != compute {
			continue
		}
		for _, in := range nodes[id].in {
			p.uses[in]++
		}
	}
	for _, id := range p.outputs {
		p.uses[id]++
	}
}

// run executes p. inputs[name] is read for every input of the program; the outputs belong to the caller.
func (g *Graph) run(p *program, f engine.Fused, kept *Kept, input func(name string) *engine.Tensor) ([]*engine.Tensor, error) {
	d := g.dev
	d.fused, d.program, d.kept, d.err = f, p, kept, nil
	copy(d.uses, p.uses)
	defer d.clear()
	for _, id := range p.inputs {
		n := d.nodes[id]
		t := input(n.graph.Name())
		if t == nil || t.Len() != n.rows*n.cols {
			return nil, fmt.Errorf("input %s: missing or not %d×%d", n.graph.Name(), n.rows, n.cols)
		}
		d.values[id] = t
		if err := gorgonia.Let(n.graph, n.token); err != nil {
			return nil, fmt.Errorf("input %s: %w", n.graph.Name(), err)
		}
	}
	if err := g.execute(p); err != nil {
		return nil, err
	}
	return d.results(p.outputs)
}

// execute runs the machine of p, or with Direct what it ran the first time.
func (g *Graph) execute(p *program) error {
	if g.Direct && p.order != nil {
		for _, id := range p.order {
			if err := g.dev.direct(id); err != nil {
				return err
			}
		}
		return nil
	}
	p.order = p.order[:0]
	p.machine.Reset()
	err := p.machine.RunAll()
	if err != nil && g.dev.err != nil {
		err = g.dev.err
	}
	return err
}
