package eval

import (
	"testing"

	"github.com/sciflux/sciflux/run"
)

// TestTheIntervalCoversTheScale: two tuples on which the base scores 10 and 18 of 20, while both variants score alike on
// each, so that only the scale moves: a resample of the first twice has the gain 2/10, of both 2/6, of the second twice 2/2.
func TestTheIntervalCoversTheScale(t *testing.T) {
	b := Bootstrap{Resamples: 500, Seed: 6}
	g := b.gain(scored(20, 10, 18), scored(20, 10, 10), scored(20, 12, 12))
	near(t, "mean", g.Mean, 2./6, 1e-12)
	near(t, "low", g.Low, 2./10, 1e-12)
	near(t, "high", g.High, 1, 1e-12)
}

// TestSeedsGiveOtherResamples: intervals of few resamples differ from seed to seed, and gains go from SFT to the variant.
func TestSeedsGiveOtherResamples(t *testing.T) {
	base, sft, oft := made(20, 15, 1, 1), made(20, 18, 2, 2), made(20, 21, 2, 3)
	variants := map[run.Variant][]Tuple{run.VariantBase: base, run.VariantSFT: sft, run.VariantOFT: oft}
	seen := map[run.Interval]bool{}
	for seed := range uint64(4) {
		results := Results("s", variants, 4, Bootstrap{Resamples: 5, Seed: seed})
		g := results[2].RIGain
		near(t, "gain", g.Mean, results[2].RI-results[1].RI, 1e-12)
		if seen[g] || g.Mean <= 0 {
			t.Errorf("seed %d: %+v", seed, g)
		}
		seen[g] = true
	}
}
