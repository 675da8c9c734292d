package reference

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/engine"
)

type matrix64 = Matrix[float64]

func drawn(r *rand.Rand, rows, cols int) matrix64 {
	m := Zeros[float64](rows, cols)
	for i := range m.Data {
		m.Data[i] = r.NormFloat64()
	}
	return m
}

// slope compares an analytic gradient with differences of loss = Σ weights·run(), element by element of x. A normalised row
// of nearly equal values bends within sqrt(eps) = 1e-3, so the steps are far smaller than that and the rule is the one with
// five points (error h⁴, not h²).
func slope(t *rapid.T, what string, x, gradient matrix64, loss func() float64) {
	const h = 2e-6
	for i := range x.Data {
		old := x.Data[i]
		at := func(step float64) float64 {
			x.Data[i] = old + step
			return loss()
		}
		want := (8*(at(h)-at(-h)) - (at(2*h) - at(-2*h))) / (12 * h)
		x.Data[i] = old
		if math.Abs(gradient.Data[i]-want) > 1e-6*(1+math.Abs(want)) {
			t.Fatalf("gradient of %s, element %d: %v, differences %v", what, i, gradient.Data[i], want)
		}
	}
}

func inner(a, b matrix64) float64 { return Dot(a.Data, b.Data) }

// drawnAttention has any mix of text and image rows, norms, rotation, bias and the causal mask.
func drawnAttention(t *rapid.T, r *rand.Rand) *Attention[float64] {
	a := &Attention[float64]{
		Layout: engine.Layout{B: rapid.IntRange(1, 2).Draw(t, "B"), T: rapid.IntRange(0, 3).Draw(t, "T"), N: rapid.IntRange(1, 3).Draw(t, "N")},
		Heads:  rapid.IntRange(1, 2).Draw(t, "H"), Dim: 2 * rapid.IntRange(1, 2).Draw(t, "D/2"), Scale: 0.6, Eps: 1e-6,
		Causal: rapid.Bool().Draw(t, "causal"),
	}
	l := a.Layout.L()
	if rapid.Bool().Draw(t, "norms") {
		for s := range 2 {
			a.NormQ[s], a.NormK[s] = drawn(r, 1, a.Dim).Data, drawn(r, 1, a.Dim).Data
		}
	}
	if rapid.Bool().Draw(t, "rotation") {
		for range l * a.Dim / 2 {
			s, c := math.Sincos(6 * r.Float64())
			a.Cos, a.Sin = append(a.Cos, c), append(a.Sin, s)
		}
	}
	if rapid.Bool().Draw(t, "bias") {
		a.Bias = drawn(r, a.Heads*l, l).Data
	}
	return a
}

func TestAttendBackIsTheSlopeOfAttend(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		a := drawnAttention(t, r)
		rows, cols := a.Layout.Rows(), a.Heads*a.Dim
		q, k, v, weights, o := drawn(r, rows, cols), drawn(r, rows, cols), drawn(r, rows, cols), drawn(r, rows, cols), Zeros[float64](rows, cols)
		loss := func() float64 {
			Attend(o, q, k, v, a)
			return inner(o, weights)
		}
		loss()
		dq, dk, dv := drawn(r, rows, cols), drawn(r, rows, cols), drawn(r, rows, cols) // old contents do not matter
		AttendBack(dq, dk, dv, weights, o, q, k, v, a)
		slope(t, "q", q, dq, loss)
		slope(t, "k", k, dk, loss)
		slope(t, "v", v, dv, loss)
	})
}

func TestModulateBackIsTheSlopeOfModulate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
		samples, per, cols := rapid.IntRange(1, 3).Draw(t, "samples"), rapid.IntRange(1, 3).Draw(t, "rows"), rapid.IntRange(2, 5).Draw(t, "cols")
		rows := samples * per
		x, weights, y := drawn(r, rows, cols), drawn(r, rows, cols), Zeros[float64](rows, cols)
		shift, scale := drawn(r, samples, cols), drawn(r, samples, cols)
		loss := func() float64 {
			Modulate(y, x, shift, scale, per)
			return inner(y, weights)
		}
		dx, old, dshift, dscale := drawn(r, rows, cols), Zeros[float64](rows, cols), drawn(r, samples, cols), drawn(r, samples, cols)
		copy(old.Data, dx.Data)
		ModulateBack(dx, dshift, dscale, x, scale, weights, per, 1)
		Axpy(dx, -1, old) // beta 1 adds to what was there
		slope(t, "x", x, dx, loss)
		slope(t, "shift", shift, dshift, loss)
		slope(t, "scale", scale, dscale, loss)
	})
}

func TestGateBackIsTheSlopeOfGateAdd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 3))
		samples, per, cols := rapid.IntRange(1, 3).Draw(t, "samples"), rapid.IntRange(1, 3).Draw(t, "rows"), rapid.IntRange(1, 4).Draw(t, "cols")
		rows := samples * per
		s, x, weights, y := drawn(r, rows, cols), drawn(r, rows, cols), drawn(r, rows, cols), Zeros[float64](rows, cols)
		gate := drawn(r, samples, cols)
		loss := func() float64 {
			GateAdd(y, s, x, gate, per)
			return inner(y, weights)
		}
		dx, dgate := drawn(r, rows, cols), drawn(r, samples, cols)
		GateBack(dx, dgate, weights, x, gate, per)
		slope(t, "x", x, dx, loss)
		slope(t, "gate", gate, dgate, loss)
		slope(t, "s", s, weights, loss)
	})
}

func TestLinearBackIsTheSlopeOfLinear(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 4))
		rows, in, out := rapid.IntRange(1, 4).Draw(t, "rows"), rapid.IntRange(1, 5).Draw(t, "in"), rapid.IntRange(1, 5).Draw(t, "out")
		x, w, weights, y := drawn(r, rows, in), drawn(r, out, in), drawn(r, rows, out), Zeros[float64](rows, out)
		bias := drawn(r, 1, out).Data
		dx := drawn(r, rows, in)
		LinearBack(dx, weights, w, 0)
		slope(t, "x", x, dx, func() float64 {
			Linear(y, x, w, bias, 0)
			return inner(y, weights)
		})
	})
}

// TestMatMulByDefinition: all four transpositions against a triple loop, with alpha, and with beta 0 on garbage.
func TestMatMulByDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 5))
		m, n, k := rapid.IntRange(0, 4).Draw(t, "m"), rapid.IntRange(0, 4).Draw(t, "n"), rapid.IntRange(0, 9).Draw(t, "k")
		ta, tb := rapid.Bool().Draw(t, "transA"), rapid.Bool().Draw(t, "transB")
		beta := rapid.SampledFrom([]float64{0, 1}).Draw(t, "beta")
		a, b, c := drawn(r, m, k), drawn(r, k, n), drawn(r, m, n)
		want := Zeros[float64](m, n)
		for i := range m {
			for j := range n {
				sum := 0.0
				for l := range k {
					sum += a.At(i, l) * b.At(l, j)
				}
				want.Data[i*n+j] = 0.7*sum + beta*c.At(i, j)
			}
		}
		if beta == 0 {
			for i := range c.Data {
				c.Data[i] = math.NaN()
			}
		}
		left, right := a, b
		if ta {
			left = a.Transposed()
		}
		if tb {
			right = b.Transposed()
		}
		MatMul(c, left, ta, right, tb, 0.7, beta)
		for i, w := range want.Data {
			if !(math.Abs(c.Data[i]-w) < 1e-12) {
				t.Fatalf("element %d: %v, want %v", i, c.Data[i], w)
			}
		}
	})
}

// TestConvolveByDefinition: any kernel, stride and uneven padding against the sum over the window.
func TestConvolveByDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 6))
		pad := func(name string) int { return rapid.IntRange(0, 2).Draw(t, name) }
		c := engine.Conv{Kernel: rapid.IntRange(1, 3).Draw(t, "kernel"), Stride: rapid.IntRange(1, 2).Draw(t, "stride"), Top: pad("top"),
			Bottom: pad("bottom"), Left: pad("left"), Right: pad("right")}
		h, w := rapid.IntRange(3, 5).Draw(t, "h"), rapid.IntRange(3, 5).Draw(t, "w")
		oh, ow := OutputSize(c, h, w)
		const in, out = 2, 3
		x := Images[float64]{Data: drawn(r, 2*in, h*w).Data, B: 2, C: in, H: h, W: w}
		y := Images[float64]{Data: make([]float64, 2*out*oh*ow), B: 2, C: out, H: oh, W: ow}
		weight, bias := drawn(r, out, in*c.Kernel*c.Kernel), drawn(r, 1, out).Data
		Convolve(y, x, weight, bias, c)
		for b := range 2 {
			for o := range out {
				for i, got := range y.Plane(b, o) {
					if want := bias[o] + window(x, weight, c, b, o, i/ow, i%ow); math.Abs(got-want) > 1e-12 {
						t.Fatalf("picture %d channel %d pixel %d: %v, want %v", b, o, i, got, want)
					}
				}
			}
		}
	})
}

func window(x Images[float64], w matrix64, c engine.Conv, b, o, i, j int) (sum float64) {
	at := 0
	for ch := range x.C {
		for a := range c.Kernel {
			for e := range c.Kernel {
				row, col := i*c.Stride+a-c.Top, j*c.Stride+e-c.Left
				if row >= 0 && row < x.H && col >= 0 && col < x.W {
					sum += w.At(o, at) * x.Plane(b, ch)[row*x.W+col]
				}
				at++
			}
		}
	}
	return sum
}

// TestAttentionFacts: weights of a softmax add up to 1, a causal token sees nothing of later ones, and samples nothing of
// each other.
func TestAttentionFacts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 7))
		a := drawnAttention(t, r)
		rows, cols := a.Layout.Rows(), a.Heads*a.Dim
		q, k, v, o := drawn(r, rows, cols), drawn(r, rows, cols), drawn(r, rows, cols), Zeros[float64](rows, cols)
		ones := Zeros[float64](rows, cols)
		for i := range ones.Data {
			ones.Data[i] = 1
		}
		Attend(o, q, k, ones, a)
		for i, x := range o.Data {
			if math.Abs(x-1) > 1e-12 {
				t.Fatalf("weights of output %d add up to %v", i, x)
			}
		}
		Attend(o, q, k, v, a)
		before, last := Zeros[float64](rows, cols), a.Layout.Row(a.Layout.B-1, a.Layout.L()-1)
		copy(before.Data, o.Data)
		for j := range cols { // change key and value of the last token of the last sample
			k.Row(last)[j] += 1
			v.Row(last)[j] += 1
		}
		Attend(o, q, k, v, a)
		for b := range a.Layout.B {
			for i := range a.Layout.L() {
				row := a.Layout.Row(b, i)
				hidden := b < a.Layout.B-1 || a.Causal && i < a.Layout.L()-1
				if same := fmt.Sprint(o.Row(row)) == fmt.Sprint(before.Row(row)); same != hidden {
					t.Fatalf("token %d of sample %d changed: %v, hidden from the last token: %v", i, b, !same, hidden)
				}
			}
		}
	})
}

// TestNormsByDefinition: a normalised row has mean 0 and mean square 1 (RMS: mean square 1), whatever its offset and scale.
func TestNormsByDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 8))
		rows, cols := rapid.IntRange(1, 3).Draw(t, "rows"), rapid.IntRange(2, 9).Draw(t, "cols")
		x, y := drawn(r, rows, cols), Zeros[float64](rows, cols)
		offset := rapid.Float64Range(-50, 50).Draw(t, "offset")
		for i := range x.Data {
			x.Data[i] = 3*x.Data[i] + offset
		}
		statistics := func(row []float64) (mean, square float64) {
			for _, v := range row {
				mean += v / float64(cols)
				square += v * v / float64(cols)
			}
			return mean, square
		}
		LayerNorm(y, x, nil, nil, 0)
		for i := range rows {
			if mean, square := statistics(y.Row(i)); math.Abs(mean) > 1e-9 || math.Abs(square-1) > 1e-9 {
				t.Fatalf("layer norm: mean %v, mean square %v", mean, square)
			}
		}
		RMSNorm(y, x, nil, 0)
		for i := range rows {
			if _, square := statistics(y.Row(i)); math.Abs(square-1) > 1e-9 {
				t.Fatalf("rms norm: mean square %v", square)
			}
		}
		group := Images[float64]{Data: make([]float64, 4*cols), B: 1, C: 4, H: 1, W: cols}
		source := Images[float64]{Data: drawn(r, 4, cols).Data, B: 1, C: 4, H: 1, W: cols}
		GroupNorm(group, source, 2, []float64{1, 1, 2, 2}, []float64{0, 0, 5, 5}, 0, false)
		mean, square := 0.0, 0.0
		for _, v := range group.Data[2*cols:] {
			z := (v - 5) / 2
			mean, square = mean+z/float64(2*cols), square+z*z/float64(2*cols)
		}
		if math.Abs(mean) > 1e-9 || math.Abs(square-1) > 1e-9 {
			t.Fatalf("group norm: mean %v, mean square %v over both channels of a group", mean, square)
		}
	})
}

func TestUpsampleRepeatsEveryPixel(t *testing.T) {
	x := Images[float32]{Data: []float32{1, 2, 3, 4, 5, 6}, B: 1, C: 1, H: 2, W: 3}
	y := Images[float32]{Data: make([]float32, 24), B: 1, C: 1, H: 4, W: 6}
	Upsample(y, x)
	if got, want := fmt.Sprint(y.Data), "[1 1 2 2 3 3 1 1 2 2 3 3 4 4 5 5 6 6 4 4 5 5 6 6]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestShapesThatDoNotFitPanic(t *testing.T) {
	a, b := Zeros[float64](2, 3), Zeros[float64](3, 2)
	for name, f := range map[string]func(){
		"values of a matrix": func() { Dense(make([]float64, 5), 2, 3) },
		"add":                func() { Add(a, a, b) },
		"inner sizes":        func() { MatMul(a, a, false, a, false, 1, 0) },
		"bias":               func() { Linear(a, a, Zeros[float64](3, 3), make([]float64, 2), 0) },
		"rows per sample":    func() { Modulate(a, a, a, a, 0) },
		"samples":            func() { GateAdd(a, a, a, a, 2) },
		"attention rows":     func() { Attend(a, a, a, a, &Attention[float64]{Layout: engine.Layout{B: 1, N: 3}, Heads: 1, Dim: 3}) },
		"groups": func() {
			x := Images[float64]{Data: a.Data, B: 1, C: 3, H: 1, W: 2}
			GroupNorm(x, x, 2, make([]float64, 3), make([]float64, 3), 0, false)
		},
		"upsample": func() { x := Images[float64]{Data: a.Data, B: 1, C: 3, H: 1, W: 2}; Upsample(x, x) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		})
	}
}
