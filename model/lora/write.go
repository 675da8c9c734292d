package lora

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/sciflux/sciflux/store/safetensors"
)

// metadata of every file, as the reference libraries write it.
var metadata = map[string]string{"format": "pt"}

// Tensors are the adapter's tensors in diffusers naming, transformer.<module>.lora_A.weight and .lora_B.weight, stored as
// dtype. Where the scale is not 1 a scalar .alpha says it. They are views: the adapter must not change before they are
// written.
func (a *Adapter) Tensors(dtype safetensors.DType) []safetensors.Tensor {
	var list []safetensors.Tensor
	for _, m := range a.Modules {
		list = append(list,
			safetensors.Float32s("transformer."+m.Name+".lora_A.weight", dtype, []int{m.Rank, m.In}, a.A(m)),
			safetensors.Float32s("transformer."+m.Name+".lora_B.weight", dtype, []int{m.Out, m.Rank}, a.B(m)))
		if m.Scale != 1 {
			list = append(list, safetensors.Float32s("transformer."+m.Name+".alpha", safetensors.F32, nil, []float32{m.alpha()}))
		}
	}
	return list
}

// alpha is scale·rank.
func (m Module) alpha() float32 { return float32(m.Scale * float64(m.Rank)) }

// Write writes the adapter in diffusers naming. The same adapter gives the same bytes.
func (a *Adapter) Write(w io.Writer, dtype safetensors.DType) (int64, error) {
	return safetensors.Write(w, a.Tensors(dtype), metadata)
}

// Save writes the adapter in diffusers naming to a file, whole or not at all.
func (a *Adapter) Save(path string, dtype safetensors.DType) error {
	if err := safetensors.WriteFile(path, a.Tensors(dtype), metadata); err != nil {
		return fmt.Errorf("save adapter: %w", err)
	}
	return nil
}

// SavePEFT writes the folder that peft writes: adapter_model.safetensors and adapter_config.json. Ranks and alphas that
// differ between modules become patterns of whole module names.
func (a *Adapter) SavePEFT(folder string, dtype safetensors.DType) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("save adapter: %w", err)
	}
	var list []safetensors.Tensor
	for _, m := range a.Modules {
		list = append(list,
			safetensors.Float32s("base_model.model."+m.Name+".lora_A.weight", dtype, []int{m.Rank, m.In}, a.A(m)),
			safetensors.Float32s("base_model.model."+m.Name+".lora_B.weight", dtype, []int{m.Out, m.Rank}, a.B(m)))
	}
	config, err := json.MarshalIndent(a.peftConfig(), "", "  ")
	if err != nil {
		return fmt.Errorf("save adapter: %w", err)
	}
	if err := os.WriteFile(filepath.Join(folder, peftConfig), append(config, '\n'), 0o644); err != nil {
		return fmt.Errorf("save adapter: %w", err)
	}
	if err := safetensors.WriteFile(filepath.Join(folder, peftFile), list, metadata); err != nil {
		return fmt.Errorf("save adapter: %w", err)
	}
	return nil
}

func (a *Adapter) peftConfig() map[string]any {
	first := a.Modules[0]
	ranks, alphas := map[string]int{}, map[string]float32{}
	for _, m := range a.Modules {
		// A key also matches after a dot: proj_out would name a layer of every single block, ^proj_out does not.
		key := "^" + strings.ReplaceAll(m.Name, ".", `\.`)
		if m.Rank != first.Rank {
			ranks[key] = m.Rank
		}
		if m.alpha() != first.alpha() {
			alphas[key] = m.alpha()
		}
	}
	return map[string]any{
		"peft_type": "LORA", "task_type": nil, "base_model_name_or_path": nil, "inference_mode": true,
		"r": first.Rank, "lora_alpha": first.alpha(), "lora_dropout": 0.0, "target_modules": a.Names(),
		"rank_pattern": ranks, "alpha_pattern": alphas, "bias": "none", "fan_in_fan_out": false, "init_lora_weights": true,
		"modules_to_save": nil, "use_dora": false, "use_rslora": false,
	}
}

// kohyaKey is the key of an original layer in the kohya naming.
func kohyaKey(original string) string { return "lora_unet_" + strings.ReplaceAll(original, ".", "_") }

// SaveKohya writes KohyaTensors to a file, whole or not at all.
func (a *Adapter) SaveKohya(path string, layers []Layer, dtype safetensors.DType) error {
	list, err := a.KohyaTensors(layers, dtype)
	if err == nil {
		err = safetensors.WriteFile(path, list, metadata)
	}
	if err != nil {
		return fmt.Errorf("save adapter in kohya naming: %w", err)
	}
	return nil
}

// KohyaTensors are the adapter's tensors in the kohya naming over the original fused layers: the parts of a fused layer
// become one A of all their rows and one block-diagonal B. Scales that differ within a layer are folded into B. layers
// are all of the model. Layers whose original has another order of rows cannot be written.
func (a *Adapter) KohyaTensors(layers []Layer, dtype safetensors.DType) ([]safetensors.Tensor, error) {
	rows, parts := map[string]int{}, map[string][]Module{}
	for _, l := range layers {
		rows[l.Original] += l.Out
	}
	for _, m := range a.Modules {
		if m.Original == "" {
			return nil, fmt.Errorf("%s has its rows in another order there; leave it out of the targets", m.Name)
		}
		parts[m.Original] = append(parts[m.Original], m)
	}
	originals := make([]string, 0, len(parts))
	for o := range parts {
		originals = append(originals, o)
	}
	sort.Strings(originals)
	var list []safetensors.Tensor
	for _, o := range originals {
		list = append(list, a.fuse(kohyaKey(o), rows[o], parts[o], dtype)...)
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
		fold := float32(1)
		if scale == 0 {
			fold = float32(m.Scale)
		}
		for o := range m.Out {
			for k, v := range a.B(m)[o*m.Rank:][:m.Rank] {
				up[(m.OriginalRow+o)*rank+column+k] = fold * v
			}
		}
		column += m.Rank
	}
	if scale == 0 {
		scale = 1
	}
	return []safetensors.Tensor{
		safetensors.Float32s(key+".lora_down.weight", dtype, []int{rank, parts[0].In}, down),
		safetensors.Float32s(key+".lora_up.weight", dtype, []int{rows, rank}, up),
		safetensors.Float32s(key+".alpha", safetensors.F32, nil, []float32{float32(scale * float64(rank))}),
	}
}
