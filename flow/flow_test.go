package flow

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/random"
)

func dev() SchedulerConfig {
	c := DefaultScheduler()
	c.Shift, c.UseDynamicShifting = 3, true
	return c
}

// TestSchedulePublished compares with values printed by the FLUX.1-dev pipeline at 512 px, 30 steps.
func TestSchedulePublished(t *testing.T) {
	sigmas := dev().Sigmas(30, 1024)
	for i, want := range map[int]float64{0: 1, 1: 0.981966, 2: 0.963352, 5: 0.903736, 15: 0.652489, 25: 0.273003, 28: 0.118255, 29: 0.060808, 30: 0} {
		if got := float64(sigmas[i]); math.Abs(got-want) > 1e-6 {
			t.Errorf("sigma %d: %v, want %v", i, got, want)
		}
	}
}

func TestSchedulesDescend(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := dev()
		c.UseDynamicShifting = rapid.Bool().Draw(t, "dynamic")
		c.Shift = rapid.Float64Range(0.2, 8).Draw(t, "shift")
		n := rapid.IntRange(1, 60).Draw(t, "steps")
		sigmas := c.Sigmas(n, rapid.IntRange(1, 9000).Draw(t, "tokens"))
		if len(sigmas) != n+1 || sigmas[n] != 0 || sigmas[0] > 1 {
			t.Fatalf("%v", sigmas)
		}
		for i := range n {
			if sigmas[i+1] >= sigmas[i] {
				t.Fatalf("sigma %d does not fall: %v", i, sigmas)
			}
		}
	})
}

func TestGridIndexStaysInside(t *testing.T) {
	for u, want := range map[float64]int{0: 0, 0.9999: 999, 1: 999, 1.2: 999, -0.1: 0, 0.5: 500} {
		if got := GridIndex(u, 1000); got != want {
			t.Errorf("u %v: index %d, want %d", u, got, want)
		}
	}
}

func TestUnknownNamesAreErrors(t *testing.T) {
	if err := (Density{Kind: "gaussian"}).Validate(); err == nil {
		t.Error("unknown density accepted")
	}
	if err := (Density{Kind: "logit_normal"}).Validate(); err == nil {
		t.Error("logit_normal without a std accepted")
	}
	if _, err := LossWeight("sqrt", 0.5); err == nil {
		t.Error("unknown weighting accepted")
	}
	if err := (Forms{Step: Exact, Corners: Exact, Mean: Paper, Pairs: Paper}).Validate(); err == nil {
		t.Error("exact corners accepted")
	}
	for _, f := range []Form{Paper, Corrected, Exact} {
		if err := AllForms(f).Validate(); err != nil {
			t.Error(err)
		}
	}
}

// TestChurnZeroIsEuler: without churn every form is x + (σ'−σ)v.
func TestChurnZeroIsEuler(t *testing.T) {
	for _, form := range []Form{Paper, Corrected, Exact} {
		s := NewStep(form, 0.7, 0.4, 10, 0)
		next := make([]float32, 1)
		s.Advance(next, []float32{2}, []float32{3}, nil)
		if s.Std != 0 || math.Abs(float64(next[0])-(2-0.9)) > 1e-6 {
			t.Errorf("%s: std %v, next %v", form, s.Std, next[0])
		}
	}
}

// TestMarginal: for data at x0 = 0 the ideal velocity is x/σ and x_σ has variance σ². Exact keeps it for any noise,
// Corrected misses it by std²·(1−σ'/σ), which small steps make vanish, and Paper adds the noise on top.
func TestMarginal(t *testing.T) {
	for _, churn := range []float64{0.1, 1, 3, 10} {
		for _, p := range [][2]float64{{1, 0.8}, {0.7, 0.5}, {0.3, 0.05}, {0.2, 0}} {
			variance := func(form Form) (got, std float64) {
				s := NewStep(form, p[0], p[1], 10, churn)
				slope := s.X + s.V/p[0]
				return slope*slope*p[0]*p[0] + s.Std*s.Std, s.Std
			}
			want := p[1] * p[1]
			if got, _ := variance(Exact); math.Abs(got-want) > 1e-12 {
				t.Errorf("exact, churn %v, σ %v: variance %v, want %v", churn, p, got, want)
			}
			got, std := variance(Corrected)
			k := std * std / (2 * p[0])
			if miss := want + std*std*(1-p[1]/p[0]) + k*k; math.Abs(got-miss) > 1e-9 {
				t.Errorf("corrected, churn %v, σ %v: variance %v, want %v", churn, p, got, miss)
			}
			if got, std := variance(Paper); churn <= 0.1 && math.Abs(got-want-std*std) > 0.2*std*std {
				t.Errorf("paper, churn %v, σ %v: variance %v, want about %v", churn, p, got, want+std*std)
			}
		}
	}
}

// TestExactEndsNoiseFree: the last step lands on the predicted clean latents and has no density to train on.
func TestExactEndsNoiseFree(t *testing.T) {
	s := NewStep(Exact, 0.3, 0, 10, 1)
	next := make([]float32, 1)
	s.Advance(next, []float32{2}, []float32{3}, nil)
	if s.Std != 0 || math.Abs(float64(next[0])-(2-0.3*3)) > 1e-6 {
		t.Errorf("std %v, next %v", s.Std, next[0])
	}
	if l := s.LogProb([]float32{2}, []float32{3}, next, nil); l != 0 {
		t.Errorf("log-probability %v of a step without noise", l)
	}
}

func normal(seed uint64, name string, n int) []float32 {
	x := make([]float32, n)
	random.New(seed).Purpose(name).Normal(x)
	return x
}

// TestVelocityGradientByDifferences checks dL/dv against central differences for every form.
func TestVelocityGradientByDifferences(t *testing.T) {
	grid := Grid{Rows: 3, Columns: 2}
	const channels, b = 8, 3
	size := grid.Tokens() * channels
	rewards := []float64{1, 3, 2}
	for _, form := range []Form{Paper, Corrected, Exact} {
		forms := AllForms(form)
		dpo := DPO{Beta: 10, Eps: 0.5, Pairs: forms.Pairs}
		at, v, ref := make([]Transition, b), make([][]float32, b), make([][]float32, b)
		for i := range b {
			s := uint64(i)
			step := NewStep(form, 0.6, 0.4, 10, 1)
			at[i] = Transition{Step: step, Sample: normal(s, "x", size), Next: make([]float32, size)}
			if i > 0 {
				at[i].Mask = NewMask(forms, Box{CX: 0.5, CY: 0.4, W: 0.7, H: 0.5}, grid)
			}
			ref[i], v[i] = normal(s, "v", size), normal(s, "dv", size)
			step.Advance(at[i].Next, at[i].Sample, ref[i], normal(s, "noise", size))
			for k := range v[i] {
				v[i][k] = ref[i][k] + 0.1*v[i][k]
			}
		}
		scratch := func() [][]float32 {
			return [][]float32{make([]float32, size), make([]float32, size), make([]float32, size)}
		}
		grad := scratch()
		out := dpo.VelocityGradient(grad, Velocities{Policy: v, Reference: ref}, at, rewards, 1)
		for i := range b {
			if want := at[i].Step.KL(v[i], ref[i], at[i].Mask); out.KL[i] != want || want <= 0 {
				t.Errorf("%s sample %d: KL %v, want %v", form, i, out.KL[i], want)
			}
			for _, k := range []int{0, 5, size - 1, 17} {
				const h = 1e-2
				old := v[i][k]
				v[i][k] = old + h
				up := dpo.VelocityGradient(scratch(), Velocities{Policy: v, Reference: ref}, at, rewards, 1).Loss
				v[i][k] = old - h
				down := dpo.VelocityGradient(scratch(), Velocities{Policy: v, Reference: ref}, at, rewards, 1).Loss
				v[i][k] = old
				if want := (up - down) / (2 * h); math.Abs(want-float64(grad[i][k])) > 1e-6+2e-3*math.Abs(want) {
					t.Errorf("%s sample %d element %d: gradient %v, differences %v", form, i, k, grad[i][k], want)
				}
			}
		}
	}
}

// TestPairLossFacts: the values that follow from the formulas by hand.
func TestPairLossFacts(t *testing.T) {
	start := []float64{1.2, 1.4}
	for form, want := range map[Form]float64{Paper: math.Ln2, Corrected: math.Ln2} {
		if loss, _, _ := (DPO{Beta: 10, Eps: 0.1, Pairs: form}).PairLoss(start, start, []float64{2, 1}); math.Abs(loss-want) > 1e-12 {
			t.Errorf("%s at the start: %v, want ln 2", form, loss)
		}
	}
	for form, want := range map[Form]float64{Paper: math.Ln2, Corrected: 0} {
		loss, grad, _ := (DPO{Beta: 10, Eps: 0.1, Pairs: form}).PairLoss([]float64{1, 2}, start, []float64{5, 5})
		if math.Abs(loss-want) > 1e-12 || grad[0] != 0 || grad[1] != 0 {
			t.Errorf("%s with a tie: loss %v, gradient %v", form, loss, grad)
		}
	}
	_, grad, clamped := (DPO{Beta: 10, Eps: 0.1, Pairs: Corrected}).PairLoss([]float64{1.9, 1.4}, start, []float64{2, 1})
	if !clamped[0] || clamped[1] || grad[0] != 0 || grad[1] <= 0 {
		t.Errorf("beyond the clamp: gradient %v, clamped %v", grad, clamped)
	}
}

func TestMasks(t *testing.T) {
	grid := Grid{Rows: 8, Columns: 8}
	for _, c := range []struct {
		name    string
		corners Form
		box     Box
		kept    int
	}{
		{"all", Corrected, Box{0.5, 0.5, 1, 1}, 256},
		{"over the edge", Corrected, Box{0.1, 0.5, 0.5, 1}, 5 * 16},
		{"over the edge wraps to nothing", Paper, Box{0.1, 0.5, 0.5, 1}, 0},
		{"outside", Corrected, Box{-0.4, 0.5, 0.2, 1}, 0},
		{"outside counts from the right", Paper, Box{-0.4, 0.5, 0.25, 1}, 4 * 16},
		{"inside", Paper, Box{0.5, 0.5, 0.5, 0.25}, 32},
		{"nothing", Corrected, Box{0.5, 0.5, 0, 0}, 0},
	} {
		m := NewMask(Forms{Corners: c.corners, Mean: Corrected}, c.box, grid)
		n := 0
		m.each(grid.Tokens()*16, func(int) { n++ })
		if m.kept != c.kept || n != 4*c.kept {
			t.Errorf("%s: %d cells and %d elements kept, want %d and %d", c.name, m.kept, n, c.kept, 4*c.kept)
		}
	}
	if (*Mask)(nil).Kept() != 1 {
		t.Error("no mask keeps everything")
	}
}

// TestMaskOrder: packed element 4c+2a+b of token (i, j) is cell (2i+a, 2j+b).
func TestMaskOrder(t *testing.T) {
	grid := Grid{Rows: 2, Columns: 4}
	m := NewMask(AllForms(Corrected), Box{CX: 5.5 / 8, CY: 2.5 / 4, W: 1.0 / 8, H: 1.0 / 4}, grid) // cell (2, 5) alone
	var got []int
	m.each(grid.Tokens()*8, func(k int) { got = append(got, k) })
	token := 1*4 + 2 // (1, 2): its cells (2, 5) are a = 0, b = 1
	want := []int{token*8 + 1, token*8 + 5}
	if m.kept != 1 {
		t.Fatalf("%d cells kept: %v", m.kept, m.Cells)
	}
	for i := range want {
		if len(got) != len(want) || got[i] != want[i] {
			t.Fatalf("elements %v, want %v", got, want)
		}
	}
}

// TestEmptyMaskTrainsNothing: Corrected gives an empty mask log-probability 0 and no gradient.
func TestEmptyMaskTrainsNothing(t *testing.T) {
	grid := Grid{Rows: 2, Columns: 2}
	m := NewMask(AllForms(Corrected), Box{}, grid)
	s := NewStep(Corrected, 0.5, 0.4, 10, 1)
	x, v, next, grad := normal(1, "x", 16), normal(1, "v", 16), normal(1, "n", 16), make([]float32, 16)
	if l := s.LogProb(x, v, next, m); l != 0 {
		t.Errorf("log-probability %v", l)
	}
	s.addLogProbGradient(grad, x, v, next, m, 1)
	for _, g := range grad {
		if g != 0 {
			t.Fatalf("gradient %v", grad)
		}
	}
}

func TestMatchVelocity(t *testing.T) {
	z, noise := normal(1, "z", 12), normal(1, "e", 12)
	v := make([]float32, 12)
	for k := range v {
		v[k] = noise[k] - z[k] + 0.5
	}
	grad := make([]float32, 12)
	if loss := MatchVelocity(grad, v, z, noise, 2, 0.25); math.Abs(loss-0.5) > 1e-6 {
		t.Errorf("loss %v, want 2·0.5²", loss)
	}
	for _, g := range grad {
		if want := 2.0 * 2 * 0.25 * 0.5 / 12; math.Abs(float64(g)-want) > 1e-6 {
			t.Fatalf("gradient %v, want %v", g, want)
		}
	}
	x := make([]float32, 12)
	Noised(x, z, noise, 0.25)
	if want := 0.75*z[3] + 0.25*noise[3]; math.Abs(float64(x[3]-want)) > 1e-6 {
		t.Errorf("noised %v, want %v", x[3], want)
	}
}
