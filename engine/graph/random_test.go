package graph

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/reference"
)

// operands are the inputs of one pass of a script: x, cond and perhaps z, and the gradient of the result.
type operands struct {
	ins []*engine.Tensor
	dy  *engine.Tensor
}

func (s *script) operands(r *rand.Rand) operands {
	random := func(rows, cols int) *engine.Tensor {
		v := make([]float32, rows*cols)
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
		return engine.Wrap(v, rows, cols)
	}
	in := operands{dy: random(s.layout.Rows(), s.cols)}
	for _, i := range s.declared() {
		in.ins = append(in.ins, random(i.Rows, i.Cols))
	}
	return in
}

// tester is a test or one check of a property.
type tester interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func (s *script) declared() []Input {
	ins := []Input{{"x", s.layout.Rows(), s.cols, true}, {"cond", s.layout.B, s.cond, true}}
	if s.z {
		ins = append(ins, Input{"z", s.layout.Rows(), s.cols, true})
	}
	return ins
}

func (s *script) build(t tester, memory Memory) *Graph {
	g, err := Build(s.weights, s.declared(), memory, func(o engine.Ops[Value], in []Value) Value { return play(s, o, in...) })
	if err != nil {
		t.Fatalf("%v: %v", s.steps, err)
	}
	return g
}

// gradients are a pass's result and its gradients: of the inputs, and of A and B of each adapter in order.
type gradients struct {
	y     []float32
	parts [][]float32
}

func (s *script) pass(t tester, g *Graph, b engine.Backend, in operands) (out gradients) {
	f := engine.Fused{Backend: b, Binding: s.weights}
	before, _ := b.Memory()
	y, kept, err := g.Forward(f, in.ins, true)
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]*engine.LowRank{}
	for _, key := range s.keys() {
		low := s.weights.Adapters[key]
		sums[key] = &engine.LowRank{A: engine.Wrap(make([]float32, low.A.Len()), low.A.Len()), B: engine.Wrap(make([]float32, low.B.Len()),
			low.B.Len())}
	}
	dins, err := g.Backward(f, in.ins, kept, in.dy, sums, true)
	if err != nil {
		t.Fatalf("%+v: %v", s.steps, err)
	}
	out.y = slices.Clone(y.Floats())
	b.Free(y)
	if n := len(s.declared()); len(dins) != n {
		t.Fatalf("%d gradients of %d inputs", len(dins), n)
	}
	for i, d := range dins {
		if d == nil || d == in.dy || slices.Contains(dins[:i], d) {
			t.Fatalf("%+v: gradient %d is nobody's own: %v", s.steps, i, d)
		}
	}
	for _, d := range dins {
		out.parts = append(out.parts, slices.Clone(d.Floats()))
		b.Free(d)
	}
	for _, key := range s.keys() {
		out.parts = append(out.parts, sums[key].A.Floats(), sums[key].B.Floats())
	}
	if after, _ := b.Memory(); after != before {
		t.Fatalf("a pass leaves %d bytes behind", after-before)
	}
	return out
}

func equalPass(a, b gradients) bool {
	return slices.Equal(a.y, b.y) && slices.EqualFunc(a.parts, b.parts, func(x, y []float32) bool { return slices.Equal(x, y) })
}

// TestRandomGraphs: any graph of the fused operations gives what the function gives when it is run at once, bit for bit;
// its gradients are the derivatives of the same function in float64; recomputing changes no bit; and a replay with other inputs
// in between gives the first bits again.
func TestRandomGraphs(t *testing.T) {
	b := reference.New()
	rapid.Check(t, func(t *rapid.T) {
		s := drawScript(t)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "operands"), 6))
		in, other := s.operands(r), s.operands(r)
		g := s.build(t, None)
		if !slices.Equal(g.Adapters(), s.keys()) {
			t.Fatalf("the graph has adapters %v, the function %v", g.Adapters(), s.keys())
		}
		want := s.pass(t, g, b, in)
		e := engine.NewEager(b)
		e.Bind(s.weights)
		if y := play(s, e, in.ins...); !slices.Equal(y.Floats(), want.y) {
			t.Fatal("the graph's result differs from the function run at once")
		}
		e.Release()
		for _, memory := range []Memory{Selective, Full} {
			if !equalPass(s.pass(t, s.build(t, memory), b, in), want) {
				t.Fatalf("memory %v: other bits", memory)
			}
		}
		second := s.pass(t, g, b, other)
		if !equalPass(s.pass(t, g, b, in), want) || equalPass(second, want) {
			t.Fatal("a replay remembers the inputs before it")
		}
		s.checkGradients(t, in, want, r)
	})
}

// checkGradients compares every part of the gradient with differences along a random direction. What the derivative itself changes by
// when the operands are rounded anew is allowed to the gradient, which was computed in float32: some drawn graphs are steep.
func (s *script) checkGradients(t tester, in operands, got gradients, r *rand.Rand) {
	e := newExact(s.weights)
	var parts [][]float64
	for _, x := range in.ins {
		parts = append(parts, widen(x.Floats()))
	}
	for _, key := range s.keys() {
		parts = append(parts, e.adapters[key][0], e.adapters[key][1])
	}
	if len(parts) != len(got.parts) {
		t.Fatalf("%d gradients, want %d", len(got.parts), len(parts))
	}
	loss := func() (sum float64) {
		var ins []matrix64
		for i, x := range in.ins {
			ins = append(ins, reference.Dense(parts[i], x.Rows(), x.Cols()))
		}
		y := play(s, e, ins...)
		for i := range y.Rows {
			for j, v := range y.Row(i) {
				sum += v * float64(in.dy.Floats()[i*y.Cols+j])
			}
		}
		return sum
	}
	directions := make([][]float64, len(parts))
	for i, part := range parts {
		directions[i] = make([]float64, len(part))
		for k := range part {
			directions[i][k] = r.NormFloat64()
		}
	}
	derivatives := func() (along []float64) {
		for i, part := range parts {
			along = append(along, directional(part, directions[i], loss))
		}
		return along
	}
	want := derivatives()
	for _, part := range parts {
		for k := range part {
			part[k] *= 1 + 0x1p-24*r.NormFloat64()
		}
	}
	for i, again := range derivatives() {
		along, size := 0.0, 0.0
		for k, d := range directions[i] {
			term := d * float64(got.parts[i][k])
			along, size = along+term, size+math.Abs(term)
		}
		const roundings = 100 // of a path through a graph, and by how much the one drawn may have been a mild one
		if !(math.Abs(want[i]-along) <= 1e-3*(1+size)+roundings*math.Abs(again-want[i])) {
			t.Fatalf("steps %v: gradient part %d along a direction is %v, differences give %v and, rounded anew, %v", s.steps, i, along, want[i],
				again)
		}
	}
}

// directional is the derivative of loss where x moves along a direction, by the rule with five points.
func directional(x, direction []float64, loss func() float64) float64 {
	const h = 2e-6
	old := slices.Clone(x)
	at := func(by float64) float64 {
		for k := range x {
			x[k] = old[k] + by*direction[k]
		}
		return loss()
	}
	derivative := (8*(at(h)-at(-h)) - (at(2*h) - at(-2*h))) / (12 * h)
	copy(x, old)
	return derivative
}

// TestSumsOfTheSameGradients: two nodes of the backward pass add the same two gradients in different order, g + (g + g)
// for m and (g + g) + g on the way to x, and are two nodes all the same.
func TestSumsOfTheSameGradients(t *testing.T) {
	run := []engine.Modulation[int]{{Rows: 3, PerSample: 3, By: 2, Shift: 0, Scale: 1}}
	s := &script{weights: &engine.Binding{Layers: map[string]engine.Layer{"by": layer(1, 8, 2)}}, layout: engine.Layout{B: 1, N: 3},
		cols: 4, cond: 2, steps: []step{
			{op: "project", a: 1, segs: []engine.Segment{{Rows: 1, Layers: []string{"by"}}}}, // 2
			{op: "modulate", a: 0, runs: run},                                                // 3: m
			{op: "add", a: 0, b: 3}, {op: "activate", a: 0}, {op: "add", a: 0, b: 4},         // 4, 5, 6
			{op: "add", a: 0, b: 0}, {op: "add", a: 7, b: 3}, {op: "add", a: 8, b: 4}, {op: "add", a: 9, b: 5}, {op: "add", a: 10, b: 6},
			{op: "activate", a: 11, f: engine.SiLU},
		}}
	r := rand.New(rand.NewPCG(1, 2))
	in := s.operands(r)
	s.checkGradients(t, in, s.pass(t, s.build(t, None), reference.New(), in), r)
}

// TestUnusedOperations: what a function computes and does not use is not computed, and does not hinder the gradients of what
// it shares with the rest.
func TestUnusedOperations(t *testing.T) {
	w := weights(0)
	write := func(unused bool) func(o engine.Ops[Value], in []Value) Value {
		return func(o engine.Ops[Value], in []Value) Value {
			h := o.Activate(in[0], engine.GELU)
			if unused {
				o.Add(h, in[0])
				o.Activate(o.Add(h, h), engine.SiLU)
			}
			return o.Project([]engine.Segment{{Rows: rows, Layers: []string{"in"}}}, h)
		}
	}
	var want []float32
	for _, unused := range []bool{false, true} {
		g, err := Build(w, declared[:1], None, write(unused))
		if err != nil {
			t.Fatal(err)
		}
		b := reference.New()
		f, ins := engine.Fused{Backend: b, Binding: w}, []*engine.Tensor{engine.Wrap(numbers(1, rows*width), rows, width)}
		y, kept, err := g.Forward(f, ins, true)
		if err != nil {
			t.Fatal(err)
		}
		low := w.Adapters["in"]
		sums := map[string]*engine.LowRank{"in": {A: engine.Wrap(make([]float32, low.A.Len()), low.A.Len()), B: engine.Wrap(make([]float32,
			low.B.Len()), low.B.Len())}}
		dins, err := g.Backward(f, ins, kept, y, sums, true)
		if err != nil {
			t.Fatalf("unused operations %v: %v", unused, err)
		}
		got := slices.Concat(y.Floats(), dins[0].Floats(), sums["in"].A.Floats(), sums["in"].B.Floats())
		if want == nil {
			want = got
		}
		if !slices.Equal(got, want) {
			t.Error("unused operations change the result")
		}
		b.Free(y)
		b.Free(dins[0])
		if live, _ := b.Memory(); live != 0 {
			t.Errorf("unused operations %v: %d bytes left over", unused, live)
		}
	}
}
