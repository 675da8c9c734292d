package flux

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/weights"
	"github.com/sciflux/sciflux/store/safetensors"
)

// diffusersTensors are a model's weights as a folder holds them.
func diffusersTensors(m *Model) map[string]safetensors.Tensor {
	list := map[string]safetensors.Tensor{}
	for _, w := range m.Tensors() {
		name, kind, _ := cutLast(w.Name)
		switch l, ok := m.layers[name]; {
		case ok && kind == "weight":
			list[w.Name] = safetensors.Float32s(w.Name, safetensors.F32, w.Shape, l.Weight.F32)
		case ok:
			list[w.Name] = safetensors.Float32s(w.Name, safetensors.F32, w.Shape, l.Bias)
		default:
			list[w.Name] = safetensors.Float32s(w.Name, safetensors.F32, w.Shape, m.norms[name])
		}
	}
	return list
}

func cutLast(name string) (before, after string, ok bool) {
	i := strings.LastIndexByte(name, '.')
	return name[:i], name[i+1:], i > 0
}

// originalTensors are the same weights in the original naming, made from the table of the specification and not from the
// list that the reader uses.
func originalTensors(m *Model, prefix string) map[string]safetensors.Tensor {
	list := map[string]safetensors.Tensor{}
	put := func(original string, parts ...string) {
		var w, b []float32
		in := 0
		for _, name := range parts {
			l := m.layers[name]
			w, b, in = append(w, l.Weight.F32...), append(b, l.Bias...), l.Weight.In
		}
		list[prefix+original+".weight"] = safetensors.Float32s(prefix+original+".weight", safetensors.F32, []int{len(b), in}, w)
		list[prefix+original+".bias"] = safetensors.Float32s(prefix+original+".bias", safetensors.F32, []int{len(b)}, b)
	}
	norms := func(original, block, q, k string) {
		for _, pair := range [][2]string{{"query_norm", q}, {"key_norm", k}} {
			name := prefix + original + "." + pair[0] + ".scale"
			list[name] = safetensors.Float32s(name, safetensors.F32, []int{m.HeadDim}, m.norms[block+pair[1]])
		}
	}
	put("img_in", "x_embedder")
	put("txt_in", "context_embedder")
	for original, name := range map[string]string{"time_in": "timestep_embedder", "guidance_in": "guidance_embedder", "vector_in": "text_embedder"} {
		if name == "guidance_embedder" && !m.GuidanceEmbed {
			continue
		}
		put(original+".in_layer", "time_text_embed."+name+".linear_1")
		put(original+".out_layer", "time_text_embed."+name+".linear_2")
	}
	for i := range m.DoubleBlocks {
		o, d := strings.Replace(doubleName(i), "transformer_blocks", "double_blocks", 1), doubleName(i)
		put(o+"img_mod.lin", d+"norm1.linear")
		put(o+"txt_mod.lin", d+"norm1_context.linear")
		put(o+"img_attn.qkv", d+"attn.to_q", d+"attn.to_k", d+"attn.to_v")
		put(o+"txt_attn.qkv", d+"attn.add_q_proj", d+"attn.add_k_proj", d+"attn.add_v_proj")
		put(o+"img_attn.proj", d+"attn.to_out.0")
		put(o+"txt_attn.proj", d+"attn.to_add_out")
		for _, side := range [][2]string{{"img_mlp", "ff"}, {"txt_mlp", "ff_context"}} {
			put(o+side[0]+".0", d+side[1]+".net.0.proj")
			put(o+side[0]+".2", d+side[1]+".net.2")
		}
		norms(o+"img_attn.norm", d, "attn.norm_q", "attn.norm_k")
		norms(o+"txt_attn.norm", d, "attn.norm_added_q", "attn.norm_added_k")
	}
	for i := range m.SingleBlocks {
		o, d := strings.Replace(singleName(i), "single_transformer_blocks", "single_blocks", 1), singleName(i)
		put(o+"modulation.lin", d+"norm.linear")
		put(o+"linear1", d+"attn.to_q", d+"attn.to_k", d+"attn.to_v", d+"proj_mlp")
		put(o+"linear2", d+"proj_out")
		norms(o+"norm", d, "attn.norm_q", "attn.norm_k")
	}
	put("final_layer.linear", "proj_out")
	last, half := m.layers["norm_out.linear"], m.Width()
	name := prefix + "final_layer.adaLN_modulation.1"
	w, cut := last.Weight.F32, half*last.Weight.In
	list[name+".weight"] = safetensors.Float32s(name+".weight", safetensors.F32, []int{2 * half, half}, append(slices.Clone(w[cut:]), w[:cut]...))
	list[name+".bias"] = safetensors.Float32s(name+".bias", safetensors.F32, []int{2 * half}, append(slices.Clone(last.Bias[half:]), last.Bias[:half]...))
	return list
}

func save(t *testing.T, path string, tensors map[string]safetensors.Tensor) {
	t.Helper()
	var list []safetensors.Tensor
	for _, x := range tensors {
		list = append(list, x)
	}
	if err := safetensors.WriteFile(path, list, nil); err != nil {
		t.Fatal(err)
	}
}

func saveConfig(t *testing.T, folder string, c Config) {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "config.json"), text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// folder writes a model in diffusers layout.
func folder(t *testing.T, c Config, tensors map[string]safetensors.Tensor) string {
	dir := t.TempDir()
	saveConfig(t, dir, c)
	save(t, filepath.Join(dir, weightsBase+".safetensors"), tensors)
	return dir
}

func sameWeights(t *testing.T, got, want *Model) {
	t.Helper()
	if len(got.layers) != len(want.layers) || len(got.norms) != len(want.norms) {
		t.Fatalf("%d layers and %d norms, want %d and %d", len(got.layers), len(got.norms), len(want.layers), len(want.norms))
	}
	for name, w := range want.layers {
		g := got.layers[name]
		for o := range w.Weight.Out {
			if !slices.Equal(g.Weight.F32[o*g.Weight.Stride:][:g.Weight.In], w.Weight.F32[o*w.Weight.Stride:][:w.Weight.In]) {
				t.Fatalf("%s: row %d differs", name, o)
			}
		}
		if !slices.Equal(g.Bias, w.Bias) {
			t.Fatalf("%s: bias differs", name)
		}
	}
	for name, w := range want.norms {
		if !slices.Equal(got.norms[name], w) {
			t.Fatalf("%s differs", name)
		}
	}
}

// TestLayoutsHoldOneModel: the same weights, and to the last bit the same velocity, come out of every naming in every
// place where people keep them, with and without stacks.
func TestLayoutsHoldOneModel(t *testing.T) {
	c := small()
	model := randomModel(c, 6)
	diffusers, original := diffusersTensors(model), originalTensors(model, "")
	whole := originalTensors(model, "model.diffusion_model.")
	for _, name := range []string{"vae.decoder.conv_in.bias", "text_encoders.clip_l.transformer.text_model.final_layer_norm.weight"} {
		whole[name] = safetensors.Float32s(name, safetensors.F32, []int{1}, []float32{1})
	}
	in := randomInput(c, 2, 2, 3, 6)
	var want []float32
	for _, place := range []struct {
		file    string // inside a pipeline folder
		tensors map[string]safetensors.Tensor
		config  string // its folder
		open    string // what is opened, "" for the pipeline
	}{
		{"transformer/diffusion_pytorch_model.safetensors", diffusers, "transformer", ""},
		{"transformer/diffusion_pytorch_model.safetensors", diffusers, "transformer", "transformer"},
		{"transformer/diffusion_pytorch_model.safetensors", diffusers, "transformer", "transformer/diffusion_pytorch_model.safetensors"},
		{"transformer/diffusion_pytorch_model.safetensors", original, "transformer", ""},
		{"transformer/flux1-dev.safetensors", original, "transformer", ""},
		{"transformer/my own.safetensors", diffusers, "transformer", ""},
		{"flux1-dev.safetensors", original, "transformer", ""},
		{"flux1-schnell.sft", original, "transformer", ""},
		{"anything.safetensors", diffusers, "transformer", ""},
		{"flux1-dev.safetensors", original, "", "flux1-dev.safetensors"},
		{"prefixed.safetensors", originalTensors(model, "model.diffusion_model."), "transformer", ""},
		{"comfy.safetensors", originalTensors(model, "diffusion_model."), "transformer", ""},
		{"whole.safetensors", whole, "transformer", ""},
		{"transformer", original, "", ""},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "model_index.json"), []byte("{}"), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, needed := range []string{filepath.Dir(filepath.Join(dir, place.file)), filepath.Join(dir, place.config)} {
			if err := os.MkdirAll(needed, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		save(t, filepath.Join(dir, place.file), place.tensors)
		saveConfig(t, filepath.Join(dir, place.config), c)
		m, err := Load(filepath.Join(dir, place.open), Options{})
		if err != nil {
			t.Errorf("%+v: %v", place.file, err)
			continue
		}
		sameWeights(t, m, model)
		if len(m.stacked) == 0 {
			t.Errorf("%s: no stacks", place.file)
		}
		got := velocity(t, m, in, nil)
		if want == nil {
			want = got
		}
		near(t, place.file, got, want, 0)
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	near(t, "stacks", want, velocity(t, model, in, nil), 1e-5)
}

// TestStorage: rounding on load gives bfloat16 matrices and leaves vectors alone.
func TestStorage(t *testing.T) {
	c := small()
	want := randomModel(c, 6)
	m, err := Load(folder(t, c, diffusersTensors(want)), Options{Storage: weights.BFloat16})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	l, _ := m.Layer("proj_out")
	w := want.layers["proj_out"]
	if l.Weight.DType() != engine.BFloat16 || l.Weight.BF16[3] != safetensors.ToBFloat16(w.Weight.F32[3]) || l.Bias[0] != w.Bias[0] {
		t.Errorf("proj_out: %v, %v", l.Weight.DType(), l.Bias[0])
	}
}

// TestOriginalPartsAreViews: fused matrices of the original file are not copied.
func TestOriginalPartsAreViews(t *testing.T) {
	c := small()
	dir := t.TempDir()
	saveConfig(t, dir, c)
	save(t, filepath.Join(dir, "x.safetensors"), originalTensors(randomModel(c, 6), ""))
	m, err := Load(filepath.Join(dir, "x.safetensors"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	q, k := m.layers["transformer_blocks.0.attn.to_q"].Weight, m.layers["transformer_blocks.0.attn.to_k"].Weight
	if &q.F32[:cap(q.F32)][q.Out*q.Stride] != &k.F32[0] {
		t.Error("q and k of one fused matrix do not follow each other")
	}
}

func TestLoadRefusals(t *testing.T) {
	c := small()
	good := diffusersTensors(randomModel(c, 6))
	change := func(f func(map[string]safetensors.Tensor)) map[string]safetensors.Tensor {
		list := map[string]safetensors.Tensor{}
		for k, v := range good {
			list[k] = v
		}
		f(list)
		return list
	}
	extra := safetensors.Float32s("extra", safetensors.F32, []int{1}, []float32{1})
	cases := map[safetensors.Class]map[string]safetensors.Tensor{
		safetensors.MissingTensor:    change(func(l map[string]safetensors.Tensor) { delete(l, "proj_out.bias"); delete(l, "x_embedder.weight") }),
		safetensors.UnexpectedTensor: change(func(l map[string]safetensors.Tensor) { l["extra"] = extra }),
		safetensors.BadShape: change(func(l map[string]safetensors.Tensor) {
			l["proj_out.bias"] = safetensors.Float32s("proj_out.bias", safetensors.F32, []int{1}, []float32{1})
		}),
		safetensors.BadDType: change(func(l map[string]safetensors.Tensor) {
			l["proj_out.bias"] = safetensors.Raw("proj_out.bias", safetensors.I64, []int{c.OutChannels}, make([]byte, 8*c.OutChannels))
		}),
		safetensors.Quantised: change(func(l map[string]safetensors.Tensor) {
			l["q"] = safetensors.Float32s("proj_out.weight.absmax", safetensors.F32, []int{1}, []float32{1})
		}),
		safetensors.NotFinite: change(func(l map[string]safetensors.Tensor) {
			l["proj_out.bias"] = safetensors.Float32s("proj_out.bias", safetensors.F32, []int{c.OutChannels}, append(make([]float32,
				c.OutChannels-1), float32(math.NaN())))
		}),
	}
	for class, tensors := range cases {
		_, err := Load(folder(t, c, tensors), Options{})
		if safetensors.ClassOf(err) != class {
			t.Errorf("%s: refused as %q: %v", class, safetensors.ClassOf(err), err)
		}
		if class == safetensors.MissingTensor && !(strings.Contains(err.Error(), "proj_out.bias") && strings.Contains(err.Error(), "x_embedder.weight")) {
			t.Errorf("%v does not name both missing tensors", err)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "absent"), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent folder: %v", err)
	}
	if _, err := Load(t.TempDir(), Options{}); err == nil || !strings.Contains(err.Error(), weightsBase) {
		t.Errorf("empty folder: %v", err)
	}
}

// TestFileWithoutConfig: its sizes are read from the tensors, but not how the head is divided for positions.
func TestFileWithoutConfig(t *testing.T) {
	c := small()
	tensors := originalTensors(randomModel(c, 6), "")
	path := filepath.Join(t.TempDir(), "x.safetensors")
	save(t, path, tensors)
	if _, err := Load(path, Options{}); err == nil || !strings.Contains(err.Error(), "attention_head_dim 6; put the model's config.json") {
		t.Errorf("refused with %v", err)
	}
	for _, file := range []map[string]safetensors.Tensor{tensors, diffusersTensors(randomModel(c, 6))} {
		_, original := file["img_in.weight"]
		got := shapes(parse(t, file), original)
		got.ClassName, got.Axes = "", c.Axes
		if fmt.Sprint(got) != fmt.Sprint(c) {
			t.Errorf("shapes %+v, want %+v", got, c)
		}
	}
	if got := shapes(parse(t, map[string]safetensors.Tensor{}), true); got.InChannels != 64 || got.Width() != 3072 || got.DoubleBlocks != 0 {
		t.Errorf("without tensors: %+v", got)
	}
}

func TestConfigRefusals(t *testing.T) {
	cases := map[string]func(*Config){
		"axes_dims_rope":  func(c *Config) { c.Axes = []int{2, 2, 4} },
		"even":            func(c *Config) { c.Axes = []int{1, 2, 3} },
		"three":           func(c *Config) { c.Axes = []int{2, 4} },
		"patch_size":      func(c *Config) { c.PatchSize = 2 },
		"num_layers":      func(c *Config) { c.DoubleBlocks = -1 },
		"in_channels":     func(c *Config) { c.InChannels = 0 },
		"_class_name":     func(c *Config) { c.ClassName = "UNet2DConditionModel" },
		"attention_head_": func(c *Config) { c.HeadDim = 0 },
	}
	for want, change := range cases {
		c := small()
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

// TestParameters: the counts of the public checkpoints.
func TestParameters(t *testing.T) {
	c := Dev()
	if tensors, n := c.Parameters(); tensors != 1160 || n != 11_901_408_320 {
		t.Errorf("dev: %d tensors, %d numbers", tensors, n)
	}
	c.GuidanceEmbed = false
	if tensors, n := c.Parameters(); tensors != 1156 || n != 11_891_178_560 {
		t.Errorf("schnell: %d tensors, %d numbers", tensors, n)
	}
}

// TestBFloat16ComputeIsClose: with blocks computing in bfloat16 the velocity differs, by what its 8 bits explain.
func TestBFloat16ComputeIsClose(t *testing.T) {
	c := small()
	for seed := range uint64(2) { // with and without stacks
		m, in := randomModel(c, seed), randomInput(c, 2, 2, 3, 6)
		want := velocity(t, m, in, nil)
		m.computeIn(engine.BFloat16)
		got := velocity(t, m, in, nil)
		if e := worst(got, widen(want)); e == 0 || e > 0.03 {
			t.Errorf("seed %d: bfloat16 moves the velocity by %.2g", seed, e)
		}
		m.computeIn(engine.Float32)
		near(t, "float32 again", velocity(t, m, in, nil), want, 0)
	}
}
