package pipeline

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/reference"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/run"
)

const folder = "../../testdata/golden/pipeline_dev" // four VAE levels of 4 latent channels, so tokens of 16×16 pixels

func open(t *testing.T, o Options) *Pipeline {
	t.Helper()
	p, err := Open(folder, reference.New(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if live, _ := p.be.Memory(); live != 0 {
			t.Errorf("%d bytes are still allocated", live)
		}
	})
	return p
}

func difference(a, b []float32) float64 {
	var most float64
	for i := range a {
		most = max(most, math.Abs(float64(a[i]-b[i])))
	}
	return most
}

func TestPromptsDoNotInfluenceOneAnother(t *testing.T) {
	p, q := open(t, Options{}), open(t, Options{})
	ctx := context.Background()
	text, pooled, err := p.EncodePrompts(ctx, []string{"a rusty nail", "", "a rusty nail"}, 12)
	if err != nil {
		t.Fatal(err)
	}
	alone, alonePooled, err := q.EncodePrompts(ctx, []string{"a rusty nail"}, 12)
	if err != nil {
		t.Fatal(err)
	}
	per := alone.Len()
	for _, i := range []int{0, 2} {
		if difference(text.Floats()[i*per:(i+1)*per], alone.Floats()) != 0 {
			t.Errorf("states of row %d depend on the batch", i)
		}
	}
	if difference(pooled.Floats()[:alonePooled.Len()], alonePooled.Floats()) != 0 {
		t.Error("pooled states depend on the batch")
	}
	if n := p.cache.order.Len(); n != 2 {
		t.Errorf("%d prompts are remembered, want 2", n)
	}
	if _, _, err := p.EncodePrompts(ctx, nil, 12); err == nil {
		t.Error("no prompts are accepted")
	}
	if _, _, err := p.EncodePrompts(ctx, []string{"x"}, 0); err == nil {
		t.Error("0 tokens are accepted")
	}
}

func TestGridTakesWholeTokensOnly(t *testing.T) {
	p := open(t, Options{})
	if g, err := p.Grid(96, 64); err != nil || g != (flow.Grid{Rows: 6, Columns: 4}) {
		t.Errorf("grid %+v, %v", g, err)
	}
	for says, size := range map[string][2]int{
		"height 1000 (nearest are 992 and 1008)":                                   {1000, 64},
		"width 1000 (nearest are 992 and 1008), height 17 (nearest are 16 and 32)": {17, 1000},
		"width 15 (the least is 16), height 15 (the least is 16)":                  {15, 15},
		"width 0 (the least is 16)":                                                {64, 0},
		"height -16 (the least is 16)":                                             {-16, 16},
	} {
		if _, err := p.Grid(size[0], size[1]); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(),
			"multiples of 16") {
			t.Errorf("%v: %v, want %q", size, err, says)
		}
	}
}

func TestLatentsGoBackToTheirPlaces(t *testing.T) {
	p := open(t, Options{})
	ctx := context.Background()
	pixels := make([]float32, 2*3*32*48)
	random.New(1).Normal(pixels)
	images := engine.Wrap(pixels, 2, 3, 32, 48)
	posterior, err := p.VAE.Encode(ctx, images)
	if err != nil {
		t.Fatal(err)
	}
	z := p.VAE.Latent(posterior)
	b, c, h, w := z.Shape[0], z.Shape[1], z.Shape[2], z.Shape[3]
	latents := engine.Wrap(flux.Pack(z.Floats(), b, c, h, w), b, h/2*(w/2), 4*c)
	if want := []int{2, 6, 16}; latents.Shape[0] != want[0] || latents.Shape[1] != want[1] || latents.Shape[2] != want[2] {
		t.Fatalf("latents %v, want %v", latents.Shape, want)
	}
	decoded, err := p.Decode(ctx, latents, flow.Grid{Rows: 2, Columns: 3})
	if err != nil {
		t.Fatal(err)
	}
	if decoded.Shape[2] != 32 || decoded.Shape[3] != 48 {
		t.Errorf("decoded pictures %v", decoded.Shape)
	}
	for _, v := range decoded.Floats() {
		if !(v >= 0 && v <= 1) {
			t.Fatalf("pixel %g is outside [0, 1]", v)
		}
	}
	if _, err := p.Decode(ctx, latents, flow.Grid{Rows: 2, Columns: 2}); err == nil || !strings.Contains(err.Error(), "[B, 4, 16]") {
		t.Errorf("wrong grid: %v", err)
	}
}

func TestPictureDependsOnItsSeedOnly(t *testing.T) {
	p := open(t, Options{})
	ctx := context.Background()
	draw := func(prompts []string, seeds ...uint64) *Generated {
		t.Helper()
		g, err := p.Generate(ctx, GenerateOptions{Prompts: prompts, Height: 32, Width: 16, Steps: 2, Guidance: 2, MaxLen: 8, Seeds: seeds})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	three := draw([]string{"snow", "rust", "snow"}, 7, 8, 9)
	one := draw([]string{"snow"}, 9)
	per := one.Latents.Len()
	if d := difference(three.Latents.Floats()[2*per:], one.Latents.Floats()); d > 1e-5 {
		t.Errorf("a picture moves by %g beside others", d)
	}
	if d := difference(three.Latents.Floats()[:per], one.Latents.Floats()); d < 1e-2 {
		t.Errorf("another seed moves the picture by %g only", d)
	}
	if three.Images.Shape[0] != 3 || three.Images.Shape[2] != 32 || three.Grid.Columns != 1 {
		t.Errorf("pictures %v on grid %+v", three.Images.Shape, three.Grid)
	}
}

func TestGenerateFillsInTheModelsOwn(t *testing.T) {
	p := open(t, Options{})
	o, grid, err := p.complete(GenerateOptions{Prompts: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	if o.Height != 32 || o.Width != 32 || o.Steps != 28 || o.MaxLen != 512 || grid.Tokens() != 4 {
		t.Errorf("%+v on %+v", o, grid)
	}
	for name, bad := range map[string]GenerateOptions{
		"no prompts": {},
		"too small":  {Prompts: []string{"x"}, Height: 8},
		"no steps":   {Prompts: []string{"x"}, Steps: -1},
		"seeds":      {Prompts: []string{"x"}, Seeds: []uint64{1, 2}},
		"latents":    {Prompts: []string{"x"}, Steps: 1, MaxLen: 4, Latents: engine.Wrap(make([]float32, 16), 1, 1, 16)},
	} {
		if _, err := p.Generate(context.Background(), bad); err == nil || !strings.HasPrefix(err.Error(), "generate: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.Generate(ctx, GenerateOptions{Prompts: []string{"x"}, Steps: 1, MaxLen: 4}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// copyFolder is the tiny pipeline in a folder of its own, to be damaged.
func copyFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func replace(t *testing.T, path, old, new string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), old, new, 1)
	if changed == string(text) {
		t.Fatalf("%s does not hold %q", path, old)
	}
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestEveryPartIsMissed(t *testing.T) {
	for _, part := range parts {
		dir := copyFolder(t)
		if err := os.RemoveAll(filepath.Join(dir, part.folder)); err != nil {
			t.Fatal(err)
		}
		p, err := Open(dir, reference.New(), Options{})
		if err == nil {
			err = p.Check()
			p.Close()
		}
		if run.ClassOf(err) != run.ClassModel || !strings.Contains(err.Error(), filepath.Join(dir, part.folder)) {
			t.Errorf("without %s: %v", part.folder, err)
		}
	}
	if _, err := Open(t.TempDir(), reference.New(), Options{}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "model_index.json") {
		t.Errorf("empty folder: %v", err)
	}
}

func TestPartsThatDoNotFit(t *testing.T) {
	for name, c := range map[string]struct{ file, old, new, says string }{
		"another pipeline":  {"model_index.json", "FluxPipeline", "StableDiffusion3Pipeline", "only FluxPipeline"},
		"another class":     {"model_index.json", "T5EncoderModel", "UMT5EncoderModel", "UMT5EncoderModel"},
		"left out":          {"model_index.json", `"vae": [`, `"other": [`, "vae"},
		"karras":            {"scheduler/scheduler_config.json", `"shift": 3.0`, `"use_karras_sigmas": true`, "use_karras_sigmas to true"},
		"no slope":          {"scheduler/scheduler_config.json", `"max_image_seq_len": 64`, `"max_image_seq_len": 16`, "no slope"},
		"no shift":          {"scheduler/scheduler_config.json", `"shift": 3.0`, `"shift": 0`, "shift"},
		"not JSON":          {"vae/config.json", "{", "[", "config.json"},
		"text width":        {"text_encoder_2/config.json", `"d_model": 32`, `"d_model": 40`, "joint_attention_dim is 32, but d_model of text_encoder_2 is 40"},
		"pooled width":      {"text_encoder/config.json", `"hidden_size": 24`, `"hidden_size": 48`, "pooled_projection_dim"},
		"vocabulary beyond": {"text_encoder/config.json", `"vocab_size": `, `"vocab_size": 1`, "token_embedding"},
	} {
		dir := copyFolder(t)
		replace(t, filepath.Join(dir, c.file), c.old, c.new)
		p, err := Open(dir, reference.New(), Options{})
		if err == nil {
			err = p.Check()
			p.Close()
		}
		if run.ClassOf(err) != run.ClassModel || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want mention of %q", name, err, c.says)
		}
	}
}
