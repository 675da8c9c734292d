package lora

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/store/safetensors"
)

// naming writes the tensors of an adapter under other names.
type naming struct {
	prefix string
	path   func(string) string // of a diffusers path; nil: as it is
	a, b   string
}

// TestNamings: one adapter under every naming over diffusers' modules.
func TestNamings(t *testing.T) {
	const down, up = ".lora_down.weight", ".lora_up.weight"
	want := one(t, Spec{Targets: []string{"to_q", "to_out.0", "proj_mlp", "norm_out.linear"}, Rank: 3, Alpha: 3})
	for name, n := range map[string]naming{
		"diffusers":              {"transformer.", nil, ".lora_A.weight", ".lora_B.weight"},
		"bare":                   {"", nil, ".lora_A.weight", ".lora_B.weight"},
		"down and up":            {"transformer.", nil, down, up},
		"old diffusers":          {"transformer.", nil, ".lora.down.weight", ".lora.up.weight"},
		"older diffusers":        {"transformer.", nil, ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"},
		"PEFT":                   {"base_model.model.", nil, ".lora_A.weight", ".lora_B.weight"},
		"PEFT in memory":         {"base_model.model.", nil, ".lora_A.default.weight", ".lora_B.default.weight"},
		"PEFT inside diffusers":  {"transformer.base_model.model.", nil, ".lora_A.weight", ".lora_B.weight"},
		"without weight":         {"transformer.", nil, ".lora_A", ".lora_B"},
		"ComfyUI over diffusers": {"diffusion_model.", nil, ".lora_A.weight", ".lora_B.weight"},
		"a model inside a model": {"model.diffusion_model.", nil, down, up},
		"OneTrainer":             {"lora_transformer_", flat, down, up},
		"kohya over diffusers":   {"lora_unet_", flat, down, up},
		"LyCORIS":                {"lycoris_", flat, down, up},
	} {
		var list []safetensors.Tensor
		for _, m := range want.Modules {
			path := m.Name
			if n.path != nil {
				path = n.path(path)
			}
			list = append(list, safetensors.Float32s(n.prefix+path+n.a, safetensors.F32, []int{m.Rank, m.In}, want.A(m)),
				safetensors.Float32s(n.prefix+path+n.b, safetensors.F32, []int{m.Out, m.Rank}, want.B(m)))
		}
		got, err := Load(write(t, list...), layers)
		if err != nil || !got.Same(want) || !slices.Equal(got.Weights.Floats(), want.Weights.Floats()) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if told := len(got.Notes) > 0; told != strings.HasPrefix(n.prefix, peftPrefix) {
			t.Errorf("%s: notes %q", name, got.Notes) // of PEFT's names that come without their config
		}
	}
}

// TestOriginalNamings: the fused layers of the original under every naming over its modules, the final layer's halves the
// other way round.
func TestOriginalNamings(t *testing.T) {
	want := one(t, Spec{Targets: []string{"transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_k",
		"transformer_blocks.0.attn.to_v", "to_out.0", "norm_out.linear"}, Rank: 2, Alpha: 2})
	tensors, err := want.kohyaTensors(layers, safetensors.F32)
	if err != nil {
		t.Fatal(err)
	}
	dotted := map[string]string{}
	for _, l := range layers {
		dotted["lora_unet_"+flat(l.Original)] = l.Original
	}
	for name, n := range map[string]naming{
		"kohya":            {"lora_unet_", flat, ".lora_down.weight", ".lora_up.weight"},
		"BFL":              {"", nil, ".lora_A.weight", ".lora_B.weight"},
		"ai-toolkit":       {"diffusion_model.", nil, ".lora_A.weight", ".lora_B.weight"},
		"ComfyUI":          {"diffusion_model.", nil, ".lora_down.weight", ".lora_up.weight"},
		"PEFT":             {"base_model.model.", nil, ".lora_A.weight", ".lora_B.weight"},
		"LyCORIS":          {"lycoris_", flat, ".lora_down.weight", ".lora_up.weight"},
		"PEFT and ComfyUI": {"base_model.model.diffusion_model.", nil, ".lora_A.default.weight", ".lora_B.default.weight"},
	} {
		var list []safetensors.Tensor
		for _, x := range tensors {
			key, piece, _ := strings.Cut(x.Name, ".")
			path := dotted[key]
			if n.path != nil {
				path = n.path(path)
			}
			x.Name = n.prefix + path + map[string]string{"lora_down.weight": n.a, "lora_up.weight": n.b, "alpha": ".alpha"}[piece]
			list = append(list, x)
		}
		got, err := Load(write(t, list...), layers)
		if err != nil || !slices.Equal(got.Names(), want.Names()) || !slices.Equal(got.Weights.Floats(), want.Weights.Floats()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestXLabs: stream 1 is the image, 2 the text; qkv of a single block are rows of linear1 without the MLP.
func TestXLabs(t *testing.T) {
	model := append(slices.Clone(layers),
		Layer{Name: "transformer_blocks.0.attn.to_add_out", In: 4, Out: 6, Group: "a", Original: "double_blocks.0.txt_attn.proj"},
		Layer{Name: "single_transformer_blocks.0.proj_out", In: 14, Out: 6, Group: "p", Original: "single_blocks.0.linear2"})
	var list []safetensors.Tensor
	for path, shape := range map[string][2]int{
		"double_blocks.0.processor.qkv_lora1": {6, 12}, "double_blocks.0.processor.proj_lora1": {4,
			6}, "double_blocks.0.processor.proj_lora2": {4, 6},
		"single_blocks.0.processor.qkv_lora": {6, 12}, "single_blocks.0.processor.proj_lora": {14, 6},
	} {
		up := make([]float32, shape[1]*2)
		for i := range up {
			up[i] = float32(i + 1)
		}
		list = append(list, numbered(path+".down.weight", 1, 2, shape[0]), safetensors.Float32s(path+".up.weight", safetensors.F32,
			[]int{shape[1], 2}, up))
	}
	a, err := Load(write(t, list...), model)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float32{ // the first number of B is that of the part's first row
		"transformer_blocks.0.attn.to_q": 1, "transformer_blocks.0.attn.to_k": 9, "transformer_blocks.0.attn.to_v": 17, "transformer_blocks.0.attn.to_out.0": 1,
		"transformer_blocks.0.attn.to_add_out": 1, "single_transformer_blocks.0.attn.to_q": 1, "single_transformer_blocks.0.attn.to_k": 9,
		"single_transformer_blocks.0.attn.to_v": 17, "single_transformer_blocks.0.proj_out": 1,
	}
	if len(a.Modules) != len(want) {
		t.Errorf("modules %v", a.Names())
	}
	for _, m := range a.Modules {
		if a.B(m)[0] != want[m.Name] || m.Rank != 2 || m.Scale() != 1 {
			t.Errorf("%s: rank %d, scale %v, B begins with %v, want %v", m.Name, m.Rank, m.Scale(), a.B(m)[0], want[m.Name])
		}
	}
}

// TestAlphas: every name and type of an alpha, of any shape of one number.
func TestAlphas(t *testing.T) {
	const q = "transformer.transformer_blocks.0.attn.to_q"
	for _, name := range []string{".alpha", ".lora_alpha", ".lora_A.alpha"} {
		for _, shape := range [][]int{nil, {1}, {1, 1}} {
			for _, dtype := range []safetensors.DType{safetensors.F32, safetensors.F64, safetensors.BF16, safetensors.F16} {
				list := append(pair(q, ".lora_A.weight", ".lora_B.weight", 6, 4, 2), safetensors.Float32s(q+name, dtype, shape,
					[]float32{6}))
				if a, err := Load(write(t, list...), layers); err != nil || a.Modules[0].Scale() != 3 {
					t.Errorf("%s %v %s: %v", name, shape, dtype, err)
				}
			}
		}
	}
}

// TestStrays: what is left is named by its kind, many of one kind once.
func TestStrays(t *testing.T) {
	var names []string
	for i := range 9 {
		names = append(names, fmt.Sprintf("x.%d.dora_scale", i), fmt.Sprintf("x.%d.what", i))
	}
	got := strays(append(names, "x.lokr_w1", "x.diff_b"))
	want := []string{"no part of a plain LoRA adapter", "no plain LoRA but DoRA", "no plain LoRA but LoKr",
		"no plain LoRA but whole weight differences"}
	if len(got) != len(want) || strays(nil) != nil {
		t.Fatalf("%q", got)
	}
	for _, w := range want {
		if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, w) && strings.Contains(s, "x.") }) {
			t.Errorf("%q lacks %q", got, w)
		}
	}
}
