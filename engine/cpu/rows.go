//go:build cgo

package cpu

/*
#include "kernels.h"

#cgo noescape call_norm
#cgo nocallback call_norm
#cgo noescape call_modulate
#cgo nocallback call_modulate
#cgo noescape call_modulate_back
#cgo nocallback call_modulate_back
#cgo noescape call_gate_add
#cgo nocallback call_gate_add
#cgo noescape call_gate_back
#cgo nocallback call_gate_back
#cgo noescape call_sample_sums
#cgo nocallback call_sample_sums

static void call_norm(void (*kernel)(const norm_args *), const norm_args *g) { kernel(g); }
static void call_modulate(const kernels *k, const modulate_args *g) { k->modulate(g); }
static void call_modulate_back(const kernels *k, const modulate_back_args *g) { k->modulate_back(g); }
static void call_gate_add(const kernels *k, const gate_args *g) { k->gate_add(g); }
static void call_gate_back(const kernels *k, const gate_back_args *g) { k->gate_back(g); }
static void call_sample_sums(const kernels *k, const sample_sums_args *g) { k->sample_sums(g); }
*/
import "C"

import (
	"fmt"
	"runtime"

	"github.com/sciflux/sciflux/engine"
)

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
	e.norm(e.kernels.layer_norm, "layer norm", y, x, weight, bias, eps)
}

// RMSNorm implements engine.Backend.
func (e *Backend) RMSNorm(y, x engine.View, weight []float32, eps float32) {
	e.norm(e.kernels.rms_norm, "rms norm", y, x, weight, nil, eps)
}

func (e *Backend) norm(kernel *[0]byte, op string, y, x engine.View, weight, bias []float32, eps float32) {
	g := C.norm_args{
		y: operand(op, y, y.Rows, y.Cols), x: operand(op, x, y.Rows, y.Cols),
		weight: affine(op, weight, y.Cols), bias: affine(op, bias, y.Cols), eps: C.float(eps),
	}
	e.each(y.Rows, y.Cols, 2, func(part C.part) {
		h := g
		h.rows = part
		C.call_norm(kernel, &h)
	})
	runtime.KeepAlive([]any{y.T, x.T, weight, bias})
}

// perSample checks an operand with one row for each n of rows, and makes it one.
func perSample(op string, v engine.View, n, rows, cols int) C.matrix {
	if rows > 0 && (n <= 0 || rows%n != 0) {
		panic(fmt.Sprintf("cpu: %s: %d rows, %d per sample", op, rows, n))
	}
	if n > 0 {
		want(op, v, rows/n, cols)
	}
	return C.matrix{at: origin(op, v), stride: C.long(v.Stride)}
}

// Modulate implements engine.Backend.
func (e *Backend) Modulate(y, x, shift, scale engine.View, per int) {
	rows, cols := y.Rows, y.Cols
	g := C.modulate_args{
		y: operand("modulate", y, rows, cols), x: operand("modulate", x, rows, cols),
		shift: perSample("modulate shift", shift, per, rows, cols), scale: perSample("modulate scale", scale, per, rows, cols),
		per_sample: C.long(per), eps: engine.ModulateEps,
	}
	e.each(rows, cols, 2, func(part C.part) {
		h := g
		h.rows = part
		C.call_modulate(e.kernels, &h)
	})
	runtime.KeepAlive([]any{y.T, x.T, shift.T, scale.T})
}

// ModulateBack implements engine.Backend.
func (e *Backend) ModulateBack(dx, dshift, dscale, x, scale, dy engine.View, per int, beta float32) {
	const op = "modulate back"
	rows, cols := dx.Rows, dx.Cols
	g := C.modulate_back_args{
		dx: operand(op, dx, rows, cols), x: operand(op, x, rows, cols), dy: operand(op, dy, rows, cols),
		scale: perSample(op+" scale", scale, per, rows, cols), per_sample: C.long(per), eps: engine.ModulateEps, add: flag(adds(beta)),
	}
	if dscale.T != nil {
		s := e.take(2 * rows)
		defer e.give(s)
		g.moments = C.matrix{at: s.addr(), stride: 2}
	}
	e.each(rows, cols, 2, func(part C.part) {
		h := g
		h.rows = part
		C.call_modulate_back(e.kernels, &h)
	})
	if dshift.T != nil {
		e.sampleSums(op+" shift", dshift, dy, per, C.sample_sums_args{})
	}
	if dscale.T != nil {
		e.sampleSums(op+" scale", dscale, dy, per, C.sample_sums_args{x: g.x, moments: g.moments})
	}
	runtime.KeepAlive([]any{dx.T, dshift.T, dscale.T, x.T, scale.T, dy.T})
}

// sampleSums sums dy, times the factor in g, over the rows of each sample. Tasks are runs of columns.
func (e *Backend) sampleSums(op string, out, dy engine.View, per int, g C.sample_sums_args) {
	samples := out.Rows
	if per > 0 {
		samples = dy.Rows / per
	}
	g.out, g.dy, g.per_sample = operand(op, out, samples, dy.Cols), operand(op, dy, dy.Rows, dy.Cols), C.long(per)
	if samples == 0 || out.Cols == 0 {
		return
	}
	chunk := 64
	if per*out.Cols*samples <= grain {
		chunk = out.Cols
	}
	e.team.do(ceil(out.Cols, chunk), func(task int) {
		first := task * chunk
		h := C.sample_sums_args{
			out: shifted(g.out, first), dy: shifted(g.dy, first), x: shifted(g.x, first), moments: g.moments, per_sample: g.per_sample,
			rows: C.part{to: C.long(samples), cols: C.long(min(chunk, out.Cols-first))},
		}
		C.call_sample_sums(e.kernels, &h)
	})
}

// GateAdd implements engine.Backend.
func (e *Backend) GateAdd(y, s, x, gate engine.View, per int) {
	const op = "gate add"
	rows, cols := y.Rows, y.Cols
	g := C.gate_args{
		y: operand(op, y, rows, cols), s: operand(op, s, rows, cols), x: operand(op, x, rows, cols),
		gate: perSample(op+" gate", gate, per, rows, cols), per_sample: C.long(per),
	}
	e.each(rows, cols, 1, func(part C.part) {
		h := g
		h.rows = part
		C.call_gate_add(e.kernels, &h)
	})
	runtime.KeepAlive([]any{y.T, s.T, x.T, gate.T})
}

// GateBack implements engine.Backend.
func (e *Backend) GateBack(dx, dgate, dy, x, gate engine.View, per int) {
	const op = "gate back"
	rows, cols := dx.Rows, dx.Cols
	factor := operand(op+" x", x, rows, cols)
	g := C.gate_back_args{
		dx: operand(op, dx, rows, cols), dy: operand(op, dy, rows, cols),
		gate: perSample(op+" gate", gate, per, rows, cols), per_sample: C.long(per),
	}
	if dgate.T != nil {
		e.sampleSums(op+" gate", dgate, dy, per, C.sample_sums_args{x: factor})
	}
	e.each(rows, cols, 1, func(part C.part) {
		h := g
		h.rows = part
		C.call_gate_back(e.kernels, &h)
	})
	runtime.KeepAlive([]any{dx.T, dgate.T, dy.T, x.T, gate.T})
}
