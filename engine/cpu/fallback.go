//go:build !cgo

package cpu

import (
	"fmt"
	"os"
	"runtime"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/reference"
)

// Backend computes in plain Go: matrix products in blocks over float32 sums, everything else as the reference does.
type Backend struct {
	engine.Backend
	team *team
}

// New makes the plain-Go backend. Options that ask for C kernels or oneDNN fail.
func New(o Options) (engine.Backend, error) {
	threads, err := o.threads()
	if err != nil {
		return nil, err
	}
	if g := o.gemm(); g != "" && g != "own" {
		return nil, fmt.Errorf("gemm %q: this binary was built without cgo; build with CGO_ENABLED=1 or choose own", g)
	}
	if isa := o.isa(); isa != "" && isa != "go" {
		return nil, fmt.Errorf("cpu instruction set %q: this binary was built without cgo; build with CGO_ENABLED=1", isa)
	}
	return &Backend{Backend: reference.Limited(o.limit()), team: teamOf(threads)}, nil
}

// Describe tells what this machine computes with.
func Describe() Description {
	gemm := os.Getenv("SCIFLUX_GEMM")
	if gemm == "" {
		gemm = "own"
	}
	return Description{ISA: "go", GEMM: gemm, Threads: runtime.GOMAXPROCS(0)}
}

// Name implements engine.Backend.
func (*Backend) Name() string { return "cpu go" }

// Linear implements engine.Backend.
func (e *Backend) Linear(y, x engine.View, w *engine.Weight, bias []float32, beta float32) {
	if bias != nil && len(bias) != w.Out {
		panic(fmt.Sprintf("cpu: linear bias of %d values, want %d", len(bias), w.Out))
	}
	e.multiply(reference.Of(y), reference.Operand(reference.Of(x), w), reference.Operand(reference.Widened(w), w), bias, 1, beta)
}

// LinearBack implements engine.Backend.
func (e *Backend) LinearBack(dx, dy engine.View, w *engine.Weight, beta float32) {
	e.multiply(reference.Of(dx), reference.Operand(reference.Of(dy), w), reference.Operand(reference.Widened(w), w).Transposed(), nil, 1, beta)
}

// MatMul implements engine.Backend.
func (e *Backend) MatMul(c, a engine.View, transA bool, b engine.View, transB bool, alpha, beta float32) {
	left, right := reference.Of(a), reference.Of(b)
	if transA {
		left = left.Transposed()
	}
	if !transB {
		right = right.Transposed()
	}
	e.multiply(reference.Of(c), left, right, nil, alpha, beta)
}

// multiply: c = alpha·a·bᵀ + bias + beta·c in tiles of 4×2 values that share their loads.
func (e *Backend) multiply(c, a, b reference.Matrix[float32], bias []float32, alpha, beta float32) {
	if a.Rows != c.Rows || b.Rows != c.Cols || a.Cols != b.Cols {
		panic(fmt.Sprintf("cpu: matmul %d×%d by %d×%d into %d×%d", a.Rows, a.Cols, b.Cols, b.Rows, c.Rows, c.Cols))
	}
	const height, width = 4, 64 // width rows of b stay in cache while the rows of a pass
	across := (c.Cols + width - 1) / width
	e.team.do(across, func(task int) {
		end := min(c.Cols, (task+1)*width)
		for i := 0; i < c.Rows; i += height {
			for j := task * width; j < end; j += 2 {
				sums := tile(a, i, b, j)
				for r := i; r < min(i+height, c.Rows); r++ {
					for s := j; s < min(j+2, end); s++ {
						put(c.Row(r), s, alpha*sums[r-i][s-j], bias, beta)
					}
				}
			}
		}
	})
}

func put(row []float32, j int, v float32, bias []float32, beta float32) {
	if bias != nil {
		v += bias[j]
	}
	if beta != 0 {
		v += beta * row[j]
	}
	row[j] = v
}

// tile is the products of rows i … i+3 of a with rows j, j+1 of b; rows beyond the end repeat the last one.
func tile(a reference.Matrix[float32], i int, b reference.Matrix[float32], j int) (s [4][2]float32) {
	a0, a1 := a.Row(i), a.Row(min(i+1, a.Rows-1))
	a2, a3 := a.Row(min(i+2, a.Rows-1)), a.Row(min(i+3, a.Rows-1))
	b0, b1 := b.Row(j)[:len(a0)], b.Row(min(j+1, b.Rows-1))[:len(a0)]
	a1, a2, a3 = a1[:len(a0)], a2[:len(a0)], a3[:len(a0)]
	var s00, s01, s10, s11, s20, s21, s30, s31 float32
	for p, x := range a0 {
		y, z := b0[p], b1[p]
		s00 += x * y
		s01 += x * z
		s10 += a1[p] * y
		s11 += a1[p] * z
		s20 += a2[p] * y
		s21 += a2[p] * z
		s30 += a3[p] * y
		s31 += a3[p] * z
	}
	return [4][2]float32{{s00, s01}, {s10, s11}, {s20, s21}, {s30, s31}}
}
