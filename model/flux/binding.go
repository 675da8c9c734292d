package flux

import (
	"encoding/binary"
	"strings"
	"sync"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/lora"
)

// block is a part of the model whose layers go by local names: a transformer block, or "" for all that lies outside.
type block struct {
	prefix string     // of the full names
	groups [][]string // full names of the layers, by lora.Layer.Group
	norms  []string   // full names

	once sync.Once
	base engine.Binding // the model's weights by local names, made at first use
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

// weights is the frozen weights of a block by their local names. The maps are shared by all who use the model.
func (m *Model) weights(b *block) engine.Binding {
	b.once.Do(func() {
		b.base = engine.Binding{Layers: map[string]engine.Layer{}, Stacked: map[string]engine.Layer{}, Norms: map[string][]float32{}}
		for _, group := range b.groups {
			for _, name := range group {
				b.base.Layers[b.local(name)] = m.layers[name]
			}
			if all, ok := m.stacked[group[0]]; ok {
				b.base.Stacked[b.local(group[0])] = all
			}
		}
		for _, name := range b.norms {
			b.base.Norms[b.local(name)] = m.norms[name]
		}
	})
	return b.base
}

// binding is the weights of one block with the adapters of its groups.
func (b *Batch) binding(prefix string, adapters map[string]*engine.LowRank) *engine.Binding {
	w := b.model.weights(b.model.blocks[prefix])
	w.Adapters, w.Cos, w.Sin = adapters, b.cos, b.sin
	return &w
}

// adapters is the part of an adapter that belongs to a block, by the first layer of each group; nil for the base model.
func (m *Model) adapters(prefix string, ad *lora.Adapter) map[string]*engine.LowRank {
	if ad == nil {
		return nil
	}
	return m.blocks[prefix].lowRanks(ad.Group)
}

// lowRanks asks for the pair of every group.
func (b *block) lowRanks(of func(layers []string) *engine.LowRank) map[string]*engine.LowRank {
	pairs := map[string]*engine.LowRank{}
	for _, group := range b.groups {
		if low := of(group); low != nil {
			pairs[b.local(group[0])] = low
		}
	}
	return pairs
}

// ranks tells blocks of one kind apart whose adapters differ in shape: the ranks of all layers in order.
func (b *block) ranks(adapters map[string]*engine.LowRank) string {
	var key []byte
	for _, group := range b.groups {
		low := adapters[b.local(group[0])]
		for i := range group {
			rank := 0
			if low != nil {
				rank = low.Ranks[i]
			}
			key = binary.AppendUvarint(key, uint64(rank))
		}
	}
	return string(key)
}
