package flux

import (
	"fmt"
	"slices"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/lora"
)

// Merge is a model with the adapter added to its weights: W + scale·B·A in float32, rounded once to dtype. Weights that
// the adapter does not touch are shared with m, which must stay open.
func (m *Model) Merge(ad *lora.Adapter, dtype engine.DType) (*Model, error) {
	merged := &Model{
		Config: m.Config, layers: map[string]engine.Layer{}, stacked: map[string]engine.Layer{}, norms: m.norms, blocks: m.blockTable(),
		close: func() error { return nil },
	}
	for name, l := range m.layers {
		merged.layers[name] = l
	}
	for _, module := range ad.Modules {
		l, ok := m.layers[module.Name]
		if !ok {
			return nil, fmt.Errorf("merge adapter: the model has no layer %s", module.Name)
		}
		w, err := ad.Merge(module, l.Weight, dtype)
		if err != nil {
			return nil, err
		}
		merged.layers[module.Name] = engine.Layer{Weight: w, Bias: l.Bias}
	}
	m.eachGroup(func(group []string) { // a group that was touched is no stack any more
		all, ok := m.stacked[group[0]]
		if ok && !slices.ContainsFunc(group, func(name string) bool { _, touched := ad.Module(name); return touched }) {
			merged.stacked[group[0]] = all
		}
	})
	return merged, nil
}
