package lora

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/store/safetensors"
)

// save writes the files of a format into a folder.
func save(t interface{ Fatal(...any) }, a *Adapter, format, folder string) {
	files, err := a.Files(format, layers, safetensors.F32)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		var b bytes.Buffer
		if err := f.Write(&b); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, f.Name), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFilesKeepTheAdapter: diffusers' and peft's files give back every bit of A, B and the scales, and ranks, alphas and
// their rule; so does a second writing.
func TestFilesKeepTheAdapter(t *testing.T) {
	folder := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		a := drawn(t)
		for _, format := range []string{"diffusers", "peft"} {
			path := filepath.Join(folder, format)
			save(t, a, format, path)
			b, err := Load(path, layers)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(b.Weights.Floats(), a.Weights.Floats()) || !b.Same(a) || len(b.Notes) > 0 {
				t.Fatalf("%s changes the adapter: %+v, was %+v, notes %q", format, b.Modules, a.Modules, b.Notes)
			}
		}
	})
}

// TestKohyaKeepsTheAdapter: modules, ranks, A, B and the bits of the scales, where the parts of a fused layer have one
// scale; of a fresh adapter too, whose B shows no blocks.
func TestKohyaKeepsTheAdapter(t *testing.T) {
	folder := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		a := drawn(t)
		scale := a.Modules[0].Scale()
		for i := range a.Modules {
			m := &a.Modules[i]
			m.Alpha, m.RankStabilised = plainAlpha(scale, m.Rank), false
			if rapid.Bool().Draw(t, "zero") {
				clear(a.B(*m))
			}
		}
		save(t, a, "kohya", folder)
		b, err := Load(folder, layers)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(b.Names(), a.Names()) || len(b.Notes) > 0 || !slices.Equal(b.Weights.Floats(), a.Weights.Floats()) {
			t.Fatalf("modules %v come back as %v, notes %q", a.Names(), b.Names(), b.Notes)
		}
		for _, m := range a.Modules {
			if got, _ := b.Module(m.Name); got.Scale() != m.Scale() || got.Rank != m.Rank {
				t.Fatalf("%s has scale %v and rank %d, had %v and %d", m.Name, got.Scale(), got.Rank, m.Scale(), m.Rank)
			}
		}
	})
}

// TestKohyaFoldsOtherScales: parts of one fused layer with scales of their own keep what they do.
func TestKohyaFoldsOtherScales(t *testing.T) {
	folder := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		a := drawn(t)
		save(t, a, "kohya", folder)
		b, err := Load(folder, layers)
		if err != nil {
			t.Fatal(err)
		}
		sameDeltas(t, b, a, 1e-5)
	})
}

// deltas is what an adapter does, by module.
func deltas(a *Adapter) map[string][]float32 {
	d := map[string][]float32{}
	for _, m := range a.Modules {
		d[m.Name] = a.Delta(m)
	}
	return d
}

// sameDeltas: both adapters change the same weights by the same, up to a part of the largest change.
func sameDeltas(t interface{ Fatalf(string, ...any) }, got, want *Adapter, limit float64) {
	g, w := deltas(got), deltas(want)
	if len(g) != len(w) {
		t.Fatalf("modules %v, want %v", got.Names(), want.Names())
	}
	for name, d := range w {
		if len(g[name]) != len(d) {
			t.Fatalf("%s is missing", name)
		}
		most := slices.MaxFunc(d, func(a, b float32) int { return int(1e6 * (max(a, -a) - max(b, -b))) })
		for i, v := range d {
			if diff := float64(g[name][i] - v); max(diff, -diff) > limit*float64(max(most, -most)) {
				t.Fatalf("%s[%d] is %v, want %v", name, i, g[name][i], v)
			}
		}
	}
}

// TestKohyaLayout: names, fused rows, the swapped halves of the final layer, and alphas that any reader divides by the rank.
func TestKohyaLayout(t *testing.T) {
	a := one(t, Spec{Targets: []string{"transformer_blocks.0.attn.to_k", "transformer_blocks.0.attn.to_v", "norm_out.linear"}, Rank: 2,
		Alpha: 8})
	folder := t.TempDir()
	save(t, a, "kohya", folder)
	file, err := safetensors.Open(filepath.Join(folder, KohyaFile))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	const qkv, last = "lora_unet_double_blocks_0_img_attn_qkv", "lora_unet_final_layer_adaLN_modulation_1"
	read := func(name string, shape ...int) []float32 {
		v, err := file.Float32(name, shape...)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	k, _ := a.Module("transformer_blocks.0.attn.to_k")
	n, _ := a.Module("norm_out.linear")
	up := read(qkv+".lora_up.weight", 12, 4)
	if !slices.Equal(up[4*4:][:2], a.B(k)[:2]) || slices.ContainsFunc(up[:4*4], func(v float32) bool { return v != 0 }) {
		t.Errorf("rows of q are %v, the first of k is %v, want zeros and %v", up[:16], up[16:20], a.B(k)[:2])
	}
	if down := read(qkv+".lora_down.weight", 4, 6); !slices.Equal(down[:12], a.A(k)) {
		t.Error("the first rows of A are not those of k")
	}
	if last := read(last+".lora_up.weight", 12, 2); !slices.Equal(last[:12], a.B(n)[12:]) || !slices.Equal(last[12:], a.B(n)[:12]) {
		t.Error("the halves of the final layer stand as in diffusers")
	}
	if a, b := read(qkv + ".alpha")[0], read(last + ".alpha")[0]; a != 16 || b != 8 {
		t.Errorf("alphas %v and %v, want 16 for rank 4 and 8 for rank 2", a, b)
	}
}

// TestAlphaTensors: float32 where it is enough, float64 where only that keeps the scale.
func TestAlphaTensors(t *testing.T) {
	types := map[safetensors.DType]int{}
	rapid.Check(t, func(t *rapid.T) {
		m := Module{Rank: rapid.IntRange(1, 300).Draw(t, "rank"), Alpha: alphas().Draw(t, "alpha"), RankStabilised: rapid.Bool().Draw(t,
			"stable")}
		var b bytes.Buffer
		if _, err := safetensors.Write(&b, []safetensors.Tensor{alphaTensor("alpha", m.Scale(), m.Rank)}, nil); err != nil {
			t.Fatal(err)
		}
		file, err := safetensors.Parse("alpha", b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		r := reader{file: file}
		again, err := r.scaled("x", m.Rank, "alpha")
		if err != nil || again.Scale() != m.Scale() {
			t.Fatalf("scale %v comes back as %v, %v", m.Scale(), again.Scale(), err)
		}
		info, _ := file.Info("alpha")
		types[info.DType]++
	})
	if types[safetensors.F32] == 0 || types[safetensors.F64] == 0 {
		t.Errorf("types %v: one way was not taken", types)
	}
}

// TestConfigSaysRanksAndAlphas: the common ones, whole names for the others, and names that stand for these modules alone.
func TestConfigSaysRanksAndAlphas(t *testing.T) {
	a := one(t, Spec{Targets: []string{"to_q", "to_k"}, Rank: 4, Alpha: 1.2, RankStabilised: true, Ranks: []string{"^single.*to_q=2"},
		Alphas: []string{"^trans.*to_k=3"}})
	var b bytes.Buffer
	if _, err := a.Write(&b, safetensors.BF16); err != nil {
		t.Fatal(err)
	}
	file, err := safetensors.Parse("a", b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(file.Metadata()[headerKey]), &got); err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal([]any{got["transformer.r"], got["transformer.lora_alpha"], got["transformer.use_rslora"],
		got["transformer.rank_pattern"], got["transformer.alpha_pattern"]})
	if want := `[4,1.2,true,{"^single_transformer_blocks\\.0\\.attn\\.to_q":2},{"^transformer_blocks\\.0\\.attn\\.to_k":3}]`; string(text) != want {
		t.Errorf("config %s, want %s", text, want)
	}
	if slices.ContainsFunc(file.Names(), func(n string) bool { return strings.Contains(n, "alpha") }) {
		t.Error("alphas are tensors too; diffusers refuses a file with both")
	}
	if got := one(t, Spec{Targets: []string{"to_out.0", "to_v"}, Rank: 1, Alpha: 1}).targetModules(); len(got.([]string)) != 3 {
		t.Errorf("target modules %v", got)
	}
	last := build([]Module{{Layer: Layer{Name: "proj_out", In: 2, Out: 2}, Rank: 1, Alpha: 1},
		{Layer: Layer{Name: "a.proj", In: 2, Out: 2}, Rank: 1, Alpha: 1}})
	if got := last.targetModules(); got != `(a\.proj|proj_out)` {
		t.Errorf("target modules %v", got)
	}
}

func TestUnknownFormats(t *testing.T) {
	a := one(t, Spec{Targets: []string{"to_q"}, Rank: 1, Alpha: 1})
	if _, err := a.Files("gguf", layers, safetensors.F32); err == nil || !strings.Contains(err.Error(), "gguf") ||
		!strings.Contains(err.Error(), "kohya") {
		t.Errorf("error %v", err)
	}
	a.Modules[0].Original = ""
	if _, err := a.Files("kohya", layers, safetensors.F32); err == nil || !strings.Contains(err.Error(), a.Modules[0].Name) {
		t.Errorf("error %v, want one that names the module", err)
	}
}
