package flow

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestAdvantagesByHand: the numbers of small groups.
func TestAdvantagesByHand(t *testing.T) {
	groups := [][]float64{{3, 1, 2, 2}, {5, 5}}
	root := math.Sqrt(0.5)
	for name, c := range map[string]struct {
		of   Advantages
		want [][]float64
	}{
		"centred":  {Advantages{Kind: "centred", Clip: 5}, [][]float64{{1, -1, 0, 0}, {0, 0}}},
		"clipped":  {Advantages{Kind: "centred", Clip: 0.25}, [][]float64{{0.25, -0.25, 0, 0}, {0, 0}}},
		"z-scores": {Advantages{Kind: "zscore", Clip: 5}, [][]float64{{1 / (root + 1e-4), -1 / (root + 1e-4), 0, 0}, {0, 0}}},
		"of samples": {Advantages{Kind: "zscore", Sample: true, Clip: 5},
			[][]float64{{1 / (math.Sqrt(2./3) + 1e-4), -1 / (math.Sqrt(2./3) + 1e-4), 0, 0}, {0, 0}}},
		"win rates":  {Advantages{Kind: "winrate", Clip: 5}, [][]float64{{0.5, -0.5, 0, 0}, {0, 0}}},
		"with a gap": {Advantages{Kind: "winrate", Clip: 5, MinGap: 1}, [][]float64{{1. / 6, -1. / 6, 0, 0}, {0, 0}}},
		"of a round": {Advantages{Kind: "zscore", Round: true, Clip: 5}, [][]float64{{1 / (math.Sqrt(14./6) + 1e-4), -1 / (math.Sqrt(14./6) + 1e-4), 0, 0}, {0, 0}}},
	} {
		for g, a := range c.of.Of(groups) {
			for i, v := range a {
				if math.Abs(v-c.want[g][i]) > 1e-12 {
					t.Errorf("%s: %v, want %v", name, a, c.want[g])
				}
			}
		}
	}
	if a := (Advantages{Kind: "zscore", Sample: true, Clip: 5}).Of([][]float64{{7}, {}}); len(a) != 2 || a[0][0] != 0 || len(a[1]) != 0 {
		t.Errorf("groups of one and none: %v", a)
	}
}

// TestAdvantagesOfAnyRound: they sum to 0 in a group where nothing is clamped, keep the order of rewards, and do not see the
// level of the rewards.
func TestAdvantagesOfAnyRound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := Advantages{Kind: rapid.SampledFrom([]string{"centred", "zscore", "winrate", "winrate_zscore"}).Draw(t, "kind"),
			Sample: rapid.Bool().Draw(t, "sample"), Round: rapid.Bool().Draw(t, "round"), Clip: 100}
		groups := make([][]float64, rapid.IntRange(1, 4).Draw(t, "groups"))
		shifted := make([][]float64, len(groups))
		for g := range groups {
			for range rapid.IntRange(2, 5).Draw(t, "size") {
				r := float64(rapid.IntRange(0, 40).Draw(t, "reward"))
				groups[g], shifted[g] = append(groups[g], r), append(shifted[g], r+1024)
			}
		}
		got, again := a.Of(groups), a.Of(shifted)
		for g := range groups {
			sum := 0.0
			for i := range groups[g] {
				sum += got[g][i]
				if math.Abs(got[g][i]-again[g][i]) > 1e-9 {
					t.Fatalf("%+v: %v, of raised rewards %v", a, got[g], again[g])
				}
				for j := range groups[g] {
					if groups[g][i] > groups[g][j] && got[g][i] <= got[g][j] {
						t.Fatalf("%+v: rewards %v have advantages %v", a, groups[g], got[g])
					}
				}
			}
			if math.Abs(sum) > 1e-9 {
				t.Fatalf("%+v: advantages %v sum to %v", a, got[g], sum)
			}
		}
	})
}

func TestFlatAndSpread(t *testing.T) {
	if !Flat([]float64{1, 1.5}, 0.5) || Flat([]float64{1, 1.5}, 0.4) || !Flat(nil, 0) {
		t.Error("flat groups")
	}
	if Spread([]float64{1, 3}) != 1 || Spread([]float64{4}) != 0 {
		t.Error("spread")
	}
}

// TestShareOfTrainTimesIsRoundedUp: the cleanest level that may be trained, of shares that are whole numbers of steps but for
// a rounding error and of others.
func TestShareOfTrainTimesIsRoundedUp(t *testing.T) {
	for _, c := range []struct {
		times TrainTimes
		want  int
	}{
		{TrainTimes{Steps: 10, Count: 1, Fraction: 0.65}, 6},
		{TrainTimes{Steps: 10, Count: 1, Fraction: 0.7}, 6},
		{TrainTimes{Steps: 10, Count: 1, Fraction: 0.71}, 7},
		{TrainTimes{Steps: 10, Count: 4, Fraction: 0.1}, 3},
		{TrainTimes{Steps: 10, Count: 2, Fraction: 1}, 9},
	} {
		draws := make([]float64, c.times.Count)
		for i := range draws {
			draws[i] = 0.999
		}
		if index := c.times.Index(draws); index[len(index)-1] != c.want {
			t.Errorf("%+v: the last level is %d, want %d", c.times, index[len(index)-1], c.want)
		}
	}
}

// TestTrainTimesStayInTheirStrata: one level in each stratum, in order, within the fraction.
func TestTrainTimesStayInTheirStrata(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		steps := rapid.IntRange(1, 40).Draw(t, "steps")
		c := TrainTimes{Steps: steps, Count: rapid.IntRange(1, steps).Draw(t, "count"), Fraction: rapid.Float64Range(0.01, 1).Draw(t, "fraction")}
		draws := rapid.SliceOfN(rapid.Float64Range(0, math.Nextafter(1, 0)), c.Count, c.Count).Draw(t, "draws")
		index := c.Index(draws)
		most := max(c.Count, int(math.Ceil(c.Fraction*float64(steps))))
		for q, i := range index {
			if i < 0 || i >= min(steps, most) || q > 0 && i <= index[q-1] {
				t.Fatalf("%+v: levels %v", c, index)
			}
		}
	})
	if got := (TrainTimes{Steps: 10, Count: 7, Fraction: 0.7}).Index(make([]float64, 7)); !slices.Equal(got, []int{0, 1, 2, 3, 4, 5, 6}) {
		t.Errorf("seven of the first seven: %v", got)
	}
}

// TestWindowsVisitEveryPlace: a window stays inside, a progressive one stops at or wraps round the last place.
func TestWindowsVisitEveryPlace(t *testing.T) {
	w := Window{Size: 3, Low: 1, High: 9, Stride: 2, Every: 2}
	var stop, wrap []int
	for round := range 10 {
		stop = append(stop, w.Start(round, 0))
		w.Wrap = true
		wrap = append(wrap, w.Start(round, 0))
		w.Wrap = false
	}
	if !slices.Equal(stop, []int{1, 1, 3, 3, 5, 5, 6, 6, 6, 6}) || !slices.Equal(wrap, []int{1, 1, 3, 3, 5, 5, 6, 6, 1, 1}) {
		t.Errorf("%v and %v", stop, wrap)
	}
	w.Random = true
	seen := map[int]bool{}
	for i := range 100 {
		seen[w.Start(i, float64(i)/100)] = true
	}
	if len(seen) != 6 || !seen[1] || !seen[6] {
		t.Errorf("random places %v", seen)
	}
}

// TestOldPolicyFollows: with decay 0 it is the policy to the bit, later it lags by its schedule.
func TestOldPolicyFollows(t *testing.T) {
	o := OldPolicy{Flat: 2, Ramp: 0.25, Cap: 0.4}
	for k, want := range []float64{0, 0, 0, 0.25, 0.4, 0.4} {
		if got := o.Decay(k); got != want {
			t.Errorf("update %d: decay %v, want %v", k, got, want)
		}
	}
	old, policy := []float32{4, float32(math.Inf(1))}, []float32{1.0 / 3, 2}
	o.Follow(old, policy, 1)
	if !slices.Equal(old, policy) {
		t.Errorf("%v, want the policy %v", old, policy)
	}
	old = []float32{4, 8}
	if o.Follow(old, []float32{0, 0}, 3); !slices.Equal(old, []float32{1, 2}) {
		t.Errorf("%v, want a quarter of what was", old)
	}
}
