package safetensors

import (
	"math/bits"
	"slices"
)

// DType is the element type of a tensor, spelled as in the header.
type DType string

// The element types of the format.
const (
	BOOL   DType = "BOOL"
	F4     DType = "F4"
	F6E2M3 DType = "F6_E2M3"
	F6E3M2 DType = "F6_E3M2"
	U8     DType = "U8"
	I8     DType = "I8"
	F8E5M2 DType = "F8_E5M2"
	F8E4M3 DType = "F8_E4M3"
	F8E8M0 DType = "F8_E8M0"
	I16    DType = "I16"
	U16    DType = "U16"
	F16    DType = "F16"
	BF16   DType = "BF16"
	I32    DType = "I32"
	U32    DType = "U32"
	F32    DType = "F32"
	C64    DType = "C64"
	F64    DType = "F64"
	I64    DType = "I64"
	U64    DType = "U64"
)

// dataOrder lists the dtypes in the order in which a writer lays out their data: widest first, so that
// every tensor is aligned to its element.
var dataOrder = []DType{U64, I64, F64, C64, F32, U32, I32, BF16, F16, U16, I16, F8E8M0, F8E4M3, F8E5M2, I8, U8, F6E3M2, F6E2M3, F4, BOOL}

var elementBits = map[DType]int{
	BOOL: 8, F4: 4, F6E2M3: 6, F6E3M2: 6, U8: 8, I8: 8, F8E5M2: 8, F8E4M3: 8, F8E8M0: 8,
	I16: 16, U16: 16, F16: 16, BF16: 16, I32: 32, U32: 32, F32: 32, C64: 64, F64: 64, I64: 64, U64: 64,
}

// Bits returns the width of one element in bits, 0 for a dtype that does not exist.
func (d DType) Bits() int { return elementBits[d] }

// Float reports whether a model weight may have this dtype: F32, F16 or BF16, and F64 and the two plain 8-bit types, which
// are converted when they are read.
func (d DType) Float() bool {
	switch d {
	case F32, F16, BF16, F64, F8E4M3, F8E5M2:
		return true
	}
	return false
}

// packed reports whether weights of this dtype can only come from a quantiser.
func (d DType) packed() bool {
	switch d {
	case I8, U8, F4, F6E2M3, F6E3M2, F8E8M0:
		return true
	}
	return false
}

func (d DType) rank() int { return slices.Index(dataOrder, d) }

// sizeOf returns the bytes of a tensor, and false if a size is negative, the product overflows 63 bits or
// the bits do not fill whole bytes. The products are formed in order, as the reference does, so that
// [2^62, 4, 0] overflows.
func sizeOf(d DType, shape []int) (int64, bool) {
	n := uint64(1)
	for _, s := range shape {
		if s < 0 {
			return 0, false
		}
		hi, lo := bits.Mul64(n, uint64(s))
		if hi != 0 || lo>>63 != 0 {
			return 0, false
		}
		n = lo
	}
	hi, lo := bits.Mul64(n, uint64(d.Bits()))
	if hi != 0 || lo>>63 != 0 || lo%8 != 0 {
		return 0, false
	}
	return int64(lo / 8), true
}
