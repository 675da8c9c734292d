package eval

import (
	"math"
	"testing"

	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/run"
)

// made gives n tuples whose implicit scores are spread around ip by noise, with fixed explicit and superficial scores.
func made(n int, ip, noise float64, seed uint64) []Tuple {
	tuples := make([]Tuple, n)
	for i := range tuples {
		tuples[i].Index = i
		z := make([]float32, 4)
		random.New(seed).Index(uint64(i)).Normal(z)
		for k := range 4 {
			verdict := "superficial"
			if k == 0 {
				verdict = "right"
			}
			tuples[i].Add(Implicit, Picture{Score: ip + noise*float64(z[k]), Verdict: verdict, Outside: 3})
		}
		tuples[i].Add(Explicit, Picture{Score: 30, Verdict: "right"})
		tuples[i].Add(Superficial, Picture{Score: 10, Verdict: "neither"})
	}
	return tuples
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance || math.IsNaN(got) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestResults(t *testing.T) {
	results := Results("test_S", map[run.Variant][]Tuple{
		run.VariantBase: made(150, 15, 1, 1), run.VariantSFT: made(150, 20, 1, 2), run.VariantOFT: made(150, 24, 1, 3),
	}, 4, Bootstrap{Resamples: 400, Seed: 1})
	if len(results) != 3 || results[0].Variant != run.VariantBase || results[2].Variant != run.VariantOFT {
		t.Fatalf("%+v", results)
	}
	base, sft, oft := results[0], results[1], results[2]
	near(t, "base ND", base.ND, 0.25, 0.02)
	near(t, "SFT RI", sft.RI, 1.0/3, 0.02)
	near(t, "OFT RI", oft.RI, 0.6, 0.02)
	near(t, "right", oft.JudgeIP, 0.25, 1e-12)
	near(t, "right of explicit", oft.JudgeEP, 1, 1e-12)
	near(t, "right of superficial", oft.JudgeSP, 0, 1e-12)
	near(t, "outside", oft.Outside, 3, 1e-12)
	near(t, "gain", oft.RIGain.Mean, oft.RI-sft.RI, 1e-12)
	if g := oft.RIGain; !(g.Low < g.Mean && g.Mean < g.High && g.Low > 0) {
		t.Errorf("interval %+v", g)
	}
	if base.RI != 0 || base.RIGain != (run.Interval{}) || sft.RIGain != (run.Interval{}) {
		t.Errorf("base and SFT have no gain: %+v %+v", base, sft)
	}
}

// TestIntervalCovers: with no true difference, about 95 % of intervals hold 0.
func TestIntervalCovers(t *testing.T) {
	covered := 0
	for trial := range uint64(120) {
		base, a, b := made(60, 15, 1, 1000+trial), made(60, 20, 2, 2000+trial), made(60, 20, 2, 3000+trial)
		g := Bootstrap{Resamples: 200, Seed: trial}.gain(base, a, b)
		if g.Low <= 0 && 0 <= g.High {
			covered++
		}
	}
	if covered < 105 || covered > 119 {
		t.Errorf("%d of 120 intervals hold the truth, want about 114", covered)
	}
}

func TestResultsWithoutScaleAreFinite(t *testing.T) {
	flat := []Tuple{{Implicit: []Picture{{Score: 1}}, Explicit: []Picture{{Score: 1}}, Superficial: []Picture{{Score: 1}}}}
	for _, r := range Results("x", map[run.Variant][]Tuple{run.VariantBase: flat, run.VariantSFT: flat, run.VariantOFT: flat}, 1, Bootstrap{Resamples: 3}) {
		for _, v := range []float64{r.ND, r.RI, r.RIGain.Mean, r.RIGain.Low} {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Errorf("%+v", r)
			}
		}
	}
	if m := Summarise(nil); m != (Means{}) {
		t.Errorf("means of nothing: %+v", m)
	}
}

func TestSortAndDeterminism(t *testing.T) {
	tuples := []Tuple{{Index: 2}, {Index: 0}, {Index: 1}}
	Sort(tuples)
	for i, x := range tuples {
		if x.Index != i {
			t.Fatalf("%+v", tuples)
		}
	}
	b := Bootstrap{Resamples: 50, Seed: 9}
	x, y, z := made(20, 15, 1, 1), made(20, 18, 1, 2), made(20, 19, 1, 3)
	if b.gain(x, y, z) != b.gain(x, y, z) {
		t.Error("the same seed gives another interval")
	}
}
