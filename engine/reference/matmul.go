package reference

import "fmt"

// Linear: y[R,Out] = x[R,In]·wᵀ + bias + beta·y with w [Out, In]; bias has Out values or is nil.
func Linear[F Float](y, x, w Matrix[F], bias []F, beta F) {
	MatMul(y, x, false, w, true, 1, beta)
	if bias == nil {
		return
	}
	if len(bias) != y.Cols {
		panic(fmt.Sprintf("reference: linear bias of %d values, want %d", len(bias), y.Cols))
	}
	parallel(y.Rows, func(i int) {
		for j, row := 0, y.Row(i); j < len(row); j++ {
			row[j] += bias[j]
		}
	})
}

// LinearBack: dx[R,In] = dy[R,Out]·w + beta·dx.
func LinearBack[F Float](dx, dy, w Matrix[F], beta F) { MatMul(dx, dy, false, w, false, 1, beta) }

// MatMul: c[m,n] = alpha·op(a)·op(b) + beta·c, where op transposes when asked. With beta 0 the old c is not read.
func MatMul[F Float](c, a Matrix[F], transA bool, b Matrix[F], transB bool, alpha, beta F) {
	if transA {
		a = a.Transposed()
	}
	if !transB {
		b = b.Transposed()
	}
	if a.Rows != c.Rows || b.Rows != c.Cols || a.Cols != b.Cols {
		panic(fmt.Sprintf("reference: matmul %d×%d by %d×%d into %d×%d", a.Rows, a.Cols, b.Cols, b.Rows, c.Rows, c.Cols))
	}
	parallel(c.Rows, func(i int) {
		left, out := a.Row(i), c.Row(i)
		for j := range out {
			v := F(float64(alpha) * Dot(left, b.Row(j)))
			if beta != 0 {
				v += beta * out[j]
			}
			out[j] = v
		}
	})
}

// Transpose: y = xᵀ.
func Transpose[F Float](y, x Matrix[F]) {
	shape("transpose", y, x.Cols, x.Rows)
	eachRow(y, func(i int) {
		for j, row := 0, y.Row(i); j < len(row); j++ {
			row[j] = x.At(j, i)
		}
	})
}

// Dot is Σ a·b in float64, in four interleaved sums.
func Dot[F Float](a, b []F) float64 {
	var s0, s1, s2, s3 float64
	b = b[:len(a)]
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += float64(a[i]) * float64(b[i])
		s1 += float64(a[i+1]) * float64(b[i+1])
		s2 += float64(a[i+2]) * float64(b[i+2])
		s3 += float64(a[i+3]) * float64(b[i+3])
	}
	for ; i < len(a); i++ {
		s0 += float64(a[i]) * float64(b[i])
	}
	return (s0 + s1) + (s2 + s3)
}
