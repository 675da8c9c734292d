package lora

import (
	"bytes"
	"crypto/sha256"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/store/safetensors"
)

// layers is a piece of a model: a group of three, a fused layer of four parts, single layers, one without original.
var layers = []Layer{
	{Name: "transformer_blocks.0.attn.to_q", In: 6, Out: 4, Group: "d.qkv", Original: "double_blocks.0.img_attn.qkv"},
	{Name: "transformer_blocks.0.attn.to_k", In: 6, Out: 4, Group: "d.qkv", Original: "double_blocks.0.img_attn.qkv", OriginalRow: 4},
	{Name: "transformer_blocks.0.attn.to_v", In: 6, Out: 4, Group: "d.qkv", Original: "double_blocks.0.img_attn.qkv", OriginalRow: 8},
	{Name: "transformer_blocks.0.attn.to_out.0", In: 4, Out: 6, Group: "d.out", Original: "double_blocks.0.img_attn.proj"},
	{Name: "single_transformer_blocks.0.attn.to_q", In: 6, Out: 4, Group: "s.qkv", Original: "single_blocks.0.linear1"},
	{Name: "single_transformer_blocks.0.attn.to_k", In: 6, Out: 4, Group: "s.qkv", Original: "single_blocks.0.linear1", OriginalRow: 4},
	{Name: "single_transformer_blocks.0.attn.to_v", In: 6, Out: 4, Group: "s.qkv", Original: "single_blocks.0.linear1", OriginalRow: 8},
	{Name: "single_transformer_blocks.0.proj_mlp", In: 6, Out: 10, Group: "s.mlp", Original: "single_blocks.0.linear1", OriginalRow: 12},
	{Name: "norm_out.linear", In: 6, Out: 12, Group: "norm_out"},
}

// drawn is a random adapter; every module has its own rank and scale.
func drawn(t *rapid.T, withNormOut bool) *Adapter {
	list := layers
	if !withNormOut {
		list = layers[:len(layers)-1]
	}
	var modules []Module
	for _, l := range list {
		if rapid.Bool().Draw(t, l.Name) || len(modules) == 0 && l.Name == list[len(list)-1].Name {
			scale := rapid.SampledFrom([]float64{1, 0.5, 2, 0.25}).Draw(t, "scale")
			modules = append(modules, Module{Layer: l, Rank: rapid.IntRange(1, 5).Draw(t, "rank"), Scale: scale})
		}
	}
	a := build(modules)
	for i := range a.Weights.Floats() {
		a.Weights.Floats()[i] = float32(rapid.Float64Range(-1, 1).Draw(t, "weight")) + 0.001
	}
	return a
}

// deltas is what an adapter does, by module.
func deltas(a *Adapter) map[string][]float32 {
	d := map[string][]float32{}
	for _, m := range a.Modules {
		d[m.Name] = a.Delta(m)
	}
	return d
}

func sameDeltas(t *rapid.T, got, want *Adapter, limit float64) {
	g, w := deltas(got), deltas(want)
	if len(g) != len(w) {
		t.Fatalf("modules %v, want %v", got.Names(), want.Names())
	}
	for name, d := range w {
		for i, v := range d {
			if math.Abs(float64(g[name][i]-v)) > limit {
				t.Fatalf("%s[%d] is %v, want %v", name, i, g[name][i], v)
			}
		}
	}
}

// TestFilesKeepTheAdapter: every naming gives back the same change of every weight; diffusers naming every bit of A and B.
func TestFilesKeepTheAdapter(t *testing.T) {
	folder := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		a := drawn(t, true)
		path := filepath.Join(folder, "a.safetensors")
		if err := a.Save(path, safetensors.F32); err != nil {
			t.Fatal(err)
		}
		b, err := Load(path, layers)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(b.Weights.Floats(), a.Weights.Floats()) || !b.Same(a) {
			t.Fatal("diffusers naming changes the adapter")
		}
		peft := filepath.Join(folder, "peft")
		if err := a.SavePEFT(peft, safetensors.F32); err != nil {
			t.Fatal(err)
		}
		if b, err = Load(peft, layers); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(b.Weights.Floats(), a.Weights.Floats()) || !b.Same(a) {
			t.Fatal("peft's folder changes the adapter")
		}
	})
}

func TestKohyaKeepsTheAdapter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawn(t, false)
		list, err := a.KohyaTensors(layers, safetensors.F32)
		if err != nil {
			t.Fatal(err)
		}
		var w bytes.Buffer
		if _, err := safetensors.Write(&w, list, metadata); err != nil {
			t.Fatal(err)
		}
		file, err := safetensors.Parse("kohya", w.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		b, err := Read(file, layers)
		if err != nil {
			t.Fatal(err)
		}
		sameDeltas(t, b, a, 0) // scales are powers of two, so folding them loses nothing
		for _, m := range b.Modules {
			if was, _ := a.Module(m.Name); was.Rank != m.Rank {
				t.Fatalf("%s comes back with rank %d, had %d", m.Name, m.Rank, was.Rank)
			}
		}
	})
}

func TestKohyaRefusesOtherRowOrder(t *testing.T) {
	a, err := New(layers, Spec{Targets: []string{"norm_out.linear"}, Rank: 1, Alpha: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.SaveKohya(filepath.Join(t.TempDir(), "k"), layers, safetensors.F32); err == nil || !strings.Contains(err.Error(), "norm_out.linear") {
		t.Errorf("error %v, want one that names the module", err)
	}
}

// TestSameAdapterSameBytes: what is written depends on the numbers alone.
func TestSameAdapterSameBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawn(t, true)
		hash := func(a *Adapter) [32]byte {
			var w bytes.Buffer
			if n, err := a.Write(&w, safetensors.BF16); err != nil || n != int64(w.Len()) {
				t.Fatal(n, err)
			}
			return sha256.Sum256(w.Bytes())
		}
		b := a.Clone()
		if hash(a) != hash(b) {
			t.Fatal("a copy gives other bytes")
		}
		b.Weights.Floats()[0] += 1
		if hash(a) == hash(b) {
			t.Fatal("another adapter gives the same bytes")
		}
	})
}

// TestLayout: the buffer is covered exactly, group by group, all A before all B; Group gives views of it.
func TestLayout(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawn(t, true)
		covered := make([]int, a.Parameters())
		total := 0
		for _, m := range a.Modules {
			total += m.Parameters()
			for i := range m.Rank * m.In {
				covered[m.A+i]++
			}
			for i := range m.Rank * m.Out {
				covered[m.B+i]++
			}
		}
		if total != len(covered) || slices.ContainsFunc(covered, func(n int) bool { return n != 1 }) {
			t.Fatal("modules do not tile the buffer")
		}
		qkv := []string{layers[0].Name, layers[1].Name, layers[2].Name}
		low := a.Group(qkv)
		var downs, ups []float32
		for i, name := range qkv {
			m, ok := a.Module(name)
			if ok != (low != nil && low.Ranks[i] > 0) {
				t.Fatalf("%s is adapted: %v, its group says otherwise", name, ok)
			}
			if ok {
				downs, ups = append(downs, a.A(m)...), append(ups, a.B(m)...)
			}
		}
		if low == nil {
			return
		}
		if !slices.Equal(low.A.Floats(), downs) || !slices.Equal(low.B.Floats(), ups) || low.A.Cols() != 6 {
			t.Fatal("the group is not its modules' matrices behind one another")
		}
		low.A.Floats()[0] = 42
		if !slices.Contains(a.Weights.Floats(), 42) {
			t.Fatal("the group is a copy")
		}
	})
}

func TestNew(t *testing.T) {
	var order []string
	a, err := New(layers, Spec{Targets: []string{"to_q", "to_out.0", "no_such"}, Rank: 2, Alpha: 3}, func(m Module, down []float32) {
		order = append(order, m.Name)
		for i := range down {
			down[i] = 1
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_out.0", "single_transformer_blocks.0.attn.to_q"}
	if !slices.Equal(order, want) {
		t.Errorf("initialised %v, want %v", order, want)
	}
	for _, m := range a.Modules {
		if m.Scale != 1.5 || slices.ContainsFunc(a.A(m), func(v float32) bool { return v != 1 }) || slices.ContainsFunc(a.B(m), func(v float32) bool { return v != 0 }) {
			t.Errorf("%s: scale %v, A %v, B %v", m.Name, m.Scale, a.A(m), a.B(m))
		}
	}
	for _, s := range []Spec{{Targets: []string{"to_q"}, Rank: 0}, {Targets: []string{"o_q"}, Rank: 1}, {Rank: 1}} {
		if _, err := New(layers, s, nil); err == nil {
			t.Errorf("%+v: accepted", s)
		}
	}
}

// TestMatch: a target is a whole name or an end after a dot, never a part of a word.
func TestMatch(t *testing.T) {
	for target, want := range map[string]int{"to_q": 2, "attn.to_q": 2, "transformer_blocks.0.attn.to_q": 1, "norm_out.linear": 1, "linear": 1, "o_q": 0, "": 0, "to": 0, "0": 1} {
		got, err := Match(layers, []string{target})
		if len(got) != want || (err != nil) != (want == 0) {
			t.Errorf("%q matches %d layers (%v), want %d", target, len(got), err, want)
		}
	}
}

// TestMerge: the merged weight times x is what layer and adapter give together, for both storages.
func TestMerge(t *testing.T) {
	a, err := New(layers, Spec{Targets: []string{"to_out.0"}, Rank: 2, Alpha: 4}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := a.Modules[0]
	copy(a.A(m), []float32{1, 2, 3, 4, 0, 1, 0, 1})
	for i := range a.B(m) {
		a.B(m)[i] = float32(i)
	}
	w := &engine.Weight{Out: 6, In: 4, Stride: 4, F32: make([]float32, 24)}
	merged, err := a.Merge(m, w, engine.Float32)
	if err != nil {
		t.Fatal(err)
	}
	if want := float32(2 * (2*1 + 3*0)); merged.F32[4] != want { // row 1: B = (2, 3), column 0: A = (1, 0)
		t.Errorf("merged[1][0] is %v, want %v", merged.F32[4], want)
	}
	half := &engine.Weight{Out: 6, In: 4, Stride: 4, BF16: make([]uint16, 24)}
	if merged, err = a.Merge(m, half, engine.BFloat16); err != nil || safetensors.FromBFloat16(merged.BF16[4]) != 4 {
		t.Errorf("bfloat16: %v %v", merged, err)
	}
	if _, err := a.Merge(m, &engine.Weight{Out: 5, In: 4, Stride: 4, F32: make([]float32, 20)}, engine.Float32); err == nil {
		t.Error("a weight of another shape was merged")
	}
}

func write(t *testing.T, tensors ...safetensors.Tensor) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bad.safetensors")
	if err := safetensors.WriteFile(path, tensors, nil); err != nil {
		t.Fatal(err)
	}
	return path
}

func zeros(name string, shape ...int) safetensors.Tensor {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return safetensors.Float32s(name, safetensors.F32, shape, make([]float32, n))
}

// TestBadFiles: each fault is refused with a word on what is wrong.
func TestBadFiles(t *testing.T) {
	const q = "transformer.transformer_blocks.0.attn.to_q"
	cases := map[string]struct {
		tensors []safetensors.Tensor
		want    string
	}{
		"no B":           {[]safetensors.Tensor{zeros(q+".lora_A.weight", 2, 6)}, "not both A"},
		"unknown module": {[]safetensors.Tensor{zeros("transformer.x.lora_A.weight", 2, 6), zeros("transformer.x.lora_B.weight", 4, 2)}, "module x is no linear layer"},
		"wrong in":       {[]safetensors.Tensor{zeros(q+".lora_A.weight", 2, 5), zeros(q+".lora_B.weight", 4, 2)}, "shape"},
		"wrong out":      {[]safetensors.Tensor{zeros(q+".lora_A.weight", 2, 6), zeros(q+".lora_B.weight", 5, 2)}, "shape"},
		"ranks differ":   {[]safetensors.Tensor{zeros(q+".lora_A.weight", 2, 6), zeros(q+".lora_B.weight", 4, 3)}, "shape"},
		"rank 0":         {[]safetensors.Tensor{zeros(q+".lora_A.weight", 0, 6), zeros(q+".lora_B.weight", 4, 0)}, "rank 0"},
		"DoRA":           {[]safetensors.Tensor{zeros(q+".lora_A.weight", 2, 6), zeros(q+".lora_B.weight", 4, 2), zeros(q+".lora_magnitude_vector", 4)}, "lora_magnitude_vector"},
		"A twice":        {[]safetensors.Tensor{zeros(q+".lora_A.weight", 2, 6), zeros(q+".lora_down.weight", 2, 6), zeros(q+".lora_B.weight", 4, 2)}, "twice"},
		"two namings": {[]safetensors.Tensor{
			safetensors.Float32s("lora_unet_double_blocks_0_img_attn_proj.lora_down.weight", safetensors.F32, []int{1, 4}, []float32{1, 1, 1, 1}), zeros("lora_unet_double_blocks_0_img_attn_proj.lora_up.weight", 6, 1),
			zeros("transformer_blocks.0.attn.to_out.0.lora_A.weight", 1, 4), zeros("transformer_blocks.0.attn.to_out.0.lora_B.weight", 6, 1),
		}, "two namings"},
		"alpha of two": {[]safetensors.Tensor{zeros(q+".lora_A.weight", 2, 6), zeros(q+".lora_B.weight", 4, 2), zeros(q+".alpha", 2)}, "alpha"},
		"nothing":      {nil, "no module"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := Load(write(t, c.tensors...), layers); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	if _, err := Load(filepath.Join(t.TempDir(), "absent"), layers); err == nil {
		t.Error("an absent file was loaded")
	}
}

// TestAllFaultsAtOnce: an error names every module that is wrong, not the first.
func TestAllFaultsAtOnce(t *testing.T) {
	_, err := Load(write(t, zeros("x.lora_A.weight", 1, 1), zeros("x.lora_B.weight", 1, 1), zeros("y.lora_A.weight", 1, 1), zeros("stray", 1)), layers)
	if err == nil {
		t.Fatal("loaded")
	}
	for _, want := range []string{"module x", "module y", "stray"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %s", err, want)
		}
	}
}

func peftFolder(t *testing.T, config string) string {
	t.Helper()
	folder := t.TempDir()
	const q = "base_model.model.transformer_blocks.0.attn.to_q"
	const s = "base_model.model.single_transformer_blocks.0.attn.to_q"
	err := safetensors.WriteFile(filepath.Join(folder, peftFile), []safetensors.Tensor{
		zeros(q+".lora_A.weight", 2, 6), zeros(q+".lora_B.weight", 4, 2), zeros(s+".lora_A.weight", 4, 6), zeros(s+".lora_B.weight", 4, 4),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, peftConfig), []byte(config), 0o644); err != nil {
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
	}
	for _, c := range cases {
		a, err := Load(peftFolder(t, c.config), layers)
		if err != nil {
			t.Errorf("%s: %v", c.config, err)
			continue
		}
		double, _ := a.Module("transformer_blocks.0.attn.to_q")
		single, _ := a.Module("single_transformer_blocks.0.attn.to_q")
		if math.Abs(double.Scale-c.double) > 1e-12 || math.Abs(single.Scale-c.single) > 1e-12 {
			t.Errorf("%s: scales %v and %v, want %v and %v", c.config, double.Scale, single.Scale, c.double, c.single)
		}
	}
}

func TestPEFTRefusals(t *testing.T) {
	for config, want := range map[string]string{
		`{"r": 2, "use_dora": true}`:                "use_dora",
		`{"r": 2, "lora_bias": true}`:               "bias",
		`{"r": 2, "bias": "all"}`:                   "bias",
		`{"r": 2, "modules_to_save": ["proj_out"]}`: "modules_to_save",
		`{"r": 2, "peft_type": "LOHA"}`:             "LOHA",
		`{"r": 2, "lora_alpha": 2}`:                 "rank 4",
		`{"r": 2, "rank_pattern": {"(": 3}}`:        "pattern",
		`{"r": 2, "rank_pattern": [3]}`:             "not an object",
		`{"r": `:                                    peftConfig,
	} {
		if _, err := Load(peftFolder(t, config), layers); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", config, err, want)
		}
	}
}

// FuzzLoad: no file makes the reader panic, and what it accepts it can write and read again.
func FuzzLoad(f *testing.F) {
	a, err := New(layers, Spec{Targets: []string{"to_q", "proj_mlp"}, Rank: 2, Alpha: 1}, nil)
	if err != nil {
		f.Fatal(err)
	}
	var w bytes.Buffer
	if _, err := a.Write(&w, safetensors.F32); err != nil {
		f.Fatal(err)
	}
	f.Add(w.Bytes())
	f.Add([]byte("\x08\x00\x00\x00\x00\x00\x00\x00{}      "))
	f.Fuzz(func(t *testing.T, content []byte) {
		file, err := safetensors.Parse("fuzz", content)
		if err != nil {
			return
		}
		a, err := Read(file, layers)
		if err != nil {
			return
		}
		var w bytes.Buffer
		if _, err := a.Write(&w, safetensors.F32); err != nil {
			t.Fatal(err)
		}
		again, err := safetensors.Parse("again", w.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if b, err := Read(again, layers); err != nil || len(b.Modules) != len(a.Modules) {
			t.Fatalf("written adapter is refused: %v", err)
		}
	})
}

func TestGradientsLayout(t *testing.T) {
	a, err := New(layers, Spec{Targets: []string{"to_q", "to_v"}, Rank: 2, Alpha: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	g := a.NewGradients()
	m := a.Modules[1]
	g.B(m)[3] = 5
	g.A(m)[2] = 7
	if g.Sum.Floats()[m.B+3] != 5 || g.Sum.Floats()[m.A+2] != 7 || g.Adapter() != a {
		t.Error("views of the gradients lie elsewhere than the adapter's numbers")
	}
	if low := g.Group([]string{layers[0].Name, layers[1].Name, layers[2].Name}); low.A.Len() != 2*2*6 || low.B.Len() != 2*2*4 {
		t.Errorf("group of %d and %d numbers", low.A.Len(), low.B.Len())
	}
	g.Zero()
	if slices.ContainsFunc(g.Sum.Floats(), func(v float32) bool { return v != 0 }) {
		t.Error("Zero leaves numbers")
	}
}
