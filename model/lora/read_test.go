package lora

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/store/safetensors"
)

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

var nan, inf = float32(math.NaN()), float32(math.Inf(1))

// numbered is zeros with one last number.
func numbered(name string, last float32, shape ...int) safetensors.Tensor {
	n := 1
	for _, d := range shape {
		n *= d
	}
	values := make([]float32, n)
	values[n-1] = last
	return safetensors.Float32s(name, safetensors.F32, shape, values)
}

// TestBadFiles: each fault is refused with a word on what is wrong.
func TestBadFiles(t *testing.T) {
	const q = "transformer.transformer_blocks.0.attn.to_q"
	cases := map[string]struct {
		tensors []safetensors.Tensor
		want    string
	}{
		"no B": {[]safetensors.Tensor{zeros(q+".lora_A.weight", 2, 6)}, "not both A"},
		"unknown module": {[]safetensors.Tensor{zeros("transformer.x.lora_A.weight", 2, 6), zeros("transformer.x.lora_B.weight", 4, 2)},
			"module x is no linear layer"},
		"wrong in":     {[]safetensors.Tensor{zeros(q+".lora_A.weight", 2, 5), zeros(q+".lora_B.weight", 4, 2)}, "shape"},
		"wrong out":    {[]safetensors.Tensor{zeros(q+".lora_A.weight", 2, 6), zeros(q+".lora_B.weight", 5, 2)}, "shape"},
		"ranks differ": {[]safetensors.Tensor{zeros(q+".lora_A.weight", 2, 6), zeros(q+".lora_B.weight", 4, 3)}, "shape"},
		"rank 0":       {[]safetensors.Tensor{zeros(q+".lora_A.weight", 0, 6), zeros(q+".lora_B.weight", 4, 0)}, "rank 0"},
		"DoRA": {[]safetensors.Tensor{zeros(q+".lora_A.weight", 2, 6), zeros(q+".lora_B.weight", 4, 2),
			zeros(q+".lora_magnitude_vector", 4)}, "lora_magnitude_vector"},
		"A twice": {[]safetensors.Tensor{zeros(q+".lora_A.weight", 2, 6), zeros(q+".lora_down.weight", 2, 6),
			zeros(q+".lora_B.weight", 4, 2)}, "twice"},
		"two namings": {[]safetensors.Tensor{
			safetensors.Float32s("lora_unet_double_blocks_0_img_attn_proj.lora_down.weight", safetensors.F32, []int{1, 4}, []float32{1,
				1, 1, 1}), zeros("lora_unet_double_blocks_0_img_attn_proj.lora_up.weight", 6, 1),
			zeros("transformer_blocks.0.attn.to_out.0.lora_A.weight", 1, 4), zeros("transformer_blocks.0.attn.to_out.0.lora_B.weight",
				6, 1),
		}, "two namings"},
		"NaN": {[]safetensors.Tensor{numbered(q+".lora_A.weight", nan, 2, 6), zeros(q+".lora_B.weight", 4, 2)},
			"lora_A.weight holds NaN at element 11"},
		"infinite B": {[]safetensors.Tensor{zeros(q+".lora_A.weight", 2, 6), numbered(q+".lora_B.weight", inf, 4, 2)},
			"lora_B.weight holds +Inf at element 7"},
		"NaN alpha": {[]safetensors.Tensor{zeros(q+".lora_A.weight", 2, 6), zeros(q+".lora_B.weight", 4, 2), numbered(q+".alpha",
			nan, 1)}, "alpha holds NaN"},
		"two adapters": {[]safetensors.Tensor{zeros(q+".lora_A.x.weight", 2, 6), zeros(q+".lora_B.x.weight", 4, 2),
			zeros(q+".lora_A.y.weight", 2, 6)}, "several adapters in the file: x, y"},
		"LoHa":         {[]safetensors.Tensor{zeros("lycoris_x.hada_w1_a", 2, 6)}, "no plain LoRA but LoHa"},
		"control LoRA": {[]safetensors.Tensor{zeros("double_blocks.0.img_attn.norm.key_norm.scale", 4)}, "trained norms"},
		"alien": {[]safetensors.Tensor{zeros("lora_unet_down_blocks_0_to_q.lora_down.weight", 2, 6),
			zeros("lora_unet_down_blocks_0_to_q.lora_up.weight", 4,
				2)}, "naming lora_unet_down_blocks_N_to_q is not known; known are diffusers"},
		"text only": {[]safetensors.Tensor{zeros("lora_te1_x.lora_down.weight", 2, 6), zeros("lora_te1_x.lora_up.weight", 4, 2)},
			"no module of the transformer"},
		"alpha of two": {[]safetensors.Tensor{zeros(q+".lora_A.weight", 2, 6), zeros(q+".lora_B.weight", 4, 2), zeros(q+".alpha", 2)},
			"alpha"},
		"nothing": {nil, "no module"},
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
	_, err := Load(write(t, zeros("x.lora_A.weight", 1, 1), zeros("x.lora_B.weight", 1, 1), zeros("y.lora_A.weight", 1, 1),
		zeros("stray", 1)), layers)
	if err == nil {
		t.Fatal("loaded")
	}
	for _, want := range []string{"module x", "module y", "stray"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %s", err, want)
		}
	}
}

// TestCutFilesAreRefused: a file that ends early at any byte is an error, never a smaller adapter.
func TestCutFilesAreRefused(t *testing.T) {
	a, err := New(layers, Spec{Targets: []string{"to_out.0"}, Rank: 1, Alpha: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var whole bytes.Buffer
	if _, err := a.Write(&whole, safetensors.F32); err != nil {
		t.Fatal(err)
	}
	read := func(data []byte) error {
		f, err := safetensors.Parse("adapter", data)
		if err == nil {
			_, err = Read(f, layers)
		}
		return err
	}
	if err := read(whole.Bytes()); err != nil {
		t.Fatal(err)
	}
	for n := range whole.Len() {
		if read(whole.Bytes()[:n]) == nil {
			t.Fatalf("%d of %d bytes are read as an adapter", n, whole.Len())
		}
	}
	if read(append(slices.Clone(whole.Bytes()), 0)) == nil {
		t.Error("a byte too many is accepted")
	}
}

// TestManyFaults: an error says how many there are beyond those that it names.
func TestManyFaults(t *testing.T) {
	var list []safetensors.Tensor
	for i := range 40 {
		list = append(list, zeros(strings.Repeat("x", i+1)+".lora_A.weight", 1, 1))
	}
	if _, err := Load(write(t, list...), layers); err == nil || !strings.Contains(err.Error(), "and 29 more") || len(err.Error()) > 2000 {
		t.Errorf("error %v", err)
	}
}

// pair is the tensors of a module in some naming.
func pair(path, a, b string, in, out, rank int) []safetensors.Tensor {
	return []safetensors.Tensor{numbered(path+a, 1, rank, in), numbered(path+b, 1, out, rank)}
}

// TestFolders: peft's file with its config, diffusers' file, also beside a config, or the only file, whatever its name.
func TestFolders(t *testing.T) {
	const q = "transformer_blocks.0.attn.to_q"
	config := `{"r": 2, "lora_alpha": 8}`
	for name, c := range map[string]struct {
		files []string
		path  string
		alpha float64
		fault string
	}{
		"peft":              {[]string{PEFTFile, PEFTConfigFile}, "", 8, ""},
		"its file":          {[]string{PEFTFile, PEFTConfigFile}, PEFTFile, 8, ""},
		"beside diffusers'": {[]string{DiffusersFile, PEFTConfigFile}, "", 8, ""},
		"diffusers":         {[]string{DiffusersFile, "other.safetensors"}, "", 2, ""},
		"the only file":     {[]string{"my style.safetensors", "README.md"}, "", 2, ""},
		"two files": {[]string{"a.safetensors", "b.safetensors"}, "", 0,
			"several adapters in the folder, a.safetensors, b.safetensors"},
		"two known files": {[]string{PEFTFile, DiffusersFile}, "", 0, "several adapters"},
		"a pickle":        {[]string{"adapter_model.bin"}, "", 0, "no .safetensors file"},
	} {
		folder := t.TempDir()
		for _, f := range c.files {
			content := []byte(config)
			if strings.HasSuffix(f, ".safetensors") {
				var b bytes.Buffer
				if _, err := safetensors.Write(&b, pair(q, ".lora_A.weight", ".lora_B.weight", 6, 4, 2), nil); err != nil {
					t.Fatal(err)
				}
				content = b.Bytes()
			}
			if err := os.WriteFile(filepath.Join(folder, f), content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		a, err := Load(filepath.Join(folder, c.path), layers)
		switch {
		case c.fault != "":
			if err == nil || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("%s: error %v, want %q", name, err, c.fault)
			}
		case err != nil || a.Modules[0].Alpha != c.alpha:
			t.Errorf("%s: %v, want alpha %v", name, err, c.alpha)
		}
	}
}

// TestTextEncodersAreTold: their tensors, of whatever kind, are left out with a note; the transformer's part is read.
func TestTextEncodersAreTold(t *testing.T) {
	list := pair("transformer.transformer_blocks.0.attn.to_q", ".lora_A.weight", ".lora_B.weight", 6, 4, 2)
	for _, name := range []string{
		"lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", "lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha", "lora_te2_x.hada_w1_a",
		"text_encoder.text_model.encoder.layers.0.q_proj.lora_linear_layer.down.weight", "text_encoder_2.encoder.block.0.q.lora_A.weight", "bundle_emb.x.clip_l",
	} {
		list = append(list, zeros(name, 1))
	}
	a, err := Load(write(t, list...), layers)
	if err != nil || len(a.Modules) != 1 || len(a.Notes) != 1 {
		t.Fatalf("%v, %+v", err, a)
	}
	if want := "6 tensors of text encoders (bundle_emb, lora_te1, lora_te2, text_encoder, text_encoder_2) are left out"; !strings.Contains(a.Notes[0], want) {
		t.Errorf("note %q, want %q", a.Notes[0], want)
	}
	if c := a.Clone(); !slices.Equal(c.Notes, a.Notes) {
		t.Error("a clone has lost the notes")
	}
}

// fusedB is a B [12, rank] of the image's qkv, filled in some columns of each part's four rows.
func fusedB(rank int, parts ...[]int) []float32 {
	b := make([]float32, 12*rank)
	for i, columns := range parts {
		for o := range 4 {
			for _, k := range columns {
				b[(4*i+o)*rank+k] = float32(1 + 10*i + o)
			}
		}
	}
	return b
}

// TestFusedLayers: which part gets which columns, and that zeros are kept as what they may be trained to.
func TestFusedLayers(t *testing.T) {
	const key = "lora_unet_double_blocks_0_img_attn_qkv"
	for name, c := range map[string]struct {
		rank  int
		parts [][]int
		want  []int // ranks of q, k, v; 0: no module
		note  bool
	}{
		"equal blocks":             {6, [][]int{{0, 1}, {2, 3}, {4, 5}}, []int{2, 2, 2}, false},
		"a zero block":             {6, [][]int{{0, 1}, nil, {4, 5}}, []int{2, 2, 2}, false},
		"zero columns":             {6, [][]int{{1}, {2}, {5}}, []int{2, 2, 2}, false},
		"fresh":                    {6, nil, []int{2, 2, 2}, false},
		"fresh, no equal blocks":   {4, nil, []int{4, 4, 4}, false},
		"dense":                    {4, [][]int{{0, 1, 2, 3}, {0, 1, 2, 3}, {0, 1, 2, 3}}, []int{4, 4, 4}, false},
		"dense with a zero part":   {4, [][]int{{0, 1, 2, 3}, nil, {0, 1, 2, 3}}, []int{4, 4, 4}, false},
		"dense with a zero column": {4, [][]int{{0, 1, 3}, {0, 1, 3}, {0, 1, 3}}, []int{4, 4, 4}, false},
		"unequal blocks":           {4, [][]int{{0}, {1, 2}, {3}}, []int{1, 2, 1}, false},
		"two parts only":           {4, [][]int{{0, 1}, nil, {2, 3}}, []int{2, 0, 2}, true},
		"their zero columns":       {4, [][]int{{0}, nil, {3}}, []int{3, 0, 1}, true},
		"blocks out of order":      {4, [][]int{{2, 3}, {0, 1}, {1}}, []int{4, 4, 4}, false},
	} {
		b, a := fusedB(c.rank, c.parts...), make([]float32, 6*c.rank)
		for i := range a {
			a[i] = float32(i + 1)
		}
		got, err := Load(write(t, safetensors.Float32s(key+".lora_down.weight", safetensors.F32, []int{c.rank, 6}, a),
			safetensors.Float32s(key+".lora_up.weight", safetensors.F32, []int{12, c.rank}, b), numbered(key+".alpha", 1.2)), layers)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if (len(got.Notes) > 0) != c.note {
			t.Errorf("%s: notes %q", name, got.Notes)
		}
		whole := Module{Layer: Layer{In: 6, Out: 12}, Rank: c.rank, Alpha: float64(float32(1.2))}
		full := change(whole, a, b)
		for i, l := range layers[:3] {
			m, ok := got.Module(l.Name)
			if m.Rank != c.want[i] || ok && m.Scale() != whole.Scale() {
				t.Errorf("%s: %s has rank %d and scale %v, want %d and %v", name, l.Name, m.Rank, m.Scale(), c.want[i], whole.Scale())
			}
			if ok && !slices.Equal(got.Delta(m), full[24*i:][:24]) {
				t.Errorf("%s: %s changes its weight by %v, want %v", name, l.Name, got.Delta(m), full[24*i:][:24])
			}
		}
	}
}

// change is what a and b do together.
func change(m Module, a, b []float32) []float32 {
	x := build([]Module{m})
	copy(x.A(x.Modules[0]), a)
	copy(x.B(x.Modules[0]), b)
	return x.Delta(x.Modules[0])
}

// TestFusedSplitsKeepTheChange: whatever B is, the parts together change the layer as it does.
func TestFusedSplitsKeepTheChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rank := rapid.IntRange(1, 8).Draw(t, "rank")
		b := make([]float32, 12*rank)
		for i := range b {
			b[i] = float32(rapid.IntRange(-1, 1).Draw(t, "b")) * float32(rapid.IntRange(0, 1).Draw(t, "sparse"))
		}
		blocks := columns(layers[:3], rank, b, nil)
		for i, s := range blocks {
			for o := range 4 {
				for k, v := range b[(4*i+o)*rank:][:rank] {
					if v != 0 && (k < s.from || k >= s.to) {
						t.Fatalf("column %d of part %d is lost: blocks %v", k, i, blocks)
					}
				}
			}
			if s.from < 0 || s.to > rank || s.width() < 0 {
				t.Fatalf("blocks %v of rank %d", blocks, rank)
			}
		}
	})
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
	for _, format := range Formats() {
		files, err := a.Files(format, layers, safetensors.BF16)
		if err != nil {
			f.Fatal(err)
		}
		var b bytes.Buffer
		if err := files[len(files)-1].Write(&b); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
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
		if b, err := Read(again, layers); err != nil || !b.Same(a) {
			t.Fatalf("written adapter comes back as another: %v", err)
		}
	})
}
