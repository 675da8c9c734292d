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
