package cpu_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/reference"
)

func wide(v []float32) []float64 {
	w := make([]float64, len(v))
	for i, x := range v {
		w[i] = float64(x)
	}
	return w
}

// TestLongAttention: one head over as many tokens as FLUX has at 1024 pixels (512 + 4096), and over more, forwards and
// backwards, every value against the kernels of the reference in float64.
func TestLongAttention(t *testing.T) {
	for _, l := range []engine.Layout{{B: 1, T: 512, N: 4096}, {B: 1, T: 904, N: 4096}} {
		t.Run(fmt.Sprint(l.L()), func(t *testing.T) {
			t.Parallel()
			const dim = 4
			rows := l.Rows()
			source := newBench(reference.New(), uint64(rows))
			q, k, v, do := source.values(rows*dim), source.values(rows*dim), source.values(rows*dim), source.values(rows*dim)
			cos, sin := source.values(rows*dim/2), source.values(rows*dim/2)
			dense := func(v []float32) reference.Matrix[float64] { return reference.Dense(wide(v), rows, dim) }
			zeros := func() reference.Matrix[float64] { return reference.Zeros[float64](rows, dim) }
			exact := &reference.Attention[float64]{Layout: l, Heads: 1, Dim: dim, Scale: 0.5, Cos: wide(cos), Sin: wide(sin)}
			o, dq, dk, dv := zeros(), zeros(), zeros(), zeros()
			reference.Attend(o, dense(q), dense(k), dense(v), exact)
			reference.AttendBack(dq, dk, dv, dense(do), o, dense(q), dense(k), dense(v), exact)
			wrap := func(v []float32) engine.View { return engine.All(engine.Wrap(v, rows, dim)) }
			for name, e := range backends(t, 2) {
				a := &engine.Attention{Layout: l, Heads: 1, Dim: dim, Scale: 0.5}
				a.Cos, a.Sin = engine.Wrap(cos, rows, dim/2), engine.Wrap(sin, rows, dim/2)
				var out [4][]float32
				for i := range out {
					out[i] = make([]float32, rows*dim)
				}
				e.Attend(wrap(out[0]), wrap(q), wrap(k), wrap(v), a)
				e.AttendBack(wrap(out[1]), wrap(out[2]), wrap(out[3]), wrap(do), wrap(out[0]), wrap(q), wrap(k), wrap(v), a)
				for i, want := range []reference.Matrix[float64]{o, dq, dk, dv} {
					nearly(t, fmt.Sprintf("%s: %s", name, []string{"o", "dq", "dk", "dv"}[i]), out[i], want.Data)
				}
			}
		})
	}
}

// nearly compares within 1e-4 of the largest value: sums of thousands of products in float32.
func nearly(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	var largest float64
	for _, w := range want {
		largest = max(largest, math.Abs(w))
	}
	for i, w := range want {
		if d := math.Abs(float64(got[i]) - w); !(d <= 1e-4*largest) {
			t.Errorf("%s: value %d is %v, want %v (largest %v)", what, i, got[i], w, largest)
			return
		}
	}
}

// TestAttentionOverAPicture: one head over the 128×128 cells of a picture of 1024 pixels, as in the middle of the
// autoencoder, some queries against sums in float64.
func TestAttentionOverAPicture(t *testing.T) {
	const cells, dim = 128 * 128, 8
	source := newBench(reference.New(), 4)
	q, k, v := source.values(cells*dim), source.values(cells*dim), source.values(cells*dim)
	wrap := func(v []float32) engine.View { return engine.All(engine.Wrap(v, cells, dim)) }
	a := &engine.Attention{Layout: engine.Layout{B: 1, T: cells}, Heads: 1, Dim: dim, Scale: 0.35}
	queries := []int{0, 1, 23, 24, 4095, 4096, 4097, 8191, 8192, 12345, cells - 25, cells - 1}
	var want [][]float64
	for _, i := range queries {
		want = append(want, softmaxRow(q[i*dim:][:dim], k, v, float64(a.Scale)))
	}
	for name, e := range backends(t, 2) {
		o := make([]float32, cells*dim)
		e.Attend(wrap(o), wrap(q), wrap(k), wrap(v), a)
		for n, i := range queries {
			nearly(t, fmt.Sprintf("%s: query %d", name, i), o[i*dim:][:dim], want[n])
		}
	}
}

// softmaxRow is softmax(scale·q·kᵀ)·v of one query by definition.
func softmaxRow(q, k, v []float32, scale float64) []float64 {
	dim := len(q)
	out, total := make([]float64, dim), 0.0
	for j := 0; j < len(k); j += dim {
		var s float64
		for d, x := range q {
			s += float64(x) * float64(k[j+d])
		}
		p := math.Exp(s * scale)
		total += p
		for d := range out {
			out[d] += p * float64(v[j+d])
		}
	}
	for d := range out {
		out[d] /= total
	}
	return out
}

// TestProductsAsLargeAsTheModel: one product over the inner sizes of FLUX, some elements against sums in float64.
func TestProductsAsLargeAsTheModel(t *testing.T) {
	const m, n, k = 9, 40, 15360
	source := newBench(reference.New(), 5)
	x, w := source.values(m*k), source.values(n*k)
	for name, e := range backends(t, 2) {
		y := make([]float32, m*n)
		e.Linear(engine.All(engine.Wrap(y, m, n)), engine.All(engine.Wrap(x, m, k)), &engine.Weight{Out: n, In: k, Stride: k, F32: w}, nil, 0)
		for i := range m {
			want := make([]float64, n)
			for j := range n {
				for l := range k {
					want[j] += float64(x[i*k+l]) * float64(w[j*k+l])
				}
			}
			nearly(t, fmt.Sprintf("%s: row %d", name, i), y[i*n:][:n], want)
		}
	}
}
