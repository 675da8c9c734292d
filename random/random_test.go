package random

import (
	"math"
	"sort"
	"testing"
)

// TestPhilox checks the generator against the known answers that Random123 publishes for philox4x32-10.
func TestPhilox(t *testing.T) {
	if got, want := block(Key{}, 0, 0), ([4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}); got != want {
		t.Errorf("zero counter: %x, want %x", got, want)
	}
	ones := ^uint64(0)
	if got, want := block(Key{lo: ones}, ones, ones), ([4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}); got != want {
		t.Errorf("all ones: %x, want %x", got, want)
	}
}

func TestKeysDiffer(t *testing.T) {
	root := New(7)
	seen := map[uint64]string{}
	for name, k := range map[string]Key{
		"root": root, "other seed": New(8), "noise": root.Purpose("noise"), "order": root.Purpose("order"),
		"0": root.Index(0), "1": root.Index(1), "0,1": root.Index(0, 1), "1,0": root.Index(1, 0), "0,0": root.Index(0, 0),
		"noise 1": root.Purpose("noise").Index(1), "1 noise": root.Index(1).Purpose("noise"),
	} {
		v := k.Uint64(0)
		if old, ok := seen[v]; ok {
			t.Errorf("%q and %q draw the same number", old, name)
		}
		seen[v] = name
	}
}

func TestNormal(t *testing.T) {
	x := make([]float32, 100_001)
	New(1).Normal(x)
	var sum, square, fourth float64
	for _, v := range x {
		sum, square, fourth = sum+float64(v), square+float64(v)*float64(v), fourth+math.Pow(float64(v), 4)
	}
	n := float64(len(x))
	if mean := sum / n; math.Abs(mean) > 0.015 {
		t.Errorf("mean %v", mean)
	}
	if variance := square / n; math.Abs(variance-1) > 0.02 {
		t.Errorf("variance %v", variance)
	}
	if kurtosis := fourth / n; math.Abs(kurtosis-3) > 0.15 {
		t.Errorf("fourth moment %v", kurtosis)
	}
	short := make([]float32, 5)
	New(1).Normal(short)
	for i, v := range short {
		if v != x[i] {
			t.Errorf("value %d depends on how many are drawn", i)
		}
	}
}

func TestUniform(t *testing.T) {
	k, buckets := New(3), make([]int, 10)
	for i := range uint64(20_000) {
		u := k.Float64(i)
		if u < 0 || u >= 1 {
			t.Fatalf("draw %d: %v", i, u)
		}
		buckets[int(u*10)]++
	}
	for i, n := range buckets {
		if n < 1800 || n > 2200 {
			t.Errorf("bucket %d holds %d of 20000", i, n)
		}
	}
}

func TestPermutation(t *testing.T) {
	first := map[int]int{}
	for seed := range uint64(3000) {
		p := New(seed).Permutation(6)
		first[p[0]]++
		q := append([]int(nil), p...)
		sort.Ints(q)
		for i, v := range q {
			if i != v {
				t.Fatalf("%v is no permutation", p)
			}
		}
	}
	for v := range 6 {
		if first[v] < 400 || first[v] > 600 {
			t.Errorf("%d comes first %d times of 3000", v, first[v])
		}
	}
	if len(New(1).Permutation(0)) != 0 {
		t.Error("permutation of nothing")
	}
}
