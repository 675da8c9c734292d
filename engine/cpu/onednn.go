//go:build cgo

package cpu

// #include "onednn.h"
import "C"

// Tiles of a product by oneDNN. Each is one single-threaded call, so the split and with it every bit depends on the shape
// alone; the depth bounds the widened copy of a bfloat16 weight that a task holds.
const (
	onednnWidth  = 512
	onednnHeight = 128 // for narrow products, which are split by rows
	onednnDepth  = 3072
)

// multiplyOneDNN splits a product into tiles for dnnl_sgemm, or for its twin with bfloat16 operands.
func (e *Backend) multiplyOneDNN(p product) {
	width, height := onednnWidth, p.m
	if p.n < 2*onednnWidth {
		height = onednnHeight
	}
	across, y := ceil(p.n, width), C.matrix{at: p.c, stride: C.long(p.ldc)}
	if p.bias != 0 && !p.add {
		e.bias(y, p.m, p.n, p.bias, false)
		p.add, p.bias = true, 0
	}
	if p.narrow {
		s := e.take(ceil(p.m*p.k, 2))
		defer e.give(s)
		e.convert(e.team, true, s.addr(), p.a.at, p.a.rows, p.m, p.k)
		p.a = left{s.addr(), p.k, 1}
	}
	e.team.do(across*ceil(p.m, height), func(task int) {
		e.tileOneDNN(p, task/across*height, height, task%across*width, width)
	})
	if p.bias != 0 {
		e.bias(y, p.m, p.n, p.bias, true)
	}
}

func (e *Backend) tileOneDNN(p product, i, m, j, n int) {
	m, n = min(m, p.m-i), min(n, p.n-j)
	size := 4 // bytes of a value of the left operand
	if p.narrow {
		size = 2
	}
	g := C.onednn_args{
		a: p.a.at + C.addr(size*i*p.a.rows), lda: C.long(p.a.rows), c: p.c + C.addr(4*(i*p.ldc+j)), ldc: C.long(p.ldc),
		m: C.long(m), n: C.long(n), ldb: C.long(p.b.stride), trans_b: flag(p.b.byRows), alpha: C.float(p.alpha), bf16: flag(p.narrow),
	}
	if p.a.cols != 1 {
		g.lda, g.trans_a = C.long(p.a.cols), 1
	}
	for k := 0; k < p.k; k += onednnDepth {
		depth := min(onednnDepth, p.k-k)
		g.k, g.b, g.beta = C.long(depth), p.b.from(k, j), 0
		fit(&g)
		if p.add || k > 0 {
			g.beta = 1
		}
		if p.b.bf16 == p.narrow {
			e.onednnC(&g)
		} else {
			e.converted(&g, p, k, j)
		}
		g.a += C.addr(size * depth * p.a.cols)
	}
}

// fit raises strides that a single row leaves open to what the library accepts.
func fit(g *C.onednn_args) {
	a, b := g.k, g.n
	if g.trans_a != 0 {
		a = g.m
	}
	if g.trans_b != 0 {
		b = g.k
	}
	g.lda, g.ldb, g.ldc = max(g.lda, a), max(g.ldb, b), max(g.ldc, g.n)
}

// converted runs one tile over a copy of its part of the weight in the type of the product.
func (e *Backend) converted(g *C.onednn_args, p product, k, j int) {
	rows, cols := int(g.k), int(g.n)
	if p.b.byRows {
		rows, cols = cols, rows
	}
	s := e.take(rows * cols)
	defer e.give(s)
	e.convert(alone, p.narrow, s.addr(), p.b.from(k, j), p.b.stride, rows, cols)
	g.b, g.ldb = s.addr(), C.long(cols)
	e.onednnC(g)
}
