package engine

// Backend allocates tensors and runs kernels on them. Kernels panic on shapes that do not fit (a programming error) and
// never touch memory outside their views. Outputs come first; an output may not overlap an input unless said so.
// A Backend may be used by several goroutines.
type Backend interface {
	// Name says what computes, e.g. "cpu avx2 onednn".
	Name() string
	// Fast is the type that Linear is fastest in on this machine (Weight.Compute).
	Fast() DType

	// Alloc returns memory with undefined contents; Free gives it back to the pool. Live and peak bytes are counted.
	Alloc(shape ...int) *Tensor
	Free(t *Tensor)
	// Upload and Download copy between host slices and a tensor of the same length.
	Upload(dst *Tensor, src []float32)
	Download(dst []float32, src *Tensor)
	// Memory reports bytes in use now and the highest since ResetPeak.
	Memory() (live, peak int64)
	ResetPeak()

	MatrixKernels
	ElementKernels
	AttentionKernels
	ImageKernels
	OptimizerKernels
}

// MatrixKernels multiply matrices. beta is 0 (overwrite, y may hold anything) or 1 (add to y).
type MatrixKernels interface {
	// Linear: y[R,Out] = x[R,In]·Wᵀ + bias + beta·y. bias has Out values or is nil.
	Linear(y, x View, w *Weight, bias []float32, beta float32)
	// LinearBack: dx[R,In] = dy[R,Out]·W + beta·dx.
	LinearBack(dx, dy View, w *Weight, beta float32)
	// MatMul: c[m,n] = alpha·op(a)·op(b) + beta·c, op being transposition where asked. For adapters and attention-like products.
	MatMul(c, a View, transA bool, b View, transB bool, alpha, beta float32)
	// Transpose: y[C,R] = x[R,C]ᵀ, every bit of every value.
	Transpose(y, x View)
}

// ModulateEps is the LayerNorm eps of Modulate: that of every adaptive norm in FLUX.
const ModulateEps = 1e-6

// ElementKernels work on values or on single rows.
type ElementKernels interface {
	Copy(dst, src View)
	Zero(dst View)
	// Add: y = a + b. y may be a or b.
	Add(y, a, b View)
	// Axpy: y += alpha·x.
	Axpy(y View, alpha float32, x View)
	Activate(y, x View, f Activation)
	// ActivateBack: dx = dy·f'(x). dx may be dy.
	ActivateBack(dx, dy, x View, f Activation)
	// Mul: y = a·b elementwise (gated feed-forward). y may be a or b.
	Mul(y, a, b View)

	// LayerNorm: y = (x−mean)/√(var+eps)·weight + bias over each row; weight and bias nil for none.
	LayerNorm(y, x View, weight, bias []float32, eps float32)
	// RMSNorm: y = x/√(mean(x²)+eps)·weight over each row.
	RMSNorm(y, x View, weight []float32, eps float32)
	// Modulate: y = LN(x)·(1+scale) + shift with LN without affine and ModulateEps. Row r uses row r/perSample of shift and
	// scale, views [B, C] (usually columns of one modulation matrix).
	Modulate(y, x, shift, scale View, perSample int)
	// ModulateBack: dx += or = (beta) the gradient of Modulate's x. dshift and dscale [B, C] are overwritten with the sums
	// over each sample's rows, in row order; their T is nil when not wanted.
	ModulateBack(dx, dshift, dscale, x, scale, dy View, perSample int, beta float32)
	// GateAdd: y = s + gate·x, gate [B, C] indexed as in Modulate. y may be s.
	GateAdd(y, s, x, gate View, perSample int)
	// GateBack: dx = gate·dy; dgate[b] = Σ_rows x·dy when dgate.T is not nil.
	GateBack(dx, dgate, dy, x, gate View, perSample int)
}

// AttentionKernels compute self-attention of a joint matrix.
type AttentionKernels interface {
	// Attend: o [R, H·D] from q, k, v [R, H·D] each (columns of one qkv matrix or matrices of their own).
	Attend(o, q, k, v View, a *Attention)
	// AttendBack: dq, dk, dv from do, recomputing the normalised, rotated heads and the probabilities from q, k, v and
	// using the forward output o for the row sums. Norm weights, bias and tables get no gradient.
	AttendBack(dq, dk, dv, do, o, q, k, v View, a *Attention)
}

// ImageKernels work on images [B, C, h, w]. Forward only: the VAE is frozen.
type ImageKernels interface {
	// Convolve: y [B, Out, h', w'] = conv(x [B, In, h, w], w [Out, In·k·k]) + bias.
	Convolve(y, x *Tensor, w *Weight, bias []float32, c Conv)
	// GroupNorm normalises over groups of channels, then applies SiLU when silu is set. y may be x.
	GroupNorm(y, x *Tensor, groups int, weight, bias []float32, eps float32, silu bool)
	// Upsample repeats every pixel twice in both directions: y [B, C, 2h, 2w].
	Upsample(y, x *Tensor)
}

// OptimizerKernels update adapters. All operands are host or device tensors of one length.
type OptimizerKernels interface {
	// SumSquares is Σ x² in float64, in a fixed order.
	SumSquares(x *Tensor) float64
	// Update: one AdamW step on w with moments m, v and gradient g·scale (scale carries the clipping factor). The new w is
	// w − (w·lr·wd + lr·m̂/(√v̂+eps)): the sum is rounded to float32 before it meets w, so that a decay far below w's last
	// place still counts on average. torch multiplies w by 1 − lr·wd first, which in float32 is exactly 1 for lr·wd below
	// 3e-8 (no decay at all) and else a multiple of 6e-8. Where the whole sum is below half a unit in w's last place,
	// as with no gradient at all, w stays what it is in both.
	Update(w, m, v, g *Tensor, scale float64, a AdamW)
}
