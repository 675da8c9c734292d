package parity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"

	"github.com/sciflux/sciflux/store/safetensors"
)

// Tensor is an array as a safetensors file holds it: little-endian values in row-major order.
type Tensor struct {
	DType string // F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL …, as safetensors spells them
	Shape []int  // empty for a scalar
	Data  []byte
}

// Len is the number of elements.
func (t Tensor) Len() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// elementSize holds the bytes per element of every dtype that a case may use.
var elementSize = map[string]int{
	"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1, "U16": 2, "U32": 4, "U64": 8,
}

func (t Tensor) isFloat() bool {
	return t.DType == "F64" || t.DType == "F32" || t.DType == "F16" || t.DType == "BF16"
}

// Float64s gives the values of a tensor of any dtype, widened. 64-bit integers beyond 2^53 are rounded.
func (t Tensor) Float64s() ([]float64, error) {
	if !t.isFloat() {
		ints, err := t.Int64s()
		if err != nil {
			return nil, err
		}
		out := make([]float64, len(ints))
		for i, v := range ints {
			out[i] = float64(v)
		}
		return out, nil
	}
	out := make([]float64, t.Len())
	for i := range out {
		switch t.DType {
		case "F64":
			out[i] = math.Float64frombits(binary.LittleEndian.Uint64(t.Data[8*i:]))
		case "F32":
			out[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:])))
		case "BF16":
			out[i] = float64(safetensors.FromBFloat16(binary.LittleEndian.Uint16(t.Data[2*i:])))
		case "F16":
			out[i] = float64(safetensors.FromFloat16(binary.LittleEndian.Uint16(t.Data[2*i:])))
		}
	}
	return out, nil
}

// Float32s gives the values of a tensor as float32: exact for F32, BF16, F16, rounded to nearest for F64.
func (t Tensor) Float32s() ([]float32, error) {
	wide, err := t.Float64s()
	if err != nil {
		return nil, err
	}
	out := make([]float32, len(wide))
	for i, v := range wide {
		out[i] = float32(v)
	}
	return out, nil
}

// Int64s gives the values of an integer or boolean tensor; a float tensor is an error.
func (t Tensor) Int64s() ([]int64, error) {
	if t.isFloat() {
		return nil, fmt.Errorf("tensor of dtype %s: integers wanted", t.DType)
	}
	out := make([]int64, t.Len())
	for i := range out {
		switch t.DType {
		case "I64", "U64":
			out[i] = int64(binary.LittleEndian.Uint64(t.Data[8*i:]))
		case "I32":
			out[i] = int64(int32(binary.LittleEndian.Uint32(t.Data[4*i:])))
		case "U32":
			out[i] = int64(binary.LittleEndian.Uint32(t.Data[4*i:]))
		case "I16":
			out[i] = int64(int16(binary.LittleEndian.Uint16(t.Data[2*i:])))
		case "U16":
			out[i] = int64(binary.LittleEndian.Uint16(t.Data[2*i:]))
		case "I8":
			out[i] = int64(int8(t.Data[i]))
		case "U8", "BOOL":
			out[i] = int64(t.Data[i])
		default:
			return nil, fmt.Errorf("tensor of dtype %s: no such integer type", t.DType)
		}
	}
	return out, nil
}

// Ints gives the values of an integer tensor as int.
func (t Tensor) Ints() ([]int, error) {
	wide, err := t.Int64s()
	if err != nil {
		return nil, err
	}
	out := make([]int, len(wide))
	for i, v := range wide {
		out[i] = int(v)
	}
	return out, nil
}

// readTensors reads a whole safetensors file; a file that is not there holds no tensors.
func readTensors(path string) (map[string]Tensor, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	file, err := safetensors.Parse(path, data)
	if err != nil {
		return nil, err
	}
	tensors := map[string]Tensor{}
	for _, info := range file.Tensors() {
		view, err := file.Bytes(info.Name)
		if err != nil {
			return nil, err
		}
		tensors[info.Name] = Tensor{DType: string(info.DType), Shape: info.Shape, Data: view}
	}
	return tensors, nil
}
