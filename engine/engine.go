package engine

import (
	"errors"
	"fmt"
	"unsafe"
)

// Tensor is a dense float32 array in memory of one Backend. Shape is the logical shape, row-major.
type Tensor struct {
	Shape []int
	Addr  unsafe.Pointer // first element; host memory exactly when Host is true
	Host  bool
}

// Len is the number of elements.
func (t *Tensor) Len() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Rows and Cols view the tensor as a matrix: the last axis is the columns, all others together the rows.
func (t *Tensor) Rows() int {
	if c := t.Cols(); c > 0 {
		return t.Len() / c
	}
	return 0
}

// Cols is the length of the last axis, 1 for a scalar.
func (t *Tensor) Cols() int {
	if len(t.Shape) == 0 {
		return 1
	}
	return t.Shape[len(t.Shape)-1]
}

// Floats is the tensor as a slice over its own memory. It panics for device memory: use Backend.Download there.
func (t *Tensor) Floats() []float32 {
	if !t.Host {
		panic("engine: Floats of a tensor in device memory")
	}
	if t.Len() == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(t.Addr), t.Len())
}

// Wrap makes a host tensor over a slice that the caller keeps alive and does not move. Backend.Free ignores it.
func Wrap(data []float32, shape ...int) *Tensor {
	t := &Tensor{Shape: shape, Host: true}
	if t.Len() != len(data) {
		panic(fmt.Sprintf("engine: %d values for shape %v", len(data), shape))
	}
	if len(data) > 0 {
		t.Addr = unsafe.Pointer(unsafe.SliceData(data))
	}
	return t
}

// View is a rectangle of a matrix: Rows × Cols values, consecutive rows Stride values apart, from element Offset of T.
type View struct {
	T                          *Tensor
	Offset, Rows, Cols, Stride int
}

// All views a whole tensor as a matrix.
func All(t *Tensor) View { return View{T: t, Rows: t.Rows(), Cols: t.Cols(), Stride: t.Cols()} }

// RowRange is the view's rows [from, from+n).
func (v View) RowRange(from, n int) View {
	v.check(from, n, 0, v.Cols)
	v.Offset += from * v.Stride
	v.Rows = n
	return v
}

// ColRange is the view's columns [from, from+n).
func (v View) ColRange(from, n int) View {
	v.check(0, v.Rows, from, n)
	v.Offset += from
	v.Cols = n
	return v
}

func (v View) check(row, rows, col, cols int) {
	if row < 0 || rows < 0 || row+rows > v.Rows || col < 0 || cols < 0 || col+cols > v.Cols {
		panic(fmt.Sprintf("engine: rows %d+%d columns %d+%d of a %d×%d view", row, rows, col, cols, v.Rows, v.Cols))
	}
}

// Values is the view's memory from its first value to its last, rows Stride values apart; nil when it has none. The error
// says what is wrong with the view, or that its memory is not the host's.
func (v View) Values() ([]float32, error) {
	if v.Rows == 0 || v.Cols == 0 {
		return nil, nil
	}
	if v.T == nil {
		return nil, fmt.Errorf("view %d×%d of no tensor", v.Rows, v.Cols)
	}
	end := v.Offset + (v.Rows-1)*v.Stride + v.Cols
	if v.Offset < 0 || v.Stride < v.Cols && v.Rows > 1 || end > v.T.Len() || !v.T.Host {
		return nil, fmt.Errorf("view %d×%d stride %d at %d of a tensor %v", v.Rows, v.Cols, v.Stride, v.Offset, v.T.Shape)
	}
	if v.T.Addr == nil {
		return nil, errors.New("tensor was freed")
	}
	return unsafe.Slice((*float32)(v.T.Addr), end)[v.Offset:], nil
}

// DType is how numbers are stored.
type DType uint8

// Storage types of weights. Activations, adapters, gradients and moments are always Float32.
const (
	Float32 DType = iota
	BFloat16
)

// DTypes are the types by the names that torch and configs give them.
var DTypes = map[string]DType{"float32": Float32, "f32": Float32, "bfloat16": BFloat16, "bf16": BFloat16}

// ComputeType is the type called name, for "auto" the one that be is fastest in.
func ComputeType(name string, be Backend) (d DType, ok bool) {
	if name == "auto" {
		return be.Fast(), true
	}
	d, ok = DTypes[name]
	return d, ok
}

// String is the name that torch gives the type.
func (d DType) String() string { return [...]string{"float32", "bfloat16"}[d] }

// Weight is a frozen matrix [Out, In] of a linear layer, y = x·Wᵀ, stored as the file stores it. Exactly one of F32 and
// BF16 is set. Row o starts at element o·Stride, so rows (a fused q,k,v) and columns (the attention half of a single
// block's output layer) of a bigger matrix can be weights of their own. The slices may lie in a mapped file.
type Weight struct {
	Out, In, Stride int
	F32             []float32
	BF16            []uint16
	// Compute is what the weight is multiplied in. BFloat16 rounds both operands to it, to nearest even, and sums their
	// products in float32.
	Compute DType
}

// DType tells which storage is set.
func (w *Weight) DType() DType {
	if w.BF16 != nil {
		return BFloat16
	}
	return Float32
}

// ColRange is the weight of input columns [from, from+n).
func (w *Weight) ColRange(from, n int) *Weight {
	c := *w
	c.In = n
	if w.F32 != nil {
		c.F32 = w.F32[from:]
	} else {
		c.BF16 = w.BF16[from:]
	}
	return &c
}

// RowRange is the weight of outputs [from, from+n).
func (w *Weight) RowRange(from, n int) *Weight {
	c := *w
	c.Out = n
	if w.F32 != nil {
		c.F32 = w.F32[from*w.Stride:]
	} else {
		c.BF16 = w.BF16[from*w.Stride:]
	}
	return &c
}

// Layout places B sequences in a joint matrix of B·(T+N) rows, text rows of all samples first (see the package comment).
// A plain sequence has N = 0.
type Layout struct{ B, T, N int }

// Rows is the number of rows of the joint matrix, L the length of one sequence.
func (l Layout) Rows() int { return l.B * (l.T + l.N) }

// L is the number of tokens of one sample.
func (l Layout) L() int { return l.T + l.N }

// Row is the row of token i (text first) of sample b.
func (l Layout) Row(b, i int) int {
	if i < l.T {
		return b*l.T + i
	}
	return l.B*l.T + b*l.N + i - l.T
}

// Attention says how softmax(scale·q·kᵀ + bias)·v is computed from a matrix of q, k, v rows.
type Attention struct {
	Layout Layout
	Heads  int
	Dim    int     // D, width of one head
	Scale  float32 // 1/√D in FLUX and CLIP, 1 in T5
	Causal bool
	Bias   *Tensor // [H, L, L] added to the scores, or nil
	// NormQ, NormK are RMSNorm weights [2][D] applied to each head of q and k before rotation, index 0 for text rows and
	// 1 for image rows; nil for no norm. Eps is added to the mean square.
	NormQ, NormK [2][]float32
	Eps          float32
	// Cos, Sin rotate adjacent pairs (2m, 2m+1) of each head of q and k: [L, D/2] over the tokens of one sample, text
	// first; nil for no rotation.
	Cos, Sin *Tensor
}

// Conv says how a convolution over images [B, C, h, w] is done: square kernel, equal stride. Pad counts rows or columns
// added as zeros on each side.
type Conv struct {
	Kernel, Stride           int
	Top, Bottom, Left, Right int
}

// Activation is an elementwise function.
type Activation uint8

// The activations of FLUX, T5, CLIP and the VAE.
const (
	GELUTanh  Activation = iota // 0.5x(1+tanh(√(2/π)(x+0.044715x³)))
	GELU                        // 0.5x(1+erf(x/√2))
	QuickGELU                   // x·sigmoid(1.702x)
	SiLU                        // x·sigmoid(x)
)

// AdamW holds the constants of one decoupled-decay update (Loshchilov & Hutter), eps outside the root.
type AdamW struct {
	LR, Beta1, Beta2, Eps, Decay float64
	Step                         int // 1 for the first update
}
