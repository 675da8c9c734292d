package reference

import (
	"math"
	"testing"
)

// TestRoundedByDefinition: bfloat16 has 8 bits of precision; of two equally near values the even one is taken.
func TestRoundedByDefinition(t *testing.T) {
	inf := float32(math.Inf(1))
	for x, want := range map[float32]float32{
		0: 0, 1: 1, 1 + 0x1p-8: 1, 1 + 0x1p-8 + 0x1p-20: 1 + 0x1p-7, 1 + 0x3p-8: 1 + 0x1p-6, -1 - 0x3p-9: -1 - 0x1p-7,
		math.Pi: 3.140625, math.MaxFloat32: inf, inf: inf, -inf: -inf,
	} {
		if got := Dense([]float32{x}, 1, 1).Rounded().Data[0]; got != want {
			t.Errorf("%v becomes %v, want %v", x, got, want)
		}
	}
	for _, bits := range []uint32{0x7f800001, 0x7fffffff, 0xffffffff} {
		if got := Dense([]float32{math.Float32frombits(bits)}, 1, 1).Rounded().Data[0]; got == got {
			t.Errorf("NaN %#x becomes %v", bits, got)
		}
	}
}
