package flux

import (
	"github.com/sciflux/sciflux/engine"
)

// stackLimit is up to how many bytes of grouped weights are copied below one another. A small model is faster with one
// product for q, k and v than with three; a big one stays in its mapped file.
const stackLimit = 64 << 20

// stackGroups puts the weights of every group of several layers below one another, if they are few enough. The layers
// become rows of the stack, so nothing is held twice.
func (m *Model) stackGroups() {
	total := 0
	m.eachGroup(func(group []string) {
		for _, name := range group {
			total += bytesOf(m.layers[name].Weight)
		}
	})
	if total > stackLimit {
		return
	}
	m.eachGroup(func(group []string) {
		first := m.layers[group[0]].Weight
		all := engine.Layer{Weight: &engine.Weight{In: first.In, Stride: first.In}}
		for _, name := range group {
			l := m.layers[name]
			if l.Weight.DType() != first.DType() {
				return
			}
			all.Weight.F32 = append(all.Weight.F32, l.Weight.F32...)
			all.Weight.BF16 = append(all.Weight.BF16, l.Weight.BF16...)
			all.Weight.Out += l.Weight.Out
			all.Bias = append(all.Bias, l.Bias...)
		}
		m.stacked[group[0]] = all
		row := 0
		for _, name := range group {
			out := m.layers[name].Weight.Out
			m.layers[name] = engine.Layer{Weight: all.Weight.RowRange(row, out), Bias: all.Bias[row:][:out]}
			row += out
		}
	})
}

// eachGroup calls do for every group of more than one layer.
func (m *Model) eachGroup(do func(group []string)) {
	for _, b := range m.blocks {
		for _, group := range b.groups {
			if len(group) > 1 {
				do(group)
			}
		}
	}
}

func bytesOf(w *engine.Weight) int {
	if w.BF16 != nil {
		return 2 * w.Out * w.In
	}
	return 4 * w.Out * w.In
}
