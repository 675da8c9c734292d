//go:build cgo

package cpu

// #include "kernels.h"
import "C"

import (
	"fmt"
	"math"
	"runtime"

	"github.com/sciflux/sciflux/engine"
)

// SumSquares implements engine.Backend: partial sums of fixed runs, added in order.
func (e *Backend) SumSquares(x *engine.Tensor) float64 {
	n := x.Len()
	if n == 0 {
		return 0
	}
	at := origin("sum of squares", engine.All(x))
	parts := make([]float64, ceil(n, grain))
	e.team.do(len(parts), func(task int) {
		parts[task] = e.sumSquaresC(at+C.addr(4*task*grain), min(grain, n-task*grain))
	})
	runtime.KeepAlive(x)
	var sum float64
	for _, p := range parts {
		sum += p
	}
	return sum
}

// Update implements engine.Backend.
func (e *Backend) Update(w, m, v, g *engine.Tensor, scale float64, a engine.AdamW) {
	n := w.Len()
	if m.Len() != n || v.Len() != n || g.Len() != n {
		panic(fmt.Sprintf("cpu: update of %d weights with %d, %d moments and %d gradients", n, m.Len(), v.Len(), g.Len()))
	}
	if n == 0 {
		return
	}
	step := float64(a.Step)
	args := C.adamw_args{
		w: origin("update", engine.All(w)), m: origin("update", engine.All(m)), v: origin("update", engine.All(v)),
		g: origin("update", engine.All(g)), scale: C.float(scale),
		beta1: C.float(a.Beta1), rest1: C.float(1 - a.Beta1), beta2: C.float(a.Beta2), rest2: C.float(1 - a.Beta2),
		decay: C.float(a.LR * a.Decay), rate: C.float(a.LR / (1 - math.Pow(a.Beta1, step))),
		root: C.float(1 / math.Sqrt(1-math.Pow(a.Beta2, step))), eps: C.float(a.Eps),
	}
	chunk := grain / 4
	e.team.do(ceil(n, chunk), func(task int) {
		part := args
		at := C.addr(4 * task * chunk)
		part.w, part.m, part.v, part.g = part.w+at, part.m+at, part.v+at, part.g+at
		part.n = C.long(min(chunk, n-task*chunk))
		e.adamwC(&part)
	})
	runtime.KeepAlive([]*engine.Tensor{w, m, v, g})
}
