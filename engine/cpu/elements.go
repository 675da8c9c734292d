//go:build cgo

package cpu

/*
#include "kernels.h"

#cgo noescape call_elements
#cgo nocallback call_elements
#cgo noescape call_activation
#cgo nocallback call_activation
#cgo noescape call_bias
#cgo nocallback call_bias
#cgo noescape call_transpose
#cgo nocallback call_transpose

static void call_elements(void (*kernel)(const elements_args *), const elements_args *g) { kernel(g); }
static void call_activation(void (*kernel)(const activation_args *), const activation_args *g) { kernel(g); }
static void call_bias(const kernels *k, const bias_args *g) { k->bias(g); }
static void call_transpose(const kernels *k, const transpose_args *g) { k->transpose(g); }
*/
import "C"

import (
	"fmt"
	"runtime"

	"github.com/sciflux/sciflux/engine"
)

// grain is how many values one task of a cheap kernel handles; costlier kernels take a fraction.
const grain = 16 << 10

// elementsKernel is a C function that makes values of the values at the same place.
type elementsKernel = *[0]byte

// operand checks a view, which must be rows×cols, and makes it an operand.
func operand(op string, v engine.View, rows, cols int) C.matrix {
	want(op, v, rows, cols)
	return C.matrix{at: origin(op, v), stride: C.long(v.Stride)}
}

// alike is operand for a view that must have the shape of y.
func alike(op string, v, y engine.View) C.matrix { return operand(op, v, y.Rows, y.Cols) }

// shifted is the operand from its n-th column on; an operand that a call does not have stays none.
func shifted(m C.matrix, n int) C.matrix {
	if m.at != 0 {
		m.at += C.addr(4 * n)
	}
	return m
}

// each cuts the rows of a matrix into tasks of about grain/cost values.
func (e *Backend) each(rows, cols, cost int, run func(part C.part)) {
	if rows == 0 || cols == 0 {
		return
	}
	chunk := max(1, grain/cost/cols)
	e.team.do(ceil(rows, chunk), func(task int) {
		run(C.part{from: C.long(task * chunk), to: C.long(min(rows, (task+1)*chunk)), cols: C.long(cols)})
	})
}

// eachValue is each for matrices without gaps, which are one run of values that may be cut anywhere: run gets the first
// value of its part too.
func (e *Backend) eachValue(n, cost int, run func(first int, part C.part)) {
	chunk := grain / cost
	e.team.do(ceil(n, chunk), func(task int) {
		run(task*chunk, C.part{to: 1, cols: C.long(min(chunk, n-task*chunk))})
	})
}

// dense tells whether there are no gaps between the rows of views.
func dense(views ...engine.View) bool {
	for _, v := range views {
		if v.Stride != v.Cols && v.Rows != 1 {
			return false
		}
	}
	return true
}

// elements runs a kernel over views, which are the operands of g.
func (e *Backend) elements(kernel elementsKernel, g C.elements_args, views ...engine.View) {
	rows, cols := views[0].Rows, views[0].Cols
	if dense(views...) {
		e.eachValue(rows*cols, 1, func(first int, part C.part) {
			h := C.elements_args{rows: part, y: shifted(g.y, first), a: shifted(g.a, first), b: shifted(g.b, first), alpha: g.alpha}
			C.call_elements(kernel, &h)
		})
	} else {
		e.each(rows, cols, 1, func(part C.part) {
			h := g
			h.rows = part
			C.call_elements(kernel, &h)
		})
	}
	runtime.KeepAlive(views)
}

// Copy implements engine.Backend.
func (e *Backend) Copy(dst, src engine.View) {
	e.elements(e.kernels.copy, C.elements_args{y: alike("copy", dst, dst), a: alike("copy", src, dst)}, dst, src)
}

// Zero implements engine.Backend.
func (e *Backend) Zero(dst engine.View) {
	e.elements(e.kernels.zero, C.elements_args{y: alike("zero", dst, dst)}, dst)
}

// Add implements engine.Backend.
func (e *Backend) Add(y, a, b engine.View) {
	e.elements(e.kernels.add, C.elements_args{y: alike("add", y, y), a: alike("add", a, y), b: alike("add", b, y)}, y, a, b)
}

// Mul implements engine.Backend.
func (e *Backend) Mul(y, a, b engine.View) {
	e.elements(e.kernels.mul, C.elements_args{y: alike("mul", y, y), a: alike("mul", a, y), b: alike("mul", b, y)}, y, a, b)
}

// Axpy implements engine.Backend.
func (e *Backend) Axpy(y engine.View, alpha float32, x engine.View) {
	e.elements(e.kernels.axpy, C.elements_args{y: alike("axpy", y, y), a: alike("axpy", x, y), alpha: C.float(alpha)}, y, x)
}

// Activate implements engine.Backend.
func (e *Backend) Activate(y, x engine.View, f engine.Activation) {
	g := C.activation_args{y: alike("activate", y, y), x: alike("activate", x, y)}
	e.activation(e.kernels.activate, g, f, y, x)
}

// ActivateBack implements engine.Backend.
func (e *Backend) ActivateBack(dx, dy, x engine.View, f engine.Activation) {
	const op = "activate back"
	g := C.activation_args{y: alike(op, dx, dx), dy: alike(op, dy, dx), x: alike(op, x, dx)}
	e.activation(e.kernels.activate_back, g, f, dx, dy, x)
}

// activation runs a kernel over views, which are the operands of g.
func (e *Backend) activation(kernel elementsKernel, g C.activation_args, f engine.Activation, views ...engine.View) {
	const cost = 4
	if f > engine.SiLU {
		panic(fmt.Sprintf("cpu: activation %d", f))
	}
	g.function = C.int(f)
	rows, cols := views[0].Rows, views[0].Cols
	if dense(views...) {
		e.eachValue(rows*cols, cost, func(first int, part C.part) {
			h := C.activation_args{rows: part, y: shifted(g.y, first), x: shifted(g.x, first), dy: shifted(g.dy, first), function: g.function}
			C.call_activation(kernel, &h)
		})
	} else {
		e.each(rows, cols, cost, func(part C.part) {
			h := g
			h.rows = part
			C.call_activation(kernel, &h)
		})
	}
	runtime.KeepAlive(views)
}

// clear makes an m×n matrix zero.
func (e *Backend) clear(y C.matrix, m, n int) {
	e.each(m, n, 1, func(part C.part) { C.call_elements(e.kernels.zero, &C.elements_args{rows: part, y: y}) })
}

// bias puts the same row into every row of an m×n matrix, or adds it.
func (e *Backend) bias(y C.matrix, m, n int, bias C.addr, add bool) {
	e.each(m, n, 1, func(part C.part) {
		C.call_bias(e.kernels, &C.bias_args{rows: part, y: y, bias: bias, add: flag(add)})
	})
}

// Transpose implements engine.Backend.
func (e *Backend) Transpose(y, x engine.View) {
	g := C.transpose_args{y: operand("transpose", y, x.Cols, x.Rows), x: operand("transpose", x, x.Rows, x.Cols)}
	const chunk = 32 // rows of y: whole cache lines of x
	if x.Rows > 0 {
		e.team.do(ceil(y.Rows, chunk), func(task int) {
			h := g
			h.rows = C.part{from: C.long(task * chunk), to: C.long(min(y.Rows, (task+1)*chunk)), cols: C.long(y.Cols)}
			C.call_transpose(e.kernels, &h)
		})
	}
	runtime.KeepAlive(y.T)
	runtime.KeepAlive(x.T)
}
