package reference

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/engine"
)

// TestAttendByDefinition: every output is the weighted mean of the values that its token sees, weights and all computed
// here from the definition: norm, rotation of neighbouring pairs, scaled products, bias, mask, softmax.
func TestAttendByDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 9))
		a := drawnAttention(t, r)
		rows, cols := a.Layout.Rows(), a.Heads*a.Dim
		q, k, v, o := drawn(r, rows, cols), drawn(r, rows, cols), drawn(r, rows, cols), Zeros[float64](rows, cols)
		Attend(o, q, k, v, a)
		for b := range a.Layout.B {
			for h := range a.Heads {
				for i := range a.Layout.L() {
					for c, want := range a.token(q, k, v, b, h, i) {
						if got := o.At(a.Layout.Row(b, i), h*a.Dim+c); math.Abs(got-want) > 1e-10 {
							t.Fatalf("sample %d, head %d, token %d, value %d: %v, want %v", b, h, i, c, got, want)
						}
					}
				}
			}
		}
	})
}

// ready is one token's part of a head, normalised and turned.
func (a *Attention[F]) ready(m Matrix[F], norm [2][]F, b, h, i int) []float64 {
	out, square := make([]float64, a.Dim), 0.0
	for c := range out {
		out[c] = float64(m.At(a.Layout.Row(b, i), h*a.Dim+c))
		square += out[c] * out[c] / float64(a.Dim)
	}
	stream := 1
	if i < a.Layout.T {
		stream = 0
	}
	if w := norm[stream]; w != nil {
		for c := range out {
			out[c] *= float64(w[c]) / math.Sqrt(square+a.Eps)
		}
	}
	for p := 0; a.Cos != nil && p < a.Dim/2; p++ {
		x, y := out[2*p], out[2*p+1]
		cos, sin := float64(a.Cos[i*a.Dim/2+p]), float64(a.Sin[i*a.Dim/2+p])
		out[2*p], out[2*p+1] = cos*x-sin*y, sin*x+cos*y
	}
	return out
}

func (a *Attention[F]) token(q, k, v Matrix[F], b, h, i int) []float64 {
	out, sum, mine, l := make([]float64, a.Dim), 0.0, a.ready(q, a.NormQ, b, h, i), a.Layout.L()
	for j := range l {
		if a.Causal && j > i {
			continue
		}
		score := 0.0
		for c, x := range a.ready(k, a.NormK, b, h, j) {
			score += a.Scale * x * mine[c]
		}
		if a.Bias != nil {
			score += float64(a.Bias[(h*l+i)*l+j])
		}
		w := math.Exp(score)
		sum += w
		for c := range out {
			out[c] += w * float64(v.At(a.Layout.Row(b, j), h*a.Dim+c))
		}
	}
	for c := range out {
		out[c] /= sum
	}
	return out
}

// TestAdamWOfAConstantGradient: corrected for their start, the moments of a constant gradient g are g and g² at every
// step, so each step first shrinks the weight by lr·decay and then moves it by lr·g/(|g|+eps).
func TestAdamWOfAConstantGradient(t *testing.T) {
	for _, g := range []float64{3, -0.02, 1e-7, 0} {
		w, m, v, want := []float64{0.7}, []float64{0}, []float64{0}, 0.7
		a := engine.AdamW{LR: 0.01, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: 0.1}
		for step := 1; step <= 20; step++ {
			a.Step = step
			Update(w, m, v, []float64{2 * g}, 0.5, a) // the scale halves it
			want = want*(1-a.LR*a.Decay) - a.LR*g/(math.Abs(g)+a.Eps)
			if math.Abs(w[0]-want) > 1e-9 {
				t.Fatalf("gradient %v, step %d: weight %v, want %v", g, step, w[0], want)
			}
		}
	}
}

// TestMomentsOfAdamW after two different gradients, by hand.
func TestMomentsOfAdamW(t *testing.T) {
	w, m, v := []float64{1}, []float64{0}, []float64{0}
	a := engine.AdamW{LR: 0.1, Beta1: 0.5, Beta2: 0.75, Eps: 0.5, Step: 1}
	Update(w, m, v, []float64{2}, 1, a)
	if m[0] != 1 || v[0] != 1 || math.Abs(w[0]-(1-0.1*2/2.5)) > 1e-12 { // corrected moments 2 and 4
		t.Errorf("after one step: %v %v %v", w, m, v)
	}
	a.Step = 2
	before := w[0]
	Update(w, m, v, []float64{-4}, 1, a)
	mean, square := (0.5-2)/0.75, (0.75+4)/(1-0.75*0.75)
	if m[0] != -1.5 || v[0] != 4.75 || math.Abs(w[0]-(before-0.1*mean/(math.Sqrt(square)+0.5))) > 1e-12 {
		t.Errorf("after two steps: %v %v %v", w, m, v)
	}
}

// TestActivationsAtKnownPoints, and that all of them split x: f(x) − f(−x) = x.
func TestActivationsAtKnownPoints(t *testing.T) {
	for f, want := range map[engine.Activation]float64{
		engine.GELU: 0.8413447460685429, engine.GELUTanh: 0.8411919906082768, engine.SiLU: 0.7310585786300049,
		engine.QuickGELU: 0.8457957659328212,
	} {
		if got, _ := Value(f, 1); math.Abs(got-want) > 1e-12 {
			t.Errorf("activation %d of 1 is %v, want %v", f, got, want)
		}
		if got, slope := Value(f, 0); got != 0 || slope != 0.5 {
			t.Errorf("activation %d of 0 is %v, slope %v", f, got, slope)
		}
		for x := 0.1; x < 40; x *= 1.7 {
			up, _ := Value(f, x)
			down, _ := Value(f, -x)
			if math.Abs(up-down-x) > 1e-12*(1+x) {
				t.Errorf("activation %d: %v at %v and %v at its mirror", f, up, x, down)
			}
		}
	}
}

// TestModulationByHand: two samples of two rows, each with its own shift, scale and gate.
func TestModulationByHand(t *testing.T) {
	x := Dense([]float64{1, 3, 10, 30, -1, -3, 5, 7}, 4, 2)
	shift, scale := Dense([]float64{100, 200, 300, 400}, 2, 2), Dense([]float64{0, 1, -1, 2}, 2, 2)
	y := Zeros[float64](4, 2)
	Modulate(y, x, shift, scale, 2)
	for i, want := range []float64{100 - 1, 200 + 2, 100 - 1, 200 + 2, 300, 400 - 3, 300, 400 + 3} { // normalised rows are ∓1, ±1
		if math.Abs(y.Data[i]-want) > 1e-5 {
			t.Errorf("value %d: %v, want %v", i, y.Data[i], want)
		}
	}
	s := Dense([]float64{1, 1, 1, 1, 2, 2, 2, 2}, 4, 2)
	GateAdd(y, s, x, scale, 2)
	if got, want := fmt.Sprint(y.Data), "[1 4 1 31 3 -4 -3 16]"; got != want {
		t.Errorf("gated %s, want %s", got, want)
	}
}

// TestPanicsOfViews name the operation and the sizes, on the goroutine of the caller.
func TestPanicsOfViews(t *testing.T) {
	e := New()
	a, b := engine.All(engine.Wrap(make([]float32, 6), 2, 3)), engine.All(engine.Wrap(make([]float32, 6), 3, 2))
	w := &engine.Weight{Out: 3, In: 3, Stride: 3, F32: make([]float32, 9)}
	for say, f := range map[string]func(){
		"add of a 3×2 matrix, want 2×3":   func() { e.Add(a, a, b) },
		"linear bias of 2 values, want 3": func() { e.Linear(a, a, w, make([]float32, 2), 0) },
		"matmul 2×3 by 3×2 into 2×3":      func() { e.MatMul(a, a, false, b, false, 1, 0) },
		"modulate: 3 rows, 2 per sample": func() {
			e.Modulate(b, b, engine.All(engine.Wrap(make([]float32, 2), 1, 2)), engine.All(engine.Wrap(make([]float32, 2), 1, 2)), 2)
		},
		"view 2×3 stride 3 at 1": func() { e.Zero(engine.View{T: a.T, Offset: 1, Rows: 2, Cols: 3, Stride: 3}) },
		"images of shape [2 3]":  func() { e.Upsample(a.T, a.T) },
		"copy 5 values to 6":     func() { e.Upload(a.T, make([]float32, 5)) },
		"activation 7":           func() { Value(7, 0) },
		"rotation tables of 1 and 0 values": func() {
			e.Attend(a, a, a, a, &engine.Attention{Layout: engine.Layout{B: 1, N: 2}, Heads: 1, Dim: 3, Cos: engine.Wrap(make([]float32, 1), 1),
				Sin: engine.Wrap(nil, 0)})
		},
		"7 values for a 2×3 matrix": func() { Dense(make([]float64, 7), 2, 3) },
		"group norm of 3 channels in 2 gro": func() {
			x := engine.Wrap(make([]float32, 6), 1, 3, 1, 2)
			e.GroupNorm(x, x, 2, make([]float32, 3), make([]float32, 3), 0, false)
		},
	} {
		func() {
			defer func() {
				if p := fmt.Sprint(recover()); !strings.Contains(p, say) {
					t.Errorf("panic %q does not say %q", p, say)
				}
			}()
			f()
		}()
	}
}
