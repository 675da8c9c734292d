package safetensors

import (
	"encoding/binary"
	"math"
	"unsafe"
)

// littleEndian tells whether memory has the byte order of the format.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// Float32View shows stored F32 elements in place, where the machine's byte order and the alignment allow.
func Float32View(raw []byte) ([]float32, bool) {
	start := unsafe.Pointer(unsafe.SliceData(raw))
	if len(raw) == 0 || !littleEndian || uintptr(start)%4 != 0 {
		return nil, false
	}
	return unsafe.Slice((*float32)(start), len(raw)/4), true
}

// ToBFloat16 rounds to bfloat16 by nearest even. NaN stays NaN (quiet).
func ToBFloat16(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// FromBFloat16 widens bfloat16 bits; every value is exact.
func FromBFloat16(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// ToFloat16 rounds to IEEE half precision by nearest even; beyond 65504 it gives infinity. NaN stays NaN.
func ToFloat16(f float32) uint16 {
	b := math.Float32bits(f)
	sign, abs := uint16(b>>16&0x8000), b&0x7fffffff
	switch {
	case abs > 0x7f800000:
		return sign | 0x7e00 | uint16(abs>>13&0x3ff)
	case abs >= 0x477ff000: // 65520: half way to the first value that does not fit
		return sign | 0x7c00
	case abs >= 0x38800000: // 2^-14, the smallest normal half
		rebased := abs - 112<<23
		return sign | uint16((rebased+0xfff+rebased>>13&1)>>13)
	default:
		// The sum with 0.5 has its last bit at 2^-24, the spacing of subnormal halves, so the addition rounds.
		return sign | uint16(math.Float32bits(math.Float32frombits(abs)+0.5)-math.Float32bits(0.5))
	}
}

// FromFloat16 widens IEEE half precision bits; every value is exact.
func FromFloat16(h uint16) float32 {
	sign, exponent, fraction := uint32(h&0x8000)<<16, uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch exponent {
	case 0:
		return math.Float32frombits(math.Float32bits(float32(fraction)*0x1p-24) | sign)
	case 0x1f:
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	default:
		return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
	}
}

// The values of the two 8-bit types. F8_E4M3 (a sign, 4 bits of exponent with bias 7, 3 of fraction) has no infinities:
// its largest exponent holds numbers up to 448, and NaN where all bits are set. F8_E5M2 is the upper half of F16.
var float8E4M3, float8E5M2 = func() (e4m3, e5m2 [256]float32) {
	for b := range 256 {
		e5m2[b] = FromFloat16(uint16(b) << 8)
		exponent, fraction := b>>3&15, float64(b&7)/8
		value := math.Ldexp(fraction, -6)
		if exponent > 0 {
			value = math.Ldexp(1+fraction, exponent-7)
		}
		if b&0x7f == 0x7f {
			value = math.NaN()
		}
		e4m3[b] = float32(math.Copysign(value, float64(int8(b))))
	}
	return e4m3, e5m2
}()

// DecodeFloat32 converts len(dst) stored elements to float32. src may be unaligned and must hold exactly
// len(dst) elements. Dtypes without whole-byte real elements are refused with class dtype.
func DecodeFloat32(dst []float32, dtype DType, src []byte) error {
	if len(src)*8 != len(dst)*dtype.Bits() {
		return refuse(BadShape, "", "%d bytes for %d elements of %s", len(src), len(dst), dtype)
	}
	le := binary.LittleEndian
	switch dtype {
	case F32:
		if littleEndian && len(dst) > 0 {
			copy(unsafe.Slice((*byte)(unsafe.Pointer(&dst[0])), len(src)), src)
			return nil
		}
		for i := range dst {
			dst[i] = math.Float32frombits(le.Uint32(src[4*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = FromBFloat16(le.Uint16(src[2*i:]))
		}
	case F16:
		for i := range dst {
			dst[i] = FromFloat16(le.Uint16(src[2*i:]))
		}
	case F8E4M3, F8E5M2:
		table := &float8E5M2
		if dtype == F8E4M3 {
			table = &float8E4M3
		}
		for i, b := range src {
			dst[i] = table[b]
		}
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(le.Uint64(src[8*i:])))
		}
	case U64:
		for i := range dst {
			dst[i] = float32(le.Uint64(src[8*i:]))
		}
	default:
		at, err := integerAt(dtype)
		if err != nil {
			return err
		}
		for i := range dst {
			dst[i] = float32(at(src, i))
		}
	}
	return nil
}

// DecodeInt64 converts len(dst) stored integers or BOOLs. Other dtypes, and U64 values beyond 63 bits, are
// refused with class dtype.
func DecodeInt64(dst []int64, dtype DType, src []byte) error {
	if len(src)*8 != len(dst)*dtype.Bits() {
		return refuse(BadShape, "", "%d bytes for %d elements of %s", len(src), len(dst), dtype)
	}
	if dtype == U64 {
		for i := range dst {
			if dst[i] = int64(binary.LittleEndian.Uint64(src[8*i:])); dst[i] < 0 {
				return refuse(BadDType, "", "element %d does not fit 63 bits", i)
			}
		}
		return nil
	}
	at, err := integerAt(dtype)
	if err != nil {
		return err
	}
	for i := range dst {
		dst[i] = at(src, i)
	}
	return nil
}

// integerAt returns how element i of a whole-number dtype is read.
func integerAt(dtype DType) (func(src []byte, i int) int64, error) {
	le := binary.LittleEndian
	switch dtype {
	case I64:
		return func(src []byte, i int) int64 { return int64(le.Uint64(src[8*i:])) }, nil
	case I32:
		return func(src []byte, i int) int64 { return int64(int32(le.Uint32(src[4*i:]))) }, nil
	case U32:
		return func(src []byte, i int) int64 { return int64(le.Uint32(src[4*i:])) }, nil
	case I16:
		return func(src []byte, i int) int64 { return int64(int16(le.Uint16(src[2*i:]))) }, nil
	case U16:
		return func(src []byte, i int) int64 { return int64(le.Uint16(src[2*i:])) }, nil
	case I8:
		return func(src []byte, i int) int64 { return int64(int8(src[i])) }, nil
	case U8:
		return func(src []byte, i int) int64 { return int64(src[i]) }, nil
	case BOOL:
		return func(src []byte, i int) int64 { return int64(min(src[i], 1)) }, nil
	}
	return nil, refuse(BadDType, "", "%s cannot be read as numbers", dtype)
}

// EncodeFloat32 rounds src to dtype (F32, BF16, F16 or F64; nearest even) into dst, which must hold exactly
// len(src) elements.
func EncodeFloat32(dst []byte, dtype DType, src []float32) error {
	if len(dst)*8 != len(src)*dtype.Bits() {
		return refuse(BadShape, "", "%d bytes for %d elements of %s", len(dst), len(src), dtype)
	}
	le := binary.LittleEndian
	switch dtype {
	case F32:
		for i, v := range src {
			le.PutUint32(dst[4*i:], math.Float32bits(v))
		}
	case BF16:
		for i, v := range src {
			le.PutUint16(dst[2*i:], ToBFloat16(v))
		}
	case F16:
		for i, v := range src {
			le.PutUint16(dst[2*i:], ToFloat16(v))
		}
	case F64:
		for i, v := range src {
			le.PutUint64(dst[8*i:], math.Float64bits(float64(v)))
		}
	default:
		return refuse(BadDType, "", "%s cannot be written from float32", dtype)
	}
	return nil
}
