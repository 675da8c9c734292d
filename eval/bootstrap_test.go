package eval

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/run"
)

// scored gives tuples of one implicit picture of each score, and explicit pictures of one score.
func scored(explicit float64, implicit ...float64) []Tuple {
	tuples := make([]Tuple, len(implicit))
	for i, s := range implicit {
		tuples[i] = Tuple{Index: i, Implicit: []Picture{{Score: s}}, Explicit: []Picture{{Score: explicit}}, Superficial: []Picture{{Score: 0}}}
	}
	return tuples
}

func constant(v float64, n int) []float64 { return slices.Repeat([]float64{v}, n) }

// TestIntervalOfTwo: of two tuples with gains 0 and 1 a resample has mean 0, ½ or 1, the ends in a quarter of the cases
// each, so the interval is all of it; of one tuple there is nothing to resample.
func TestIntervalOfTwo(t *testing.T) {
	b := Bootstrap{Resamples: 500, Seed: 2}
	base, sft := scored(11, constant(10, 2)...), scored(11, constant(10, 2)...)
	check := func(what string, g, want run.Interval) {
		near(t, what+", mean", g.Mean, want.Mean, 1e-12)
		near(t, what+", low", g.Low, want.Low, 1e-12)
		near(t, what+", high", g.High, want.High, 1e-12)
	}
	check("gains 0 and 1", b.gain(base, sft, scored(11, 10, 11)), run.Interval{Mean: 0.5, Low: 0, High: 1})
	check("one tuple", b.gain(base[:1], sft[:1], scored(11, 10.25)), run.Interval{Mean: 0.25, Low: 0.25, High: 0.25})
}

// TestIntervalOfANormalSample: with a fixed scale the gain is a plain mean, and its interval that of the textbook,
// mean ± 1.96·s/√n.
func TestIntervalOfANormalSample(t *testing.T) {
	const n = 200
	z := make([]float32, n)
	random.New(3).Normal(z)
	scores, mean, square := make([]float64, n), 0.0, 0.0
	for i, v := range z {
		scores[i] = 14 + 2*float64(v)
		mean += scores[i] / n
	}
	for _, v := range scores {
		square += (v - mean) * (v - mean) / n
	}
	g := Bootstrap{Resamples: 4000, Seed: 4}.gain(scored(20, constant(10, n)...), scored(20, constant(12, n)...), scored(20, scores...))
	half := 1.96 * math.Sqrt(square/n) / 10 // the scale of RI is 20 − 10
	near(t, "mean", g.Mean, (mean-12)/10, 1e-9)
	near(t, "low", g.Low, (mean-12)/10-half, 0.1*half)
	near(t, "high", g.High, (mean-12)/10+half, 0.1*half)
}

// TestPairedTuplesCancel: what both variants share, however spread, is not in the interval of their difference.
func TestPairedTuplesCancel(t *testing.T) {
	const n = 50
	z := make([]float32, n)
	random.New(8).Normal(z)
	from, to := make([]float64, n), make([]float64, n)
	for i, v := range z {
		from[i], to[i] = 15+5*float64(v), 16+5*float64(v)
	}
	g := Bootstrap{Resamples: 200, Seed: 1}.gain(scored(20, constant(10, n)...), scored(20, from...), scored(20, to...))
	near(t, "low", g.Low, 0.1, 1e-9)
	near(t, "high", g.High, 0.1, 1e-9)
}

func TestQuantiles(t *testing.T) {
	for _, c := range []struct {
		sorted  []float64
		q, want float64
	}{
		{[]float64{7}, 0.025, 7}, {[]float64{7}, 1, 7}, {[]float64{0, 10}, 0.5, 5}, {[]float64{0, 10}, 0.025, 0.25},
		{[]float64{1, 2, 3, 4, 5}, 0.5, 3}, {[]float64{1, 2, 3, 4, 5}, 0.975, 4.9}, {[]float64{1, 2, 3, 4, 5}, 0, 1}, {[]float64{1, 2, 3, 4, 5}, 1, 5},
	} {
		near(t, "quantile", quantile(c.sorted, c.q), c.want, 1e-12)
	}
}

// TestMeansByHand: means run over pictures, not over tuples; verdicts other than right count as not right; change outside
// the box is of implicit pictures alone.
func TestMeansByHand(t *testing.T) {
	tuples := []Tuple{
		{Implicit: []Picture{{Score: 1, Verdict: "right", Outside: 2}, {Score: 3, Verdict: "neither", Outside: 4}, {Score: 5, Verdict: "right"}}, Explicit: []Picture{{Score: 10, Verdict: "right", Outside: 99}}},
		{Implicit: []Picture{{Score: 7, Verdict: "superficial"}}, Superficial: []Picture{{Score: -2, Verdict: "right"}, {Score: -4}}},
	}
	want := Means{IP: 4, EP: 10, SP: -3, JudgeIP: 0.5, JudgeEP: 1, JudgeSP: 0.5, Outside: 1.5}
	if got := Summarise(tuples); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestRowsByHand: one split with hand-made scores, all numbers of its rows.
func TestRowsByHand(t *testing.T) {
	variants := map[run.Variant][]Tuple{
		run.VariantBase: scored(20, 10, 12), run.VariantSFT: scored(20, 14, 14), run.VariantOFT: scored(22, 16, 18), run.VariantLonger: scored(20, 15),
	}
	rows := Results("test_C", variants, 1, Bootstrap{Resamples: 50, Seed: 1})
	if len(rows) != 4 || rows[3].Variant != run.VariantLonger || rows[3].RIGain != (run.Interval{}) {
		t.Fatalf("%+v: a variant of other tuples has no paired gain", rows)
	}
	base, sft, oft := rows[0], rows[1], rows[2]
	near(t, "base IP", base.IP, 11, 1e-12)
	near(t, "base ND", base.ND, 11./20, 1e-12)
	near(t, "SFT RI", sft.RI, 3./9, 1e-12)
	near(t, "OFT RI", oft.RI, 6./9, 1e-12) // the scale is the base's
	near(t, "OFT ND", oft.ND, 17./22, 1e-12)
	near(t, "OFT gain", oft.RIGain.Mean, 3./9, 1e-12)
	for _, r := range rows {
		if r.Split != "test_C" || r.Pictures != 1 || r.Tuples != len(variants[r.Variant]) {
			t.Errorf("%+v", r)
		}
	}
	delete(variants, run.VariantBase)
	for _, r := range Results("x", variants, 1, Bootstrap{Resamples: 3}) {
		if r.RI != 0 || math.IsNaN(r.ND) {
			t.Errorf("without a base: %+v", r)
		}
	}
}

// TestCountedTuples: counting a tuple w times is having it w times.
func TestCountedTuples(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "tuples")
		var tuples, repeated []Tuple
		count := make([]int, n)
		for i := range n {
			tuple := Tuple{}
			for range rapid.IntRange(0, 3).Draw(t, "pictures") {
				k := rapid.SampledFrom(Kinds()).Draw(t, "kind")
				tuple.Add(k, Picture{Score: rapid.Float64Range(-9, 9).Draw(t, "score"), Outside: 1, Verdict: rapid.SampledFrom([]string{"right", "neither", ""}).Draw(t, "verdict")})
			}
			tuples, count[i] = append(tuples, tuple), rapid.IntRange(0, 3).Draw(t, "count")
			repeated = append(repeated, slices.Repeat([]Tuple{tuple}, count[i])...)
		}
		got, want := weighted(tuples, count), Summarise(repeated)
		for _, d := range []float64{got.IP - want.IP, got.EP - want.EP, got.SP - want.SP, got.JudgeIP - want.JudgeIP, got.JudgeEP - want.JudgeEP, got.JudgeSP - want.JudgeSP, got.Outside - want.Outside} {
			if math.Abs(d) > 1e-9 {
				t.Fatalf("counted %+v, repeated %+v", got, want)
			}
		}
	})
}
