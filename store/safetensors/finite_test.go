package safetensors

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestEveryNumberIsJudged: all 8- and 16-bit patterns one by one, against their values.
func TestEveryNumberIsJudged(t *testing.T) {
	for dtype, size := range map[DType]int{F8E4M3: 1, F8E5M2: 1, F16: 2, BF16: 2} {
		value := make([]float32, 1)
		for pattern := range 1 << (8 * size) {
			raw := binary.LittleEndian.AppendUint16(nil, uint16(pattern))[:size]
			if err := DecodeFloat32(value, dtype, raw); err != nil {
				t.Fatal(err)
			}
			finite := !math.IsNaN(float64(value[0])) && !math.IsInf(float64(value[0]), 0)
			if got := NonFinite(dtype, raw) < 0; got != finite {
				t.Fatalf("%s %#x is %g, judged finite: %v", dtype, pattern, value[0], got)
			}
		}
	}
}

// TestFirstNonFiniteIsFound: at any place of any length, among numbers whose neighbours in the word are extreme.
func TestFirstNonFiniteIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dtype := rapid.SampledFrom([]DType{F64, F32, BF16, F16, F8E5M2, F8E4M3}).Draw(t, "dtype")
		size := dtype.Bits() / 8
		n := rapid.IntRange(0, 1500).Draw(t, "n")
		raw := make([]byte, n*size)
		l := floatLanes[dtype]
		lane := uint64(1)<<(dtype.Bits()-1)<<1 - 1
		// The largest finite number has all bits but the lowest of the exponent's mask; with its sign it is the worst case.
		worst := lane &^ (l.mask & lane & -(l.mask & lane))
		put := func(i int, bitsOf uint64) {
			word := binary.LittleEndian.AppendUint64(nil, bitsOf)
			copy(raw[i*size:], word[:size])
		}
		for i := range n {
			put(i, worst)
		}
		want := -1
		for _, at := range rapid.SliceOfN(rapid.IntRange(0, 1499), 0, 3).Draw(t, "places") {
			if at < n {
				put(at, l.mask&lane)
				if want < 0 || at < want {
					want = at
				}
			}
		}
		if got := NonFinite(dtype, raw); got != want {
			t.Fatalf("%s: place %d of %d, want %d", dtype, got, n, want)
		}
	})
	if NonFinite(I32, []byte{255, 255, 255, 127}) >= 0 {
		t.Error("a whole number is not finite")
	}
	if top := floatLanes[BF16].top; bits.OnesCount64(top) != 4 {
		t.Errorf("bfloat16 has lanes %#x", top)
	}
}

func TestCheckFinite(t *testing.T) {
	dir := t.TempDir()
	good := Float32s("a", F32, []int{2}, []float32{1, math.MaxFloat32})
	huge := Raw("d", F64, []int{2}, binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, math.Float64bits(1)),
		math.Float64bits(1e300)))
	bad := []Tensor{
		good, Float32s("b", BF16, []int{2, 2}, []float32{1, 2, float32(math.NaN()), 4}), Float32s("c", F16, []int{1},
			[]float32{float32(math.Inf(-1))}), huge, Raw("i", I64, []int{1}, make([]byte, 8)),
	}
	path := filepath.Join(dir, "model.safetensors")
	if err := WriteFile(path, bad, nil); err != nil {
		t.Fatal(err)
	}
	s, err := OpenDir(dir, "model")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := context.Background()
	for _, c := range []struct {
		names []string
		says  string
	}{
		{[]string{"a", "i"}, ""}, {[]string{"a", "b", "c"}, `tensor "b": element 2 of shape [2 2] is NaN`}, {[]string{"c"},
			"element 0 of shape [1] is -Inf"},
		{[]string{"d"}, "element 1 of shape [2] is +Inf"}, {[]string{"gone"}, "gone"},
	} {
		err := CheckFinite(ctx, s, c.names)
		if (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), dir)) {
			t.Errorf("%q: %v", c.names, err)
		}
	}
	if err := CheckFinite(ctx, s, []string{"b"}); ClassOf(err) != NotFinite || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := CheckFinite(ended, s, []string{"a"}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func BenchmarkNonFinite(b *testing.B) {
	raw := make([]byte, 64<<20)
	for _, dtype := range []DType{BF16, F32} {
		b.Run(string(dtype), func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				if NonFinite(dtype, raw) >= 0 {
					b.Fatal("zeros are finite")
				}
			}
		})
	}
}
