package enginetest

import (
	"fmt"
	"math"

	"github.com/sciflux/sciflux/engine"
)

// products are rows, inputs, outputs: edges of every tile, thin and empty ones, several blocks of depth and width.
var products = [][3]int{
	{1, 1, 1}, {0, 5, 7}, {5, 0, 7}, {5, 7, 0}, {1, 300, 77}, {2, 33, 65}, {4, 128, 768}, {6, 64, 31}, {7, 17, 33}, {13, 40, 16},
	{32, 128, 128}, {37, 129, 41}, {97, 64, 200}, {64, 700, 96}, {100, 333, 130}, {14, 321, 2100}, {200, 1000, 70},
}

func linears(b *bench) {
	for _, s := range products {
		for _, d := range []engine.DType{engine.Float32, engine.BFloat16} {
			for _, beta := range []float32{0, 1} {
				for _, compute := range []engine.DType{engine.Float32, engine.BFloat16} {
					b.linear(s[0], s[1], s[2], d, compute, beta)
				}
			}
		}
	}
}

func (b *bench) linear(rows, in, out int, d, compute engine.DType, beta float32) {
	what := fmt.Sprintf("%d rows, %d→%d %v in %v beta %g", rows, in, out, d, compute, beta)
	w := b.weight(out, in, d)
	w.Compute = compute
	var bias []float32
	if b.rng.IntN(2) == 0 {
		bias = b.values(out)
	}
	px, x := b.view("x", rows, in)
	py, y := b.view("y", rows, out)
	b.both(func(e engine.Backend, i int) { e.Linear(y[i], x[i], w, bias, beta) })
	b.check("linear "+what, py)
	pg, g := b.view("dy", rows, out)
	pd, dx := b.view("dx", rows, in)
	b.both(func(e engine.Backend, i int) { e.LinearBack(dx[i], g[i], w, beta) })
	b.check("linear back "+what, pd)
	b.drop(px, pg)
}

func matmuls(b *bench) {
	for _, s := range products {
		for trans := range 4 {
			b.matmul(s[0], s[1], s[2], trans&1 > 0, trans&2 > 0, float32(s[1]%2))
		}
	}
}

// transposes checks every bit: NaN, infinities and −0 go where they belong too.
func transposes(b *bench) {
	for _, s := range append(products, [3]int{8, 8, 0}, [3]int{17, 9, 0}, [3]int{1, 700, 0}, [3]int{65, 33, 0}) {
		rows, cols := s[0], s[1]
		px, x := b.view("x", rows, cols)
		if rows*cols > 3 {
			v := make([]float32, px.got.Len())
			b.e.Download(v, px.got)
			for i, special := range []float32{float32(math.NaN()), float32(math.Inf(-1)), float32(math.Copysign(0, -1))} {
				v[x[0].Offset+(i%rows)*x[0].Stride+(i*7)%cols] = special
			}
			b.e.Upload(px.got, v)
			b.ref.Upload(px.ref, v)
		}
		py, y := b.view("y", cols, rows)
		b.both(func(e engine.Backend, i int) { e.Transpose(y[i], x[i]) })
		got, want := make([]float32, py.got.Len()), make([]float32, py.ref.Len())
		b.e.Download(got, py.got)
		b.ref.Download(want, py.ref)
		for i := range want {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
				b.t.Errorf("transpose %d×%d: value %d is %v, want %v", rows, cols, i, got[i], want[i])
				break
			}
		}
		b.drop(px, py)
	}
}

func (b *bench) matmul(m, k, n int, transA, transB bool, beta float32) {
	pc, c := b.view("c", m, n)
	shape := func(rows, cols int, trans bool) (int, int) {
		if trans {
			return cols, rows
		}
		return rows, cols
	}
	ra, ca := shape(m, k, transA)
	rb, cb := shape(k, n, transB)
	pa, a := b.view("a", ra, ca)
	pb, right := b.view("b", rb, cb)
	b.both(func(e engine.Backend, i int) { e.MatMul(c[i], a[i], transA, right[i], transB, 0.25, beta) })
	b.check(fmt.Sprintf("matmul %d×%d×%d trans %v %v beta %g", m, k, n, transA, transB, beta), pc)
	b.drop(pa, pb)
}
