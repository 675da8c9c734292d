package lora

import (
	"math"
	"slices"
	"sort"

	"github.com/sciflux/sciflux/engine"
)

// Layer is a linear layer of the model that an adapter can change.
type Layer struct {
	Name    string // path in diffusers naming, e.g. transformer_blocks.0.attn.to_q
	In, Out int
	// Group names the layers that multiply the same input, consecutive in the model's list, by the first of them.
	Group string
	// Original is the path of the layer, or of the fused layer it is rows of, in the original naming; its first row there
	// is OriginalRow.
	Original    string
	OriginalRow int
	// Swapped: the original has the two halves of the layer's rows the other way round (shift before scale).
	Swapped bool
	// Conditioning: the layer lies before the conditioning vector, to which no gradient flows; it cannot be trained.
	Conditioning bool
}

// Module is the adapter of one layer. Its A [Rank, In] starts at element A of the flat buffer, its B [Out, Rank] at B.
type Module struct {
	Layer
	Rank  int
	Alpha float64
	// RankStabilised: the scale is Alpha/√Rank instead of Alpha/Rank (rsLoRA, Kalajdzievski 2023).
	RankStabilised bool
	A, B           int
}

// Scale is alpha/rank, or alpha/√rank, rounded once to the float32 that kernels multiply with. Every use of a scale and
// every file means this number, so that it is the same before and after it was written.
func (m Module) Scale() float32 {
	if m.RankStabilised {
		return float32(m.Alpha / math.Sqrt(float64(m.Rank)))
	}
	return float32(m.Alpha / float64(m.Rank))
}

// finite tells whether a number is neither infinite nor NaN.
func finite(v float32) bool { return v-v == 0 }

// plainAlpha is an alpha with Scale = alpha/rank for readers that know no other rule. The product of a float32 and an
// integer below 2²⁹ has no more than 53 bits, so it is exact.
func (m Module) plainAlpha() float64 { return plainAlpha(m.Scale(), m.Rank) }

func plainAlpha(scale float32, rank int) float64 { return float64(scale) * float64(rank) }

// withRank is the module with another rank and the same scale.
func (m Module) withRank(rank int) Module {
	if rank == m.Rank {
		return m
	}
	c := m
	c.Rank, c.RankStabilised = rank, false
	c.Alpha = m.Alpha * float64(rank) / float64(m.Rank)
	if scale := m.Scale(); c.Scale() != scale {
		c.Alpha = plainAlpha(scale, rank)
	}
	return c
}

// Parameters is the number of trained numbers.
func (m Module) Parameters() int { return m.Rank * (m.In + m.Out) }

// Adapter is a set of modules over one flat buffer. Modules is in the order of the buffer: groups in the order of the
// model's layers, in each group all A, then all B. The buffer is ordinary memory of the program; Weights may be trained
// in place, but not while a forward or backward pass runs.
type Adapter struct {
	Modules []Module
	Weights *engine.Tensor // [Parameters()]
	Notes   []string       // what a person should know of the file that it was read from, such as parts that were left out

	index map[string]int
}

// build lays modules out. They must be in the order of the model's layers, so that groups are consecutive.
func build(modules []Module) *Adapter {
	a := &Adapter{index: map[string]int{}}
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
	c.Notes = slices.Clone(a.Notes)
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
		low.Ranks[i], low.Scales[i] = m.Rank, m.Scale()
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
