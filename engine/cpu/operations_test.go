package cpu_test

import (
	"math"
	"math/rand/v2"

	"github.com/sciflux/sciflux/engine"
)

// bench runs operations on one backend with operands drawn from a seed, so that two benches of one seed give two
// backends the same numbers. Every view begins skip values into its tensor and leaves gap values behind each row.
type bench struct {
	e         engine.Backend
	r         *rand.Rand
	skip, gap int
	draw      func(r *rand.Rand) float32 // nil: standard normal
	tame      bool                       // weights are standard normal all the same
	owned     []*engine.Tensor
	out       []float32 // everything that operations wrote, row by row
}

func newBench(e engine.Backend, seed uint64) *bench {
	return &bench{e: e, r: rand.New(rand.NewPCG(seed, 17))}
}

func (b *bench) values(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		if b.draw != nil {
			v[i] = b.draw(b.r)
		} else {
			v[i] = float32(b.r.NormFloat64())
		}
	}
	return v
}

// view is a random rows×cols operand; what lies around it is NaN, so that a read outside shows.
func (b *bench) view(rows, cols int) engine.View { return b.place(rows, cols, b.values(rows*cols)) }

// blank is an output whose old contents no kernel may use.
func (b *bench) blank(rows, cols int) engine.View { return b.place(rows, cols, nil) }

func (b *bench) place(rows, cols int, values []float32) engine.View {
	stride := cols + b.gap
	all := make([]float32, b.skip+rows*stride)
	for i := range all {
		all[i] = float32(math.NaN())
	}
	for i := 0; i < rows && values != nil; i++ {
		copy(all[b.skip+i*stride:], values[i*cols:][:cols])
	}
	t := b.own(b.e.Alloc(len(all)))
	b.e.Upload(t, all)
	return engine.View{T: t, Offset: b.skip, Rows: rows, Cols: cols, Stride: stride}
}

func (b *bench) tensor(shape ...int) *engine.Tensor {
	t := b.own(b.e.Alloc(shape...))
	b.e.Upload(t, b.values(t.Len()))
	return t
}

func (b *bench) own(t *engine.Tensor) *engine.Tensor {
	b.owned = append(b.owned, t)
	return t
}

// weight is a random frozen matrix that begins at an odd place of a bigger one when views do.
func (b *bench) weight(out, in int, half bool) *engine.Weight {
	w := &engine.Weight{Out: out, In: in, Stride: in + b.gap}
	draw := b.draw
	if b.tame {
		b.draw = nil
	}
	v := b.values(out * in)
	b.draw = draw
	at := func(i, j int) int { return b.skip + i*w.Stride + j }
	n := b.skip + out*w.Stride
	if half {
		all := make([]uint16, n)
		for i := range all {
			all[i] = 0x7fc0 // NaN
		}
		for i := range out {
			for j := range in {
				all[at(i, j)] = uint16(math.Float32bits(v[i*in+j]) >> 16)
			}
		}
		w.BF16 = all[b.skip:]
		return w
	}
	all := make([]float32, n)
	for i := range out {
		copy(all[at(i, 0):], v[i*in:][:in])
	}
	w.F32 = all[b.skip:]
	return w
}

// keep adds results to out.
func (b *bench) keep(views ...engine.View) {
	for _, v := range views {
		all := make([]float32, v.T.Len())
		b.e.Download(all, v.T)
		for i := range v.Rows {
			b.out = append(b.out, all[v.Offset+i*v.Stride:][:v.Cols]...)
		}
	}
}

// finish frees what was allocated and returns the results.
func (b *bench) finish() []float32 {
	for _, t := range b.owned {
		b.e.Free(t)
	}
	b.owned = nil
	return b.out
}

// operation is one call of a backend on operands made for a size: rows m, columns n, inner size k.
type operation struct {
	name string
	run  func(b *bench, m, n, k int)
}

// operations are all of engine.Backend, in every form that has code of its own.
func operations() []operation {
	all := append(append(products(), elements()...), norms()...)
	return append(append(all, attentions()...), images()...)
}

func products() []operation {
	linear := func(half, bias, add bool) func(b *bench, m, n, k int) {
		return func(b *bench, m, n, k int) {
			x, w := b.view(m, k), b.weight(n, k, half)
			var add0 []float32
			if bias {
				add0 = b.values(n)
			}
			y, beta := b.blank(m, n), float32(0)
			if add {
				y, beta = b.view(m, n), 1
			}
			b.e.Linear(y, x, w, add0, beta)
			b.keep(y)
		}
	}
	rounded := func(b *bench, m, n, k int) {
		x, w, y := b.view(m, k), b.weight(n, k, false), b.blank(m, n)
		w.Compute = engine.BFloat16
		b.e.Linear(y, x, w, nil, 0)
		b.keep(y)
	}
	back := func(half bool) func(b *bench, m, n, k int) {
		return func(b *bench, m, n, k int) {
			dy, w, dx := b.view(m, n), b.weight(n, k, half), b.blank(m, k)
			b.e.LinearBack(dx, dy, w, 0)
			b.keep(dx)
		}
	}
	matmul := func(ta, tb bool) func(b *bench, m, n, k int) {
		return func(b *bench, m, n, k int) {
			left, right, c := b.view(m, k), b.view(k, n), b.view(m, n)
			if ta {
				left = b.view(k, m)
			}
			if tb {
				right = b.view(n, k)
			}
			b.e.MatMul(c, left, ta, right, tb, 0.25, 1)
			b.keep(c)
		}
	}
	return []operation{
		{"linear", linear(false, false, false)}, {"linear with bias", linear(false, true, false)}, {"linear added", linear(false, true, true)},
		{"bfloat16 linear", linear(true, true, false)}, {"linear in bfloat16", rounded}, {"linear back", back(false)}, {"bfloat16 linear back",
			back(true)},
		{"matmul", matmul(false, false)}, {"matmul a transposed", matmul(true, false)}, {"matmul b transposed", matmul(false, true)},
		{"matmul both transposed", matmul(true, true)},
		{"transpose", func(b *bench, m, n, _ int) {
			x, y := b.view(m, n), b.blank(n, m)
			b.e.Transpose(y, x)
			b.keep(y)
		}},
	}
}

func elements() []operation {
	two := func(name string, run func(e engine.Backend, y, x engine.View)) operation {
		return operation{name, func(b *bench, m, n, _ int) {
			y, x := b.view(m, n), b.view(m, n)
			run(b.e, y, x)
			b.keep(y)
		}}
	}
	all := []operation{
		two("copy", func(e engine.Backend, y, x engine.View) { e.Copy(y, x) }),
		two("zero", func(e engine.Backend, y, _ engine.View) { e.Zero(y) }),
		two("add", func(e engine.Backend, y, x engine.View) { e.Add(y, y, x) }),
		two("mul", func(e engine.Backend, y, x engine.View) { e.Mul(y, x, y) }),
		two("axpy", func(e engine.Backend, y, x engine.View) { e.Axpy(y, -0.37, x) }),
		{"sum of squares", func(b *bench, m, n, _ int) { b.out = append(b.out, float32(b.e.SumSquares(b.tensor(m, n)))) }},
		{"update", func(b *bench, m, n, _ int) {
			w, mean, square, g := b.tensor(m, n), b.tensor(m, n), b.tensor(m, n), b.tensor(m, n)
			b.e.Mul(engine.All(square), engine.All(square), engine.All(square))
			b.e.Update(w, mean, square, g, 0.6, engine.AdamW{LR: 0.01, Beta1: 0.9, Beta2: 0.99, Eps: 1e-6, Decay: 0.1, Step: 3})
			b.keep(engine.All(w), engine.All(mean), engine.All(square))
		}},
	}
	names := []string{"gelu tanh", "gelu", "quick gelu", "silu"}
	for f := engine.GELUTanh; f <= engine.SiLU; f++ {
		all = append(all, two(names[f], func(e engine.Backend, y, x engine.View) { e.Activate(y, x, f) }),
			two(names[f]+" back", func(e engine.Backend, y, x engine.View) { e.ActivateBack(y, y, x, f) }))
	}
	return all
}

// split cuts m rows into samples of equal length, more than one where that goes.
func split(m int) (samples, per int) {
	for per = 2; per < m; per++ {
		if m%per == 0 {
			return m / per, per
		}
	}
	return 1, max(m, 1)
}

func norms() []operation {
	return []operation{
		{"layer norm", func(b *bench, m, n, _ int) {
			x, y, w, bias := b.view(m, n), b.blank(m, n), b.values(n), b.values(n)
			b.e.LayerNorm(y, x, w, bias, 1e-5)
			b.keep(y)
		}},
		{"rms norm", func(b *bench, m, n, _ int) {
			x, y, w := b.view(m, n), b.blank(m, n), b.values(n)
			b.e.RMSNorm(y, x, w, 1e-6)
			b.keep(y)
		}},
		{"modulate", func(b *bench, m, n, _ int) {
			samples, per := split(m)
			rows := samples * per
			x, y, shift, scale := b.view(rows, n), b.blank(rows, n), b.view(samples, n), b.view(samples, n)
			b.e.Modulate(y, x, shift, scale, per)
			b.keep(y)
		}},
		{"modulate back", func(b *bench, m, n, _ int) {
			samples, per := split(m)
			rows := samples * per
			x, dy, scale := b.view(rows, n), b.view(rows, n), b.view(samples, n)
			dx, dshift, dscale := b.view(rows, n), b.blank(samples, n), b.blank(samples, n)
			b.e.ModulateBack(dx, dshift, dscale, x, scale, dy, per, 1)
			b.keep(dx, dshift, dscale)
		}},
		{"gate add", func(b *bench, m, n, _ int) {
			samples, per := split(m)
			rows := samples * per
			s, x, gate, y := b.view(rows, n), b.view(rows, n), b.view(samples, n), b.blank(rows, n)
			b.e.GateAdd(y, s, x, gate, per)
			b.keep(y)
		}},
		{"gate back", func(b *bench, m, n, _ int) {
			samples, per := split(m)
			rows := samples * per
			x, dy, gate := b.view(rows, n), b.view(rows, n), b.view(samples, n)
			dx, dgate := b.blank(rows, n), b.blank(samples, n)
			b.e.GateBack(dx, dgate, dy, x, gate, per)
			b.keep(dx, dgate)
		}},
	}
}

func attentions() []operation {
	attend := func(change func(b *bench, a *engine.Attention)) func(b *bench, m, n, k int) {
		return func(b *bench, m, n, _ int) {
			text := m / 3
			a := &engine.Attention{Layout: engine.Layout{B: 2, T: text, N: m - text}, Heads: 2, Dim: 2 * max(1, min(n/4, 40)), Scale: 0.4}
			change(b, a)
			rows, cols := a.Layout.Rows(), a.Heads*a.Dim
			q, k, v, o := b.view(rows, cols), b.view(rows, cols), b.view(rows, cols), b.blank(rows, cols)
			b.e.Attend(o, q, k, v, a)
			do, dq, dk, dv := b.view(rows, cols), b.blank(rows, cols), b.blank(rows, cols), b.blank(rows, cols)
			b.e.AttendBack(dq, dk, dv, do, o, q, k, v, a)
			b.keep(o, dq, dk, dv)
		}
	}
	return []operation{
		{"attend", attend(func(*bench, *engine.Attention) {})},
		{"causal attend", attend(func(_ *bench, a *engine.Attention) { a.Causal = true })},
		{"attend with bias", attend(func(b *bench, a *engine.Attention) { a.Bias = b.tensor(a.Heads, a.Layout.L(), a.Layout.L()) })},
		{"attend as flux does", attend(func(b *bench, a *engine.Attention) {
			a.Eps = 1e-6
			a.Cos, a.Sin = b.tensor(a.Layout.L(), a.Dim/2), b.tensor(a.Layout.L(), a.Dim/2)
			for i := range 2 {
				a.NormQ[i], a.NormK[i] = b.values(a.Dim), b.values(a.Dim)
			}
		})},
	}
}

func images() []operation {
	convolve := func(c engine.Conv, half bool) func(b *bench, m, n, k int) {
		return func(b *bench, m, n, k int) {
			in, out, h, wide := 1+k%5, 1+n%11, m%31+c.Kernel, n%37+c.Kernel
			x, w, bias := b.tensor(2, in, h, wide), b.weight(out, in*c.Kernel*c.Kernel, half), b.values(out)
			y := b.own(b.e.Alloc(2, out, (h+c.Top+c.Bottom-c.Kernel)/c.Stride+1, (wide+c.Left+c.Right-c.Kernel)/c.Stride+1))
			b.e.Convolve(y, x, w, bias, c)
			b.keep(engine.All(y))
		}
	}
	same := engine.Conv{Kernel: 3, Stride: 1, Top: 1, Bottom: 1, Left: 1, Right: 1}
	return []operation{
		{"convolve", convolve(same, false)}, {"bfloat16 convolve", convolve(same, true)},
		{"halving convolve", convolve(engine.Conv{Kernel: 3, Stride: 2, Bottom: 1, Right: 1}, false)},
		{"pointwise convolve", convolve(engine.Conv{Kernel: 1, Stride: 1}, false)},
		{"patch convolve", convolve(engine.Conv{Kernel: 5, Stride: 5}, true)},
		{"group norm", func(b *bench, m, n, _ int) {
			x, w, bias := b.tensor(2, 6, m%13+1, n%17+1), b.values(6), b.values(6)
			y := b.own(b.e.Alloc(x.Shape...))
			b.e.GroupNorm(y, x, 3, w, bias, 1e-5, true)
			b.keep(engine.All(y))
		}},
		{"upsample", func(b *bench, m, n, _ int) {
			x := b.tensor(1, 3, m, n)
			y := b.own(b.e.Alloc(1, 3, 2*m, 2*n))
			b.e.Upsample(y, x)
			b.keep(engine.All(y))
		}},
	}
}
