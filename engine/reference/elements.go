package reference

import (
	"fmt"
	"math"

	"github.com/sciflux/sciflux/engine"
)

// eachRow calls f for every row index of m, in parallel.
func eachRow[F Float](m Matrix[F], f func(i int)) { parallel(m.Rows, f) }

// Copy: dst = src.
func Copy[F Float](dst, src Matrix[F]) {
	same("copy", dst, src)
	eachRow(dst, func(i int) { copy(dst.Row(i), src.Row(i)) })
}

// Zero: dst = 0.
func Zero[F Float](dst Matrix[F]) { eachRow(dst, func(i int) { clear(dst.Row(i)) }) }

// Add: y = a + b.
func Add[F Float](y, a, b Matrix[F]) {
	same("add", y, a, b)
	eachRow(y, func(i int) {
		out, l, r := y.Row(i), a.Row(i), b.Row(i)
		for j := range out {
			out[j] = l[j] + r[j]
		}
	})
}

// Mul: y = a·b elementwise.
func Mul[F Float](y, a, b Matrix[F]) {
	same("mul", y, a, b)
	eachRow(y, func(i int) {
		out, l, r := y.Row(i), a.Row(i), b.Row(i)
		for j := range out {
			out[j] = l[j] * r[j]
		}
	})
}

// Axpy: y += alpha·x.
func Axpy[F Float](y Matrix[F], alpha F, x Matrix[F]) {
	same("axpy", y, x)
	eachRow(y, func(i int) {
		out, in := y.Row(i), x.Row(i)
		for j := range out {
			out[j] += alpha * in[j]
		}
	})
}

// Activate: y = f(x).
func Activate[F Float](y, x Matrix[F], f engine.Activation) {
	same("activate", y, x)
	eachRow(y, func(i int) {
		out, in := y.Row(i), x.Row(i)
		for j := range out {
			v, _ := Value(f, float64(in[j]))
			out[j] = F(v)
		}
	})
}

// ActivateBack: dx = dy·f'(x).
func ActivateBack[F Float](dx, dy, x Matrix[F], f engine.Activation) {
	same("activate back", dx, dy, x)
	eachRow(dx, func(i int) {
		out, g, in := dx.Row(i), dy.Row(i), x.Row(i)
		for j := range out {
			_, d := Value(f, float64(in[j]))
			out[j] = F(float64(g[j]) * d)
		}
	})
}

// Value is an activation's value and derivative at x.
func Value(f engine.Activation, x float64) (value, derivative float64) {
	switch f {
	case engine.GELUTanh:
		const c, k = 0.7978845608028654, 0.044715 // √(2/π)
		t := math.Tanh(c * (x + k*x*x*x))
		if 1-t*t == 0 { // the factor 1+3kx² may overflow
			return 0.5 * x * (1 + t), 0.5 * (1 + t)
		}
		return 0.5 * x * (1 + t), 0.5*(1+t) + 0.5*x*(1-t*t)*c*(1+3*k*x*x)
	case engine.GELU:
		p := 0.5 * math.Erfc(-x/math.Sqrt2)
		density := math.Exp(-0.5*x*x) / math.Sqrt(2*math.Pi)
		if density == 0 {
			return x * p, p
		}
		return x * p, p + x*density
	case engine.QuickGELU:
		return swish(x, 1.702)
	case engine.SiLU:
		return swish(x, 1)
	}
	panic(fmt.Sprintf("reference: activation %d", f))
}

// swish is x·sigmoid(a·x).
func swish(x, a float64) (value, derivative float64) {
	e := math.Exp(-math.Abs(a * x))
	s := 1 / (1 + e)
	if x < 0 {
		s = e / (1 + e)
	}
	if e == 0 {
		return x * s, s
	}
	return x * s, s + a*x*s*(e/((1+e)*(1+e)))/s
}
