package safetensors

import (
	"encoding/binary"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// nearest returns the candidate closest to x, the even one of a tie: the definition of the rounding, by
// search. candidates are bit patterns of non-negative values in ascending order.
func nearest(x float64, widen func(uint16) float32, infinity uint16, overflow float64) uint16 {
	if x >= overflow {
		return infinity
	}
	low, high := uint16(0), infinity
	for high-low > 1 {
		mid := low + (high-low)/2
		if float64(widen(mid)) <= x {
			low = mid
		} else {
			high = mid
		}
	}
	above := float64(widen(high))
	if high == infinity {
		above = 2*float64(widen(low)) - float64(widen(low-1))
	}
	switch below := float64(widen(low)); {
	case x-below < above-x, x-below == above-x && low%2 == 0:
		return low
	default:
		return high
	}
}

func TestRoundingIsNearestEven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.Uint32().Draw(t, "bits")
		if rapid.Bool().Draw(t, "tie") {
			bits &^= 0x7fff // ties of bfloat16
		}
		if rapid.Bool().Draw(t, "half range") {
			bits = bits&0x8fffffff | 0x30000000&^(bits&0x10000000) // exponents where halves live
		}
		x := math.Float32frombits(bits)
		if x != x {
			return
		}
		abs := math.Abs(float64(x))
		bSign, hSign := uint16(0), uint16(0)
		if math.Signbit(float64(x)) {
			bSign, hSign = 0x8000, 0x8000
		}
		if want := bSign | nearest(abs, FromBFloat16, 0x7f80, 0x1.ffp127); ToBFloat16(x) != want {
			t.Fatalf("bf16(%g) = %04x, expected %04x", x, ToBFloat16(x), want)
		}
		if want := hSign | nearest(abs, FromFloat16, 0x7c00, 65520); ToFloat16(x) != want {
			t.Fatalf("f16(%g) = %04x, expected %04x", x, ToFloat16(x), want)
		}
	})
}

func TestHalfTypesRoundTrip(t *testing.T) {
	for b := range 1 << 16 {
		bits := uint16(b)
		if wide := FromBFloat16(bits); wide == wide && ToBFloat16(wide) != bits {
			t.Fatalf("bf16 %04x -> %g -> %04x", bits, wide, ToBFloat16(wide))
		}
		if wide := FromFloat16(bits); wide == wide && ToFloat16(wide) != bits {
			t.Fatalf("f16 %04x -> %g -> %04x", bits, wide, ToFloat16(wide))
		}
	}
}

func TestNaNStaysNaN(t *testing.T) {
	for _, bits := range []uint32{0x7f800001, 0x7fffffff, 0xff800001, 0x7fc00000, 0x7f80ffff} {
		x := math.Float32frombits(bits)
		if got := FromBFloat16(ToBFloat16(x)); got == got {
			t.Errorf("bf16 of NaN %08x is %g", bits, got)
		}
		if got := FromFloat16(ToFloat16(x)); got == got {
			t.Errorf("f16 of NaN %08x is %g", bits, got)
		}
	}
}

func TestKnownHalves(t *testing.T) {
	for _, c := range []struct {
		bits uint16
		want float32
	}{{0x3c00, 1}, {0xc000, -2}, {0x7bff, 65504}, {0x0001, 0x1p-24}, {0x0400, 0x1p-14}, {0x3555, 0.333251953125}, {0x7c00, float32(math.Inf(1))}} {
		if got := FromFloat16(c.bits); got != c.want {
			t.Errorf("%04x = %g, expected %g", c.bits, got, c.want)
		}
	}
}

func TestDecodeEveryNumber(t *testing.T) {
	le := binary.LittleEndian
	minus2 := int64(-2)
	for _, c := range []struct {
		dtype DType
		raw   []byte
		want  float32
		whole bool
	}{
		{U8, []byte{254}, 254, true}, {I8, []byte{254}, -2, true}, {BOOL, []byte{1}, 1, true}, {BOOL, []byte{7}, 1, true},
		{U16, []byte{254, 255}, 65534, true}, {I16, []byte{254, 255}, -2, true},
		{U32, le.AppendUint32(nil, 1<<31), 1 << 31, true}, {I32, le.AppendUint32(nil, uint32(minus2&0xffffffff)), -2, true},
		{U64, le.AppendUint64(nil, 1<<40), 1 << 40, true}, {I64, le.AppendUint64(nil, uint64(minus2)), -2, true},
		{F64, le.AppendUint64(nil, math.Float64bits(0.1)), 0.1, false}, {F32, le.AppendUint32(nil, math.Float32bits(-0.5)), -0.5, false},
		{BF16, []byte{0xc0, 0x3f}, 1.5, false}, {F16, []byte{0, 0x3e}, 1.5, false},
		{F8E4M3, []byte{0x3c}, 1.5, false}, {F8E4M3, []byte{0xfe}, -448, false}, {F8E4M3, []byte{0x01}, 0x1p-9, false}, {F8E5M2, []byte{0xbe},
			-1.5, false},
	} {
		raw := append([]byte{0}, c.raw...)[1:] // unaligned
		got := make([]float32, 1)
		if err := DecodeFloat32(got, c.dtype, raw); err != nil || got[0] != c.want {
			t.Errorf("%s: %g, %v, expected %g", c.dtype, got[0], err, c.want)
		}
		whole := make([]int64, 1)
		if err := DecodeInt64(whole, c.dtype, raw); (err == nil) != c.whole || (c.whole && float32(whole[0]) != c.want) {
			t.Errorf("%s as integer: %d, %v", c.dtype, whole[0], err)
		}
	}
	for _, dtype := range []DType{F8E8M0, F6E2M3, C64, "F31"} {
		if err := DecodeFloat32(make([]float32, 8), dtype, make([]byte, dtype.Bits())); ClassOf(err) != BadDType && dtype.Bits() > 0 {
			t.Errorf("%s: %v", dtype, err)
		}
	}
	if err := DecodeFloat32(make([]float32, 2), F32, make([]byte, 7)); err == nil {
		t.Error("7 bytes taken for 2 floats")
	}
	if err := DecodeInt64(make([]int64, 1), U64, le.AppendUint64(nil, 1<<63)); ClassOf(err) != BadDType {
		t.Errorf("2^63: %v", err)
	}
}

func TestEncodeDecode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOf(rapid.Float32()).Draw(t, "values")
		for _, dtype := range []DType{F32, BF16, F16, F64} {
			raw := make([]byte, len(values)*dtype.Bits()/8)
			if err := EncodeFloat32(raw, dtype, values); err != nil {
				t.Fatal(err)
			}
			back := make([]float32, len(values))
			if err := DecodeFloat32(back, dtype, raw); err != nil {
				t.Fatal(err)
			}
			for i, v := range values {
				want := v
				switch dtype {
				case BF16:
					want = FromBFloat16(ToBFloat16(v))
				case F16:
					want = FromFloat16(ToFloat16(v))
				}
				if back[i] != want && want == want {
					t.Fatalf("%s: %g came back as %g", dtype, v, back[i])
				}
			}
		}
	})
	if err := EncodeFloat32(make([]byte, 4), I32, make([]float32, 1)); ClassOf(err) != BadDType {
		t.Errorf("I32 from floats: %v", err)
	}
}
