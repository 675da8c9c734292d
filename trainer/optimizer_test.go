package trainer

import (
	"errors"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/reference"
	"github.com/sciflux/sciflux/random"
)

func vector(x ...float32) *engine.Tensor { return engine.Wrap(x, len(x)) }

// TestAdamWFollowsTheTextbook compares five clipped, decayed steps after warm-up with the formulas of Loshchilov and
// Hutter in float64, for random constants.
func TestAdamWFollowsTheTextbook(t *testing.T) {
	be := reference.New()
	rapid.Check(t, func(t *rapid.T) {
		c := OptimizerConfig{
			LR: rapid.Float64Range(1e-5, 0.1).Draw(t, "lr"), Beta1: rapid.Float64Range(0, 0.95).Draw(t, "beta1"), Beta2: rapid.Float64Range(0.5, 0.999).Draw(t, "beta2"),
			Eps: 1e-8, WeightDecay: rapid.Float64Range(0, 0.5).Draw(t, "decay"), MaxGradNorm: rapid.SampledFrom([]float64{0, 0.5, 1e6}).Draw(t, "clip"),
			WarmupSteps: rapid.IntRange(0, 4).Draw(t, "warm-up"),
		}
		const n = 5
		w := normal(random.New(1), n)
		want, m, v := make([]float64, n), make([]float64, n), make([]float64, n)
		for i := range w {
			want[i] = float64(w[i])
		}
		o := NewOptimizer(be, n, c)
		defer o.Free()
		for step := 1; step <= 5; step++ {
			g := normal(random.New(2).Index(uint64(step)), n)
			_, rate, err := o.Update(vector(w...), vector(g...)) // over the memory of w
			if err != nil {
				t.Fatal(err)
			}
			textbook(want, m, v, g, c, step)
			if warm := c.LR * math.Min(1, float64(step-1)/math.Max(1, float64(c.WarmupSteps))); c.WarmupSteps > 0 && math.Abs(rate-warm) > 1e-15 {
				t.Fatalf("rate of step %d is %v, want %v", step, rate, warm)
			}
			for i := range w {
				if math.Abs(float64(w[i])-want[i]) > 2e-5*(1+math.Abs(want[i])) {
					t.Fatalf("weight %d after step %d is %v, want %v", i, step, w[i], want[i])
				}
			}
		}
	})
}

// textbook takes one step in float64.
func textbook(w, m, v []float64, g []float32, c OptimizerConfig, step int) {
	sum := 0.0
	for _, x := range g {
		sum += float64(x) * float64(x)
	}
	scale, rate := 1.0, c.LR
	if c.MaxGradNorm > 0 {
		scale = math.Min(1, c.MaxGradNorm/(math.Sqrt(sum)+1e-6))
	}
	if c.WarmupSteps > 0 {
		rate *= math.Min(1, float64(step-1)/float64(c.WarmupSteps))
	}
	for i := range w {
		x := scale * float64(g[i])
		w[i] -= rate * c.WeightDecay * w[i]
		m[i] = c.Beta1*m[i] + (1-c.Beta1)*x
		v[i] = c.Beta2*v[i] + (1-c.Beta2)*x*x
		mean, square := m[i]/(1-math.Pow(c.Beta1, float64(step))), v[i]/(1-math.Pow(c.Beta2, float64(step)))
		w[i] -= rate * mean / (math.Sqrt(square) + c.Eps)
	}
}

func TestWarmUpStartsAtZeroAndEndsAtTheRate(t *testing.T) {
	o := NewOptimizer(reference.New(), 1, OptimizerConfig{LR: 0.8, WarmupSteps: 4})
	defer o.Free()
	for steps, want := range []float64{0, 0.2, 0.4, 0.6, 0.8, 0.8} {
		if o.Steps = steps; math.Abs(o.Rate()-want) > 1e-12 {
			t.Errorf("after %d updates: rate %v, want %v", steps, o.Rate(), want)
		}
	}
}

// TestFirstWarmStepMovesMomentsOnly: rate 0 leaves the weights, decay included, but the gradient counts in the moments.
func TestFirstWarmStepMovesMomentsOnly(t *testing.T) {
	c := plain
	c.WarmupSteps, c.WeightDecay = 3, 0.5
	o := NewOptimizer(reference.New(), 2, c)
	defer o.Free()
	w := vector(1, -2)
	if _, _, err := o.Update(w, vector(3, 4)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(w.Floats(), []float32{1, -2}) {
		t.Errorf("weights moved to %v", w.Floats())
	}
	near(t, "first moment", o.M.Floats(), []float32{0.3, 0.4}, 1e-6)
	if o.Steps != 1 {
		t.Errorf("%d steps counted", o.Steps)
	}
}

// TestClippingScalesLongGradientsAlone: the norm that is reported is the one before clipping, and a gradient shorter than
// the limit is used as it is.
func TestClippingScalesLongGradientsAlone(t *testing.T) {
	for _, c := range []struct{ limit, want float64 }{{0, 5}, {1, 1}, {5.1, 5}, {100, 5}} {
		o := NewOptimizer(reference.New(), 2, OptimizerConfig{LR: 1, Beta2: 0.5, Eps: 1e-8, MaxGradNorm: c.limit})
		norm, _, err := o.Update(vector(0, 0), vector(3, 4))
		if err != nil {
			t.Fatal(err)
		}
		m := o.M.Floats() // beta1 is 0: the gradient that was used
		if used := math.Hypot(float64(m[0]), float64(m[1])); norm != 5 || math.Abs(used-c.want) > 1e-5 {
			t.Errorf("limit %v: norm %v, used %v, want 5 and %v", c.limit, norm, used, c.want)
		}
		o.Free()
	}
}

// TestBadGradientChangesNothing: NaN and infinity are refused before anything is touched, and the error tells where.
func TestBadGradientChangesNothing(t *testing.T) {
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		o := NewOptimizer(reference.New(), 2, plain)
		w := vector(1, 2)
		if _, _, err := o.Update(w, vector(0.5, 0.5)); err != nil {
			t.Fatal(err)
		}
		before := slices.Concat(w.Floats(), o.M.Floats(), o.V.Floats())
		_, _, err := o.Update(w, vector(1, bad))
		var refused *NonFiniteError
		if !errors.As(err, &refused) || refused.Step != 2 || refused.What != "gradient norm" {
			t.Errorf("%v: error %v", bad, err)
		}
		if !slices.Equal(before, slices.Concat(w.Floats(), o.M.Floats(), o.V.Floats())) || o.Steps != 1 {
			t.Errorf("%v: weights, moments or steps changed", bad)
		}
		o.Free()
	}
}

func TestAverageFollowsTheWeights(t *testing.T) {
	m := tiny(t)
	a := fresh(t, m)
	start := slices.Clone(a.Weights.Floats())
	mean := NewAverage(fast(t, 1), a, 0.75)
	want := slices.Clone(start)
	for step := range 4 {
		for i := range a.Weights.Floats() {
			a.Weights.Floats()[i] += float32(step + 1)
		}
		mean.Add(a)
		for i, w := range a.Weights.Floats() {
			want[i] = 0.75*want[i] + 0.25*w
		}
	}
	near(t, "mean", mean.Adapter.Weights.Floats(), want, 1e-6)
	if slices.Equal(start, a.Weights.Floats()) || slices.Equal(mean.Adapter.Weights.Floats(), a.Weights.Floats()) {
		t.Error("the mean is the adapter itself")
	}
	other := NewAverage(fast(t, 1), fresh(t, m), 0.75)
	other.Restore(mean.Adapter)
	other.Add(a)
	mean.Add(a)
	if !slices.Equal(other.Adapter.Weights.Floats(), mean.Adapter.Weights.Floats()) {
		t.Error("a restored mean goes on differently")
	}
}
