package vae

import (
	"math"

	"github.com/sciflux/sciflux/engine"
)

const normEps = 1e-6

// pass runs layers on one backend. Every layer takes images [B, C, h, w]; those that return a new tensor free the one
// they were given.
type pass struct {
	be     engine.Backend
	groups int
}

// conv is a convolution with its place in the picture.
type conv struct {
	weight *engine.Weight
	bias   []float32
	at     engine.Conv
}

// same is a k×k convolution that keeps the picture's size.
func same(k int) engine.Conv {
	p := k / 2
	return engine.Conv{Kernel: k, Stride: 1, Top: p, Bottom: p, Left: p, Right: p}
}

// halving is the downsampler's convolution: one zero row below and one zero column right, no others.
var halving = engine.Conv{Kernel: 3, Stride: 2, Bottom: 1, Right: 1}

func (p *pass) conv(x *engine.Tensor, c *conv) *engine.Tensor {
	h := (x.Shape[2]+c.at.Top+c.at.Bottom-c.at.Kernel)/c.at.Stride + 1
	w := (x.Shape[3]+c.at.Left+c.at.Right-c.at.Kernel)/c.at.Stride + 1
	y := p.be.Alloc(x.Shape[0], c.weight.Out, h, w)
	p.be.Convolve(y, x, c.weight, c.bias, c.at)
	return y
}

func (p *pass) convFree(x *engine.Tensor, c *conv) *engine.Tensor {
	y := p.conv(x, c)
	p.be.Free(x)
	return y
}

// norm is a group normalisation.
type norm struct{ weight, bias []float32 }

func (p *pass) norm(y, x *engine.Tensor, n *norm, silu bool) {
	p.be.GroupNorm(y, x, p.groups, n.weight, n.bias, normEps, silu)
}

// resnet is x + conv2(silu(norm2(conv1(silu(norm1(x)))))), with a 1×1 convolution on x where the width changes.
type resnet struct {
	norm1, norm2 norm
	conv1, conv2 conv
	shortcut     *conv
}

func (p *pass) resnet(x *engine.Tensor, r *resnet) *engine.Tensor {
	n := p.be.Alloc(x.Shape...)
	p.norm(n, x, &r.norm1, true)
	h := p.convFree(n, &r.conv1)
	p.norm(h, h, &r.norm2, true)
	y := p.convFree(h, &r.conv2)
	skip := x
	if r.shortcut != nil {
		skip = p.convFree(x, r.shortcut)
	}
	p.be.Add(planes(y), planes(y), planes(skip))
	p.be.Free(skip)
	return y
}

// planes views images as a matrix with one channel of one picture per row.
func planes(t *engine.Tensor) engine.View {
	rows, cols := t.Shape[0]*t.Shape[1], t.Shape[2]*t.Shape[3]
	return engine.View{T: t, Rows: rows, Cols: cols, Stride: cols}
}

// attention is the middle's self-attention over all cells of a picture, one head as wide as the level.
type attention struct {
	norm            norm
	qkv, out        *engine.Weight
	qkvBias, toBias []float32
}

// attention adds its result to x. Its matrices have cells as rows, which are the columns of x.
func (p *pass) attention(x *engine.Tensor, a *attention) *engine.Tensor {
	batch, width, cells := x.Shape[0], x.Shape[1], x.Shape[2]*x.Shape[3]
	n := p.be.Alloc(x.Shape...)
	p.norm(n, x, &a.norm, false)
	rows := p.be.Alloc(batch*cells, width)
	for b := range batch {
		p.be.Transpose(engine.All(rows).RowRange(b*cells, cells), planes(n).RowRange(b*width, width))
	}
	p.be.Free(n)
	qkv := p.be.Alloc(batch*cells, 3*width)
	all := engine.All(qkv)
	p.be.Linear(all, engine.All(rows), a.qkv, a.qkvBias, 0)
	o := p.be.Alloc(batch*cells, width)
	p.be.Attend(engine.All(o), all.ColRange(0, width), all.ColRange(width, width), all.ColRange(2*width, width), &engine.Attention{
		Layout: engine.Layout{B: batch, T: cells}, Heads: 1, Dim: width, Scale: float32(1 / math.Sqrt(float64(width))),
	})
	p.be.Free(qkv)
	p.be.Linear(engine.All(rows), engine.All(o), a.out, a.toBias, 0)
	p.be.Free(o)
	y := p.be.Alloc(x.Shape...)
	for b := range batch {
		p.be.Transpose(planes(y).RowRange(b*width, width), engine.All(rows).RowRange(b*cells, cells))
	}
	p.be.Free(rows)
	p.be.Add(planes(x), planes(x), planes(y))
	p.be.Free(y)
	return x
}

// level is the residual blocks of one resolution and what leads to the next.
type level struct {
	resnets    []resnet
	downsample *conv // of the encoder, nil at the last level
	upsample   *conv // of the decoder, nil at the last level
}

func (p *pass) level(x *engine.Tensor, l *level) *engine.Tensor {
	for i := range l.resnets {
		x = p.resnet(x, &l.resnets[i])
	}
	if l.downsample != nil {
		x = p.convFree(x, l.downsample)
	}
	if l.upsample != nil {
		big := p.be.Alloc(x.Shape[0], x.Shape[1], 2*x.Shape[2], 2*x.Shape[3])
		p.be.Upsample(big, x)
		p.be.Free(x)
		x = p.convFree(big, l.upsample)
	}
	return x
}

// middle is resnet, attention, resnet at the coarsest level.
type middle struct {
	first, second resnet
	attention     *attention
}

func (p *pass) middle(x *engine.Tensor, m *middle) *engine.Tensor {
	x = p.resnet(x, &m.first)
	if m.attention != nil {
		x = p.attention(x, m.attention)
	}
	return p.resnet(x, &m.second)
}

// head is the last norm, SiLU and convolution of either half.
type head struct {
	norm norm
	conv conv
}

func (p *pass) head(x *engine.Tensor, h *head) *engine.Tensor {
	p.norm(x, x, &h.norm, true)
	return p.convFree(x, &h.conv)
}
