package graph

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"gorgonia.org/tensor"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/enginetest"
	"github.com/sciflux/sciflux/engine/reference"
)

// The text of these tests is a small block: y = s + gate·out(gelu(in(LN(x)·(1+scale)+shift))) with adapters.
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
		Layers:   map[string]engine.Layer{"by": layer(10*i+1, 3*width, width), "in": layer(10*i+2, hidden, width), "out": layer(10*i+3, width, hidden)},
		Adapters: map[string]*engine.LowRank{"in": lowRank(10*i+4, hidden, width), "by": lowRank(10*i+6, 3*width, width)},
	}
}

func text[V any](o engine.Ops[V], x, cond V) V {
	by := o.Project([]engine.Segment{{Rows: samples, Layers: []string{"by"}}}, cond)
	all := func(name string) []engine.Segment { return []engine.Segment{{Rows: rows, Layers: []string{name}}} }
	m := engine.Modulation[V]{Rows: rows, PerSample: perSample, By: by, Shift: 0, Scale: 1, Gate: 2}
	h := o.Activate(o.Project(all("in"), o.Modulate(x, m)), engine.GELUTanh)
	return o.GateAdd(x, o.Project(all("out"), h), m)
}

func write(o engine.Ops[Value], in []Value) Value { return text(o, in[0], in[1]) }

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
		sums[key] = &engine.LowRank{A: engine.Wrap(r.grads[at:][:low.A.Len()], low.A.Len()), B: engine.Wrap(r.grads[at+low.A.Len():][:low.B.Len()], low.B.Len())}
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
// that have seen one block only, and with the text run at once.
func TestOneGraphServesAllBlocks(t *testing.T) {
	b := reference.New()
	var want [3]result
	for i := range want {
		want[i] = replay(t, built(t, None), b, uint64(i))
		e := engine.NewEager(b)
		e.Bind(weights(uint64(i)))
		y := text(e, engine.Wrap(numbers(100+uint64(i), rows*width), rows, width), engine.Wrap(numbers(200+uint64(i), samples*width), samples, width))
		if !slices.Equal(y.Floats(), want[i].y) {
			t.Errorf("block %d: the graph's result differs from the text run at once", i)
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

// TestLackOfMemoryIsAnError: whichever allocation of a pass fails, its error says that memory ran out, nothing is left
// behind, and the graph gives the same bits afterwards.
func TestLackOfMemoryIsAnError(t *testing.T) {
	for _, memory := range []Memory{None, Selective, Full} {
		b, g := reference.New(), built(t, memory)
		want := replay(t, g, b, 0)
		low := func() map[string]*engine.LowRank {
			sums := map[string]*engine.LowRank{}
			for key, a := range weights(0).Adapters {
				sums[key] = &engine.LowRank{A: engine.Wrap(make([]float32, a.A.Len()), a.A.Len()), B: engine.Wrap(make([]float32, a.B.Len()), a.B.Len())}
			}
			return sums
		}
		ins := []*engine.Tensor{engine.Wrap(numbers(1, rows*width), rows, width), engine.Wrap(numbers(2, samples*width), samples, width)}
		enginetest.Starve(t, b, func(be engine.Backend) error {
			f := engine.Fused{Backend: be, Binding: weights(0)}
			y, kept, err := g.Forward(f, ins, true)
			if err != nil {
				return err
			}
			defer be.Free(y)
			dins, err := g.Backward(f, ins, kept, y, low(), true)
			for _, d := range dins {
				be.Free(d)
			}
			return err
		})
		if !same(replay(t, g, b, 0), want) {
			t.Error("other bits after failures")
		}
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

// TestBuildErrors: a text that cannot be differentiated or names what is not there is an error, not a panic.
func TestBuildErrors(t *testing.T) {
	texts := map[string]func(o engine.Ops[Value], in []Value) Value{
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
	for name, text := range texts {
		if _, err := Build(weights(0), declared, None, text); err == nil {
			t.Errorf("%s: built", name)
		}
	}
}

// TestResultsBelongToTheCaller: what Forward and Backward give is nobody else's, where a result is an input or stays for
// the backward pass, and where gradients are that of the result or one and the same.
func TestResultsBelongToTheCaller(t *testing.T) {
	two := []Input{{"x", rows, width, true}, {"z", rows, width, true}}
	attend := &engine.Binding{Layers: map[string]engine.Layer{"qkv": layer(1, 3*width, width)}}
	for name, text := range map[string]func(o engine.Ops[Value], in []Value) Value{
		"sum": func(o engine.Ops[Value], in []Value) Value { return o.Add(in[0], in[1]) },
		"sum of sums": func(o engine.Ops[Value], in []Value) Value {
			return o.Add(o.Add(in[0], in[1]), o.Activate(in[1], engine.SiLU))
		},
		"attention": func(o engine.Ops[Value], in []Value) Value {
			qkv := o.Project([]engine.Segment{{Rows: rows, Layers: []string{"qkv"}}}, o.Add(in[0], in[1]))
			return o.Attend(qkv, engine.Heads{Layout: engine.Layout{B: samples, T: perSample}, Heads: 1, Dim: width})
		},
	} {
		for _, memory := range []Memory{None, Selective, Full} {
			g, err := Build(attend, two, memory, text)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			be := enginetest.Strict(reference.New())
			owned := func(seed uint64) *engine.Tensor {
				x := be.Alloc(rows, width)
				be.Upload(x, numbers(seed, rows*width))
				return x
			}
			ins, dy := []*engine.Tensor{owned(1), owned(2)}, owned(3)
			before, _ := be.Memory()
			f := engine.Fused{Backend: be, Binding: attend}
			y, kept, err := g.Forward(f, ins, true)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			dins, err := g.Backward(f, ins, kept, dy, nil, true)
			if err != nil || len(dins) != 2 {
				t.Fatalf("%s: %d gradients, %v", name, len(dins), err)
			}
			for _, own := range append(dins, y) { // a free of what is not there fails here
				be.Free(own)
			}
			if after, _ := be.Memory(); after != before {
				t.Errorf("%s, memory %v: %d bytes left over", name, memory, after-before)
			}
			if !slices.Equal(dy.Floats(), numbers(3, rows*width)) {
				t.Errorf("%s, memory %v: the gradient of the result was changed or freed", name, memory)
			}
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

// remote is a backend in whose memory every access of the host is a crash, and that counts what it is asked to do. Its
// tensors lie apart, as those of a device. The embedded interface is nil: a kernel that is not listed here would crash too.
type remote struct {
	engine.Backend
	base          unsafe.Pointer
	used          int
	live, kernels int
}

func newRemote(t *testing.T) *remote {
	base, err := reserve(1 << 24)
	if err != nil {
		t.Fatal(err)
	}
	return &remote{base: base}
}

func (r *remote) Alloc(shape ...int) *engine.Tensor {
	t := &engine.Tensor{Shape: shape, Addr: unsafe.Add(r.base, r.used)}
	r.used += 4 * t.Len()
	r.live++
	return t
}
func (r *remote) Free(*engine.Tensor) { r.live-- }
func (r *remote) Linear(y, x engine.View, w *engine.Weight, bias []float32, beta float32) {
	r.kernels++
}
func (r *remote) LinearBack(dx, dy engine.View, w *engine.Weight, beta float32) { r.kernels++ }
func (r *remote) MatMul(c, a engine.View, ta bool, b engine.View, tb bool, alpha, beta float32) {
	r.kernels++
}
func (r *remote) Copy(dst, src engine.View)                                  { r.kernels++ }
func (r *remote) Zero(engine.View)                                           { r.kernels++ }
func (r *remote) Add(y, a, b engine.View)                                    { r.kernels++ }
func (r *remote) Axpy(y engine.View, alpha float32, x engine.View)           { r.kernels++ }
func (r *remote) Activate(y, x engine.View, f engine.Activation)             { r.kernels++ }
func (r *remote) ActivateBack(dx, dy, x engine.View, f engine.Activation)    { r.kernels++ }
func (r *remote) Modulate(y, x, shift, scale engine.View, perSample int)     { r.kernels++ }
func (r *remote) GateAdd(y, s, x, gate engine.View, perSample int)           { r.kernels++ }
func (r *remote) GateBack(dx, dgate, dy, x, gate engine.View, perSample int) { r.kernels++ }
func (r *remote) ModulateBack(dx, ds, dc, x, scale, dy engine.View, perSample int, beta float32) {
	r.kernels++
}
func (r *remote) Attend(o, q, k, v engine.View, a *engine.Attention) { r.kernels++ }
func (r *remote) AttendBack(dq, dk, dv, do, o, q, k, v engine.View, a *engine.Attention) {
	r.kernels++
}

// attentive is the block of these tests with attention, rotated and normalised, around it.
func attentive(o engine.Ops[Value], in []Value) Value {
	qkv := o.Project([]engine.Segment{{Rows: rows, Layers: []string{"qkv"}}}, text(o, in[0], in[1]))
	h := engine.Heads{Layout: engine.Layout{B: samples, N: perSample}, Heads: 1, Dim: width, NormQ: [2]string{"n", "n"}, NormK: [2]string{"n", "n"}}
	return o.Stack(o.Rows(o.Add(in[0], o.Attend(qkv, h)), 0, 2), o.Rows(in[0], 2, rows-2))
}

// TestDeviceMemoryIsNeverTouched runs both programs on memory that the host cannot read or write, as a graphics card's, and
// in which no kernel gets an operand that is freed or overlaps its output.
func TestDeviceMemoryIsNeverTouched(t *testing.T) {
	for _, memory := range []Memory{None, Selective, Full} {
		r, w := newRemote(t), weights(0)
		be := enginetest.Strict(r)
		w.Layers["qkv"], w.Adapters["qkv"] = layer(9, 3*width, width), lowRank(10, 3*width, width)
		w.Norms = map[string][]float32{"n": numbers(11, width)}
		w.Cos, w.Sin = be.Alloc(perSample, width/2), be.Alloc(perSample, width/2)
		sums := map[string]*engine.LowRank{}
		for key, low := range w.Adapters {
			low.A, low.B = be.Alloc(low.A.Shape...), be.Alloc(low.B.Shape...)
			sums[key] = &engine.LowRank{A: be.Alloc(low.A.Shape...), B: be.Alloc(low.B.Shape...)}
		}
		g, err := Build(w, declared, memory, attentive)
		if err != nil {
			t.Fatal(err)
		}
		f, ins := engine.Fused{Backend: be, Binding: w}, []*engine.Tensor{be.Alloc(rows, width), be.Alloc(samples, width)}
		held := r.live
		y, kept, err := g.Forward(f, ins, true)
		if err != nil {
			t.Fatal(err)
		}
		dins, err := g.Backward(f, ins, kept, y, sums, true)
		if err != nil {
			t.Fatal(err)
		}
		be.Free(y)
		be.Free(dins[0])
		if r.live != held || r.kernels < 30 {
			t.Errorf("%v: %d tensors left over, %d kernels run", memory, r.live-held, r.kernels)
		}
	}
}
