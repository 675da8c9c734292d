package graph

import (
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/reference"
)

// The function of these tests is a chain of equal matrices, so that memory can be counted in matrices: square layers and
// activations in turn. A matrix of 64×64 is a size class of the pool exactly.
const (
	side = 64
	size = side * side * 4 // bytes
)

// chain alternates layers and activations, n of each.
func chain(n int) func(o engine.Ops[Value], in []Value) Value {
	return func(o engine.Ops[Value], in []Value) Value {
		v := in[0]
		for range n {
			v = o.Activate(o.Project([]engine.Segment{{Rows: side, Layers: []string{"square"}}}, v), engine.SiLU)
		}
		return v
	}
}

func square() *engine.Binding {
	return &engine.Binding{Layers: map[string]engine.Layer{"square": {Weight: &engine.Weight{Out: side, In: side, Stride: side,
		F32: numbers(1, side*side)}}}}
}

// counted is what a pass over a chain holds, in matrices beside the input and the gradient that comes in.
type counted struct{ withoutGradient, forward, kept, backward int64 }

func count(t *testing.T, g *Graph) (c counted) {
	t.Helper()
	b := reference.New()
	f := engine.Fused{Backend: b, Binding: square()}
	ins, dy := []*engine.Tensor{engine.Wrap(numbers(2, side*side), side, side)}, engine.Wrap(numbers(3, side*side), side, side)
	peak := func() int64 {
		_, p := b.Memory()
		b.ResetPeak()
		return p / size
	}
	y, _, err := g.Forward(f, ins, false)
	if err != nil {
		t.Fatal(err)
	}
	c.withoutGradient = peak()
	b.Free(y)
	b.ResetPeak()
	y, kept, err := g.Forward(f, ins, true)
	if err != nil {
		t.Fatal(err)
	}
	c.forward, c.kept = peak(), int64(len(kept.values))
	if live, _ := b.Memory(); live != (c.kept+1)*size {
		t.Errorf("%d bytes in use after the forward pass, want those of %d kept matrices and the result", live, c.kept)
	}
	b.Free(y)
	b.ResetPeak()
	dins, err := g.Backward(f, ins, kept, dy, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	c.backward = peak()
	b.Free(dins[0])
	if live, _ := b.Memory(); live != 0 || len(kept.values) != 0 {
		t.Errorf("%d bytes and %d kept values left over", live, len(kept.values))
	}
	return c
}

// TestMemoryOfAChain: without gradient two matrices are in use at a time, however long the chain. With gradient the
// slope of an activation needs its input, so one matrix a layer is kept without recomputation and under the selective
// policy, where the products stay, and none when everything is computed again; then the backward pass holds the whole
// chain for a moment.
func TestMemoryOfAChain(t *testing.T) {
	for _, n := range []int64{1, 2, 5, 12} {
		for _, c := range []struct {
			memory Memory
			want   counted
		}{
			{None, counted{2, n + 1, n, 0}},
			{Selective, counted{2, n + 1, n, 0}},
			{Full, counted{2, 2, 0, 0}},
		} {
			g, err := Build(square(), []Input{{Name: "x", Rows: side, Cols: side, Grad: true}}, c.memory, chain(int(n)))
			if err != nil {
				t.Fatal(err)
			}
			got := count(t, g)
			back := got.backward
			if got.backward = 0; got != c.want {
				t.Errorf("%v, chain of %d: %+v, want %+v", c.memory, n, got, c.want)
			}
			// Going back, every step frees an activation's input and holds two gradients at most.
			if most := n + 2; back > most {
				t.Errorf("%v, chain of %d: %d matrices at once in the backward pass, want at most %d", c.memory, n, back, most)
			}
		}
	}
}

// TestActivationsAreComputedAgain: where an activation's result is needed by the backward pass, here as the input of an
// adapted layer, the selective policy computes it again instead of keeping it.
func TestActivationsAreComputedAgain(t *testing.T) {
	w := square()
	w.Layers["second"] = w.Layers["square"]
	w.Adapters = map[string]*engine.LowRank{"second": {A: engine.Wrap(numbers(4, 2*side), 2, side), B: engine.Wrap(numbers(5, 2*side),
		2*side), Ranks: []int{2}, Scales: []float32{1}}}
	write := func(o engine.Ops[Value], in []Value) Value {
		seg := func(name string) []engine.Segment { return []engine.Segment{{Rows: side, Layers: []string{name}}} }
		return o.Project(seg("second"), o.Activate(o.Project(seg("square"), in[0]), engine.GELU))
	}
	recomputed := map[Memory][]string{None: nil, Selective: {"activate"}, Full: {"project square", "activate", "down second"}}
	for memory, want := range recomputed {
		g, err := Build(w, []Input{{Name: "x", Rows: side, Cols: side, Grad: true}}, memory, write)
		if err != nil {
			t.Fatal(err)
		}
		again := map[string]bool{}
		for id, a := range g.backward.plan {
			if n := g.dev.nodes[id]; a == compute && n.forward && n.op != nil {
				again[n.op.name] = true
			}
		}
		if len(again) != len(want) {
			t.Errorf("%v computes %v again, want %v", memory, again, want)
		}
		for _, name := range want {
			if !again[name] {
				t.Errorf("%v does not compute %s again", memory, name)
			}
		}
	}
}
