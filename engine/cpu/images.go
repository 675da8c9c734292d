//go:build cgo

package cpu

// #include "kernels.h"
import "C"

import (
	"fmt"
	"runtime"

	"github.com/sciflux/sciflux/engine"
)

// convPixels is about the number of output pixels of one task of a convolution.
const convPixels = 512

func images(op string, t *engine.Tensor) (b, c, h, w int, at C.addr) {
	if len(t.Shape) != 4 {
		panic(fmt.Sprintf("cpu: %s of shape %v, want [B, C, h, w]", op, t.Shape))
	}
	return t.Shape[0], t.Shape[1], t.Shape[2], t.Shape[3], origin(op, engine.All(t))
}

// Convolve implements engine.Backend.
func (e *Backend) Convolve(y, x *engine.Tensor, w *engine.Weight, bias []float32, c engine.Conv) {
	b, in, h, width, from := images("convolve", x)
	yb, out, outH, outW, to := images("convolve output", y)
	if yb != b || out != w.Out || w.In != in*c.Kernel*c.Kernel || c.Stride < 1 || c.Kernel > C.CONV_SIDE ||
		outH != outputSize(h, c.Top+c.Bottom, c) || outW != outputSize(width, c.Left+c.Right, c) {
		panic(fmt.Sprintf("cpu: convolve %v by %d×%d (%+v) into %v", x.Shape, w.Out, w.In, c, y.Shape))
	}
	if y.Len() == 0 {
		return
	}
	g := C.conv_args{
		bias: affine("convolve bias", bias, out), in: C.long(in), h: C.long(h), width: C.long(width), out: C.long(out),
		out_h: C.long(outH), out_w: C.long(outW), kernel: C.long(c.Kernel), stride: C.long(c.Stride),
		top: C.long(c.Top), left: C.long(c.Left), stride_w: C.long(w.Stride),
	}
	r := weight(w, true)
	g.w = r.at
	if r.bf16 {
		s := e.take(w.Out * w.In)
		defer e.give(s)
		g.w, g.stride_w = s.addr(), C.long(w.In)
		e.convert(e.team, false, g.w, r.at, w.Stride, w.Out, w.In)
	}
	pixels := outH * outW
	rows := max(1, convPixels/outW)
	tiles := ceil(outH, rows)
	e.team.do(b*tiles, func(task int) {
		part := g
		i, t := task/tiles, task%tiles*rows
		part.x, part.y = from+C.addr(4*i*in*h*width), to+C.addr(4*i*out*pixels)
		part.from, part.to = C.long(t), C.long(min(outH, t+rows))
		s := e.take(e.convolveScratch(&part))
		e.convolveC(&part, s)
		e.give(s)
	})
	runtime.KeepAlive([]any{y, x, w, bias})
}

func outputSize(n, pad int, c engine.Conv) int { return (n+pad-c.Kernel)/c.Stride + 1 }

// GroupNorm implements engine.Backend.
func (e *Backend) GroupNorm(y, x *engine.Tensor, groups int, weight, bias []float32, eps float32, silu bool) {
	b, c, h, w, from := images("group norm", x)
	yb, yc, yh, yw, to := images("group norm output", y)
	if yb != b || yc != c || yh != h || yw != w || groups < 1 || c%groups != 0 || len(weight) != c || len(bias) != c {
		panic(fmt.Sprintf("cpu: group norm of %v in %d groups, %d weights, into %v", x.Shape, groups, len(weight), y.Shape))
	}
	if x.Len() == 0 {
		return
	}
	per := c / groups
	e.team.do(b*groups, func(task int) {
		at := C.addr(4 * task * per * h * w)
		first := C.addr(4 * (task % groups) * per)
		e.groupNormC(&C.group_args{
			y: to + at, x: from + at, weight: address(weight) + first, bias: address(bias) + first,
			channels: C.long(per), pixels: C.long(h * w), eps: C.float(eps), silu: flag(silu),
		})
	})
	runtime.KeepAlive([]any{y, x, weight, bias})
}

// Upsample implements engine.Backend.
func (e *Backend) Upsample(y, x *engine.Tensor) {
	b, c, h, w, _ := images("upsample", x)
	yb, yc, yh, yw, _ := images("upsample output", y)
	if yb != b || yc != c || yh != 2*h || yw != 2*w {
		panic(fmt.Sprintf("cpu: upsample %v into %v", x.Shape, y.Shape))
	}
	in, out := x.Floats(), y.Floats()
	rows := b * c * h
	chunk := max(1, grain/4/max(w, 1))
	e.team.do(ceil(rows, chunk), func(task int) {
		for r := task * chunk; r < min(rows, (task+1)*chunk); r++ {
			src, dst := in[r*w:][:w], out[4*r*w:][:4*w]
			for j, v := range src {
				dst[2*j], dst[2*j+1] = v, v
			}
			copy(dst[2*w:], dst[:2*w])
		}
	})
}
