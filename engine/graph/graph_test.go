package graph

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/reference"
)

// The function of these tests is a small block: y = s + gate·out(gelu(in(LN(x)·(1+scale)+shift))) with adapters.
const (
	samples, perSample, width, hidden, rank = 2, 3, 4, 6, 2
	rows                                    = samples * perSample
)

func numbers(seed uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, 7))
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

func layer(seed uint64, out, in int) engine.Layer {
	return engine.Layer{Weight: &engine.Weight{Out: out, In: in, Stride: in, F32: numbers(seed, out*in)}, Bias: numbers(seed+1, out)}
}

func lowRank(seed uint64, out, in int) *engine.LowRank {
	return &engine.LowRank{
		A: engine.Wrap(numbers(seed, rank*in), rank, in), B: engine.Wrap(numbers(seed+1, out*rank), out*rank),
		Ranks: []int{rank}, Scales: []float32{0.5},
	}
}

// weights are those of block number i.
func weights(i uint64) *engine.Binding {
	return &engine.Binding{
		Layers: map[string]engine.Layer{"by": layer(10*i+1, 3*width, width), "in": layer(10*i+2, hidden, width), "out": layer(10*i+3, width,
			hidden)},
		Adapters: map[string]*engine.LowRank{"in": lowRank(10*i+4, hidden, width), "by": lowRank(10*i+6, 3*width, width)},
	}
}

func block[V any](o engine.Ops[V], x, cond V) V {
	by := o.Project([]engine.Segment{{Rows: samples, Layers: []string{"by"}}}, cond)
	all := func(name string) []engine.Segment { return []engine.Segment{{Rows: rows, Layers: []string{name}}} }
	m := engine.Modulation[V]{Rows: rows, PerSample: perSample, By: by, Shift: 0, Scale: 1, Gate: 2}
	h := o.Activate(o.Project(all("in"), o.Modulate(x, m)), engine.GELUTanh)
	return o.GateAdd(x, o.Project(all("out"), h), m)
}

func write(o engine.Ops[Value], in []Value) Value { return block(o, in[0], in[1]) }

var declared = []Input{{Name: "x", Rows: rows, Cols: width, Grad: true}, {Name: "cond", Rows: samples, Cols: width}}

func built(t testing.TB, memory Memory) *Graph {
	t.Helper()
	g, err := Build(weights(0), declared, memory, write)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// result is what one replay gives.
type result struct{ y, dx, grads []float32 }

// replay runs both programs on block number i and checks that nothing is left behind.
func replay(t testing.TB, g *Graph, b engine.Backend, i uint64) result {
	t.Helper()
	f := engine.Fused{Backend: b, Binding: weights(i)}
	ins := []*engine.Tensor{engine.Wrap(numbers(100+i, rows*width), rows, width), engine.Wrap(numbers(200+i, samples*width), samples, width)}
	before, _ := b.Memory()
	y, kept, err := g.Forward(f, ins, true)
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]*engine.LowRank{}
	var r result
	for _, key := range g.Adapters() {
		low := f.Adapters[key]
		r.grads = append(r.grads, make([]float32, low.A.Len()+low.B.Len())...)
	}
	at := 0
	for _, key := range g.Adapters() {
		low := f.Adapters[key]
		sums[key] = &engine.LowRank{A: engine.Wrap(r.grads[at:][:low.A.Len()], low.A.Len()),
			B: engine.Wrap(r.grads[at+low.A.Len():][:low.B.Len()], low.B.Len())}
		at += low.A.Len() + low.B.Len()
	}
	dy := engine.Wrap(numbers(300+i, rows*width), rows, width)
	dins, err := g.Backward(f, ins, kept, dy, sums, true)
	if err != nil {
		t.Fatal(err)
	}
	r.y, r.dx = slices.Clone(y.Floats()), slices.Clone(dins[0].Floats())
	b.Free(y)
	b.Free(dins[0])
	if after, _ := b.Memory(); after != before {
		t.Errorf("replay leaves %d bytes behind", after-before)
	}
	return r
}

func same(a, b result) bool {
	return slices.Equal(a.y, b.y) && slices.Equal(a.dx, b.dx) && slices.Equal(a.grads, b.grads)
}

// TestOneGraphServesAllBlocks replays one graph with the weights of several blocks, in turn, and compares with graphs
// that have seen one block only, and with the function run at once.
func TestOneGraphServesAllBlocks(t *testing.T) {
	b := reference.New()
	var want [3]result
	for i := range want {
		want[i] = replay(t, built(t, None), b, uint64(i))
		e := engine.NewEager(b)
		e.Bind(weights(uint64(i)))
		y := block(e, engine.Wrap(numbers(100+uint64(i), rows*width), rows, width), engine.Wrap(numbers(200+uint64(i), samples*width), samples,
			width))
		if !slices.Equal(y.Floats(), want[i].y) {
			t.Errorf("block %d: the graph's result differs from the function run at once", i)
		}
		e.Release()
	}
	if same(want[0], want[1]) {
		t.Fatal("blocks with other weights give the same numbers: the test sees nothing")
	}
	for _, memory := range []Memory{None, Selective, Full} {
		g := built(t, memory)
		for round := range 20 {
			i := round * 7 % 3
			if !same(replay(t, g, b, uint64(i)), want[i]) {
				t.Fatalf("%v, round %d: other bits", memory, round)
			}
		}
	}
}

// TestRepeatedReplayKeepsNothing: memory in use, also Gorgonia's, does not grow with the number of replays.
func TestRepeatedReplayKeepsNothing(t *testing.T) {
	b, g := reference.New(), built(t, Selective)
	want := replay(t, g, b, 1)
	b.ResetPeak()
	_, peak := b.Memory()
	for range 300 {
		if !same(replay(t, g, b, 1), want) {
			t.Fatal("other bits")
		}
	}
	if _, now := b.Memory(); now > 2*peak+1<<16 {
		t.Errorf("peak grew from %d to %d bytes", peak, now)
	}
}

// TestValuesAreOutOfReach: all values that Gorgonia sees lie in memory that nobody may touch, so the passing of every
// other test shows that no operation of Gorgonia's reads or writes numbers. A tensor of its own would not lie there.
func TestValuesAreOutOfReach(t *testing.T) {
	g, base := built(t, None), mustReserve(t)
	for _, n := range g.dev.nodes {
		if p := n.token.Uintptr(); p < base || p >= base+maxTokens*tokenStride {
			t.Errorf("value of %s at %x lies outside the reserved space", n.name(), p)
		}
		if tokenID(n.token) != n.id {
			t.Errorf("token of node %d is found as %d", n.id, tokenID(n.token))
		}
	}
	replay(t, g, reference.New(), 0)
	for _, n := range g.dev.nodes {
		if v := n.graph.Value(); v != nil && v.Uintptr() != n.token.Uintptr() {
			t.Errorf("%s is bound to memory of Gorgonia's own after a run", n.name())
		}
	}
}

func mustReserve(t *testing.T) uintptr {
	base, err := tokenSpace()
	if err != nil {
		t.Fatal(err)
	}
	return uintptr(base)
}

// TestDeviceRefusesMemory: what would make Gorgonia allocate or copy is an error, not a silent host copy.
func TestDeviceRefusesMemory(t *testing.T) {
	d := built(t, None).dev
	if _, err := d.Alloc(64); err == nil {
		t.Error("Alloc gives memory")
	}
	if d.Memcpy(nil, nil) == nil || d.Memset(nil, 1) == nil {
		t.Error("Memcpy or Memset do something")
	}
	if _, err := d.AddScalar(nil, 1, true); err == nil {
		t.Error("AddScalar does something")
	}
	if d.AllocAccessible() {
		t.Error("tokens are said to be accessible")
	}
	token := d.nodes[0].token
	if _, err := tensor.Mul(token, token); err == nil {
		t.Error("a product of tokens was computed on the host")
	}
}

// TestHashesAreUnique: operations with equal attributes on equal inputs stay two nodes, or a replay would compute one.
func TestHashesAreUnique(t *testing.T) {
	twice := func(o engine.Ops[Value], in []Value) Value {
		a, b := o.Activate(in[0], engine.SiLU), o.Activate(in[0], engine.SiLU)
		return o.Activate(o.Add(a, b), engine.SiLU)
	}
	g, err := Build(&engine.Binding{}, declared[:1], None, twice)
	if err != nil {
		t.Fatal(err)
	}
	activations := 0
	for _, n := range g.dev.nodes {
		if n.op != nil && n.op.name == "activate" {
			activations++
		}
	}
	if activations != 3 {
		t.Errorf("%d nodes of activations, want 3", activations)
	}
}

// TestSumOfGradientsIsFresh: x is read by three operations, two of which pass on one and the same gradient node. A sum
// computed in place would count parts of it twice. L = Σ dy·f(f(x) + f(x) + …) with f the identity-like Add.
func TestSumOfGradientsIsFresh(t *testing.T) {
	five := func(o engine.Ops[Value], in []Value) Value {
		double := o.Add(in[0], in[0])
		four := o.Add(double, double)
		return o.Rows(o.Add(four, in[0]), 0, rows)
	}
	g, err := Build(&engine.Binding{}, declared[:1], None, five)
	if err != nil {
		t.Fatal(err)
	}
	b := reference.New()
	x := engine.Wrap(numbers(1, rows*width), rows, width)
	dy := engine.Wrap(numbers(2, rows*width), rows, width)
	f := engine.Fused{Backend: b, Binding: &engine.Binding{}}
	for range 2 {
		y, kept, err := g.Forward(f, []*engine.Tensor{x}, true)
		if err != nil {
			t.Fatal(err)
		}
		dx, err := g.Backward(f, []*engine.Tensor{x}, kept, dy, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		for i, d := range dx[0].Floats() {
			if want := 5 * dy.Floats()[i]; d < want-1e-5 || d > want+1e-5 {
				t.Fatalf("gradient %d of 5x is %v, want %v", i, d, want)
			}
		}
		b.Free(y)
		b.Free(dx[0])
	}
}

// failing is a backend whose activations panic.
type failing struct{ engine.Backend }

func (failing) Activate(y, x engine.View, f engine.Activation) { panic("kernel out of order") }

// TestKernelPanicsBecomeErrors: the error names the operation, nothing leaks, and the graph works afterwards.
func TestKernelPanicsBecomeErrors(t *testing.T) {
	b, g := reference.New(), built(t, None)
	want := replay(t, g, b, 0)
	ins := []*engine.Tensor{engine.Wrap(numbers(1, rows*width), rows, width), engine.Wrap(numbers(2, samples*width), samples, width)}
	before, _ := b.Memory()
	_, _, err := g.Forward(engine.Fused{Backend: failing{b}, Binding: weights(0)}, ins, true)
	if err == nil || !strings.Contains(err.Error(), "activate: kernel out of order") {
		t.Errorf("error %v, want one that names the operation and the cause", err)
	}
	if after, _ := b.Memory(); after != before {
		t.Errorf("a failed pass leaves %d bytes behind", after-before)
	}
	if !same(replay(t, g, b, 0), want) {
		t.Error("other bits after a failure")
	}
}

// TestWrongInputs are refused before anything runs.
func TestWrongInputs(t *testing.T) {
	g := built(t, None)
	f := engine.Fused{Backend: reference.New(), Binding: weights(0)}
	x, cond := engine.Wrap(numbers(1, rows*width), rows, width), engine.Wrap(numbers(2, samples*width), samples, width)
	for name, ins := range map[string][]*engine.Tensor{"no x": {nil, cond}, "short cond": {x, engine.Wrap(numbers(1, width), 1, width)}} {
		if _, _, err := g.Forward(f, ins, false); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	bare := weights(0)
	delete(bare.Adapters, "in")
	if _, _, err := g.Forward(engine.Fused{Backend: f.Backend, Binding: bare}, []*engine.Tensor{x, cond}, false); err == nil {
		t.Error("a block without the adapters of its graph was accepted")
	}
}

// TestBuildErrors: a function that cannot be differentiated or names what is not there is an error, not a panic.
func TestBuildErrors(t *testing.T) {
	functions := map[string]func(o engine.Ops[Value], in []Value) Value{
		"unknown layer": func(o engine.Ops[Value], in []Value) Value {
			return o.Project([]engine.Segment{{Rows: rows, Layers: []string{"absent"}}}, in[0])
		},
		"same input twice": func(o engine.Ops[Value], in []Value) Value {
			seg := []engine.Segment{{Rows: samples, Layers: []string{"by"}}}
			return o.Add(o.Project(seg, in[1]), o.Project(seg, in[1]))
		},
		"no influence":       func(o engine.Ops[Value], in []Value) Value { return o.Activate(in[1], engine.SiLU) },
		"result is an input": func(o engine.Ops[Value], in []Value) Value { return in[1] },
	}
	for name, function := range functions {
		if _, err := Build(weights(0), declared, None, function); err == nil {
			t.Errorf("%s: built", name)
		}
	}
}

func TestMemoryNames(t *testing.T) {
	for _, m := range []Memory{None, Selective, Full} {
		if got, err := ParseMemory(m.String()); err != nil || got != m {
			t.Errorf("%v is read as %v, %v", m, got, err)
		}
	}
	if _, err := ParseMemory("some"); err == nil || !strings.Contains(err.Error(), "selective") {
		t.Errorf("error %v, want one that lists the policies", err)
	}
}

// TestGradientPruning: without the gradient of the input the program has fewer operations to run.
func TestGradientPruning(t *testing.T) {
	g := built(t, None)
	count := func(p *program) (n int) {
		for _, a := range p.plan {
			if a == compute {
				n++
			}
		}
		return n
	}
	all, some := count(g.backward), count(g.adapted)
	if some >= all {
		t.Errorf("%d operations without the gradient of x, %d with", some, all)
	}
	recalled := 0
	for _, a := range g.backward.plan {
		if a == recall {
			recalled++
		}
	}
	if recalled == 0 || slices.Contains(built(t, Full).backward.plan, recall) {
		t.Error("none recalls no value, or full some")
	}
}

// TestGarbage: tokens are Go objects over foreign memory; a collection must not follow or free what they point to.
func TestGarbage(t *testing.T) {
	g := built(t, None)
	want := replay(t, g, reference.New(), 2)
	for range 5 {
		runtime.GC()
		if !same(replay(t, g, reference.New(), 2), want) {
			t.Fatal("other bits after a collection")
		}
	}
}
