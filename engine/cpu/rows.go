//go:build cgo

package cpu

// #include "kernels.h"
import "C"

import (
	"fmt"
	"runtime"

	"github.com/sciflux/sciflux/engine"
)

// grain is how many values one task of a plain kernel handles; costlier kernels take a fraction.
const grain = 16 << 10

// modulateEps is the LayerNorm eps of every adaptive norm in FLUX.
const modulateEps = 1e-6

// bind makes the arguments of a row kernel over views, which all have the rows and columns of the first.
func bind(op string, views ...engine.View) C.rows_args {
	first := views[0]
	g := C.rows_args{to: C.long(first.Rows), cols: C.long(first.Cols)}
	for i, v := range views {
		want(op, v, first.Rows, first.Cols)
		g.p[i], g.s[i] = origin(op, v), C.long(v.Stride)
	}
	return g
}

// each splits rows [0, g.to) into tasks of about grain/cost values.
func (e *Backend) each(kernel C.int, g C.rows_args, cost int) {
	rows, cols := int(g.to), int(g.cols)
	if rows == 0 || cols == 0 {
		return
	}
	chunk := max(1, grain/cost/cols)
	e.team.do(ceil(rows, chunk), func(task int) {
		part := g
		part.from, part.to = C.long(task*chunk), C.long(min(rows, (task+1)*chunk))
		e.rowsC(kernel, &part)
	})
}

// plain runs an elementwise kernel. Matrices without gaps are one run of values, cut anywhere.
func (e *Backend) plain(kernel C.int, op string, alpha float32, mode engine.Activation, cost int, views ...engine.View) {
	g := bind(op, views...)
	g.alpha, g.flag = C.float(alpha), C.int(mode)
	dense := true
	for _, v := range views {
		dense = dense && (v.Stride == v.Cols || v.Rows == 1)
	}
	if !dense || g.to == 0 || g.cols == 0 {
		e.each(kernel, g, cost)
	} else {
		e.run(kernel, g, len(views), cost)
	}
	for _, v := range views {
		runtime.KeepAlive(v.T)
	}
}

// run is each for operands without gaps.
func (e *Backend) run(kernel C.int, g C.rows_args, operands, cost int) {
	n, chunk := int(g.to*g.cols), grain/cost
	e.team.do(ceil(n, chunk), func(task int) {
		part := g
		for i := range operands {
			part.p[i] += C.addr(4 * task * chunk)
		}
		part.to, part.cols = 1, C.long(min(chunk, n-task*chunk))
		e.rowsC(kernel, &part)
	})
}

// Copy implements engine.Backend.
func (e *Backend) Copy(dst, src engine.View) { e.plain(C.ROW_COPY, "copy", 0, 0, 1, dst, src) }

// Zero implements engine.Backend.
func (e *Backend) Zero(dst engine.View) { e.plain(C.ROW_ZERO, "zero", 0, 0, 1, dst) }

// Add implements engine.Backend.
func (e *Backend) Add(y, a, b engine.View) { e.plain(C.ROW_ADD, "add", 0, 0, 1, y, a, b) }

// Mul implements engine.Backend.
func (e *Backend) Mul(y, a, b engine.View) { e.plain(C.ROW_MUL, "mul", 0, 0, 1, y, a, b) }

// Axpy implements engine.Backend.
func (e *Backend) Axpy(y engine.View, alpha float32, x engine.View) {
	e.plain(C.ROW_AXPY, "axpy", alpha, 0, 1, y, x)
}

// Activate implements engine.Backend.
func (e *Backend) Activate(y, x engine.View, f engine.Activation) {
	known(f)
	e.plain(C.ROW_ACTIVATE, "activate", 0, f, 4, y, x)
}

// ActivateBack implements engine.Backend.
func (e *Backend) ActivateBack(dx, dy, x engine.View, f engine.Activation) {
	known(f)
	e.plain(C.ROW_ACTIVATE_BACK, "activate back", 0, f, 4, dx, dy, x)
}

func known(f engine.Activation) {
	if f > engine.SiLU {
		panic(fmt.Sprintf("cpu: activation %d", f))
	}
}

// affine is the address of a norm's weights, 0 for none.
func affine(op string, w []float32, cols int) C.addr {
	if w == nil {
		return 0
	}
	if len(w) != cols {
		panic(fmt.Sprintf("cpu: %s weight of %d values for %d columns", op, len(w), cols))
	}
	return address(w)
}

// LayerNorm implements engine.Backend.
func (e *Backend) LayerNorm(y, x engine.View, weight, bias []float32, eps float32) {
	g := bind("layer norm", y, x)
	g.p[2], g.p[3], g.eps = affine("layer norm", weight, x.Cols), affine("layer norm", bias, x.Cols), C.float(eps)
	e.each(C.ROW_LAYER_NORM, g, 2)
	runtime.KeepAlive([]any{y.T, x.T, weight, bias})
}

// RMSNorm implements engine.Backend.
func (e *Backend) RMSNorm(y, x engine.View, weight []float32, eps float32) {
	g := bind("rms norm", y, x)
	g.p[2], g.eps = affine("rms norm", weight, x.Cols), C.float(eps)
	e.each(C.ROW_RMS_NORM, g, 2)
	runtime.KeepAlive([]any{y.T, x.T, weight})
}

// perRow adds per-sample operands, one row for each perSample rows of the others, at index i.
func perRow(g *C.rows_args, op string, i int, v engine.View, perSample int) {
	rows := int(g.to)
	if rows > 0 && (perSample <= 0 || rows%perSample != 0) {
		panic(fmt.Sprintf("cpu: %s: %d rows, %d per sample", op, rows, perSample))
	}
	if perSample > 0 {
		want(op, v, rows/perSample, int(g.cols))
	}
	g.p[i], g.s[i], g.per = origin(op, v), C.long(v.Stride), C.long(perSample)
}

// Modulate implements engine.Backend.
func (e *Backend) Modulate(y, x, shift, scale engine.View, perSample int) {
	g := bind("modulate", y, x)
	perRow(&g, "modulate shift", 2, shift, perSample)
	perRow(&g, "modulate scale", 3, scale, perSample)
	g.eps = modulateEps
	e.each(C.ROW_MODULATE, g, 2)
	runtime.KeepAlive([]any{y.T, x.T, shift.T, scale.T})
}

// ModulateBack implements engine.Backend.
func (e *Backend) ModulateBack(dx, dshift, dscale, x, scale, dy engine.View, perSample int, beta float32) {
	g := bind("modulate back", dx, x, x, dy)
	perRow(&g, "modulate back scale", 2, scale, perSample)
	g.eps, g.flag = modulateEps, flag(adds(beta))
	var moments space
	if dscale.T != nil {
		moments = e.take(2 * x.Rows)
		defer e.give(moments)
		g.p[4], g.s[4] = C.addr(uintptr(moments.at)), 2
	}
	e.each(C.ROW_MODULATE_BACK, g, 2)
	if dshift.T != nil {
		e.sampleSums("modulate back shift", dshift, dy, engine.View{}, perSample, space{})
	}
	if dscale.T != nil {
		e.sampleSums("modulate back scale", dscale, dy, x, perSample, moments)
	}
	runtime.KeepAlive([]any{dx.T, dshift.T, dscale.T, x.T, scale.T, dy.T})
}

// sampleSums sums dy, times x where given, normalised by its rows' moments where given, over the rows of each sample.
func (e *Backend) sampleSums(op string, out, dy, x engine.View, perSample int, moments space) {
	if perSample > 0 {
		want(op, out, dy.Rows/perSample, dy.Cols)
	}
	g := C.rows_args{to: C.long(out.Rows), per: C.long(perSample)}
	g.p[0], g.s[0] = origin(op, out), C.long(out.Stride)
	g.p[1], g.s[1] = origin(op, dy), C.long(dy.Stride)
	if x.T != nil && dy.Rows > 0 {
		g.p[2], g.s[2] = origin(op, x), C.long(x.Stride)
		g.p[3], g.s[3] = C.addr(uintptr(moments.at)), 2
	}
	if out.Rows == 0 || out.Cols == 0 {
		return
	}
	chunk := 64
	if perSample*out.Cols*out.Rows <= grain {
		chunk = out.Cols
	}
	e.team.do(ceil(out.Cols, chunk), func(task int) {
		part := g
		for _, i := range []int{0, 1, 2} {
			if part.p[i] != 0 {
				part.p[i] += C.addr(4 * task * chunk)
			}
		}
		part.cols = C.long(min(chunk, out.Cols-task*chunk))
		e.rowsC(C.ROW_SAMPLE_SUMS, &part)
	})
}

// GateAdd implements engine.Backend.
func (e *Backend) GateAdd(y, s, x, gate engine.View, perSample int) {
	g := bind("gate add", y, s, x)
	perRow(&g, "gate add gate", 3, gate, perSample)
	e.each(C.ROW_GATE_ADD, g, 1)
	runtime.KeepAlive([]any{y.T, s.T, x.T, gate.T})
}

// GateBack implements engine.Backend.
func (e *Backend) GateBack(dx, dgate, dy, x, gate engine.View, perSample int) {
	want("gate back x", x, dx.Rows, dx.Cols)
	if dgate.T != nil {
		e.sampleSums("gate back gate", dgate, dy, x, perSample, space{})
	}
	g := bind("gate back", dx, dy)
	perRow(&g, "gate back gate", 2, gate, perSample)
	e.each(C.ROW_GATE_BACK, g, 1)
	runtime.KeepAlive([]any{dx.T, dgate.T, dy.T, x.T, gate.T})
}
