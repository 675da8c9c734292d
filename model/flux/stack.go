package flux

import (
	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/weights"
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
			total += weights.Bytes(m.layers[name].Weight)
		}
	})
	if total > stackLimit {
		return
	}
	m.eachGroup(func(group []string) {
		var all engine.Layer
		parts := make([]*engine.Weight, len(group))
		for i, name := range group {
			l := m.layers[name]
			if l.Weight.DType() != m.layers[group[0]].Weight.DType() {
				return
			}
			parts[i] = l.Weight
			all.Bias = append(all.Bias, l.Bias...)
		}
		all.Weight = weights.Stacked(parts)
		m.stacked[group[0]] = all
		row := 0
		for i, name := range group {
			out := parts[i].Out
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
