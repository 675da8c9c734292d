package reference

import (
	"fmt"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/memory"
)

// Backend runs the float32 kernels of this package.
type Backend struct{ pool memory.Pool }

var _ engine.Backend = (*Backend)(nil)

// New makes the plain-Go backend: correct, not fast.
func New() engine.Backend { return &Backend{} }

// Limited is New with at most so many bytes of tensors in use at once.
func Limited(bytes int64) engine.Backend { return &Backend{pool: memory.Pool{Limit: bytes}} }

// Name implements engine.Backend.
func (*Backend) Name() string { return "reference" }

// Fast implements engine.Backend.
func (*Backend) Fast() engine.DType { return engine.Float32 }

// Alloc implements engine.Backend.
func (e *Backend) Alloc(shape ...int) *engine.Tensor { return e.pool.Tensor(shape...) }

// Free implements engine.Backend.
func (e *Backend) Free(t *engine.Tensor) { e.pool.Release(t) }

// Memory implements engine.Backend.
func (e *Backend) Memory() (live, peak int64) { return e.pool.Usage() }

// ResetPeak implements engine.Backend.
func (e *Backend) ResetPeak() { e.pool.ResetPeak() }

// Upload implements engine.Backend.
func (*Backend) Upload(dst *engine.Tensor, src []float32) { transfer(dst.Floats(), src) }

// Download implements engine.Backend.
func (*Backend) Download(dst []float32, src *engine.Tensor) { transfer(dst, src.Floats()) }

func transfer(dst, src []float32) {
	if len(dst) != len(src) {
		panic(fmt.Sprintf("reference: copy %d values to %d", len(src), len(dst)))
	}
	copy(dst, src)
}

// matrix is a view as a Matrix; a view without tensor is the zero Matrix.
func matrix(v engine.View) Matrix[float32] {
	if v.T == nil {
		return Matrix[float32]{Rows: v.Rows, Cols: v.Cols, Stride: v.Stride}
	}
	return Of(v)
}

// Of is a view as a Matrix.
func Of(v engine.View) Matrix[float32] {
	values, err := v.Values()
	if err != nil {
		panic(fmt.Sprintf("reference: %v", err))
	}
	return Matrix[float32]{Data: values, Rows: v.Rows, Cols: v.Cols, Stride: v.Stride}
}

// Widened is a weight as a float32 matrix, widened when it is stored as bfloat16.
func Widened(w *engine.Weight) Matrix[float32] {
	if w.BF16 == nil {
		return Matrix[float32]{Data: w.F32, Rows: w.Out, Cols: w.In, Stride: w.Stride}
	}
	m := Zeros[float32](w.Out, w.In)
	parallel(w.Out, func(i int) {
		for j, v := range w.BF16[i*w.Stride:][:w.In] {
			m.Data[i*w.In+j] = Widen(v)
		}
	})
	return m
}

// Operand is a factor of a product with w, rounded where w is computed in bfloat16.
func Operand(m Matrix[float32], w *engine.Weight) Matrix[float32] {
	if w.Compute != engine.BFloat16 {
		return m
	}
	return m.Rounded()
}

func images(t *engine.Tensor) Images[float32] {
	if len(t.Shape) != 4 {
		panic(fmt.Sprintf("reference: images of shape %v, want [B, C, h, w]", t.Shape))
	}
	return Images[float32]{Data: t.Floats(), B: t.Shape[0], C: t.Shape[1], H: t.Shape[2], W: t.Shape[3]}
}

func attention(a *engine.Attention) *Attention[float32] {
	floats := func(t *engine.Tensor) []float32 {
		if t == nil {
			return nil
		}
		return t.Floats()
	}
	return &Attention[float32]{
		Layout: a.Layout, Heads: a.Heads, Dim: a.Dim, Scale: float64(a.Scale), Causal: a.Causal, Bias: floats(a.Bias),
		NormQ: a.NormQ, NormK: a.NormK, Eps: float64(a.Eps), Cos: floats(a.Cos), Sin: floats(a.Sin),
	}
}

// Linear implements engine.Backend.
func (*Backend) Linear(y, x engine.View, w *engine.Weight, bias []float32, beta float32) {
	Linear(matrix(y), Operand(matrix(x), w), Operand(Widened(w), w), bias, beta)
}

// LinearBack implements engine.Backend.
func (*Backend) LinearBack(dx, dy engine.View, w *engine.Weight, beta float32) {
	LinearBack(matrix(dx), Operand(matrix(dy), w), Operand(Widened(w), w), beta)
}

// MatMul implements engine.Backend.
func (*Backend) MatMul(c, a engine.View, transA bool, b engine.View, transB bool, alpha, beta float32) {
	MatMul(matrix(c), matrix(a), transA, matrix(b), transB, alpha, beta)
}

// Transpose implements engine.Backend.
func (*Backend) Transpose(y, x engine.View) { Transpose(matrix(y), matrix(x)) }

// Copy implements engine.Backend.
func (*Backend) Copy(dst, src engine.View) { Copy(matrix(dst), matrix(src)) }

// Zero implements engine.Backend.
func (*Backend) Zero(dst engine.View) { Zero(matrix(dst)) }

// Add implements engine.Backend.
func (*Backend) Add(y, a, b engine.View) { Add(matrix(y), matrix(a), matrix(b)) }

// Mul implements engine.Backend.
func (*Backend) Mul(y, a, b engine.View) { Mul(matrix(y), matrix(a), matrix(b)) }

// Axpy implements engine.Backend.
func (*Backend) Axpy(y engine.View, alpha float32, x engine.View) { Axpy(matrix(y), alpha, matrix(x)) }

// Activate implements engine.Backend.
func (*Backend) Activate(y, x engine.View, f engine.Activation) { Activate(matrix(y), matrix(x), f) }

// ActivateBack implements engine.Backend.
func (*Backend) ActivateBack(dx, dy, x engine.View, f engine.Activation) {
	ActivateBack(matrix(dx), matrix(dy), matrix(x), f)
}

// LayerNorm implements engine.Backend.
func (*Backend) LayerNorm(y, x engine.View, weight, bias []float32, eps float32) {
	LayerNorm(matrix(y), matrix(x), weight, bias, float64(eps))
}

// RMSNorm implements engine.Backend.
func (*Backend) RMSNorm(y, x engine.View, weight []float32, eps float32) {
	RMSNorm(matrix(y), matrix(x), weight, float64(eps))
}

// Modulate implements engine.Backend.
func (*Backend) Modulate(y, x, shift, scale engine.View, perSample int) {
	Modulate(matrix(y), matrix(x), matrix(shift), matrix(scale), perSample)
}

// ModulateBack implements engine.Backend.
func (*Backend) ModulateBack(dx, dshift, dscale, x, scale, dy engine.View, perSample int, beta float32) {
	ModulateBack(matrix(dx), matrix(dshift), matrix(dscale), matrix(x), matrix(scale), matrix(dy), perSample, beta)
}

// GateAdd implements engine.Backend.
func (*Backend) GateAdd(y, s, x, gate engine.View, perSample int) {
	GateAdd(matrix(y), matrix(s), matrix(x), matrix(gate), perSample)
}

// GateBack implements engine.Backend.
func (*Backend) GateBack(dx, dgate, dy, x, gate engine.View, perSample int) {
	GateBack(matrix(dx), matrix(dgate), matrix(dy), matrix(x), matrix(gate), perSample)
}

// Attend implements engine.Backend.
func (*Backend) Attend(o, q, k, v engine.View, a *engine.Attention) {
	Attend(matrix(o), matrix(q), matrix(k), matrix(v), attention(a))
}

// AttendBack implements engine.Backend.
func (*Backend) AttendBack(dq, dk, dv, do, o, q, k, v engine.View, a *engine.Attention) {
	AttendBack(matrix(dq), matrix(dk), matrix(dv), matrix(do), matrix(o), matrix(q), matrix(k), matrix(v), attention(a))
}

// Convolve implements engine.Backend.
func (*Backend) Convolve(y, x *engine.Tensor, w *engine.Weight, bias []float32, c engine.Conv) {
	Convolve(images(y), images(x), Widened(w), bias, c)
}

// GroupNorm implements engine.Backend.
func (*Backend) GroupNorm(y, x *engine.Tensor, groups int, weight, bias []float32, eps float32, silu bool) {
	GroupNorm(images(y), images(x), groups, weight, bias, float64(eps), silu)
}

// Upsample implements engine.Backend.
func (*Backend) Upsample(y, x *engine.Tensor) { Upsample(images(y), images(x)) }

// SumSquares implements engine.Backend.
func (*Backend) SumSquares(x *engine.Tensor) float64 { return SumSquares(x.Floats()) }

// Update implements engine.Backend.
func (*Backend) Update(w, m, v, g *engine.Tensor, scale float64, a engine.AdamW) {
	Update(w.Floats(), m.Floats(), v.Floats(), g.Floats(), scale, a)
}
