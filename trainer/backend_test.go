package trainer

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"unsafe"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/graph"
	"github.com/sciflux/sciflux/engine/reference"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/flux"
)

// meter is a backend that counts passes by their attentions, which each of the fixture's three blocks has once.
type meter struct {
	engine.Backend
	forward, backward int
	largest           int // samples of one call
}

const blocks = 3

func (m *meter) Attend(o, q, k, v engine.View, a *engine.Attention) {
	m.forward++
	m.largest = max(m.largest, a.Layout.B)
	m.Backend.Attend(o, q, k, v, a)
}

func (m *meter) AttendBack(dq, dk, dv, do, o, q, k, v engine.View, a *engine.Attention) {
	m.backward++
	m.Backend.AttendBack(dq, dk, dv, do, o, q, k, v, a)
}

// passes gives the passes through the network since the last call.
func (m *meter) passes(t *testing.T) (forward, backward int) {
	t.Helper()
	if m.forward%blocks != 0 || m.backward%blocks != 0 {
		t.Errorf("%d and %d attentions are no whole passes", m.forward, m.backward)
	}
	forward, backward = m.forward/blocks, m.backward/blocks
	m.forward, m.backward = 0, 0
	return forward, backward
}

// strict is a backend whose tensors lie in memory that the program cannot read: it refuses operands that it did not
// allocate, as a device would.
type strict struct {
	engine.Backend
	sizes   map[unsafe.Pointer]uintptr
	foreign map[string]int // by kernel and operand
}

func newStrict() *strict {
	return &strict{Backend: reference.New(), sizes: map[unsafe.Pointer]uintptr{}, foreign: map[string]int{}}
}

func (s *strict) Alloc(shape ...int) *engine.Tensor {
	t := *s.Backend.Alloc(shape...)
	s.sizes[t.Addr] = uintptr(4 * t.Len())
	t.Host = false
	return &t
}

// inner is the tensor as the backend below knows it.
func (s *strict) inner(what string, t *engine.Tensor) *engine.Tensor {
	if t == nil || t.Len() == 0 {
		return t
	}
	mine := false
	for from, n := range s.sizes {
		mine = mine || uintptr(t.Addr) >= uintptr(from) && uintptr(t.Addr)+uintptr(4*t.Len()) <= uintptr(from)+n
	}
	if !mine || t.Host {
		s.foreign[what]++
	}
	return &engine.Tensor{Shape: t.Shape, Addr: t.Addr, Host: true}
}

func (s *strict) views(kernel string, vs ...engine.View) []engine.View {
	for i := range vs {
		vs[i].T = s.inner(fmt.Sprintf("%s operand %d", kernel, i), vs[i].T)
	}
	return vs
}

func (s *strict) Free(t *engine.Tensor) {
	s.Backend.Free(s.inner("Free", t))
	delete(s.sizes, t.Addr)
}

func (s *strict) Upload(dst *engine.Tensor, src []float32) {
	s.Backend.Upload(s.inner("Upload", dst), src)
}

func (s *strict) Download(dst []float32, src *engine.Tensor) {
	s.Backend.Download(dst, s.inner("Download", src))
}

func (s *strict) Linear(y, x engine.View, w *engine.Weight, bias []float32, beta float32) {
	v := s.views("Linear", y, x)
	s.Backend.Linear(v[0], v[1], w, bias, beta)
}

func (s *strict) LinearBack(dx, dy engine.View, w *engine.Weight, beta float32) {
	v := s.views("LinearBack", dx, dy)
	s.Backend.LinearBack(v[0], v[1], w, beta)
}

func (s *strict) MatMul(c, a engine.View, ta bool, b engine.View, tb bool, alpha, beta float32) {
	v := s.views("MatMul", c, a, b)
	s.Backend.MatMul(v[0], v[1], ta, v[2], tb, alpha, beta)
}

func (s *strict) Copy(dst, src engine.View) {
	v := s.views("Copy", dst, src)
	s.Backend.Copy(v[0], v[1])
}

func (s *strict) Zero(dst engine.View) { s.Backend.Zero(s.views("Zero", dst)[0]) }

func (s *strict) Add(y, a, b engine.View) {
	v := s.views("Add", y, a, b)
	s.Backend.Add(v[0], v[1], v[2])
}

func (s *strict) Axpy(y engine.View, alpha float32, x engine.View) {
	v := s.views("Axpy", y, x)
	s.Backend.Axpy(v[0], alpha, v[1])
}

func (s *strict) Activate(y, x engine.View, f engine.Activation) {
	v := s.views("Activate", y, x)
	s.Backend.Activate(v[0], v[1], f)
}

func (s *strict) ActivateBack(dx, dy, x engine.View, f engine.Activation) {
	v := s.views("ActivateBack", dx, dy, x)
	s.Backend.ActivateBack(v[0], v[1], v[2], f)
}

func (s *strict) Modulate(y, x, shift, scale engine.View, n int) {
	v := s.views("Modulate", y, x, shift, scale)
	s.Backend.Modulate(v[0], v[1], v[2], v[3], n)
}

func (s *strict) ModulateBack(dx, dshift, dscale, x, scale, dy engine.View, n int, beta float32) {
	v := s.views("ModulateBack", dx, dshift, dscale, x, scale, dy)
	s.Backend.ModulateBack(v[0], v[1], v[2], v[3], v[4], v[5], n, beta)
}

func (s *strict) GateAdd(y, x, z, gate engine.View, n int) {
	v := s.views("GateAdd", y, x, z, gate)
	s.Backend.GateAdd(v[0], v[1], v[2], v[3], n)
}

func (s *strict) GateBack(dx, dgate, dy, x, gate engine.View, n int) {
	v := s.views("GateBack", dx, dgate, dy, x, gate)
	s.Backend.GateBack(v[0], v[1], v[2], v[3], v[4], n)
}

func (s *strict) attention(a *engine.Attention) *engine.Attention {
	b := *a
	b.Cos, b.Sin = s.inner("rotation", a.Cos), s.inner("rotation", a.Sin)
	return &b
}

func (s *strict) Attend(o, q, k, v engine.View, a *engine.Attention) {
	w := s.views("Attend", o, q, k, v)
	s.Backend.Attend(w[0], w[1], w[2], w[3], s.attention(a))
}

func (s *strict) AttendBack(dq, dk, dv, do, o, q, k, v engine.View, a *engine.Attention) {
	w := s.views("AttendBack", dq, dk, dv, do, o, q, k, v)
	s.Backend.AttendBack(w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], s.attention(a))
}

func (s *strict) SumSquares(x *engine.Tensor) float64 {
	return s.Backend.SumSquares(s.inner("SumSquares", x))
}

func (s *strict) Update(w, m, v, g *engine.Tensor, scale float64, a engine.AdamW) {
	s.Backend.Update(s.inner("Update", w), s.inner("Update", m), s.inner("Update", v), s.inner("Update", g), scale, a)
}

// TestOperandsBelongToTheBackend: training and sampling give kernels only what the backend allocated, and the same bits
// come out as on a backend that takes everything.
func TestOperandsBelongToTheBackend(t *testing.T) {
	m := tiny(t)
	run := func(be engine.Backend) (weights, mean, path []float32) {
		policy := moved(t, m, 3)
		l := unclosed(t, be, m, policy, plain, flux.SessionOptions{Memory: graph.Full, Latents: true}) // no use to a learner
		average := NewAverage(be, l.Adapter, 0.5)
		sft(t, l, example(4, 2))
		average.Add(l.Adapter)
		tr := rollout(t, be, m, l.Adapter, plan(flow.Corrected), 11, 2)
		l.Setting.BatchTokens = sampleTokens // a pair in parts
		dpo(t, l, average.Adapter, loss, pair(tr, 11))
		average.Add(l.Adapter)
		l.Close()
		return policy.Weights.Floats(), average.Adapter.Weights.Floats(), slices.Concat(tr.Latents...)
	}
	s := newStrict()
	weights, mean, path := run(s)
	if len(s.foreign) > 0 {
		t.Errorf("operands from elsewhere: %v", s.foreign)
	}
	if len(s.sizes) > 0 {
		t.Errorf("%d tensors are left behind", len(s.sizes))
	}
	w, a, p := run(reference.New())
	if !slices.Equal(weights, w) || !slices.Equal(mean, a) || !slices.Equal(path, p) {
		t.Error("other bits than on a backend that takes any memory")
	}
}

// TestConditioningIsUploadedOnce: a rollout copies text, adapter and RoPE tables once; each step brings latents and times.
func TestConditioningIsUploadedOnce(t *testing.T) {
	m := tiny(t)
	uploads := func(steps int) int {
		c := &copies{Backend: reference.New()}
		p := plan(flow.Corrected)
		p.Sigmas, p.Timesteps = p.Sigmas[:steps+1], p.Timesteps[:steps]
		rollout(t, c, m, moved(t, m, 3), p, 11, 2)
		return c.n
	}
	if more := uploads(4) - uploads(2); more != 2*2 {
		t.Errorf("two steps more upload %d tensors more, want latents and times each", more)
	}
}

type copies struct {
	engine.Backend
	n int
}

func (c *copies) Upload(dst *engine.Tensor, src []float32) {
	c.n++
	c.Backend.Upload(dst, src)
}

// TestEveryPassIsHeard: OnCall is told of each pass through the network, in training and in sampling.
func TestEveryPassIsHeard(t *testing.T) {
	m := tiny(t)
	be := &meter{Backend: fast(t, 1)}
	heard := 0
	check := func(what string) {
		t.Helper()
		forward, backward := be.passes(t)
		if heard != forward+backward || heard == 0 {
			t.Errorf("%s: heard of %d passes, there were %d and %d", what, heard, forward, backward)
		}
		heard = 0
	}
	set := setting
	set.OnCall = func() { heard++ }
	tr, err := Rollout(context.Background(), be, m, nil, set, plan(flow.Corrected), example(35, 2).Noise, 2, conditioning(35, 1),
		func(int, []float32) {})
	if err != nil {
		t.Fatal(err)
	}
	check("rollout")
	l := learner(t, be, m, moved(t, m, 3), plain)
	for _, samples := range []int{1, 3, 100} {
		l.Setting = set
		l.Setting.BatchTokens = samples * sampleTokens
		sft(t, l, example(4, 5), example(5, 2))
		check("supervised step")
		dpo(t, l, nil, loss, pair(tr, 35))
		check("preference step")
	}
}
