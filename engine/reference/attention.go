package reference

import (
	"fmt"
	"math"

	"github.com/sciflux/sciflux/engine"
)

// Attention is engine.Attention over plain slices: Bias [H, L, L], Cos and Sin [L, D/2], nil for none.
type Attention[F Float] struct {
	Layout       engine.Layout
	Heads, Dim   int
	Scale        float64
	Causal       bool
	Bias         []F
	NormQ, NormK [2][]F
	Eps          float64
	Cos, Sin     []F
}

func (a *Attention[F]) check(op string, ms ...Matrix[F]) {
	for _, m := range ms {
		shape(op, m, a.Layout.Rows(), a.Heads*a.Dim)
	}
	l := a.Layout.L()
	if a.Bias != nil && len(a.Bias) != a.Heads*l*l {
		panic(fmt.Sprintf("reference: %s bias of %d values for %d heads, %d tokens", op, len(a.Bias), a.Heads, l))
	}
	if a.Cos != nil && (len(a.Cos) != l*a.Dim/2 || len(a.Sin) != len(a.Cos)) {
		panic(fmt.Sprintf("reference: %s rotation tables of %d and %d values, want %d", op, len(a.Cos), len(a.Sin), l*a.Dim/2))
	}
}

// gather copies head h of sample b into a [L, D] matrix.
func (a *Attention[F]) gather(m Matrix[F], b, h int) Matrix[F] {
	out := Zeros[F](a.Layout.L(), a.Dim)
	for i := range out.Rows {
		copy(out.Row(i), m.Row(a.Layout.Row(b, i))[h*a.Dim:])
	}
	return out
}

// scatter is the inverse of gather.
func (a *Attention[F]) scatter(m, head Matrix[F], b, h int) {
	for i := range head.Rows {
		copy(m.Row(a.Layout.Row(b, i))[h*a.Dim:][:a.Dim], head.Row(i))
	}
}

// stream is the norm of token i: 0 for text, 1 for image rows.
func (a *Attention[F]) stream(i int) int {
	if i < a.Layout.T {
		return 0
	}
	return 1
}

// prepare is a gathered head after its norm and rotation.
func (a *Attention[F]) prepare(m Matrix[F], norm [2][]F, b, h int) Matrix[F] {
	head := a.gather(m, b, h)
	for i := range head.Rows {
		row := head.Row(i)
		if w := norm[a.stream(i)]; w != nil {
			rmsNorm(row, row, w, a.Eps)
		}
		a.rotate(row, i, 1)
	}
	return head
}

// rotate turns the pairs of a row by the angles of token i, backwards for sign −1.
func (a *Attention[F]) rotate(row []F, i int, sign float64) {
	if a.Cos == nil {
		return
	}
	half := a.Dim / 2
	for p := range half {
		c, s := float64(a.Cos[i*half+p]), sign*float64(a.Sin[i*half+p])
		x, y := float64(row[2*p]), float64(row[2*p+1])
		row[2*p], row[2*p+1] = F(x*c-y*s), F(y*c+x*s)
	}
}

// prepareBack turns the gradient of a prepared head into that of the raw head m.
func (a *Attention[F]) prepareBack(grad, m Matrix[F], norm [2][]F, b, h int) {
	for i := range grad.Rows {
		g := grad.Row(i)
		a.rotate(g, i, -1)
		w := norm[a.stream(i)]
		if w == nil {
			continue
		}
		in := m.Row(a.Layout.Row(b, i))[h*a.Dim:][:a.Dim]
		r := 1 / math.Sqrt(Dot(in, in)/float64(a.Dim)+a.Eps)
		var dot float64
		for j := range g {
			dot += float64(g[j]) * float64(w[j]) * float64(in[j])
		}
		for j := range g {
			g[j] = F(float64(g[j])*float64(w[j])*r - float64(in[j])*dot*r*r*r/float64(a.Dim))
		}
	}
}

// probabilities fills p[j] with the softmax of query i over all keys of head h.
func (a *Attention[F]) probabilities(p []float64, q, k Matrix[F], h, i int) {
	n := k.Rows
	if a.Causal {
		n = i + 1
	}
	top := math.Inf(-1)
	for j := range n {
		p[j] = Dot(q.Row(i), k.Row(j)) * a.Scale
		if a.Bias != nil {
			p[j] += float64(a.Bias[(h*k.Rows+i)*k.Rows+j])
		}
		top = max(top, p[j])
	}
	var sum float64
	for j := range n {
		p[j] = math.Exp(p[j] - top)
		sum += p[j]
	}
	for j := range n {
		p[j] /= sum
	}
	clear(p[n:])
}

// Attend: o = softmax(Scale·q·kᵀ + Bias)·v per sample and head, q and k normalised and rotated first. All matrices are
// [R, H·D] in the row order of Layout.
func Attend[F Float](o, q, k, v Matrix[F], a *Attention[F]) {
	a.check("attend", o, q, k, v)
	parallel(a.Layout.B*a.Heads, func(bh int) {
		b, h := bh/a.Heads, bh%a.Heads
		qh, kh, vh := a.prepare(q, a.NormQ, b, h), a.prepare(k, a.NormK, b, h), a.gather(v, b, h)
		out, p, sums := Zeros[F](qh.Rows, a.Dim), make([]float64, kh.Rows), make([]float64, a.Dim)
		for i := range qh.Rows {
			a.probabilities(p, qh, kh, h, i)
			clear(sums)
			for j, w := range p {
				addScaled(sums, w, vh.Row(j))
			}
			store(out.Row(i), sums)
		}
		a.scatter(o, out, b, h)
	})
}

// AttendBack: the gradients dq, dk, dv of Attend for the output gradient do. o is not needed here; fast kernels use it
// for the row sums Σ o·do, which are computed from the probabilities instead.
func AttendBack[F Float](dq, dk, dv, do, o, q, k, v Matrix[F], a *Attention[F]) {
	a.check("attend back", dq, dk, dv, do, o, q, k, v)
	parallel(a.Layout.B*a.Heads, func(bh int) {
		b, h := bh/a.Heads, bh%a.Heads
		qh, kh, vh := a.prepare(q, a.NormQ, b, h), a.prepare(k, a.NormK, b, h), a.gather(v, b, h)
		gq, gk, gv := a.headBack(qh, kh, vh, a.gather(do, b, h), h)
		a.prepareBack(gq, q, a.NormQ, b, h)
		a.prepareBack(gk, k, a.NormK, b, h)
		a.scatter(dq, gq, b, h)
		a.scatter(dk, gk, b, h)
		a.scatter(dv, gv, b, h)
	})
}

// headBack is the gradient of one prepared head.
func (a *Attention[F]) headBack(q, k, v, g Matrix[F], h int) (dq, dk, dv Matrix[F]) {
	n, d := q.Rows, a.Dim
	dq, dk, dv = Zeros[F](n, d), Zeros[F](n, d), Zeros[F](n, d)
	sk, sv, sq := make([]float64, n*d), make([]float64, n*d), make([]float64, d)
	p, dp := make([]float64, n), make([]float64, n)
	for i := range n {
		a.probabilities(p, q, k, h, i)
		var mean float64
		for j := range p {
			dp[j] = Dot(g.Row(i), v.Row(j))
			mean += p[j] * dp[j]
		}
		clear(sq)
		for j := range p {
			addScaled(sv[j*d:][:d], p[j], g.Row(i))
			ds := p[j] * (dp[j] - mean) * a.Scale
			addScaled(sq, ds, k.Row(j))
			addScaled(sk[j*d:][:d], ds, q.Row(i))
		}
		store(dq.Row(i), sq)
	}
	store(dk.Data, sk)
	store(dv.Data, sv)
	return dq, dk, dv
}

func addScaled[F Float](sums []float64, w float64, row []F) {
	if w == 0 {
		return
	}
	for j, x := range row {
		sums[j] += w * float64(x)
	}
}

func store[F Float](out []F, sums []float64) {
	for j := range out {
		out[j] = F(sums[j])
	}
}
