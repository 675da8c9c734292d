package clip

import (
	"context"
	"fmt"
	"math"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/weights"
)

// layer is one pre-norm transformer layer.
type layer struct {
	norm1, norm2       norm
	qkv, out, fc1, fc2 *engine.Weight // q, k and v below one another
	qkvBias, outBias   []float32
	fc1Bias, fc2Bias   []float32
}

// norm is a layer normalisation.
type norm struct{ weight, bias []float32 }

// tower is the layers of the text or the vision model.
type tower struct {
	shape
	activation engine.Activation
	layers     []layer
}

func declareNorm(l *weights.Loader, n *norm, name string, width int) {
	l.Vector(&n.weight, name+".weight", width)
	l.Vector(&n.bias, name+".bias", width)
}

// declare adds the layers' tensors, named prefix.0 and so on, to a loader.
func (t *tower) declare(l *weights.Loader, s shape, prefix string) {
	t.shape = s
	t.activation, _ = s.check()
	t.layers = make([]layer, s.layers)
	c, f := s.width, s.feedForward
	for i := range t.layers {
		y, name := &t.layers[i], fmt.Sprintf("%s.%d.", prefix, i)
		declareNorm(l, &y.norm1, name+"layer_norm1", c)
		declareNorm(l, &y.norm2, name+"layer_norm2", c)
		attention := name + "self_attn."
		l.Stack(&y.qkv, []string{attention + "q_proj.weight", attention + "k_proj.weight", attention + "v_proj.weight"}, []int{c, c, c}, c)
		l.Vectors(&y.qkvBias, []string{attention + "q_proj.bias", attention + "k_proj.bias", attention + "v_proj.bias"}, []int{c, c, c})
		l.Matrix(&y.out, attention+"out_proj.weight", c, c)
		l.Vector(&y.outBias, attention+"out_proj.bias", c)
		l.Matrix(&y.fc1, name+"mlp.fc1.weight", f, c)
		l.Vector(&y.fc1Bias, name+"mlp.fc1.bias", f)
		l.Matrix(&y.fc2, name+"mlp.fc2.weight", c, f)
		l.Vector(&y.fc2Bias, name+"mlp.fc2.bias", c)
	}
}

// scratch is the memory that layers work in, one set for all of them.
type scratch struct {
	be                         engine.Backend
	norm, qkv, attended, a, fc *engine.Tensor
}

func (t *tower) scratch(be engine.Backend, rows int) *scratch {
	c, f := t.width, t.feedForward
	return &scratch{
		be: be, norm: be.Alloc(rows, c), qkv: be.Alloc(rows, 3*c), attended: be.Alloc(rows, c), a: be.Alloc(rows, f), fc: be.Alloc(rows, f),
	}
}

// run takes h through all layers in place. The last layer computes only the rows of h that last selects: the others have
// no reader.
func (t *tower) run(ctx context.Context, s *scratch, h engine.View, layout engine.Layout, causal bool, last func(engine.View) engine.View) error {
	be, c := s.be, t.width
	norm, qkv, attended := engine.All(s.norm), engine.All(s.qkv), engine.All(s.attended)
	attention := engine.Attention{
		Layout: layout, Heads: t.heads, Dim: c / t.heads, Scale: float32(1 / math.Sqrt(float64(c/t.heads))), Causal: causal,
	}
	for i := range t.layers {
		if err := ctx.Err(); err != nil {
			return err
		}
		y := &t.layers[i]
		be.LayerNorm(norm, h, y.norm1.weight, y.norm1.bias, t.eps)
		be.Linear(qkv, norm, y.qkv, y.qkvBias, 0)
		be.Attend(attended, qkv.ColRange(0, c), qkv.ColRange(c, c), qkv.ColRange(2*c, c), &attention)
		rest, from := h, attended
		if i == len(t.layers)-1 {
			rest, from = last(h), last(attended)
		}
		n := rest.Rows
		normed, a, fc := norm.RowRange(0, n), engine.All(s.a).RowRange(0, n), engine.All(s.fc).RowRange(0, n)
		be.Linear(rest, from, y.out, y.outBias, 1)
		be.LayerNorm(normed, rest, y.norm2.weight, y.norm2.bias, t.eps)
		be.Linear(a, normed, y.fc1, y.fc1Bias, 0)
		be.Activate(fc, a, t.activation)
		be.Linear(rest, fc, y.fc2, y.fc2Bias, 1)
	}
	return nil
}
