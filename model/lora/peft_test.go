package lora

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/store/safetensors"
)

// twoModules are to_q of a double block with rank 2 and of a single block with rank 4.
func twoModules(prefix string) []safetensors.Tensor {
	return append(pair(prefix+"transformer_blocks.0.attn.to_q", ".lora_A.weight", ".lora_B.weight", 6, 4, 2),
		pair(prefix+"single_transformer_blocks.0.attn.to_q", ".lora_A.weight", ".lora_B.weight", 6, 4, 4)...)
}

func peftFolder(t *testing.T, config string) string {
	t.Helper()
	folder := t.TempDir()
	err := safetensors.WriteFile(filepath.Join(folder, PEFTFile), twoModules("base_model.model."), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, PEFTConfigFile), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	return folder
}

// TestPEFTScales: the first pattern that matches the whole path from its start counts, else the common value.
func TestPEFTScales(t *testing.T) {
	cases := []struct {
		config         string
		double, single float64
	}{
		{`{"r": 2, "lora_alpha": 8, "rank_pattern": {"single_transformer_blocks.0.attn.to_q": 4}}`, 4, 2},
		{`{"r": 4, "lora_alpha": 8, "rank_pattern": {"transformer_blocks.0.attn.to_q": 2}}`, 4, 2},
		{`{"r": 4, "lora_alpha": 8, "rank_pattern": {"^transformer_blocks.*": 2}, "use_rslora": true}`, 8 / math.Sqrt2, 4},
		{`{"r": 4, "lora_alpha": 8, "rank_pattern": {"^transformer_blocks.0.attn.to_q": 2}, "alpha_pattern": {"to_q": 6, "^transformer_blocks.*": 100}}`, 3, 1.5},
		{`{"r": 4, "lora_alpha": 4, "rank_pattern": {"^transformer_blocks.0.attn.to_q": 2}, "alpha_pattern": {"^transformer_blocks.*": 100, "to_q": 6}}`, 50, 1.5},
		{`{"r": 4, "lora_alpha": 4, "rank_pattern": {"^transformer_blocks.0.attn.to_q": 2}, "alpha_pattern": null, "target_modules": ["to_q"]}`, 2, 1},
		{`{"r": 4, "lora_alpha": 4, "rank_pattern": {"^(?!single).*to_q": 2}, "alpha_pattern": {"(?<=single_transformer_blocks.0.attn.)to_q": 9, "(?P<kind>to_q)": 6}}`, 3, 2.25},
		{`{"r": 4, "lora_alpha": 1.2, "rank_pattern": {"transformer_blocks.0.attn.to_q": 2}, "use_rslora": true}`, 1.2 / math.Sqrt2, 0.6},
	}
	for _, c := range cases {
		for place, path := range map[string]string{
			"file": peftFolder(t, c.config), "header": withHeader(t, prefixed(t, c.config)), "bare": withHeader(t, c.config),
		} {
			a, err := Load(path, layers)
			if err != nil {
				t.Errorf("%s %s: %v", place, c.config, err)
				continue
			}
			double, _ := a.Module("transformer_blocks.0.attn.to_q")
			single, _ := a.Module("single_transformer_blocks.0.attn.to_q")
			if double.Scale() != float32(c.double) || single.Scale() != float32(c.single) {
				t.Errorf("%s %s: scales %v and %v, want %v and %v", place, c.config, double.Scale(), single.Scale(), c.double, c.single)
			}
		}
	}
}

// withHeader is a diffusers file whose header says the config.
func withHeader(t *testing.T, config string, more ...safetensors.Tensor) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.safetensors")
	if err := safetensors.WriteFile(path, append(twoModules("transformer."), more...), map[string]string{headerKey: config}); err != nil {
		t.Fatal(err)
	}
	return path
}

// prefixed is a config as diffusers puts it in a header, with that of a text encoder beside it.
func prefixed(t *testing.T, config string) string {
	t.Helper()
	own, all := map[string]json.RawMessage{}, map[string]json.RawMessage{"text_encoder.r": []byte("99"),
		"text_encoder.use_dora": []byte("true")}
	if err := json.Unmarshal([]byte(config), &own); err != nil {
		t.Fatal(err)
	}
	for key, value := range own {
		all["transformer."+key] = value
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestAlphaTensorsComeFirst: a module's own alpha is said by its rank, whatever the config says of it.
func TestAlphaTensorsComeFirst(t *testing.T) {
	const q = "transformer.transformer_blocks.0.attn.to_q"
	a, err := Load(withHeader(t, `{"r": 4, "lora_alpha": 16, "use_rslora": true, "rank_pattern": {}}`, numbered(q+".alpha", 5)), layers)
	if err != nil {
		t.Fatal(err)
	}
	double, _ := a.Module("transformer_blocks.0.attn.to_q")
	single, _ := a.Module("single_transformer_blocks.0.attn.to_q")
	if double.Scale() != 2.5 || single.Scale() != 8 {
		t.Errorf("scales %v and %v, want 5/2 of the tensor and 16/√4 of the header", double.Scale(), single.Scale())
	}
	a, err = Load(withHeader(t, `{"text_encoder.r": 4, "text_encoder.lora_alpha": 16}`), layers)
	if err != nil || a.Modules[0].Scale() != 1 {
		t.Errorf("a text encoder's config: %v, scale %v", err, a.Modules[0].Scale())
	}
}

// TestPEFTRefusals: what is no plain LoRA of the unchanged base is refused by the name of its setting, in file and header.
func TestPEFTRefusals(t *testing.T) {
	for config, want := range map[string]string{
		`{"r": 2, "use_dora": true}`:                                          "use_dora is true: DoRA",
		`{"r": 2, "lora_bias": true}`:                                         "lora_bias",
		`{"r": 2, "bias": "all"}`:                                             `bias "all"`,
		`{"r": 2, "modules_to_save": ["proj_out"]}`:                           "modules_to_save",
		`{"r": 2, "peft_type": "LOHA"}`:                                       "LOHA",
		`{"r": 2, "init_lora_weights": "pissa"}`:                              "init_lora_weights pissa: the factors belong to a changed base",
		`{"r": 2, "init_lora_weights": "pissa_niter_16"}`:                     "path_initial_model_for_weight_conversion",
		`{"r": 2, "init_lora_weights": "OLoRA"}`:                              "OLoRA",
		`{"r": 2, "init_lora_weights": "corda"}`:                              "corda",
		`{"r": 2, "init_lora_weights": "lora_ga"}`:                            "lora_ga",
		`{"r": 2, "init_lora_weights": "loftq"}`:                              "loftq",
		`{"r": 2, "init_lora_weights": "new"}`:                                `"new" is not known`,
		`{"r": 2, "use_qalora": true}`:                                        "use_qalora",
		`{"r": 2, "use_bdlora": {"nblocks": 2}}`:                              "use_bdlora",
		`{"r": 2, "alora_invocation_tokens": [1, 2]}`:                         "alora_invocation_tokens",
		`{"r": 2, "layer_replication": [[0, 2]]}`:                             "layer_replication",
		`{"r": 2, "target_parameters": ["w"]}`:                                "target_parameters",
		`{"r": 2, "trainable_token_indices": {"embed": [1]}}`:                 "trainable_token_indices",
		`{"r": 2, "megatron_config": {"x": 1}}`:                               "megatron_config",
		`{"r": 2, "kasa_config": {"beta": 1}}`:                                "kasa_config",
		`{"r": 2, "arrow_config": {"top_k": 3}}`:                              "arrow_config",
		`{"r": 2, "monteclora_config": {"n": 1}}`:                             "monteclora_config",
		`{"r": 2, "use_something": true}`:                                     "use_something is true, which is not known",
		`{"r": 2, "other_config": {"a": "` + strings.Repeat("x", 100) + `"}}`: "…",
		`{"r": 2, "lora_alpha": 2}`:                                           "rank 4",
		`{"r": 4, "lora_alpha": 2}`:                                           "rank 2",
		`{"r": 2, "lora_alpha": 1e300}`:                                       "no finite scale",
		`{"r": 2, "rank_pattern": {"(": 3}}`:                                  "pattern",
		`{"r": 2, "rank_pattern": [3]}`:                                       "not an object",
		`{"r": "2"}`:                                                          "cannot unmarshal",
		`{"r": `:                                                              "no JSON object",
		`[]`:                                                                  "no JSON object",
		`{"r": 2, "lora_alpha": ` + strings.Repeat(" ", maxConfig) + `2}`:     "longer than",
	} {
		for place, path := range map[string]string{PEFTConfigFile: peftFolder(t, config), headerKey: withHeader(t, config)} {
			if _, err := Load(path, layers); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(),
				place) && !strings.HasPrefix(want, "rank") {
				t.Errorf("%.80s: error %v, want one with %q and %s", config, err, want, place)
			}
		}
	}
}

// TestHarmlessSettings: everything that peft writes of itself, and initialisations that leave the base alone.
func TestHarmlessSettings(t *testing.T) {
	const all = `{"task_type": null, "peft_type": "LORA", "auto_mapping": {"base_model_class": "FluxTransformer2DModel"}, "peft_version": "0.21.2",
		"base_model_name_or_path": "flux", "revision": null, "inference_mode": true, "r": 4, "target_modules": ["to_q"], "exclude_modules": ["x"],
		"lora_alpha": 8, "lora_dropout": 0.1, "fan_in_fan_out": true, "bias": "none", "use_rslora": false, "modules_to_save": null,
		"init_lora_weights": %s, "layers_to_transform": [0], "layers_pattern": "blocks", "rank_pattern": {"^transformer_blocks.*": 2}, "alpha_pattern": {},
		"megatron_config": null, "megatron_core": "megatron.core", "trainable_token_indices": null, "loftq_config": {}, "eva_config": {"rho": 2},
		"corda_config": null, "lora_ga_config": null, "use_dora": false, "velora_config": {"num_groups": 4}, "alora_invocation_tokens": null,
		"use_qalora": false, "qalora_group_size": 16, "monteclora_config": null, "layer_replication": null, "lora_bias": false,
		"target_parameters": [], "use_bdlora": null, "arrow_config": null, "kasa_config": null, "ensure_weight_tying": true, "new_name": "x", "new_number": 3}`
	for _, init := range []string{"true", "false", "null", `"gaussian"`, `"eva"`, `"orthogonal"`, `"mica"`} {
		if a, err := Load(peftFolder(t, fmt.Sprintf(all, init)), layers); err != nil || a.Modules[0].Scale() != 4 {
			t.Errorf("%s: %v", init, err)
		}
	}
}

// TestForeignFiles: files that diffusers and peft saved, with rsLoRA and patterns that look ahead, change the weights as peft
// says (testdata/make.py).
func TestForeignFiles(t *testing.T) {
	for _, name := range []string{"diffusers", "peft"} {
		want, err := safetensors.Open(filepath.Join("testdata", name+".safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		defer want.Close()
		var model []Layer
		for _, module := range want.Names() {
			info, _ := want.Info(module)
			model = append(model, Layer{Name: module, Out: info.Shape[0], In: info.Shape[1], Group: module})
		}
		a, err := Load(filepath.Join("testdata", name), model)
		if err != nil || len(a.Modules) != len(model) || len(a.Notes) > 0 {
			t.Fatalf("%s: %v, %+v", name, err, a)
		}
		for _, m := range a.Modules {
			delta, err := want.Float32(m.Name)
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range a.Delta(m) {
				if d := float64(v - delta[i]); math.Abs(d) > 1e-6 {
					t.Fatalf("%s: %s[%d] changes by %v, want %v", name, m.Name, i, v, delta[i])
				}
			}
		}
	}
}

// TestMatchingIsBounded: patterns that together take too long are refused.
func TestMatchingIsBounded(t *testing.T) {
	c := &peft{place: PEFTConfigFile, Rank: 1, Alpha: 1, matching: maxMatching + 1}
	if _, err := c.module("x", 1); err == nil || !strings.Contains(err.Error(), "patterns take longer") {
		t.Errorf("error %v", err)
	}
	c.matching = 0
	if _, err := c.module("x", 1); err != nil {
		t.Error(err)
	}
	if _, err := newPattern(strings.Repeat("(", maxKey+1), 1); err == nil || len(err.Error()) > 200 {
		t.Errorf("error %.300v", err)
	}
	if _, err := newPattern(strings.Repeat("(", maxKey/2)+strings.Repeat(")", maxKey/2), 1); err != nil {
		t.Error(err)
	}
}

// TestPatternsAreBounded: more patterns than any model has layers are refused.
func TestPatternsAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range maxPatterns + 1 {
		fmt.Fprintf(&b, `,"^x%d": 1`, i)
	}
	_, err := Load(peftFolder(t, `{"r": 2, "rank_pattern": {`+b.String()[1:]+`}}`), layers)
	if err == nil || !strings.Contains(err.Error(), "patterns") {
		t.Errorf("error %v", err)
	}
}

// TestLiteralKeys: our own keys are compared, not matched, and mean what the expression means.
func TestLiteralKeys(t *testing.T) {
	for key, name := range map[string]string{`^a\.0\.b`: "a.0.b", `^a`: "a", `^a.b`: "", `a\.b`: "", `^a\.b.*`: "", `^`: ""} {
		if got, ok := literal(key); ok != (name != "") || ok && got != name {
			t.Errorf("%s is the literal %q, %v; want %q", key, got, ok, name)
		}
	}
}

// FuzzConfig: no config makes the reader panic, whatever it says.
func FuzzConfig(f *testing.F) {
	f.Add(`{"r": 2, "lora_alpha": 8, "rank_pattern": {"^transformer_blocks\\.0": 4, "(?!x).*": 2}, "alpha_pattern": null}`)
	f.Add(`{"transformer.r": 2, "transformer.use_dora": false, "init_lora_weights": "pissa"}`)
	f.Fuzz(func(t *testing.T, config string) {
		fields, err := settings([]byte(config))
		if err != nil {
			return
		}
		c, err := newPEFT(fields, "fuzz")
		if err != nil || len(c.Ranks) > 2 || len(c.Alphas) > 2 {
			return // many slow patterns take their time each
		}
		if m, err := c.module("transformer_blocks.0.attn.to_q", 2); err == nil && !finite(m.Scale()) {
			t.Fatalf("scale %v", m.Scale())
		}
	})
}
