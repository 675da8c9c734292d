//go:build cgo

package cpu

// #include "kernels.h"
import "C"

import (
	"fmt"
	"runtime"

	"github.com/sciflux/sciflux/engine"
)

// tileScores is how many scores one tile of queries holds, so that they stay in the second-level cache.
const tileScores = 64 << 10

// attention checks what does not depend on the matrices and makes the arguments of the kernels.
func attention(op string, a *engine.Attention) C.attend_args {
	l := a.Layout
	tokens := l.L()
	if a.Bias != nil && a.Bias.Len() != a.Heads*tokens*tokens {
		panic(fmt.Sprintf("cpu: %s bias of shape %v for %d heads, %d tokens", op, a.Bias.Shape, a.Heads, tokens))
	}
	if a.Cos != nil && (a.Sin == nil || a.Dim%2 != 0 || a.Cos.Len() != tokens*a.Dim/2 || a.Sin.Len() != a.Cos.Len()) {
		panic(fmt.Sprintf("cpu: %s rotation tables for %d tokens of %d values", op, tokens, a.Dim))
	}
	g := C.attend_args{
		samples: C.long(l.B), text: C.long(l.T), image: C.long(l.N), heads: C.long(a.Heads), dim: C.long(a.Dim),
		scale: C.float(a.Scale), eps: C.float(a.Eps), causal: flag(a.Causal), bias: table(a.Bias),
	}
	if a.Cos != nil {
		g.cos, g.sin = table(a.Cos), table(a.Sin)
	}
	for i := range 2 {
		g.norm_q[i], g.norm_k[i] = affine(op, a.NormQ[i], a.Dim), affine(op, a.NormK[i], a.Dim)
	}
	g.tile = C.long(max(1, min(tokens, max(24, min(96, tileScores/max(tokens, 1)/6*6)))))
	return g
}

func table(t *engine.Tensor) C.addr {
	if t == nil {
		return 0
	}
	return origin("attention table", engine.All(t))
}

// heads checks a matrix [R, H·D] and makes it an operand.
func heads(op string, v engine.View, a *engine.Attention) C.matrix {
	return operand(op, v, a.Layout.Rows(), a.Heads*a.Dim)
}

// eachHead runs one task per sample and head.
func (e *Backend) eachHead(g *C.attend_args, a *engine.Attention, back bool) {
	if a.Layout.L() == 0 || a.Dim == 0 {
		return
	}
	need := e.attendScratch(g, back)
	e.team.do(a.Layout.B*a.Heads, func(task int) {
		s := e.take(need)
		e.attendC(g, back, task, s)
		e.give(s)
	})
}

// Attend implements engine.Backend.
func (e *Backend) Attend(o, q, k, v engine.View, a *engine.Attention) {
	g := attention("attend", a)
	g.o = heads("attend o", o, a)
	g.q = heads("attend q", q, a)
	g.k = heads("attend k", k, a)
	g.v = heads("attend v", v, a)
	e.eachHead(&g, a, false)
	runtime.KeepAlive([]any{o.T, q.T, k.T, v.T, a})
}

// AttendBack implements engine.Backend.
func (e *Backend) AttendBack(dq, dk, dv, do, o, q, k, v engine.View, a *engine.Attention) {
	g := attention("attend back", a)
	g.dq = heads("attend back dq", dq, a)
	g.dk = heads("attend back dk", dk, a)
	g.dv = heads("attend back dv", dv, a)
	g.dout = heads("attend back do", do, a)
	g.o = heads("attend back o", o, a)
	g.q = heads("attend back q", q, a)
	g.k = heads("attend back k", k, a)
	g.v = heads("attend back v", v, a)
	e.eachHead(&g, a, true)
	runtime.KeepAlive([]any{dq.T, dk.T, dv.T, do.T, o.T, q.T, k.T, v.T, a})
}
