package reference

import (
	"math"
	"testing"

	"github.com/sciflux/sciflux/engine"
)

func TestActivationDerivativesAgreeWithDifferences(t *testing.T) {
	for f := engine.GELUTanh; f <= engine.SiLU; f++ {
		for x := -8.0; x <= 8; x += 0.37 {
			hi, _ := Value(f, x+1e-5)
			lo, _ := Value(f, x-1e-5)
			_, d := Value(f, x)
			if want := (hi - lo) / 2e-5; math.Abs(d-want) > 1e-7 {
				t.Errorf("activation %d at %g: derivative %g, want %g", f, x, d, want)
			}
		}
		for _, x := range []float64{-1e30, 1e30, -300, 300} {
			v, d := Value(f, x)
			if want := max(x, 0); math.Abs(v-want) > 1e-100 || math.Abs(d-max(0, min(x, 1))) > 1e-100 {
				t.Errorf("activation %d at %g: %g, slope %g", f, x, v, d)
			}
		}
	}
}

func TestLinearBackIsTheTransposeOfLinear(t *testing.T) {
	e := New()
	w := &engine.Weight{Out: 2, In: 3, Stride: 3, BF16: []uint16{0x3f80, 0x4000, 0x4040, 0x0000, 0xbf80, 0x3f00}}
	x, y, dx := e.Alloc(1, 3), e.Alloc(1, 2), e.Alloc(1, 3)
	e.Upload(x, []float32{1, 1, 2})
	e.Linear(engine.All(y), engine.All(x), w, []float32{10, 20}, 0)
	if got := y.Floats(); got[0] != 19 || got[1] != 20 {
		t.Errorf("linear: %v, want [19 20]", got)
	}
	e.Upload(y, []float32{1, 2})
	e.LinearBack(engine.All(dx), engine.All(y), w, 0)
	if got := dx.Floats(); got[0] != 1 || got[1] != 0 || got[2] != 4 {
		t.Errorf("linear back: %v, want [1 0 4]", got)
	}
}
