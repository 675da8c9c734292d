package enginetest

import (
	"fmt"

	"github.com/sciflux/sciflux/engine"
)

func images(b *bench) {
	same := engine.Conv{Kernel: 3, Stride: 1, Top: 1, Bottom: 1, Left: 1, Right: 1}
	down := engine.Conv{Kernel: 3, Stride: 2, Bottom: 1, Right: 1}
	point := engine.Conv{Kernel: 1, Stride: 1}
	patch := engine.Conv{Kernel: 7, Stride: 7}
	sparse := engine.Conv{Kernel: 2, Stride: 3, Top: 1, Bottom: 2, Left: 2, Right: 1}
	for _, c := range []struct {
		batch, in, h, w, out int
		conv                 engine.Conv
	}{
		{1, 3, 9, 11, 5, same}, {2, 16, 8, 8, 32, same}, {1, 40, 5, 3, 7, same}, {2, 4, 32, 32, 3, same}, {1, 8, 1, 1, 4, same},
		{1, 8, 10, 14, 6, down}, {2, 5, 7, 9, 4, down}, {1, 9, 6, 6, 20, point}, {1, 3, 21, 28, 10, patch},
		{2, 3, 11, 19, 15, sparse}, {1, 33, 2, 1, 6, down}, {0, 3, 4, 4, 2, same},
	} {
		for _, d := range []engine.DType{engine.Float32, engine.BFloat16} {
			w := b.weight(c.out, c.in*c.conv.Kernel*c.conv.Kernel, d)
			h := (c.h+c.conv.Top+c.conv.Bottom-c.conv.Kernel)/c.conv.Stride + 1
			wd := (c.w+c.conv.Left+c.conv.Right-c.conv.Kernel)/c.conv.Stride + 1
			x, y := b.tensor("x", c.batch, c.in, c.h, c.w), b.tensor("y", c.batch, c.out, h, wd)
			bias := b.values(c.out)
			b.e.Convolve(y.got, x.got, w, bias, c.conv)
			b.ref.Convolve(y.ref, x.ref, w, bias, c.conv)
			b.check(fmt.Sprintf("convolve %+v %v", c, d), y)
			b.drop(x)
		}
	}
	for _, s := range [][5]int{{1, 4, 1, 1, 2}, {2, 32, 8, 8, 8}, {1, 12, 7, 5, 3}, {1, 8, 40, 60, 2}} {
		for _, silu := range []bool{false, true} {
			x, y := b.tensor("x", s[:4]...), b.tensor("y", s[:4]...)
			w, bias := b.values(s[1]), b.values(s[1])
			b.e.GroupNorm(y.got, x.got, s[4], w, bias, 1e-6, silu)
			b.ref.GroupNorm(y.ref, x.ref, s[4], w, bias, 1e-6, silu)
			b.check(fmt.Sprintf("group norm %v silu %v", s, silu), y)
			b.e.GroupNorm(x.got, x.got, s[4], w, bias, 1e-6, silu)
			b.ref.GroupNorm(x.ref, x.ref, s[4], w, bias, 1e-6, silu)
			b.check(fmt.Sprintf("group norm in place %v silu %v", s, silu), x)
		}
		x, y := b.tensor("x", s[:4]...), b.tensor("y", s[0], s[1], 2*s[2], 2*s[3])
		b.e.Upsample(y.got, x.got)
		b.ref.Upsample(y.ref, x.ref)
		b.check(fmt.Sprintf("upsample %v", s), y)
		b.drop(x)
	}
}

func optimizers(b *bench) {
	for _, n := range []int{0, 1, 7, 100, 20011} {
		w, g, m, v := b.tensor("w", n), b.tensor("g", n), b.tensor("m", n), b.tensor("v", n)
		for _, e := range []engine.Backend{b.e, b.ref} {
			zero := m.ref
			second := v.ref
			if e == b.e {
				zero, second = m.got, v.got
			}
			e.Zero(engine.All(zero))
			e.Zero(engine.All(second))
		}
		got, want := b.e.SumSquares(g.got), b.ref.SumSquares(g.ref)
		b.compare(fmt.Sprintf("sum of squares of %d", n), []float32{float32(got)}, []float32{float32(want)})
		for step := 1; step <= 3; step++ {
			a := engine.AdamW{LR: 3e-2, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: 0.1, Step: step}
			b.e.Update(w.got, m.got, v.got, g.got, 0.7, a)
			b.ref.Update(w.ref, m.ref, v.ref, g.ref, 0.7, a)
		}
		b.check(fmt.Sprintf("adamw of %d", n), w, m, v)
		b.drop(g)
	}
}

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
