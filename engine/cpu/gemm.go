//go:build cgo

package cpu

// #include "kernels.h"
import "C"

import (
	"fmt"
	"runtime"

	"github.com/sciflux/sciflux/engine"
)

// Tiling, the same on all machines. depth is the run of k that one block of packed panels covers, so that a panel stays in
// the first-level cache; width and height bound a task's columns and rows, so that its rows stay in the second.
const (
	gemmDepth  = 320
	gemmWidth  = 2048 // columns packed at a time
	taskWidth  = 256
	taskHeight = 96
	packWidth  = 64
	// inline is how many multiply-adds the caller does alone rather than wake others.
	inline = 200_000
)

// left is an m×k operand: element (i, p) is rows·i + cols·p floats from at; one of the two is 1.
type left struct {
	at         C.addr
	rows, cols int
}

// right is a k×n operand in memory: with byRows row j holds column j (a weight used transposed), else row p holds all
// columns of one p. Rows are stride elements apart.
type right struct {
	at     C.addr
	stride int
	bf16   bool
	byRows bool
}

// from is the operand from depth p and column j on.
func (r right) from(p, j int) C.addr {
	size := 4
	if r.bf16 {
		size = 2
	}
	if r.byRows {
		p, j = j, p
	}
	return r.at + C.addr(size*(p*r.stride+j))
}

type product struct {
	m, n, k int
	a       left
	b       right
	c       C.addr
	ldc     int
	alpha   float32
	bias    C.addr
	add     bool
	narrow  bool // both operands are rounded to bfloat16
}

// Linear implements engine.Backend.
func (e *Backend) Linear(y, x engine.View, w *engine.Weight, bias []float32, beta float32) {
	want("linear output", y, x.Rows, w.Out)
	want("linear input", x, x.Rows, w.In)
	if bias != nil && len(bias) != w.Out {
		panic(fmt.Sprintf("cpu: linear bias of %d values, want %d", len(bias), w.Out))
	}
	p := product{m: x.Rows, n: w.Out, k: w.In, c: origin("linear", y), ldc: y.Stride, alpha: 1, add: adds(beta)}
	p.narrow = w.Compute == engine.BFloat16
	p.a = left{origin("linear", x), x.Stride, 1}
	p.b = weight(w, true)
	if bias != nil {
		p.bias = address(bias)
	}
	e.multiply(p)
	runtime.KeepAlive(w)
	runtime.KeepAlive(bias)
	runtime.KeepAlive(x.T)
	runtime.KeepAlive(y.T)
}

// LinearBack implements engine.Backend.
func (e *Backend) LinearBack(dx, dy engine.View, w *engine.Weight, beta float32) {
	want("linear back input", dy, dx.Rows, w.Out)
	want("linear back output", dx, dy.Rows, w.In)
	p := product{m: dy.Rows, n: w.In, k: w.Out, c: origin("linear back", dx), ldc: dx.Stride, alpha: 1, add: adds(beta)}
	p.narrow = w.Compute == engine.BFloat16
	p.a = left{origin("linear back", dy), dy.Stride, 1}
	p.b = weight(w, false)
	e.multiply(p)
	runtime.KeepAlive(w)
	runtime.KeepAlive(dx.T)
	runtime.KeepAlive(dy.T)
}

// MatMul implements engine.Backend.
func (e *Backend) MatMul(c, a engine.View, transA bool, b engine.View, transB bool, alpha, beta float32) {
	m, k, kb, n := a.Rows, a.Cols, b.Rows, b.Cols
	if transA {
		m, k = k, m
	}
	if transB {
		kb, n = n, kb
	}
	if k != kb {
		panic(fmt.Sprintf("cpu: matmul of %d×%d by %d×%d", m, k, kb, n))
	}
	want("matmul output", c, m, n)
	p := product{m: m, n: n, k: k, c: origin("matmul", c), ldc: c.Stride, alpha: alpha, add: adds(beta)}
	p.a = left{origin("matmul", a), a.Stride, 1}
	if transA {
		p.a.rows, p.a.cols = 1, a.Stride
	}
	p.b = right{at: origin("matmul", b), stride: b.Stride, byRows: transB}
	e.multiply(p)
	runtime.KeepAlive(a.T)
	runtime.KeepAlive(b.T)
	runtime.KeepAlive(c.T)
}

func adds(beta float32) bool {
	if beta != 0 && beta != 1 {
		panic(fmt.Sprintf("cpu: beta %g, want 0 or 1", beta))
	}
	return beta == 1
}

// weight checks a weight and makes it a right operand.
func weight(w *engine.Weight, byRows bool) right {
	r := right{stride: w.Stride, byRows: byRows, bf16: w.BF16 != nil}
	have := len(w.F32)
	if r.bf16 {
		have = len(w.BF16)
	}
	if w.Out == 0 || w.In == 0 {
		return r
	}
	if w.Stride < w.In && w.Out > 1 || have < (w.Out-1)*w.Stride+w.In {
		panic(fmt.Sprintf("cpu: weight %d×%d stride %d in %d values", w.Out, w.In, w.Stride, have))
	}
	if r.bf16 {
		r.at = address(w.BF16)
	} else {
		r.at = address(w.F32)
	}
	return r
}

// multiply runs C = alpha·A·B + bias (+ C). The way is chosen by shape alone.
func (e *Backend) multiply(p product) {
	switch {
	case p.m == 0 || p.n == 0:
	case p.k == 0:
		e.fill(p)
	case p.narrow && e.amx:
		e.multiplyOneDNN(p)
	case p.narrow:
		e.multiplyOwn(p)
	case p.m <= C.THIN_ROWS && p.b.byRows && p.a.cols == 1 && p.alpha == 1:
		e.thin(p)
	case e.onednn:
		e.multiplyOneDNN(p)
	default:
		e.multiplyOwn(p)
	}
}

// fill is the product over nothing: bias or zero.
func (e *Backend) fill(p product) {
	y := C.matrix{at: p.c, stride: C.long(p.ldc)}
	switch {
	case p.bias != 0:
		e.bias(y, p.m, p.n, p.bias, p.add)
	case !p.add:
		e.clear(y, p.m, p.n)
	}
}

// thin multiplies a few rows, split by columns.
func (e *Backend) thin(p product) {
	chunk := max(2, inline/(p.k*p.m)/2*2)
	e.team.do(ceil(p.n, chunk), func(task int) {
		j := task * chunk
		g := C.thin_args{
			y: p.c + C.addr(4*j), x: p.a.at, w: p.b.from(0, j), m: C.long(p.m), n: C.long(min(chunk, p.n-j)), k: C.long(p.k),
			ldy: C.long(p.ldc), ldx: C.long(p.a.rows), stride: C.long(p.b.stride), bf16: flag(p.b.bf16), add: flag(p.add),
		}
		if p.bias != 0 {
			g.bias = p.bias + C.addr(4*j)
		}
		e.thinC(&g)
	})
}

// block is one run of k and columns: its right operand is packed into panels, its left operand too where that pays.
type block struct {
	product
	lift, panel    int
	pack           bool // the left operand is packed
	panels, strips C.addr
	mr, nr         int
}

func (e *Backend) multiplyOwn(p product) {
	mr, nr := int(e.kernels.mr), int(e.kernels.nr)
	depth := even(p.k, gemmDepth, 8)
	width := min(even(p.n, gemmWidth, nr), gemmWidth)
	// Rows read in place are fine while one run of k covers them; longer rows lie too far apart for the caches.
	pack := p.narrow || p.k > gemmDepth && p.n >= 4*nr || p.a.cols != 1 && p.n > 8*nr
	panels, strips := ceil(width, nr)*nr*depth, 0
	if pack {
		strips = ceil(p.m, mr) * mr * depth
	}
	s := e.take(panels + strips)
	defer e.give(s)
	for k := 0; k < p.k; k += depth {
		for j := 0; j < p.n; j += width {
			b := block{product: p, pack: pack, mr: mr, nr: nr, panels: s.addr()}
			b.strips = b.panels + C.addr(4*panels)
			b.k, b.n = min(depth, p.k-k), min(width, p.n-j)
			b.a.at += C.addr(4 * k * p.a.cols)
			b.b.at = p.b.from(k, j)
			b.c += C.addr(4 * j)
			b.add = p.add || k > 0
			b.bias = 0
			if p.bias != 0 && k == 0 {
				b.bias = p.bias + C.addr(4*j)
			}
			e.multiplyBlock(&b, pack && j == 0)
		}
	}
}

// even is the smallest number of equal runs of n that are at most limit, as the length of one, a multiple of step.
func even(n, limit, step int) int {
	runs := ceil(n, limit)
	return ceil(ceil(n, runs), step) * step
}

func ceil(n, by int) int { return (n + by - 1) / by }

func flag(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

// multiplyBlock packs, then multiplies tiles. strips says whether the left operand has to be packed for this block.
func (e *Backend) multiplyBlock(b *block, strips bool) {
	b.panel = b.nr * b.k
	packTask, packRows := ceil(packWidth, b.nr)*b.nr, ceil(packWidth, b.mr)*b.mr
	rights, lefts := ceil(b.n, packTask), 0
	if strips {
		lefts = ceil(b.m, packRows)
	}
	height, width := ceil(taskHeight, b.mr)*b.mr, ceil(taskWidth, b.nr)*b.nr
	down, across := ceil(b.m, height), ceil(b.n, width)
	team := e.team
	if b.m*b.n*b.k <= inline {
		team = alone
	}
	team.do(rights+lefts, func(task int) {
		if task < rights {
			e.packRight(b, task*packTask, packTask)
		} else {
			e.packLeft(b, (task-rights)*packRows, packRows)
		}
	})
	team.do(down*across, func(task int) {
		e.tile(b, task%down*height, height, task/down*width, width)
	})
}

// alone runs jobs on the caller.
var alone = &team{size: 1}

func (e *Backend) packRight(b *block, j, n int) {
	e.packC(&C.pack_args{
		dst: b.panels + C.addr(4*j*b.k), src: b.b.from(0, j), panel: C.long(b.panel), stride: C.long(b.b.stride),
		n: C.long(min(n, b.n-j)), k: C.long(b.k), bf16: flag(b.b.bf16), rows: flag(b.b.byRows), round: flag(b.narrow),
	}, false)
}

func (e *Backend) packLeft(b *block, i, n int) {
	g := C.pack_args{
		dst: b.strips + C.addr(4*i*b.k), src: b.a.at + C.addr(4*i*b.a.rows), panel: C.long(b.mr * b.k),
		n: C.long(min(n, b.m-i)), k: C.long(b.k), rows: 1, stride: C.long(b.a.rows), round: flag(b.narrow),
	}
	if b.a.cols != 1 {
		g.rows, g.stride = 0, C.long(b.a.cols)
	}
	e.packC(&g, true)
}

func (e *Backend) tile(b *block, i, m, j, n int) {
	g := C.product_args{
		a: b.a.at + C.addr(4*i*b.a.rows), rows: C.long(b.a.rows), cols: C.long(b.a.cols), lift: C.long(b.mr * b.a.rows),
		b: b.panels + C.addr(4*j*b.k), panel: C.long(b.panel), c: b.c + C.addr(4*(i*b.ldc+j)), ldc: C.long(b.ldc),
		m: C.long(min(m, b.m-i)), n: C.long(min(n, b.n-j)), k: C.long(b.k), alpha: C.float(b.alpha), add: flag(b.add),
	}
	if b.pack {
		g.a, g.rows, g.cols, g.lift = b.strips+C.addr(4*i*b.k), 1, C.long(b.mr), C.long(b.mr*b.k)
	}
	if b.bias != 0 {
		g.bias = b.bias + C.addr(4*j)
	}
	e.productC(&g)
}
