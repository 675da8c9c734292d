package graph

import (
	"slices"
	"testing"
	"unsafe"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/enginetest"
	"github.com/sciflux/sciflux/engine/reference"
)

// TestResultsBelongToTheCaller: what Forward and Backward give is nobody else's, where a result is an input or stays for
// the backward pass, and where gradients are that of the result or one and the same.
func TestResultsBelongToTheCaller(t *testing.T) {
	two := []Input{{"x", rows, width, true}, {"z", rows, width, true}}
	attend := &engine.Binding{Layers: map[string]engine.Layer{"qkv": layer(1, 3*width, width)}}
	for name, function := range map[string]func(o engine.Ops[Value], in []Value) Value{
		"sum": func(o engine.Ops[Value], in []Value) Value { return o.Add(in[0], in[1]) },
		"sum of sums": func(o engine.Ops[Value], in []Value) Value {
			return o.Add(o.Add(in[0], in[1]), o.Activate(in[1], engine.SiLU))
		},
		"attention": func(o engine.Ops[Value], in []Value) Value {
			qkv := o.Project([]engine.Segment{{Rows: rows, Layers: []string{"qkv"}}}, o.Add(in[0], in[1]))
			return o.Attend(qkv, engine.Heads{Layout: engine.Layout{B: samples, T: perSample}, Heads: 1, Dim: width})
		},
	} {
		for _, memory := range []Memory{None, Selective, Full} {
			g, err := Build(attend, two, memory, function)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			be := enginetest.Strict(reference.New())
			owned := func(seed uint64) *engine.Tensor {
				x := be.Alloc(rows, width)
				be.Upload(x, numbers(seed, rows*width))
				return x
			}
			ins, dy := []*engine.Tensor{owned(1), owned(2)}, owned(3)
			before, _ := be.Memory()
			f := engine.Fused{Backend: be, Binding: attend}
			y, kept, err := g.Forward(f, ins, true)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			dins, err := g.Backward(f, ins, kept, dy, nil, true)
			if err != nil || len(dins) != 2 {
				t.Fatalf("%s: %d gradients, %v", name, len(dins), err)
			}
			for _, own := range append(dins, y) { // a free of what is not there fails here
				be.Free(own)
			}
			if after, _ := be.Memory(); after != before {
				t.Errorf("%s, memory %v: %d bytes left over", name, memory, after-before)
			}
			if !slices.Equal(dy.Floats(), numbers(3, rows*width)) {
				t.Errorf("%s, memory %v: the gradient of the result was changed or freed", name, memory)
			}
		}
	}
}

// TestLackOfMemoryIsAnError: whichever allocation of a pass fails, its error says that memory ran out, nothing is left
// behind, and the graph gives the same bits afterwards.
func TestLackOfMemoryIsAnError(t *testing.T) {
	for _, memory := range []Memory{None, Selective, Full} {
		b, g := reference.New(), built(t, memory)
		want := replay(t, g, b, 0)
		low := func() map[string]*engine.LowRank {
			sums := map[string]*engine.LowRank{}
			for key, a := range weights(0).Adapters {
				sums[key] = &engine.LowRank{A: engine.Wrap(make([]float32, a.A.Len()), a.A.Len()), B: engine.Wrap(make([]float32, a.B.Len()),
					a.B.Len())}
			}
			return sums
		}
		ins := []*engine.Tensor{engine.Wrap(numbers(1, rows*width), rows, width), engine.Wrap(numbers(2, samples*width), samples, width)}
		enginetest.Starve(t, b, func(be engine.Backend) error {
			f := engine.Fused{Backend: be, Binding: weights(0)}
			y, kept, err := g.Forward(f, ins, true)
			if err != nil {
				return err
			}
			defer be.Free(y)
			dins, err := g.Backward(f, ins, kept, y, low(), true)
			for _, d := range dins {
				be.Free(d)
			}
			return err
		})
		if !same(replay(t, g, b, 0), want) {
			t.Error("other bits after failures")
		}
	}
}

// remote is a backend in whose memory every access of the host is a crash, and that counts what it is asked to do. Its
// tensors lie apart, as those of a device. The embedded interface is nil: a kernel that is not listed here would crash too.
type remote struct {
	engine.Backend
	base          unsafe.Pointer
	used          int
	live, kernels int
}

func newRemote(t *testing.T) *remote {
	base, err := reserve(1 << 24)
	if err != nil {
		t.Fatal(err)
	}
	return &remote{base: base}
}

func (r *remote) Alloc(shape ...int) *engine.Tensor {
	t := &engine.Tensor{Shape: shape, Addr: unsafe.Add(r.base, r.used)}
	r.used += 4 * t.Len()
	r.live++
	return t
}
func (r *remote) Free(*engine.Tensor) { r.live-- }
func (r *remote) Linear(y, x engine.View, w *engine.Weight, bias []float32, beta float32) {
	r.kernels++
}
func (r *remote) LinearBack(dx, dy engine.View, w *engine.Weight, beta float32) { r.kernels++ }
func (r *remote) MatMul(c, a engine.View, ta bool, b engine.View, tb bool, alpha, beta float32) {
	r.kernels++
}
func (r *remote) Copy(dst, src engine.View)                                  { r.kernels++ }
func (r *remote) Zero(engine.View)                                           { r.kernels++ }
func (r *remote) Add(y, a, b engine.View)                                    { r.kernels++ }
func (r *remote) Axpy(y engine.View, alpha float32, x engine.View)           { r.kernels++ }
func (r *remote) Activate(y, x engine.View, f engine.Activation)             { r.kernels++ }
func (r *remote) ActivateBack(dx, dy, x engine.View, f engine.Activation)    { r.kernels++ }
func (r *remote) Modulate(y, x, shift, scale engine.View, perSample int)     { r.kernels++ }
func (r *remote) GateAdd(y, s, x, gate engine.View, perSample int)           { r.kernels++ }
func (r *remote) GateBack(dx, dgate, dy, x, gate engine.View, perSample int) { r.kernels++ }
func (r *remote) ModulateBack(dx, ds, dc, x, scale, dy engine.View, perSample int, beta float32) {
	r.kernels++
}
func (r *remote) Attend(o, q, k, v engine.View, a *engine.Attention) { r.kernels++ }
func (r *remote) AttendBack(dq, dk, dv, do, o, q, k, v engine.View, a *engine.Attention) {
	r.kernels++
}

// attentive is the block of these tests with attention, rotated and normalised, around it.
func attentive(o engine.Ops[Value], in []Value) Value {
	qkv := o.Project([]engine.Segment{{Rows: rows, Layers: []string{"qkv"}}}, block(o, in[0], in[1]))
	h := engine.Heads{Layout: engine.Layout{B: samples, N: perSample}, Heads: 1, Dim: width, NormQ: [2]string{"n", "n"},
		NormK: [2]string{"n", "n"}}
	return o.Stack(o.Rows(o.Add(in[0], o.Attend(qkv, h)), 0, 2), o.Rows(in[0], 2, rows-2))
}

// TestDeviceMemoryIsNeverTouched runs both programs on memory that the host cannot read or write, as a graphics card's, and
// in which no kernel gets an operand that is freed or overlaps its output.
func TestDeviceMemoryIsNeverTouched(t *testing.T) {
	for _, memory := range []Memory{None, Selective, Full} {
		r, w := newRemote(t), weights(0)
		be := enginetest.Strict(r)
		w.Layers["qkv"], w.Adapters["qkv"] = layer(9, 3*width, width), lowRank(10, 3*width, width)
		w.Norms = map[string][]float32{"n": numbers(11, width)}
		w.Cos, w.Sin = be.Alloc(perSample, width/2), be.Alloc(perSample, width/2)
		sums := map[string]*engine.LowRank{}
		for key, low := range w.Adapters {
			low.A, low.B = be.Alloc(low.A.Shape...), be.Alloc(low.B.Shape...)
			sums[key] = &engine.LowRank{A: be.Alloc(low.A.Shape...), B: be.Alloc(low.B.Shape...)}
		}
		g, err := Build(w, declared, memory, attentive)
		if err != nil {
			t.Fatal(err)
		}
		f, ins := engine.Fused{Backend: be, Binding: w}, []*engine.Tensor{be.Alloc(rows, width), be.Alloc(samples, width)}
		held := r.live
		y, kept, err := g.Forward(f, ins, true)
		if err != nil {
			t.Fatal(err)
		}
		dins, err := g.Backward(f, ins, kept, y, sums, true)
		if err != nil {
			t.Fatal(err)
		}
		be.Free(y)
		be.Free(dins[0])
		if r.live != held || r.kernels < 30 {
			t.Errorf("%v: %d tensors left over, %d kernels run", memory, r.live-held, r.kernels)
		}
	}
}
