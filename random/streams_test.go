package random

import (
	"fmt"
	"math"
	"testing"
)

// TestPermutationsOfManySizes: every order holds each number once, is no other seed's, and depends on the key alone.
func TestPermutationsOfManySizes(t *testing.T) {
	sizes := []int{1000, 4096, 10_007, 50_000}
	for n := range 200 {
		sizes = append(sizes, n)
	}
	for _, n := range sizes {
		p, seen := New(uint64(n)).Permutation(n), make([]bool, n)
		for _, v := range p {
			if v < 0 || v >= n || seen[v] {
				t.Fatalf("%d is twice or outside in the order of %d", v, n)
			}
			seen[v] = true
		}
		again, other := New(uint64(n)).Permutation(n), New(uint64(n)+1_000_000).Permutation(n)
		same := 0
		for i := range p {
			if p[i] != again[i] {
				t.Fatalf("order of %d changes on repetition", n)
			}
			if p[i] == other[i] {
				same++
			}
		}
		if n > 20 && same > n/2 {
			t.Errorf("two seeds agree on %d places of %d", same, n)
		}
	}
}

// TestAllOrdersAreEquallyLikely: the 120 orders of five things, by chi square with 119 degrees of freedom.
func TestAllOrdersAreEquallyLikely(t *testing.T) {
	const draws = 24_000
	counts := map[string]int{}
	for i := range uint64(draws) {
		counts[fmt.Sprint(New(4).Index(i).Permutation(5))]++
	}
	chi := 0.0
	for _, n := range counts {
		d := float64(n) - draws/120.
		chi += d * d / (draws / 120.)
	}
	if len(counts) != 120 || chi > 119+4*math.Sqrt(2*119) || chi < 119-4*math.Sqrt(2*119) {
		t.Errorf("%d orders of 120, chi square %v, want about 119", len(counts), chi)
	}
}

// TestStreamsAreUncorrelated: normal numbers of different purposes, indices and seeds, also those that differ in one bit
// or one letter, have no correlation with each other or with themselves shifted.
func TestStreamsAreUncorrelated(t *testing.T) {
	const n = 20_000
	root := New(1)
	streams := map[string]Key{
		"noise": root.Purpose("noise"), "noisf": root.Purpose("noisf"), "sft": root.Purpose("sft"), "oft start": root.Purpose("oft start"),
		"0": root.Index(0), "1": root.Index(1), "2": root.Index(2), "1 0": root.Index(1, 0), "0 1": root.Index(0, 1), "1<<32": root.Index(1 << 32),
		"1<<63": root.Index(1 << 63), "other seed": New(2), "noise of other seed": New(2).Purpose("noise"), "root": root,
	}
	names, values := []string{}, [][]float32{}
	for name, k := range streams {
		x := make([]float32, n)
		k.Normal(x)
		names, values = append(names, name), append(values, x)
	}
	correlation := func(a, b []float32) (sum float64) {
		for i := range b {
			sum += float64(a[i]) * float64(b[i])
		}
		return sum / float64(len(b))
	}
	const limit = 4.5 / 141.4 // standard deviations of a correlation of n numbers
	for i := range values {
		for lag := 1; lag <= 3; lag++ {
			if c := correlation(values[i][lag:], values[i][:n-lag-3]); math.Abs(c) > limit {
				t.Errorf("%q correlates with itself %d later: %v", names[i], lag, c)
			}
		}
		for j := range i {
			for lag := range 2 {
				if c := correlation(values[i][lag:], values[j][:n-lag]); math.Abs(c) > limit {
					t.Errorf("%q and %q, %d later: correlation %v", names[i], names[j], lag, c)
				}
			}
		}
	}
}

// TestPairsOfBoxMuller: sine and cosine of one draw are as independent as others: their squares do not correlate, and
// all quadrants come equally often.
func TestPairsOfBoxMuller(t *testing.T) {
	const n = 40_000
	x := make([]float32, 2*n)
	New(6).Normal(x)
	var quadrants [4]int
	squares := 0.0
	for i := range n {
		a, b := float64(x[2*i]), float64(x[2*i+1])
		q := 0
		if a > 0 {
			q = 1
		}
		if b > 0 {
			q += 2
		}
		quadrants[q]++
		squares += (a*a - 1) * (b*b - 1) / (2 * n)
	}
	for q, c := range quadrants {
		if math.Abs(float64(c)-n/4) > 4.5*math.Sqrt(n*3./16) {
			t.Errorf("quadrant %d holds %d of %d", q, c, n)
		}
	}
	if math.Abs(squares) > 4.5/math.Sqrt(n) {
		t.Errorf("squares of a pair correlate: %v", squares)
	}
}

// TestTailsOfNormal: as many numbers beyond 1, 2 and 3 standard deviations as the normal distribution has.
func TestTailsOfNormal(t *testing.T) {
	const n = 200_000
	x := make([]float32, n)
	New(12).Normal(x)
	for _, z := range []float64{0.5, 1, 2, 3} {
		beyond := 0
		for _, v := range x {
			if math.Abs(float64(v)) > z {
				beyond++
			}
		}
		p := math.Erfc(z / math.Sqrt2)
		if math.Abs(float64(beyond)-n*p) > 4.5*math.Sqrt(n*p*(1-p)) {
			t.Errorf("%d of %d beyond %v, want %v", beyond, n, z, n*p)
		}
	}
}

// TestIntnIsEven over limits that are no powers of two, and never reaches its limit.
func TestIntnIsEven(t *testing.T) {
	for _, limit := range []int{1, 2, 3, 7, 10, 48} {
		const draws = 30_000
		counts, k := make([]int, limit), New(uint64(limit)).Purpose("intn")
		for i := range uint64(draws) {
			counts[k.Intn(i, limit)]++
		}
		chi, expected := 0.0, float64(draws)/float64(limit)
		for _, n := range counts {
			chi += (float64(n) - expected) * (float64(n) - expected) / expected
		}
		if free := float64(limit - 1); chi > free+4.5*math.Sqrt(2*free)+1e-9 {
			t.Errorf("limit %d: chi square %v for %v degrees of freedom", limit, chi, free)
		}
	}
}
