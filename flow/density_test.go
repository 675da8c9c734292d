package flow

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// TestShiftedByHand: a·σ/(1+(a−1)·σ) for numbers that a pencil can follow.
func TestShiftedByHand(t *testing.T) {
	for _, c := range []struct {
		sigma float32
		a     float64
		want  float32
	}{
		{0.5, 3, 0.75}, {0.25, 3, 0.5}, {0.5, 1. / 3, 0.25}, {0.1, 1, 0.1}, {0.001, 2, 0.002 / 1.001}, {1, 7, 1}, {0, 7, 0},
	} {
		if got := Shifted(c.sigma, c.a); math.Abs(float64(got-c.want)) > 1e-7 {
			t.Errorf("σ %v shifted by %v: %v, want %v", c.sigma, c.a, got, c.want)
		}
	}
}

// TestTrainingShift: mu is 0.5 at 256 tokens, 0.63 at 512 px and 1.15 at 1024 px.
func TestTrainingShift(t *testing.T) {
	for _, c := range []struct {
		name   string
		tokens int
		want   float64
	}{
		{"none", 1024, 1}, {"1.15", 1024, 1.15}, {"3", 64, 3},
		{"dynamic", 256, 1.648721}, {"dynamic", 1024, 1.877611}, {"dynamic", 4096, 3.158193},
	} {
		if got, err := dev().TrainingShift(c.name, c.tokens); err != nil || math.Abs(got-c.want) > 1e-6 {
			t.Errorf("%s, %d tokens: %v, %v; want %v", c.name, c.tokens, got, err, c.want)
		}
	}
	for _, name := range []string{"", "static", "0", "-1", "inf", "nan", "3x"} {
		if a, err := dev().TrainingShift(name, 1024); err == nil {
			t.Errorf("%q: %v", name, a)
		}
	}
}

// TestDynamicShiftIsTheInferenceSchedule: training levels shifted dynamically are the levels that inference visits: 30
// steps at 512 px, as the FLUX.1-dev pipeline prints them.
func TestDynamicShiftIsTheInferenceSchedule(t *testing.T) {
	a, err := dev().TrainingShift("dynamic", 1024)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range map[int]float64{0: 1, 1: 0.981966, 5: 0.903736, 15: 0.652489, 25: 0.273003, 29: 0.060808} {
		u := 1 - float32(i)/30
		if got := float64(Shifted(u, a)); math.Abs(got-want) > 1e-6 {
			t.Errorf("level %v: %v, want %v", u, got, want)
		}
	}
}

// TestShiftProperties: levels keep their order and their ends, shifts multiply, and a shift of 1 changes no bit.
func TestShiftProperties(t *testing.T) {
	level := rapid.Float32Range(0, 1)
	shift := rapid.Float64Range(0.05, 20)
	rapid.Check(t, func(t *rapid.T) {
		s, r, a, b := level.Draw(t, "sigma"), level.Draw(t, "other"), shift.Draw(t, "a"), shift.Draw(t, "b")
		if Shifted(s, 1) != s || Shifted(0, a) != 0 || Shifted(1, a) != 1 {
			t.Fatalf("shift 1 of %v: %v; ends %v, %v", s, Shifted(s, 1), Shifted(0, a), Shifted(1, a))
		}
		if s < r && Shifted(s, a) > Shifted(r, a) {
			t.Fatalf("%v < %v are shifted to %v, %v", s, r, Shifted(s, a), Shifted(r, a))
		}
		if (a > 1) != (Shifted(s, a) > s) && s > 0.01 && s < 0.99 && math.Abs(a-1) > 0.01 {
			t.Fatalf("%v shifted by %v: %v", s, a, Shifted(s, a))
		}
		if twice, once := Shifted(Shifted(s, a), b), Shifted(s, a*b); math.Abs(float64(twice-once)) > 2e-5 {
			t.Fatalf("shifted by %v and %v: %v, by the product %v", a, b, twice, once)
		}
	})
}
