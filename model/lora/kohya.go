package lora

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"

	"github.com/sciflux/sciflux/store/safetensors"
)

// ranksText says the ranks of all modules, for our own reader: the blocks of a fused B that are zero do not show them.
func (a *Adapter) ranksText() string {
	ranks := map[string]int{}
	for _, m := range a.Modules {
		ranks[m.Name] = m.Rank
	}
	text, _ := json.Marshal(ranks) // a map of names to integers always has a JSON form
	return string(text)
}

// kohyaTensors are the adapter's tensors in the kohya naming over the original fused layers: the parts of a fused layer
// become one A of all their rows and one block-diagonal B. Scales that differ within a layer are folded into B, because it
// has one alpha. layers are all of the model.
func (a *Adapter) kohyaTensors(layers []Layer, dtype safetensors.DType) ([]safetensors.Tensor, error) {
	rows, parts := map[string]int{}, map[string][]Module{}
	for _, l := range layers {
		rows[l.Original] += l.Out
	}
	for _, m := range a.Modules {
		if m.Original == "" {
			return nil, fmt.Errorf("%s has no place in the original model; leave it out of the targets", m.Name)
		}
		parts[m.Original] = append(parts[m.Original], m)
	}
	var list []safetensors.Tensor
	for _, original := range sortedKeys(parts) {
		list = append(list, a.fuse("lora_unet_"+flat(original), rows[original], parts[original], dtype)...)
	}
	return list, nil
}

// fuse is the three tensors of one original layer of so many rows.
func (a *Adapter) fuse(key string, rows int, parts []Module, dtype safetensors.DType) []safetensors.Tensor {
	rank, scale := 0, sameScale(parts)
	var down []float32
	for _, m := range parts {
		rank += m.Rank
		down = append(down, a.A(m)...)
	}
	up, column := make([]float32, rows*rank), 0
	for _, m := range parts {
		b, fold := a.B(m), float32(1)
		if m.Swapped {
			b = swapHalves(b)
		}
		if m.Scale() != scale {
			fold = m.Scale()
		}
		for o := range m.Out {
			for k, v := range b[o*m.Rank:][:m.Rank] {
				up[(m.OriginalRow+o)*rank+column+k] = fold * v
			}
		}
		column += m.Rank
	}
	return []safetensors.Tensor{
		safetensors.Float32s(key+".lora_down.weight", dtype, []int{rank, parts[0].In}, down),
		safetensors.Float32s(key+".lora_up.weight", dtype, []int{rows, rank}, up),
		alphaTensor(key+".alpha", scale, rank),
	}
}

// sameScale is the scale that all modules have, or 1 when they have several.
func sameScale(modules []Module) float32 {
	for _, m := range modules {
		if m.Scale() != modules[0].Scale() {
			return 1
		}
	}
	return modules[0].Scale()
}

// alphaTensor is the alpha of a scale, as float32 where that gives the scale back to the bit, else as float64, which always
// does.
func alphaTensor(name string, scale float32, rank int) safetensors.Tensor {
	alpha := plainAlpha(scale, rank)
	if near := (Module{Rank: rank, Alpha: float64(float32(alpha))}); near.Scale() == scale {
		return safetensors.Float32s(name, safetensors.F32, nil, []float32{float32(alpha)})
	}
	return safetensors.Raw(name, safetensors.F64, nil, binary.LittleEndian.AppendUint64(nil, math.Float64bits(alpha)))
}
