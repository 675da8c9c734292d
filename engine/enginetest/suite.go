// Package enginetest holds what every engine.Backend must do: the same numbers as the plain-Go kernels for all shapes,
// strides and storage types, nothing written outside the views, and the same bits on every repetition.
package enginetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/reference"
)

// bench is one comparison: the backend under test, the reference, and a source of numbers.
type bench struct {
	t         testing.TB
	e, ref    engine.Backend
	rng       *rand.Rand
	tolerance float64
}

// pair is the same tensor on both backends.
type pair struct {
	name     string
	got, ref *engine.Tensor
}

// sentinel surrounds every view; kernels may not touch it.
const sentinel = 12345.5

// Run checks a backend against the reference on fixed shapes: ordinary, odd, one and zero.
func Run(t *testing.T, e engine.Backend) {
	cases := map[string]func(*bench){
		"linear": linears, "matmul": matmuls, "transpose": transposes, "elements": elements, "norms": norms, "modulate": modulates,
		"attention": attentions, "images": images, "optimizer": optimizers, "memory": memories,
	}
	for name, f := range cases {
		t.Run(name, func(t *testing.T) {
			f(&bench{t: t, e: e, ref: reference.New(), rng: rand.New(rand.NewPCG(1, 2)), tolerance: 1e-5})
		})
	}
}

func (b *bench) values(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(b.rng.NormFloat64())
	}
	return v
}

// tensor makes equal random tensors on both backends.
func (b *bench) tensor(name string, shape ...int) pair {
	p := pair{name, b.e.Alloc(shape...), b.ref.Alloc(shape...)}
	v := b.values(p.got.Len())
	b.e.Upload(p.got, v)
	b.ref.Upload(p.ref, v)
	return p
}

// view is a random rows×cols view inside a wider tensor filled with the sentinel, as (tested, reference).
func (b *bench) view(name string, rows, cols int) (pair, [2]engine.View) {
	stride, skip := cols+b.rng.IntN(3)*5, b.rng.IntN(4)
	p := pair{name, b.e.Alloc(skip + rows*stride + 3), b.ref.Alloc(skip + rows*stride + 3)}
	v := make([]float32, p.got.Len())
	for i := range v {
		v[i] = sentinel
	}
	for r := range rows {
		copy(v[skip+r*stride:][:cols], b.values(cols))
	}
	b.e.Upload(p.got, v)
	b.ref.Upload(p.ref, v)
	at := func(t *engine.Tensor) engine.View {
		return engine.View{T: t, Offset: skip, Rows: rows, Cols: cols, Stride: stride}
	}
	return p, [2]engine.View{at(p.got), at(p.ref)}
}

// weight is a random frozen weight in a wider matrix.
func (b *bench) weight(out, in int, d engine.DType) *engine.Weight {
	stride := in + b.rng.IntN(2)*3
	w := &engine.Weight{Out: out, In: in, Stride: stride}
	v := b.values(out*stride + 1)
	if d == engine.Float32 {
		w.F32 = v
		return w
	}
	w.BF16 = make([]uint16, len(v))
	for i, x := range v {
		w.BF16[i] = uint16(math.Float32bits(x) >> 16)
	}
	return w
}

// check compares whole tensors, the surroundings of views included, against the largest reference value.
func (b *bench) check(what string, pairs ...pair) {
	b.t.Helper()
	for _, p := range pairs {
		got, want := make([]float32, p.got.Len()), make([]float32, p.ref.Len())
		b.e.Download(got, p.got)
		b.ref.Download(want, p.ref)
		b.compare(fmt.Sprintf("%s: %s", what, p.name), got, want)
		b.e.Free(p.got)
		b.ref.Free(p.ref)
	}
}

func (b *bench) compare(what string, got, want []float32) {
	b.t.Helper()
	scale := 1.0
	for _, w := range want {
		if a := math.Abs(float64(w)); w != sentinel && a > scale && !math.IsInf(a, 0) {
			scale = a
		}
	}
	for i, w := range want {
		g := got[i]
		if w == g || w != w && g != g {
			continue
		}
		if d := math.Abs(float64(g) - float64(w)); w == sentinel || !(d <= b.tolerance*scale) {
			b.t.Errorf("%s: value %d is %g, want %g (largest %g)", what, i, g, w, scale)
			return
		}
	}
}

// drop frees operands that were not compared.
func (b *bench) drop(pairs ...pair) {
	for _, p := range pairs {
		b.e.Free(p.got)
		b.ref.Free(p.ref)
	}
}

// both runs a kernel on the two backends; side picks the tested (0) or reference (1) half of views.
func (b *bench) both(run func(e engine.Backend, side int)) {
	run(b.e, 0)
	run(b.ref, 1)
}
