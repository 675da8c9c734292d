package enginetest

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sciflux/sciflux/engine"
)

// memories checks the books: what is freed is free, and nothing is lost.
func memories(b *bench) {
	before, _ := b.e.Memory()
	b.e.ResetPeak()
	t := b.e.Alloc(3, 1000)
	if live, _ := b.e.Memory(); live < before+12000 {
		b.t.Errorf("live bytes %d after 12000 more than %d", live, before)
	}
	b.e.Free(t)
	b.e.Free(t) // a second time does nothing
	if live, peak := b.e.Memory(); live != before || peak < before+12000 {
		b.t.Errorf("live %d, want %d; peak %d", live, before, peak)
	}
	data := []float32{1, 2, 3}
	w := engine.Wrap(data, 3)
	b.e.Free(w)
	if w.Floats()[2] != 3 {
		b.t.Error("free touched a wrapped slice")
	}
}

// Ration is a backend with memory for Left more tensors: any further Alloc panics with an *engine.OutOfMemory. A test that
// lets a pass fail at each of its allocations in turn sees whether one of them leaks.
type Ration struct {
	engine.Backend
	Left int
}

// Alloc implements engine.Backend.
func (s *Ration) Alloc(shape ...int) *engine.Tensor {
	if s.Left--; s.Left < 0 {
		live, _ := s.Memory()
		want := &engine.Tensor{Shape: shape}
		panic(&engine.OutOfMemory{Want: int64(4 * want.Len()), Live: live, Limit: live})
	}
	return s.Backend.Alloc(shape...)
}

// Starve calls pass with backends over be that fail at the first, the second, … allocation, until one suffices. Every call
// but the last must return an *engine.OutOfMemory, and none may leave memory in use.
func Starve(t *testing.T, be engine.Backend, pass func(be engine.Backend) error) {
	t.Helper()
	for n := 0; ; n++ {
		if ration := (&Ration{be, n}); Suffices(t, ration, func() error { return pass(ration) }) || t.Failed() {
			return
		}
	}
}

// Suffices tells whether there is memory for pass. Where there is not, pass must return an *engine.OutOfMemory, and in no
// case may it leave memory in use.
func Suffices(t *testing.T, r *Ration, pass func() error) bool {
	t.Helper()
	n := r.Left
	before, _ := r.Memory()
	err := pass()
	if live, _ := r.Memory(); live != before {
		t.Errorf("with memory for %d tensors %d bytes stay in use (%v)", n, live-before, err)
	}
	var full *engine.OutOfMemory
	if err != nil && (!errors.As(err, &full) || full.Want == 0) {
		t.Errorf("with memory for %d tensors: %v, want an OutOfMemory", n, err)
	}
	return err == nil
}

// Limits checks backends that open makes, with a limit of bytes in use or with 0 for none. What goes beyond the limit is an
// *engine.OutOfMemory that says so, for a tensor as for the working space of a kernel; however often it happens nothing is
// lost; and when there is room again the kernel gives the bits of a backend without a limit.
func Limits(t *testing.T, open func(limit int64) engine.Backend) {
	const limit = 4 << 20
	for name := range hungry(&bench{e: open(0), rng: rand.New(rand.NewPCG(5, 6))}) {
		t.Run(name, func(t *testing.T) {
			kernel := func(e engine.Backend) func() []float32 {
				return hungry(&bench{t: t, e: e, rng: rand.New(rand.NewPCG(5, 6))})[name]
			}
			e := open(limit)
			run := kernel(e)
			held := fill(e)
			before, _ := e.Memory()
			var full *engine.OutOfMemory
			if err := attempt(func() { e.Alloc(100) }); !errors.As(err, &full) || full.Want != 400 || full.Live != before || full.Limit != limit {
				t.Errorf("Alloc with %d of %d bytes in use: %+v", before, limit, err)
			}
			for range 5 {
				if err := attempt(func() { run() }); err != nil && !errors.As(err, &full) {
					t.Errorf("the kernel without memory: %v", err)
				}
				if after, _ := e.Memory(); after != before {
					t.Fatalf("%d bytes in use after a failure, %d before", after, before)
				}
			}
			for _, t := range held {
				e.Free(t)
			}
			if !slices.Equal(run(), kernel(open(0))()) {
				t.Error("other bits after failures")
			}
		})
	}
}

// fill allocates what there is.
func fill(e engine.Backend) (held []*engine.Tensor) {
	for n := 1 << 18; n > 0; n /= 2 {
		for attempt(func() { held = append(held, e.Alloc(n)) }) == nil {
		}
	}
	return held
}

// attempt is the OutOfMemory that do panics with.
func attempt(do func()) (err error) {
	defer engine.Guard(&err)
	do()
	return nil
}

// hungry are kernels that may need working space, on operands of their own.
func hungry(b *bench) map[string]func() []float32 {
	view := func(rows, cols int) engine.View {
		t := b.e.Alloc(rows, cols)
		b.e.Upload(t, b.values(t.Len()))
		return engine.All(t)
	}
	results := func(views ...engine.View) (out []float32) {
		for _, v := range views {
			one := make([]float32, v.T.Len())
			b.e.Download(one, v.T)
			out = append(out, one...)
		}
		return out
	}
	a := &engine.Attention{Layout: engine.Layout{B: 1, T: 90}, Heads: 2, Dim: 16, Scale: 0.2}
	x, y, dy, dk, dv, w := view(90, 32), view(90, 32), view(90, 32), view(90, 32), view(90, 32), b.weight(32, 32, engine.BFloat16)
	scale, sums := view(1, 32), view(1, 32)
	picture, drawn := b.e.Alloc(1, 32, 9, 10), b.e.Alloc(1, 32, 7, 8)
	b.e.Upload(picture, b.values(picture.Len()))
	conv, taps := engine.Conv{Kernel: 3, Stride: 1}, b.weight(32, 288, engine.BFloat16)
	return map[string]func() []float32{
		"linear":      func() []float32 { b.e.Linear(y, x, w, nil, 0); return results(y) },
		"linear back": func() []float32 { b.e.LinearBack(y, x, w, 0); return results(y) },
		"attend":      func() []float32 { b.e.Attend(y, x, x, x, a); return results(y) },
		"attend back": func() []float32 { b.e.AttendBack(y, dk, dv, dy, x, x, x, x, a); return results(y, dk, dv) },
		"convolve":    func() []float32 { b.e.Convolve(drawn, picture, taps, nil, conv); return results(engine.All(drawn)) },
		"modulate back": func() []float32 {
			b.e.ModulateBack(y, engine.View{}, sums, x, scale, dy, 90, 0)
			return results(y, sums)
		},
	}
}
