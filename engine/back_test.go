package engine_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/reference"
)

// The gradient of a linear map f is its adjoint: ⟨dy, f(x)⟩ = ⟨back(dy), x⟩ for any dy and x. What Fused computes is
// linear in each operand for itself, so this checks every gradient without differences.

func inner(a, b *engine.Tensor) (sum float64) {
	other := b.Floats()
	for i, x := range a.Floats() {
		sum += float64(x) * float64(other[i])
	}
	return sum
}

func adjoint(t *rapid.T, what string, forward, backward float64) {
	if math.Abs(forward-backward) > 1e-3*(1+math.Abs(forward)) {
		t.Fatalf("%s: ⟨dy, f(x)⟩ is %v, ⟨back(dy), x⟩ %v", what, forward, backward)
	}
}

func zeros(rows, cols int) *engine.Tensor { return engine.Wrap(make([]float32, rows*cols), rows, cols) }

// garbage is an output whose old contents must not matter.
func garbage(rows, cols int) *engine.Tensor {
	x := zeros(rows, cols)
	for i := range x.Floats() {
		x.Floats()[i] = float32(math.NaN())
	}
	return x
}

// projected is a projection with its adapters' pieces, as a graph holds them.
type projected struct {
	joint
	f          engine.Fused
	ts, bs, as []*engine.Tensor
	width      int
}

func drawProjected(t *rapid.T, b engine.Backend) projected {
	p := projected{joint: drawJoint(t)}
	for name, l := range p.binding.Layers { // without bias the map is linear
		p.binding.Layers[name] = engine.Layer{Weight: l.Weight}
	}
	p.f = engine.Fused{Backend: b, Binding: p.binding}
	p.width = p.f.Width(p.segs)
	p.ts, p.bs, p.as = make([]*engine.Tensor, len(p.segs)), make([]*engine.Tensor, len(p.segs)), make([]*engine.Tensor, len(p.segs))
	for s, seg := range p.segs {
		if low := p.f.Adapter(seg); low != nil {
			p.ts[s], p.bs[s], p.as[s] = garbage(seg.Rows, low.Rank()), low.B, low.A
			p.f.Down(p.ts[s], p.segs, s, low.A, p.xs)
		}
	}
	return p
}

func (p projected) result() *engine.Tensor {
	y := garbage(p.rows, p.width)
	p.f.Project(y, p.segs, p.xs, p.ts, p.bs)
	return y
}

// base is the result without adapters.
func (p projected) base() *engine.Tensor {
	y, none := garbage(p.rows, p.width), make([]*engine.Tensor, len(p.segs))
	f := engine.Fused{Backend: p.f.Backend, Binding: &engine.Binding{Layers: p.binding.Layers}}
	f.Project(y, p.segs, p.xs, none, none)
	return y
}

// TestGradientsOfProjections: of all inputs together, and of A and B of every segment.
func TestGradientsOfProjections(t *testing.T) {
	b := reference.New()
	rapid.Check(t, func(t *rapid.T) {
		p := drawProjected(t, b)
		dy := tensor(77, p.rows, p.width)
		y, base := p.result(), p.base()
		us := make([]*engine.Tensor, len(p.segs))
		for s := range p.segs {
			if p.ts[s] != nil {
				us[s] = garbage(p.ts[s].Rows(), p.ts[s].Cols())
				p.f.BackDown(us[s], p.segs, s, dy, p.bs[s])
			}
		}
		back, in := 0.0, 0
		for _, x := range p.xs {
			dx := garbage(p.rows, x.Cols())
			p.f.BackInput(dx, p.segs, in, dy, us, p.as)
			back, in = back+inner(dx, x), in+x.Cols()
		}
		adjoint(t, "inputs", inner(dy, y), back)
		low, backA, backB := inner(dy, y)-inner(dy, base), 0.0, 0.0
		for s := range p.segs {
			if p.ts[s] == nil {
				continue
			}
			da, db := garbage(p.as[s].Rows(), p.as[s].Cols()), garbage(p.bs[s].Len(), 1)
			p.f.BackA(da, p.segs, s, us[s], p.xs)
			p.f.BackB(db, p.segs, s, dy, p.ts[s])
			backA, backB = backA+inner(da, p.as[s]), backB+inner(db, p.bs[s])
		}
		adjoint(t, "A of the adapters", low, backA)
		adjoint(t, "B of the adapters", low, backB)
	})
}

// TestStackedGradients: layers below one another in memory give the gradient of the input that single ones give.
func TestStackedGradients(t *testing.T) {
	b := reference.New()
	rapid.Check(t, func(t *rapid.T) {
		p := drawProjected(t, b)
		dy, none := tensor(78, p.rows, p.width), make([]*engine.Tensor, len(p.segs))
		gradient := func() *engine.Tensor {
			dx := garbage(p.rows, p.xs[0].Cols())
			p.f.BackInput(dx, p.segs, 0, dy, none, none)
			return dx
		}
		single := gradient()
		for _, seg := range p.segs {
			all := engine.Layer{Weight: &engine.Weight{In: p.in, Stride: p.in}}
			for _, name := range seg.Layers {
				all.Weight.F32 = append(all.Weight.F32, p.binding.Layers[name].Weight.F32...)
				all.Weight.Out += p.binding.Layers[name].Weight.Out
			}
			p.binding.Stacked[seg.Layers[0]] = all
		}
		for i, v := range gradient().Floats() {
			if w := single.Floats()[i]; math.Abs(float64(v-w)) > 1e-4*(1+math.Abs(float64(w))) {
				t.Fatalf("value %d: stacked %v, single %v", i, v, w)
			}
		}
	})
}

// drawRuns are two runs of rows over samples, by one matrix of three chunks or by two.
func drawRuns(t *rapid.T, cols int) (ms []engine.Modulation[*engine.Tensor], rows int) {
	samples := rapid.IntRange(1, 3).Draw(t, "samples")
	by := tensor(5, samples, 3*cols)
	chunks := rapid.Permutation([]int{0, 1, 2})
	for i := range 2 {
		per, order := rapid.IntRange(i, 3).Draw(t, "rows of a sample"), chunks.Draw(t, "chunks")
		ms = append(ms, engine.Modulation[*engine.Tensor]{Rows: samples * per, PerSample: per, By: by, Shift: order[0], Scale: order[1],
			Gate: order[2]})
		rows += samples * per
		if rapid.Bool().Draw(t, "a matrix of its own") {
			by = tensor(6, samples, 3*cols)
		}
	}
	return ms, rows
}

// TestGradientsOfModulationsAndGates by what modulates them: the sums over each sample's rows, in the right chunks, of the
// runs that share a matrix; and of the gated input.
func TestGradientsOfModulationsAndGates(t *testing.T) {
	b := reference.New()
	rapid.Check(t, func(t *rapid.T) {
		cols := rapid.IntRange(2, 5).Draw(t, "cols")
		ms, rows := drawRuns(t, cols)
		f := engine.Fused{Backend: b, Binding: &engine.Binding{}}
		x, s, dy := tensor(1, rows, cols), tensor(2, rows, cols), tensor(3, rows, cols)
		still := make([]engine.Modulation[*engine.Tensor], len(ms))
		for i, m := range ms {
			still[i] = m
			still[i].By = zeros(m.By.Rows(), m.By.Cols())
		}
		y, plain, gated := garbage(rows, cols), garbage(rows, cols), garbage(rows, cols)
		f.Modulate(y, x, ms)
		f.Modulate(plain, x, still)
		f.GateAdd(gated, s, x, ms)
		sums, gates := 0.0, 0.0
		for i, m := range ms {
			if i > 0 && m.By == ms[0].By {
				continue // counted with the first
			}
			uses := []bool{ms[0].By == m.By, ms[1].By == m.By}
			d := garbage(m.By.Rows(), m.By.Cols())
			f.BackModulation(d, x, dy, ms, uses)
			sums += inner(d, m.By)
			f.BackGates(d, x, dy, ms, uses)
			gates += inner(d, m.By)
		}
		adjoint(t, "shift and scale", inner(dy, y)-inner(dy, plain), sums)
		adjoint(t, "gates", inner(dy, gated)-inner(dy, s), gates)
		dx := garbage(rows, cols)
		f.BackGate(dx, dy, ms)
		adjoint(t, "gated input", inner(dy, gated)-inner(dy, s), inner(dx, x))
		if live, _ := b.Memory(); live != 0 {
			t.Fatalf("%d bytes left behind", live)
		}
	})
}

// TestGradientOfRows puts what came into the rows that were taken, and 0 elsewhere.
func TestGradientOfRows(t *testing.T) {
	f := engine.Fused{Backend: reference.New(), Binding: &engine.Binding{}}
	rapid.Check(t, func(t *rapid.T) {
		rows, cols := rapid.IntRange(1, 6).Draw(t, "rows"), rapid.IntRange(1, 4).Draw(t, "cols")
		from := rapid.IntRange(0, rows-1).Draw(t, "from")
		n := rapid.IntRange(1, rows-from).Draw(t, "n")
		x, y, dy, dx := tensor(1, rows, cols), garbage(n, cols), tensor(2, n, cols), garbage(rows, cols)
		f.Rows(y, x, from)
		f.BackRows(dx, dy, from)
		adjoint(t, "rows", inner(dy, y), inner(dx, x))
		for i, v := range dx.Floats() {
			if inside := i >= from*cols && i < (from+n)*cols; !inside && v != 0 {
				t.Fatalf("gradient %v in row %d of rows %d+%d", v, i/cols, from, n)
			}
		}
	})
}

// TestEagerKeepsItsBooks: a text of every operation leaves nothing but what is kept, also when it panics half-way.
func TestEagerKeepsItsBooks(t *testing.T) {
	b := reference.New()
	e := engine.NewEager(b)
	x, by := tensor(1, 4, 6), tensor(2, 2, 18)
	m := engine.Modulation[*engine.Tensor]{Rows: 4, PerSample: 2, By: by, Shift: 0, Scale: 1, Gate: 2}
	e.Bind(&engine.Binding{Layers: map[string]engine.Layer{"wide": {Weight: &engine.Weight{Out: 18, In: 6, Stride: 6, F32: numbers(3, 108)}}}})
	text := func() *engine.Tensor {
		n := e.Modulate(x, m)
		o := e.Attend(e.Project([]engine.Segment{{Rows: 4, Layers: []string{"wide"}}}, n), engine.Heads{Layout: engine.Layout{B: 2, N: 2},
			Heads: 3, Dim: 2})
		return e.Add(e.GateAdd(x, e.Activate(o, engine.GELU), m), e.Stack(e.Rows(x, 0, 1), e.Rows(x, 1, 3)))
	}
	y := text()
	e.Release(y)
	if live, _ := b.Memory(); live == 0 || y.Len() != 24 {
		t.Errorf("%d bytes for the result", live)
	}
	first := append([]float32(nil), y.Floats()...)
	e.Free(y)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("an unknown layer was found")
			}
		}()
		e.Modulate(x, m)
		e.Project([]engine.Segment{{Rows: 4, Layers: []string{"absent"}}}, x)
	}()
	e.Release()
	if live, _ := b.Memory(); live != 0 {
		t.Errorf("%d bytes left after a panic", live)
	}
	again := text()
	for i, v := range again.Floats() {
		if v != first[i] {
			t.Fatalf("value %d is %v, before %v", i, v, first[i])
		}
	}
	e.Release()
}
