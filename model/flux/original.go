package flux

import (
	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/model/weights"
)

// finalModulation is the one layer whose original rows are in another order: shift first, then scale.
const finalModulation = "final_layer.adaLN_modulation.1"

// declareOriginal declares the tensors of the original single-file naming, where q, k, v (and the single blocks' MLP) are
// one matrix. Its parts become views of rows, not copies; only norm_out, whose halves are swapped, is copied.
func declareOriginal(m *Model, l *weights.Loader) func() {
	fused := map[string]*slot{}
	originalOf := map[string]string{}
	var order []lora.Layer
	for _, d := range m.Layers() {
		if !d.Swapped {
			order = append(order, d)
			originalOf[d.Name] = d.Original
		}
	}
	for i := 0; i < len(order); {
		name, rows, j := order[i].Original, 0, i
		for ; j < len(order) && order[j].Original == name; j++ {
			rows += order[j].Out
		}
		s := &slot{}
		fused[name] = s
		l.Matrix(&s.weight, name+".weight", rows, order[i].In)
		l.Vector(&s.bias, name+".bias", rows)
		i = j
	}
	last, w := &slot{}, m.Width()
	l.Matrix(&last.weight, finalModulation+".weight", 2*w, w)
	l.Vector(&last.bias, finalModulation+".bias", 2*w)
	finishNorms := m.declareNorms(l, func(n norm) string { return n.original })
	return func() {
		for _, d := range order {
			s := fused[d.Original]
			m.layers[d.Name] = engine.Layer{Weight: s.weight.RowRange(d.OriginalRow, d.Out), Bias: s.bias[d.OriginalRow:][:d.Out]}
		}
		m.eachGroup(func(group []string) {
			rows := 0
			for _, name := range group {
				rows += m.layers[name].Weight.Out
			}
			s := fused[originalOf[group[0]]]
			m.stacked[group[0]] = engine.Layer{Weight: s.weight.RowRange(0, rows), Bias: s.bias[:rows]}
		})
		m.layers["norm_out.linear"] = engine.Layer{Weight: swapHalves(last.weight), Bias: append(last.bias[w:len(last.bias):len(last.bias)], last.bias[:w]...)}
		finishNorms()
	}
}

// swapHalves is a copy of w with its lower half of rows first.
func swapHalves(w *engine.Weight) *engine.Weight {
	c, half := *w, w.Out/2*w.Stride
	if w.BF16 != nil {
		c.BF16 = append(append(make([]uint16, 0, 2*half), w.BF16[half:2*half]...), w.BF16[:half]...)
	} else {
		c.F32 = append(append(make([]float32, 0, 2*half), w.F32[half:2*half]...), w.F32[:half]...)
	}
	return &c
}
