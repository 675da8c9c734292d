package lora

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/sciflux/sciflux/engine"
)

// Layer is a linear layer of the model that an adapter can change.
type Layer struct {
	Name    string // path in diffusers naming, e.g. transformer_blocks.0.attn.to_q
	In, Out int
	// Group names the layers that multiply the same input, consecutive in the model's list, by the first of them.
	Group string
	// Original is the path of the layer, or of the fused layer it is rows of, in the original naming; its first row there
	// is OriginalRow. Empty where the original layer has its rows in another order.
	Original    string
	OriginalRow int
}

// Module is the adapter of one layer. Its A [Rank, In] starts at element A of the flat buffer, its B [Out, Rank] at B.
type Module struct {
	Layer
	Rank  int
	Scale float64 // alpha/rank
	A, B  int
}

// Parameters is the number of trained numbers.
func (m Module) Parameters() int { return m.Rank * (m.In + m.Out) }

// Adapter is a set of modules over one flat buffer. Modules is in the order of the buffer: groups in the order of the
// model's layers, in each group all A, then all B. The buffer is ordinary memory of the program; Weights may be trained
// in place, but not while a forward or backward pass runs.
type Adapter struct {
	Modules []Module
	Weights *engine.Tensor // [Parameters()]

	index  map[string]int
	groups map[string][]int // modules of each group, in order
}

// Spec says what a new adapter adapts.
type Spec struct {
	Targets []string // module names, or endings of them after a dot
	Rank    int
	Alpha   float64 // scale is Alpha/Rank
}

// New makes an adapter of every layer that a target matches. init fills the A of each module, in the order of Modules;
// B is zero. It fails when no layer matches.
func New(layers []Layer, s Spec, init func(m Module, a []float32)) (*Adapter, error) {
	if s.Rank < 1 {
		return nil, fmt.Errorf("new adapter: rank %d; give a rank of at least 1", s.Rank)
	}
	chosen, err := Match(layers, s.Targets)
	if err != nil {
		return nil, fmt.Errorf("new adapter: %w", err)
	}
	modules := make([]Module, len(chosen))
	for i, l := range chosen {
		modules[i] = Module{Layer: l, Rank: s.Rank, Scale: s.Alpha / float64(s.Rank)}
	}
	a := build(modules)
	if init != nil {
		for _, m := range a.Modules {
			init(m, a.A(m))
		}
	}
	return a, nil
}

// Match lists the layers that a target names: by the whole name, or by its end after a dot. It fails when there is none.
func Match(layers []Layer, targets []string) ([]Layer, error) {
	var chosen []Layer
	for _, l := range layers {
		if slices.ContainsFunc(targets, func(t string) bool { return l.Name == t || t != "" && strings.HasSuffix(l.Name, "."+t) }) {
			chosen = append(chosen, l)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("target modules %q match no linear layer; name whole layers or their ends after a dot, e.g. to_q, to_k, to_v, to_out.0", targets)
	}
	return chosen, nil
}

// build lays modules out. They must be in the order of the model's layers, so that groups are consecutive.
func build(modules []Module) *Adapter {
	a := &Adapter{index: map[string]int{}, groups: map[string][]int{}}
	at := 0
	for i := 0; i < len(modules); {
		j := i
		for ; j < len(modules) && modules[j].Group == modules[i].Group; j++ {
			modules[j].A = at
			at += modules[j].Rank * modules[j].In
		}
		for k := i; k < j; k++ {
			modules[k].B = at
			at += modules[k].Rank * modules[k].Out
			a.index[modules[k].Name] = k
			a.groups[modules[k].Group] = append(a.groups[modules[k].Group], k)
		}
		i = j
	}
	a.Modules = modules
	a.Weights = engine.Wrap(make([]float32, at), at)
	return a
}

// Parameters is the number of trained numbers.
func (a *Adapter) Parameters() int { return a.Weights.Len() }

// Names lists the adapted layers, sorted.
func (a *Adapter) Names() []string {
	names := make([]string, len(a.Modules))
	for i, m := range a.Modules {
		names[i] = m.Name
	}
	sort.Strings(names)
	return names
}

// Module finds the adapter of a layer.
func (a *Adapter) Module(name string) (Module, bool) {
	i, ok := a.index[name]
	if !ok {
		return Module{}, false
	}
	return a.Modules[i], true
}

// A is the module's matrix A [Rank, In], a part of the flat buffer.
func (a *Adapter) A(m Module) []float32 { return a.Weights.Floats()[m.A:][:m.Rank*m.In] }

// B is the module's matrix B [Out, Rank], a part of the flat buffer.
func (a *Adapter) B(m Module) []float32 { return a.Weights.Floats()[m.B:][:m.Rank*m.Out] }

// Clone copies the adapter with its numbers.
func (a *Adapter) Clone() *Adapter {
	c := build(slices.Clone(a.Modules))
	copy(c.Weights.Floats(), a.Weights.Floats())
	return c
}

// Same tells whether b has the same modules, ranks and scales, so that their flat buffers can be compared and averaged.
func (a *Adapter) Same(b *Adapter) bool { return slices.Equal(a.Modules, b.Modules) }

// Group is the adapter of a group as the engine takes it: layers are the full names of the group's layers in order. It is
// nil when none of them is adapted.
func (a *Adapter) Group(layers []string) *engine.LowRank { return a.group(layers, a.Weights) }

func (a *Adapter) group(layers []string, flat *engine.Tensor) *engine.LowRank {
	low := &engine.LowRank{Ranks: make([]int, len(layers)), Scales: make([]float32, len(layers))}
	first, nB, in := -1, 0, 0
	for i, name := range layers {
		k, ok := a.index[name]
		if !ok {
			continue
		}
		m := a.Modules[k]
		if first < 0 {
			first = k
		}
		low.Ranks[i], low.Scales[i] = m.Rank, float32(m.Scale)
		nB, in = nB+m.Rank*m.Out, m.In
	}
	if first < 0 {
		return nil
	}
	r, m := low.Rank(), a.Modules[first]
	low.A = engine.Slice(flat, m.A, r, in)
	low.B = engine.Slice(flat, m.B, nB)
	return low
}

// Gradients are sums of gradients of an adapter's numbers, in the layout of its flat buffer.
type Gradients struct {
	Sum     *engine.Tensor // [Parameters()]
	adapter *Adapter
}

// NewGradients makes zero gradients of the adapter.
func (a *Adapter) NewGradients() *Gradients {
	n := a.Parameters()
	return &Gradients{Sum: engine.Wrap(make([]float32, n), n), adapter: a}
}

// Zero sets all to 0.
func (g *Gradients) Zero() { clear(g.Sum.Floats()) }

// Adapter is the adapter that the gradients belong to.
func (g *Gradients) Adapter() *Adapter { return g.adapter }

// Group is the part of the gradients that belongs to Adapter.Group.
func (g *Gradients) Group(layers []string) *engine.LowRank { return g.adapter.group(layers, g.Sum) }

// A is the gradient of the module's A [Rank, In].
func (g *Gradients) A(m Module) []float32 { return g.Sum.Floats()[m.A:][:m.Rank*m.In] }

// B is the gradient of the module's B [Out, Rank].
func (g *Gradients) B(m Module) []float32 { return g.Sum.Floats()[m.B:][:m.Rank*m.Out] }
