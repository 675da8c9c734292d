package parity

import (
	"encoding/binary"
	"math"
)

// Outputs collects what a runner computed, by the names that the kind gives its outputs. Outputs that the case does
// not expect are not judged. A tensor's shape must be that of the expected one.
type Outputs struct {
	tensors map[string]Tensor
	exact   map[string]bool
	values  map[string]any
}

// NewOutputs returns an empty collection.
func NewOutputs() *Outputs {
	return &Outputs{tensors: map[string]Tensor{}, exact: map[string]bool{}, values: map[string]any{}}
}

// Float32 records a float32 tensor.
func (o *Outputs) Float32(name string, shape []int, data []float32) {
	raw := make([]byte, 0, 4*len(data))
	for _, v := range data {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	o.tensors[name] = Tensor{DType: "F32", Shape: shape, Data: raw}
}

// Float64 records a float64 tensor.
func (o *Outputs) Float64(name string, shape []int, data []float64) {
	raw := make([]byte, 0, 8*len(data))
	for _, v := range data {
		raw = binary.LittleEndian.AppendUint64(raw, math.Float64bits(v))
	}
	o.tensors[name] = Tensor{DType: "F64", Shape: shape, Data: raw}
}

// Int32 records an integer tensor.
func (o *Outputs) Int32(name string, shape []int, data []int32) {
	raw := make([]byte, 0, 4*len(data))
	for _, v := range data {
		raw = binary.LittleEndian.AppendUint32(raw, uint32(v))
	}
	o.tensors[name] = Tensor{DType: "I32", Shape: shape, Data: raw}
}

// Int64 records an integer tensor.
func (o *Outputs) Int64(name string, shape []int, data []int64) {
	raw := make([]byte, 0, 8*len(data))
	for _, v := range data {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(v))
	}
	o.tensors[name] = Tensor{DType: "I64", Shape: shape, Data: raw}
}

// Uint8 records a tensor of bytes.
func (o *Outputs) Uint8(name string, shape []int, data []byte) {
	o.tensors[name] = Tensor{DType: "U8", Shape: shape, Data: data}
}

// Exact records a tensor that must agree in dtype and in every byte, whatever the tolerance.
func (o *Outputs) Exact(name string, t Tensor) {
	o.tensors[name] = t
	o.exact[name] = true
}

// Value records an output that is compared as JSON: it must encode to the same JSON value as the expected one.
func (o *Outputs) Value(name string, value any) { o.values[name] = value }
