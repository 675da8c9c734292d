// Package reference computes every kernel of engine.Backend in plain Go: the specification that fast backends are tested
// against. The kernels are generic, so that gradients can be checked by finite differences in float64; sums are always
// accumulated in float64. They take some care not to be slow, but clarity wins.
package reference

import (
	"fmt"
	"math"
	"runtime"
	"sync"
)

// Float is what the kernels compute with.
type Float interface{ float32 | float64 }

// Matrix is a rectangle of numbers, consecutive rows Stride values apart.
type Matrix[F Float] struct {
	Data               []F
	Rows, Cols, Stride int
}

// Dense makes a matrix over data, which holds rows·cols values.
func Dense[F Float](data []F, rows, cols int) Matrix[F] {
	if len(data) != rows*cols {
		panic(fmt.Sprintf("reference: %d values for a %d×%d matrix", len(data), rows, cols))
	}
	return Matrix[F]{Data: data, Rows: rows, Cols: cols, Stride: cols}
}

// Zeros makes a new matrix of zeros.
func Zeros[F Float](rows, cols int) Matrix[F] { return Dense(make([]F, rows*cols), rows, cols) }

// Row is row i.
func (m Matrix[F]) Row(i int) []F {
	if m.Cols == 0 {
		return nil
	}
	return m.Data[i*m.Stride:][:m.Cols:m.Cols]
}

// At is the value in row i, column j.
func (m Matrix[F]) At(i, j int) F { return m.Data[i*m.Stride+j] }

// Columns is the view of columns [from, from+n).
func (m Matrix[F]) Columns(from, n int) Matrix[F] {
	if m.Rows == 0 || n == 0 {
		return Matrix[F]{Rows: m.Rows, Cols: n, Stride: m.Stride}
	}
	return Matrix[F]{Data: m.Data[from:], Rows: m.Rows, Cols: n, Stride: m.Stride}
}

// Transposed is a new matrix with rows and columns swapped.
func (m Matrix[F]) Transposed() Matrix[F] {
	t := Zeros[F](m.Cols, m.Rows)
	for i := range m.Rows {
		for j, x := range m.Row(i) {
			t.Data[j*m.Rows+i] = x
		}
	}
	return t
}

// Rounded is a new matrix of the nearest bfloat16 values, the even ones of two.
func (m Matrix[F]) Rounded() Matrix[F] {
	r := Zeros[F](m.Rows, m.Cols)
	for i := range m.Rows {
		for j, x := range m.Row(i) {
			r.Data[i*m.Cols+j] = F(math.Float32frombits(nearest(math.Float32bits(float32(x)))))
		}
	}
	return r
}

// nearest clears the lower half of the bits of a float32 after rounding. A NaN stays one.
func nearest(bits uint32) uint32 {
	if bits&0x7fffffff > 0x7f800000 {
		return (bits | 0x400000) &^ 0xffff
	}
	return (bits + 0x7fff + bits>>16&1) &^ 0xffff
}

// same panics unless all matrices have the shape of the first.
func same[F Float](op string, ms ...Matrix[F]) {
	for _, m := range ms[1:] {
		shape(op, m, ms[0].Rows, ms[0].Cols)
	}
}

func shape[F Float](op string, m Matrix[F], rows, cols int) {
	if m.Rows != rows || m.Cols != cols {
		panic(fmt.Sprintf("reference: %s of a %d×%d matrix, want %d×%d", op, m.Rows, m.Cols, rows, cols))
	}
}

// parallel calls f for every i in [0, n) from several goroutines. Calls must not depend on each other.
func parallel(n int, f func(i int)) {
	workers := min(runtime.GOMAXPROCS(0), n)
	if workers <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			for i := n * w / workers; i < n*(w+1)/workers; i++ {
				f(i)
			}
		})
	}
	wait.Wait()
}
