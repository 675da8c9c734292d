package enginetest

import (
	"fmt"

	"github.com/sciflux/sciflux/engine"
)

// kind is one way of attending: which parts of engine.Attention are used.
type kind struct {
	layout              engine.Layout
	heads, dim          int
	causal, bias        bool
	norm, rotate, fused bool
}

var kinds = []kind{
	{layout: engine.Layout{B: 1, T: 1}, heads: 1, dim: 1},
	{layout: engine.Layout{B: 2, T: 3, N: 5}, heads: 2, dim: 4, norm: true, rotate: true, fused: true},
	{layout: engine.Layout{B: 1, T: 0, N: 33}, heads: 3, dim: 10, norm: true, rotate: true},
	{layout: engine.Layout{B: 4, T: 16, N: 16}, heads: 4, dim: 32, norm: true, rotate: true, fused: true},
	{layout: engine.Layout{B: 2, T: 77}, heads: 2, dim: 16, causal: true},
	{layout: engine.Layout{B: 2, T: 21}, heads: 3, dim: 8, bias: true},
	{layout: engine.Layout{B: 1, T: 40, N: 261}, heads: 2, dim: 33, norm: true},
	{layout: engine.Layout{B: 1, T: 700, N: 0}, heads: 1, dim: 64, rotate: true},
	{layout: engine.Layout{B: 0, T: 4, N: 4}, heads: 2, dim: 8, rotate: true},
	{layout: engine.Layout{B: 2}, heads: 2, dim: 8},
}

// attention is the description on one backend; tables are made on it.
func (k kind) attention(b *bench) (a [2]*engine.Attention, tables []pair) {
	l := k.layout.L()
	base := engine.Attention{Layout: k.layout, Heads: k.heads, Dim: k.dim, Scale: 0.3, Causal: k.causal}
	if k.norm {
		base.Eps = 1e-6
		for i := range 2 {
			base.NormQ[i], base.NormK[i] = b.values(k.dim), b.values(k.dim)
		}
	}
	one, two := base, base
	if k.bias {
		p := b.tensor("bias", k.heads, l, l)
		one.Bias, two.Bias, tables = p.got, p.ref, append(tables, p)
	}
	if k.rotate {
		c, s := b.tensor("cos", l, k.dim/2), b.tensor("sin", l, k.dim/2)
		one.Cos, one.Sin, two.Cos, two.Sin = c.got, s.got, c.ref, s.ref
		tables = append(tables, c, s)
	}
	return [2]*engine.Attention{&one, &two}, tables
}

// operands are q, k, v: columns of one matrix or matrices of their own.
func (k kind) operands(b *bench) (owners []pair, q, key, v [2]engine.View) {
	rows, width := k.layout.Rows(), k.heads*k.dim
	if !k.fused {
		p1, q := b.view("q", rows, width)
		p2, key := b.view("k", rows, width)
		p3, v := b.view("v", rows, width)
		return []pair{p1, p2, p3}, q, key, v
	}
	p, all := b.view("qkv", rows, 3*width)
	for i := range 2 {
		q[i], key[i], v[i] = all[i].ColRange(0, width), all[i].ColRange(width, width), all[i].ColRange(2*width, width)
	}
	return []pair{p}, q, key, v
}

func attentions(b *bench) {
	for _, k := range kinds {
		b.attend(k)
	}
}

func (b *bench) attend(k kind) {
	what := fmt.Sprintf("%+v", k)
	rows, width := k.layout.Rows(), k.heads*k.dim
	a, tables := k.attention(b)
	owners, q, key, v := k.operands(b)
	grads, dq, dk, dv := k.operands(b)
	po, o := b.view("o", rows, width)
	pg, g := b.view("do", rows, width)
	b.both(func(e engine.Backend, i int) { e.Attend(o[i], q[i], key[i], v[i], a[i]) })
	b.both(func(e engine.Backend, i int) { e.AttendBack(dq[i], dk[i], dv[i], g[i], o[i], q[i], key[i], v[i], a[i]) })
	b.check("attend "+what, po)
	b.check("attend back "+what, grads...)
	b.drop(append(append(tables, owners...), pg)...)
}
