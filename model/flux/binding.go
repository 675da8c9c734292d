package flux

import (
	"strings"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/lora"
)

// block is a part of the model whose layers go by local names: a transformer block, or "" for all that lies outside.
type block struct {
	prefix string     // of the full names
	groups [][]string // full names of the layers, by lora.Layer.Group
	norms  []string   // full names
}

// outside is the prefix of the layers that belong to no block.
const outside = ""

// prefixOf is the prefix of the block that a layer or norm belongs to.
func prefixOf(name string) string {
	for _, kind := range []string{"transformer_blocks.", "single_transformer_blocks."} {
		if rest, ok := strings.CutPrefix(name, kind); ok {
			number, _, _ := strings.Cut(rest, ".")
			return kind + number + "."
		}
	}
	return outside
}

// blockTable sorts the layers and norms of a model into blocks.
func (c Config) blockTable() map[string]*block {
	table := map[string]*block{}
	get := func(name string) *block {
		p := prefixOf(name)
		if table[p] == nil {
			table[p] = &block{prefix: p}
		}
		return table[p]
	}
	last := ""
	for _, l := range c.Layers() {
		b := get(l.Name)
		if l.Group == last {
			b.groups[len(b.groups)-1] = append(b.groups[len(b.groups)-1], l.Name)
		} else {
			b.groups = append(b.groups, []string{l.Name})
		}
		last = l.Group
	}
	for _, n := range c.norms() {
		b := get(n.name)
		b.norms = append(b.norms, n.name)
	}
	return table
}

// local is a name as the forward pass writes it.
func (b *block) local(name string) string { return strings.TrimPrefix(name, b.prefix) }

// binding is the weights of one block with the adapters of ad, nil for the base model.
func (m *Model) binding(prefix string, c *call, ad *lora.Adapter) *engine.Binding {
	blk := m.blocks[prefix]
	b := &engine.Binding{Layers: map[string]engine.Layer{}, Stacked: map[string]engine.Layer{}, Norms: map[string][]float32{}, Adapters: map[string]*engine.LowRank{}, Cos: c.cos, Sin: c.sin}
	for _, group := range blk.groups {
		for _, name := range group {
			b.Layers[blk.local(name)] = m.layers[name]
		}
		if all, ok := m.stacked[group[0]]; ok {
			b.Stacked[blk.local(group[0])] = all
		}
		if ad == nil {
			continue
		}
		if low := ad.Group(group); low != nil {
			b.Adapters[blk.local(group[0])] = low
		}
	}
	for _, name := range blk.norms {
		b.Norms[blk.local(name)] = m.norms[name]
	}
	return b
}
