package enginetest

import "github.com/sciflux/sciflux/engine"

// The kernels of a strict backend, each with the operands of its call.

func (s *strict) Upload(dst *engine.Tensor, src []float32) {
	s.check("Upload", tensors(out, "dst", dst))
	s.Backend.Upload(dst, src)
}

func (s *strict) Download(dst []float32, src *engine.Tensor) {
	s.check("Download", tensors(in, "src", src))
	s.Backend.Download(dst, src)
}

func (s *strict) Linear(y, x engine.View, w *engine.Weight, bias []float32, beta float32) {
	s.check("Linear", out("y", y), in("x", x))
	s.Backend.Linear(y, x, w, bias, beta)
}

func (s *strict) LinearBack(dx, dy engine.View, w *engine.Weight, beta float32) {
	s.check("LinearBack", out("dx", dx), in("dy", dy))
	s.Backend.LinearBack(dx, dy, w, beta)
}

func (s *strict) MatMul(c, a engine.View, transA bool, b engine.View, transB bool, alpha, beta float32) {
	s.check("MatMul", out("c", c), in("a", a), in("b", b))
	s.Backend.MatMul(c, a, transA, b, transB, alpha, beta)
}

func (s *strict) Transpose(y, x engine.View) {
	s.check("Transpose", out("y", y), in("x", x))
	s.Backend.Transpose(y, x)
}

func (s *strict) Copy(dst, src engine.View) {
	s.check("Copy", out("dst", dst), in("src", src))
	s.Backend.Copy(dst, src)
}

func (s *strict) Zero(dst engine.View) {
	s.check("Zero", out("dst", dst))
	s.Backend.Zero(dst)
}

func (s *strict) Add(y, a, b engine.View) {
	s.check("Add", out("y", y), place("a", a), place("b", b))
	s.Backend.Add(y, a, b)
}

func (s *strict) Axpy(y engine.View, alpha float32, x engine.View) {
	s.check("Axpy", out("y", y), in("x", x))
	s.Backend.Axpy(y, alpha, x)
}

func (s *strict) Activate(y, x engine.View, f engine.Activation) {
	s.check("Activate", out("y", y), in("x", x))
	s.Backend.Activate(y, x, f)
}

func (s *strict) ActivateBack(dx, dy, x engine.View, f engine.Activation) {
	s.check("ActivateBack", out("dx", dx), place("dy", dy), in("x", x))
	s.Backend.ActivateBack(dx, dy, x, f)
}

func (s *strict) Mul(y, a, b engine.View) {
	s.check("Mul", out("y", y), place("a", a), place("b", b))
	s.Backend.Mul(y, a, b)
}

func (s *strict) LayerNorm(y, x engine.View, weight, bias []float32, eps float32) {
	s.check("LayerNorm", out("y", y), in("x", x))
	s.Backend.LayerNorm(y, x, weight, bias, eps)
}

func (s *strict) RMSNorm(y, x engine.View, weight []float32, eps float32) {
	s.check("RMSNorm", out("y", y), in("x", x))
	s.Backend.RMSNorm(y, x, weight, eps)
}

func (s *strict) Modulate(y, x, shift, scale engine.View, perSample int) {
	s.check("Modulate", out("y", y), in("x", x), in("shift", shift), in("scale", scale))
	s.Backend.Modulate(y, x, shift, scale, perSample)
}

func (s *strict) ModulateBack(dx, dshift, dscale, x, scale, dy engine.View, perSample int, beta float32) {
	s.check("ModulateBack", out("dx", dx), out("dshift", dshift), out("dscale", dscale), in("x", x), in("scale", scale), in("dy", dy))
	s.Backend.ModulateBack(dx, dshift, dscale, x, scale, dy, perSample, beta)
}

func (s *strict) GateAdd(y, x0, x, gate engine.View, perSample int) {
	s.check("GateAdd", out("y", y), place("s", x0), in("x", x), in("gate", gate))
	s.Backend.GateAdd(y, x0, x, gate, perSample)
}

func (s *strict) GateBack(dx, dgate, dy, x, gate engine.View, perSample int) {
	s.check("GateBack", out("dx", dx), out("dgate", dgate), in("dy", dy), in("x", x), in("gate", gate))
	s.Backend.GateBack(dx, dgate, dy, x, gate, perSample)
}

func tables(a *engine.Attention) []operand {
	return []operand{tensors(in, "bias", a.Bias), tensors(in, "cos", a.Cos), tensors(in, "sin", a.Sin)}
}

func (s *strict) Attend(o, q, k, v engine.View, a *engine.Attention) {
	s.check("Attend", append(tables(a), out("o", o), in("q", q), in("k", k), in("v", v))...)
	s.Backend.Attend(o, q, k, v, a)
}

func (s *strict) AttendBack(dq, dk, dv, do, o, q, k, v engine.View, a *engine.Attention) {
	s.check("AttendBack", append(tables(a),
		out("dq", dq), out("dk", dk), out("dv", dv), in("do", do), in("o", o), in("q", q), in("k", k), in("v", v))...)
	s.Backend.AttendBack(dq, dk, dv, do, o, q, k, v, a)
}

func (s *strict) Convolve(y, x *engine.Tensor, w *engine.Weight, bias []float32, c engine.Conv) {
	s.check("Convolve", tensors(out, "y", y), tensors(in, "x", x))
	s.Backend.Convolve(y, x, w, bias, c)
}

func (s *strict) GroupNorm(y, x *engine.Tensor, groups int, weight, bias []float32, eps float32, silu bool) {
	s.check("GroupNorm", tensors(out, "y", y), tensors(place, "x", x))
	s.Backend.GroupNorm(y, x, groups, weight, bias, eps, silu)
}

func (s *strict) Upsample(y, x *engine.Tensor) {
	s.check("Upsample", tensors(out, "y", y), tensors(in, "x", x))
	s.Backend.Upsample(y, x)
}

func (s *strict) SumSquares(x *engine.Tensor) float64 {
	s.check("SumSquares", tensors(in, "x", x))
	return s.Backend.SumSquares(x)
}

func (s *strict) Update(w, m, v, g *engine.Tensor, scale float64, a engine.AdamW) {
	s.check("Update", tensors(out, "w", w), tensors(out, "m", m), tensors(out, "v", v), tensors(in, "g", g))
	s.Backend.Update(w, m, v, g, scale, a)
}
