package reference

import (
	"fmt"
	"math"

	"github.com/sciflux/sciflux/engine"
)

// moments is the mean of a row and 1/√(var+eps) with the biased variance.
func moments[F Float](row []F, eps float64) (mean, inverse float64) {
	for _, v := range row {
		mean += float64(v)
	}
	mean /= float64(len(row))
	var variance float64
	for _, v := range row {
		d := float64(v) - mean
		variance += d * d
	}
	return mean, 1 / math.Sqrt(variance/float64(len(row))+eps)
}

// LayerNorm: y = (x−mean)/√(var+eps)·weight + bias over each row; weight and bias nil for none.
func LayerNorm[F Float](y, x Matrix[F], weight, bias []F, eps float64) {
	same("layer norm", y, x)
	eachRow(y, func(i int) {
		out, in := y.Row(i), x.Row(i)
		mean, inverse := moments(in, eps)
		for j := range out {
			v := (float64(in[j]) - mean) * inverse
			if weight != nil {
				v *= float64(weight[j])
			}
			if bias != nil {
				v += float64(bias[j])
			}
			out[j] = F(v)
		}
	})
}

// RMSNorm: y = x/√(mean(x²)+eps)·weight over each row; weight nil for none.
func RMSNorm[F Float](y, x Matrix[F], weight []F, eps float64) {
	same("rms norm", y, x)
	eachRow(y, func(i int) { rmsNorm(y.Row(i), x.Row(i), weight, eps) })
}

func rmsNorm[F Float](out, in, weight []F, eps float64) {
	inverse := 1 / math.Sqrt(Dot(in, in)/float64(len(in))+eps)
	for j := range out {
		v := float64(in[j]) * inverse
		if weight != nil {
			v *= float64(weight[j])
		}
		out[j] = F(v)
	}
}

// perRow panics unless m has one row per sample of perSample rows of x.
func perRow[F Float](op string, x, m Matrix[F], perSample int) {
	if perSample > 0 {
		shape(op, m, x.Rows/perSample, x.Cols)
	}
	if perSample <= 0 && x.Rows > 0 || perSample > 0 && x.Rows%perSample != 0 {
		panic(fmt.Sprintf("reference: %s: %d rows, %d per sample", op, x.Rows, perSample))
	}
}

// Modulate: y = LN(x)·(1+scale) + shift; row r uses row r/perSample of shift and scale [B, C].
func Modulate[F Float](y, x, shift, scale Matrix[F], perSample int) {
	same("modulate", y, x)
	perRow("modulate", x, shift, perSample)
	perRow("modulate", x, scale, perSample)
	eachRow(y, func(i int) {
		out, in := y.Row(i), x.Row(i)
		add, mul := shift.Row(i/perSample), scale.Row(i/perSample)
		mean, inverse := moments(in, engine.ModulateEps)
		for j := range out {
			out[j] = F((float64(in[j])-mean)*inverse*(1+float64(mul[j])) + float64(add[j]))
		}
	})
}

// ModulateBack: dx = gradient of Modulate's x + beta·dx. dshift, dscale [B, C] get the sums over each sample's rows when
// they have Data or rows (a zero Matrix means not wanted).
func ModulateBack[F Float](dx, dshift, dscale, x, scale, dy Matrix[F], perSample int, beta F) {
	same("modulate back", dx, x, dy)
	perRow("modulate back", x, scale, perSample)
	eachRow(dx, func(i int) {
		modulateBackRow(dx.Row(i), x.Row(i), scale.Row(i/perSample), dy.Row(i), beta)
	})
	if dshift.Data != nil {
		perRow("modulate back shift", x, dshift, perSample)
		parallel(dshift.Rows, func(b int) { sampleSums(dshift.Row(b), dy, b*perSample, perSample, nil) })
	}
	if dscale.Data != nil {
		perRow("modulate back scale", x, dscale, perSample)
		parallel(dscale.Rows, func(b int) {
			sampleSums(dscale.Row(b), dy, b*perSample, perSample, func(i int) func(j int) float64 {
				in := x.Row(i)
				mean, inverse := moments(in, engine.ModulateEps)
				return func(j int) float64 { return (float64(in[j]) - mean) * inverse }
			})
		})
	}
}

func modulateBackRow[F Float](out, in, scale, g []F, beta F) {
	mean, inverse := moments(in, engine.ModulateEps)
	var sum, dot float64
	for j := range out {
		d := float64(g[j]) * (1 + float64(scale[j]))
		sum += d
		dot += d * (float64(in[j]) - mean) * inverse
	}
	n := float64(len(out))
	for j := range out {
		d := float64(g[j]) * (1 + float64(scale[j]))
		v := F(inverse * (d - sum/n - (float64(in[j])-mean)*inverse*dot/n))
		if beta != 0 {
			v += beta * out[j]
		}
		out[j] = v
	}
}

// sampleSums: out = Σ over n rows of g from row `from`, each value times factor(row)(column) where given.
func sampleSums[F Float](out []F, g Matrix[F], from, n int, factor func(i int) func(j int) float64) {
	sums := make([]float64, len(out))
	for i := from; i < from+n; i++ {
		one := func(int) float64 { return 1 }
		if factor != nil {
			one = factor(i)
		}
		for j, v := range g.Row(i) {
			sums[j] += float64(v) * one(j)
		}
	}
	for j := range out {
		out[j] = F(sums[j])
	}
}

// GateAdd: y = s + gate·x, gate [B, C] indexed as in Modulate.
func GateAdd[F Float](y, s, x, gate Matrix[F], perSample int) {
	same("gate add", y, s, x)
	perRow("gate add", x, gate, perSample)
	eachRow(y, func(i int) {
		out, add, in, g := y.Row(i), s.Row(i), x.Row(i), gate.Row(i/perSample)
		for j := range out {
			out[j] = add[j] + g[j]*in[j]
		}
	})
}

// GateBack: dx = gate·dy; dgate[b] = Σ over the sample's rows of x·dy unless dgate is the zero Matrix.
func GateBack[F Float](dx, dgate, dy, x, gate Matrix[F], perSample int) {
	same("gate back", dx, dy, x)
	perRow("gate back", x, gate, perSample)
	if dgate.Data != nil {
		perRow("gate back gate", x, dgate, perSample)
		parallel(dgate.Rows, func(b int) {
			sampleSums(dgate.Row(b), dy, b*perSample, perSample, func(i int) func(j int) float64 {
				in := x.Row(i)
				return func(j int) float64 { return float64(in[j]) }
			})
		})
	}
	eachRow(dx, func(i int) {
		out, in, g := dx.Row(i), dy.Row(i), gate.Row(i/perSample)
		for j := range out {
			out[j] = in[j] * g[j]
		}
	})
}

// SumSquares is Σ x² in float64.
func SumSquares[F Float](x []F) float64 { return Dot(x, x) }

// Update: one AdamW step (Loshchilov & Hutter, eps outside the root) on w with moments m, v and gradient g·scale:
// w − (w·lr·wd + lr·m̂/(√v̂+eps)), rounded once. See engine.OptimizerKernels for what that changes against torch.
func Update[F Float](w, m, v, g []F, scale float64, a engine.AdamW) {
	first := 1 - math.Pow(a.Beta1, float64(a.Step))
	second := 1 - math.Pow(a.Beta2, float64(a.Step))
	for i := range w {
		d := float64(g[i]) * scale
		mean := a.Beta1*float64(m[i]) + (1-a.Beta1)*d
		square := a.Beta2*float64(v[i]) + (1-a.Beta2)*d*d
		m[i], v[i] = F(mean), F(square)
		old := float64(w[i])
		w[i] = F(old - (old*(a.LR*a.Decay) + a.LR*(mean/first)/(math.Sqrt(square/second)+a.Eps)))
	}
}
