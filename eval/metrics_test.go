package eval

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// The published tables print both the averages and what the formulas make of them.
func TestPublishedMetrics(t *testing.T) {
	for _, tc := range []struct{ ip, ep, sp, want float64 }{
		{22.37, 26.88, 19.35, 40.11}, {30.89, 34.22, 26.21, 58.43}, {23.56, 32.85, 17.69, 38.72}, {27.26, 34.70, 23.78, 31.87},
	} {
		if got := NormalisedDifference(tc.ip, tc.ep, tc.sp); math.Abs(got-tc.want) > 0.0051 {
			t.Errorf("ND(%v, %v, %v) = %v, printed %v", tc.ip, tc.ep, tc.sp, got, tc.want)
		}
	}
	for _, tc := range []struct{ tuned, base, ceiling, want float64 }{
		{27.43, 23.56, 32.85, 41.66}, {28.52, 23.56, 32.85, 53.39}, {29.49, 27.26, 34.70, 29.97}, {30.11, 27.26, 34.70, 38.31},
	} {
		if got := RelativeImprovement(tc.tuned, tc.base, tc.ceiling); math.Abs(got-tc.want) > 0.0051 {
			t.Errorf("RI(%v, %v, %v) = %v, printed %v", tc.tuned, tc.base, tc.ceiling, got, tc.want)
		}
	}
}

// Both metrics are linear between their anchors and do not see a shift or a scale of the score.
func TestMetricsAreAffineInvariant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		low := rapid.Float64Range(-50, 50).Draw(t, "low")
		gap := rapid.Float64Range(0.5, 30).Draw(t, "gap")
		part := rapid.Float64Range(-1, 2).Draw(t, "part")
		scale := rapid.Float64Range(0.1, 10).Draw(t, "scale")
		shift := rapid.Float64Range(-100, 100).Draw(t, "shift")
		f := func(v float64) float64 { return scale*v + shift }
		at := low + part*gap
		for _, got := range []float64{
			NormalisedDifference(at, low+gap, low), NormalisedDifference(f(at), f(low+gap), f(low)),
			RelativeImprovement(at, low, low+gap), RelativeImprovement(f(at), f(low), f(low+gap)),
		} {
			if math.Abs(got-100*part) > 1e-7 {
				t.Fatalf("got %v, want %v", got, 100*part)
			}
		}
	})
}

func TestMetricsWithoutAScale(t *testing.T) {
	if got := NormalisedDifference(2, 1, 1); !math.IsInf(got, 1) {
		t.Errorf("ND with equal anchors is %v", got)
	}
	if got := RelativeImprovement(1, 1, 1); !math.IsNaN(got) {
		t.Errorf("RI of nothing by nothing is %v", got)
	}
}

func TestBenchmark(t *testing.T) {
	got, err := Benchmark([]Choice{
		{"absorption", "physics", 3, 2},
		{"absorption", "chemistry", 2, 2}, // equal is wrong
		{"rust", "chemistry", 1, 4},
		{"rust", "chemistry", 5, 4},
	})
	if err != nil {
		t.Fatal(err)
	}
	e := math.E
	want := TwoChoice{
		Overall: Tally{2, 4}, ByLaw: map[string]Tally{"absorption": {1, 2}, "rust": {1, 2}},
		ByCategory:           map[string]Tally{"physics": {1, 1}, "chemistry": {1, 3}},
		ProbabilityOfCorrect: []float64{e / (1 + e), 0.5, 1 / (1 + e*e*e), e / (1 + e)},
	}
	near := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-12 })
	if diff := cmp.Diff(want, got, near); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"chemistry", "physics"}, Names(got.ByCategory)); diff != "" {
		t.Error(diff)
	}
	if got.ByCategory["chemistry"].Accuracy() != 1.0/3 {
		t.Errorf("accuracy %v", got.ByCategory["chemistry"].Accuracy())
	}
}

func TestBenchmarkRefuses(t *testing.T) {
	if _, err := Benchmark(nil); err == nil {
		t.Error("no rows: no error")
	}
	if _, err := Benchmark([]Choice{{"l", "c", 1, float32(math.NaN())}}); err == nil {
		t.Error("a score that is no number: no error")
	}
}

// Scores far apart must not overflow, and the two orders of a pair share one probability mass.
func TestBenchmarkProbabilities(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Float32Range(-1e4, 1e4).Draw(t, "a"), rapid.Float32Range(-1e4, 1e4).Draw(t, "b")
		r, err := Benchmark([]Choice{{"l", "c", a, b}, {"l", "c", b, a}})
		if err != nil {
			t.Fatal(err)
		}
		p, q := r.ProbabilityOfCorrect[0], r.ProbabilityOfCorrect[1]
		if math.Abs(p+q-1) > 1e-12 || (p > 0.5) != (a > b) && math.Abs(float64(a-b)) > 1e-6 {
			t.Fatalf("%v and %v for scores %v and %v", p, q, a, b)
		}
		if wins := r.Overall.Correct; wins != 1 && a != b || wins != 0 && a == b {
			t.Fatalf("%d right of a pair and its mirror image", wins)
		}
	})
}
