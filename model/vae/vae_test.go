package vae

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/reference"
	"github.com/sciflux/sciflux/model/weights"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/store/safetensors"
)

const (
	folder   = "../../testdata/golden/vae_encode_diffusers/model"
	original = "../../testdata/golden/vae_encode_bfl/ae.safetensors"
)

// tiny is the config of both files above: four levels, as FLUX's.
func tiny() *Config {
	c := FluxConfig()
	c.BlockOutChannels, c.LatentChannels, c.NormNumGroups = []int{4, 8, 12, 12}, 4, 2
	return &c
}

func tinyVAE(t *testing.T) *VAE {
	t.Helper()
	v, err := Open(folder, reference.New(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if live, _ := v.be.Memory(); live != 0 {
			t.Errorf("%d bytes are still allocated", live)
		}
		v.Close()
	})
	return v
}

func noise(seed uint64, shape ...int) *engine.Tensor {
	t := engine.Wrap(nil, 0)
	t.Shape = shape
	data := make([]float32, t.Len())
	random.New(seed).Normal(data)
	return engine.Wrap(data, shape...)
}

func difference(a, b []float32) float64 {
	var most float64
	for i := range a {
		most = max(most, math.Abs(float64(a[i]-b[i])))
	}
	return most
}

func TestBothLayoutsHoldTheSameModel(t *testing.T) {
	v := tinyVAE(t)
	o, err := Open(original, reference.New(), Options{Config: tiny()})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	latents := noise(1, 1, 4, 3, 2)
	a, err := v.Decode(context.Background(), latents)
	if err != nil {
		t.Fatal(err)
	}
	b, err := o.Decode(context.Background(), latents)
	if err != nil {
		t.Fatal(err)
	}
	if d := difference(a.Floats(), b.Floats()); d > 1e-6 {
		t.Errorf("decoded pictures differ by %g", d)
	}
}

func TestOriginalFileGivesItsSizes(t *testing.T) {
	alone := filepath.Join(t.TempDir(), "ae.safetensors")
	data, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	write(t, alone, data)
	_, err = Open(alone, reference.New(), Options{})
	if err == nil || !strings.Contains(err.Error(), "[4 8 12 12]") || !strings.Contains(err.Error(), "put the autoencoder's config.json") {
		t.Errorf("FLUX's 32 groups cannot divide this file's widths, and the message should show them: %v", err)
	}
	n := naming{original: true}
	if n.levels = 4; n.up(0) != "decoder.up.3" || n.up(3) != "decoder.up.0" {
		t.Errorf("the original file counts the decoder's levels from the finest: %s, %s", n.up(0), n.up(3))
	}
}

func TestBatchAndChunksDoNotMatter(t *testing.T) {
	v := tinyVAE(t)
	ctx := context.Background()
	images := noise(2, 5, 3, 16, 24)
	whole, err := v.Encode(ctx, images)
	if err != nil {
		t.Fatal(err)
	}
	v.chunkPixels = 2 * 16 * 24
	parts, err := v.Encode(ctx, images)
	if err != nil {
		t.Fatal(err)
	}
	if d := difference(whole.Mean.Floats(), parts.Mean.Floats()); d > 1e-6 {
		t.Errorf("encoding two at a time moves means by %g", d)
	}
	latents := v.Latent(whole)
	all, err := v.Decode(ctx, latents)
	if err != nil {
		t.Fatal(err)
	}
	per := latents.Len() / 5
	one, err := v.Decode(ctx, engine.Wrap(latents.Floats()[3*per:4*per], 1, 4, 2, 3))
	if err != nil {
		t.Fatal(err)
	}
	if d := difference(one.Floats(), all.Floats()[3*one.Len():4*one.Len()]); d > 1e-6 {
		t.Errorf("decoding alone moves a picture by %g", d)
	}
}

// The downsampler pads below and to the right only, so the last pixel is seen and the picture is not shifted.
func TestLastPixelIsSeen(t *testing.T) {
	v := tinyVAE(t)
	images := engine.Wrap(make([]float32, 3*16*16), 1, 3, 16, 16)
	dark, err := v.Encode(context.Background(), images)
	if err != nil {
		t.Fatal(err)
	}
	images.Floats()[16*16-1] = 1
	lit, err := v.Encode(context.Background(), images)
	if err != nil {
		t.Fatal(err)
	}
	last := 2*2 - 1 // of channel 0
	if dark.Mean.Floats()[last] == lit.Mean.Floats()[last] {
		t.Error("the last latent cell does not see the last pixel")
	}
}

func TestScalingIsUndone(t *testing.T) {
	v := tinyVAE(t)
	p := Posterior{Mean: noise(3, 1, 4, 2, 2), LogVar: engine.Wrap(make([]float32, 16), 1, 4, 2, 2)}
	latent := v.Latent(p)
	want := (p.Mean.Floats()[0] - 0.1159) * 0.3611
	if got := latent.Floats()[0]; math.Abs(float64(got-want)) > 1e-6 {
		t.Errorf("latent %g of mean %g, want %g", got, p.Mean.Floats()[0], want)
	}
	n := noise(4, 16).Floats()
	sample, err := v.Sample(p, n) // log variance 0: standard deviation 1
	if err != nil {
		t.Fatal(err)
	}
	if got, want := sample.Floats()[5], latent.Floats()[5]+n[5]*0.3611; math.Abs(float64(got-want)) > 1e-6 {
		t.Errorf("sample %g, want %g", got, want)
	}
	if _, err := v.Sample(p, n[1:]); err == nil {
		t.Error("15 noise values for 16 cells are accepted")
	}
}

func TestLogVarianceIsClamped(t *testing.T) {
	v := tinyVAE(t)
	moments := engine.Wrap([]float32{1, 2, 3, 4, -50, 0, 7, 99}, 1, 8, 1, 1)
	p := v.split(moments)
	if d := difference(p.LogVar.Floats(), []float32{-30, 0, 7, 20}); d != 0 {
		t.Errorf("log variance %v", p.LogVar.Floats())
	}
	if d := difference(p.Mean.Floats(), []float32{1, 2, 3, 4}); d != 0 {
		t.Errorf("mean %v", p.Mean.Floats())
	}
}

func TestBadPictures(t *testing.T) {
	v := tinyVAE(t)
	for name, images := range map[string]*engine.Tensor{
		"two channels": noise(1, 1, 2, 16, 16), "three axes": noise(1, 3, 16, 16), "odd side": noise(1, 1, 3, 16, 20), "none": noise(1, 0, 3, 16, 16),
	} {
		if _, err := v.Encode(context.Background(), images); err == nil {
			t.Errorf("encode accepts %s", name)
		}
	}
	if _, err := v.Decode(context.Background(), noise(1, 1, 16, 4, 4)); err == nil || !strings.Contains(err.Error(), "[B, 4, h, w]") {
		t.Errorf("decode of 16 channels: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := v.Decode(ctx, noise(1, 1, 4, 4, 4)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestConfigs(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"levels":     func(c *Config) { c.BlockOutChannels = nil },
		"groups":     func(c *Config) { c.NormNumGroups = 5 },
		"latents":    func(c *Config) { c.LatentChannels = 0 },
		"act":        func(c *Config) { c.ActFn = "relu" },
		"scaling":    func(c *Config) { c.ScalingFactor = math.NaN() },
		"quant":      func(c *Config) { c.PostQuantConv = true },
		"down types": func(c *Config) { c.DownBlockTypes = []string{"AttnDownEncoderBlock2D"} },
		"up types":   func(c *Config) { c.UpBlockTypes = []string{"UpDecoderBlock2D"} },
	} {
		c := tiny()
		if change(c); c.Validate() == nil {
			t.Errorf("%s: a wrong config is accepted", name)
		}
	}
	if err := tiny().Validate(); err != nil {
		t.Error(err)
	}
	if c := FluxConfig(); c.Validate() != nil || c.Factor() != 8 {
		t.Errorf("FLUX's own config: factor %d, %v", c.Factor(), c.Validate())
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	be := reference.New()
	empty := t.TempDir()
	config, err := os.ReadFile(filepath.Join(folder, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	noWeights := t.TempDir()
	write(t, filepath.Join(noWeights, "config.json"), config)
	deeper := copyFolder(t, strings.Replace(string(config), `"layers_per_block": 2`, `"layers_per_block": 3`, 1))
	otherWidth := copyFolder(t, strings.Replace(string(config), `"latent_channels": 4`, `"latent_channels": 6`, 1))
	otherClass := copyFolder(t, strings.Replace(string(config), `"AutoencoderKL"`, `"VQModel"`, 1))
	foreign := filepath.Join(t.TempDir(), "ae.safetensors")
	if err := safetensors.WriteFile(foreign, []safetensors.Tensor{safetensors.Raw("w", safetensors.F32, []int{1}, make([]byte, 4))}, nil); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		filepath.Join(empty, "no"): "no such file",
		empty:                      "diffusion_pytorch_model.safetensors",
		otherClass:                 "_class_name is VQModel",
		noWeights:                  "diffusion_pytorch_model.safetensors",
		deeper:                     "64 tensors are missing",
		otherWidth:                 "encoder.conv_out.weight is [8 12 3 3], expected [12 12 3 3]",
		foreign:                    "no autoencoder",
	} {
		if _, err := Open(path, be, Options{}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("open %s: %v, want mention of %q", path, err, says)
		}
	}
}

// TestPlacesOfTheFile: one autoencoder, in diffusers and in the original naming, wherever people keep it.
func TestPlacesOfTheFile(t *testing.T) {
	config, err := os.ReadFile(filepath.Join(folder, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for name, path := range map[string]string{"original": original, "diffusers": filepath.Join(folder,
		"diffusion_pytorch_model.safetensors"), "whole": wholePipeline(t)} {
		if files[name], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	want := tinyVAE(t)
	images := noise(4, 1, 3, 16, 16)
	expected, err := want.Encode(context.Background(), images)
	if err != nil {
		t.Fatal(err)
	}
	for place, files := range map[string]map[string][]byte{
		"vae/ae.safetensors":              {"vae/ae.safetensors": files["original"], "vae/config.json": config},
		"ae.safetensors, diffusers names": {"vae/ae.safetensors": files["diffusers"], "vae/config.json": config},
		"usual name, original names":      {"vae/diffusion_pytorch_model.safetensors": files["original"], "vae/config.json": config},
		"root, config in vae":             {"ae.safetensors": files["original"], "vae/config.json": config},
		"root, first spelling":            {"ae.sft": files["original"], "vae/config.json": config},
		"root, everything in one file":    {"flux1-dev.safetensors": files["whole"], "vae/config.json": config},
		"vae comes first": {"ae.safetensors": []byte("broken"), "vae/any.safetensors": files["diffusers"],
			"vae/config.json": config},
		"a file called vae, config beside it": {"vae": files["original"], "config.json": config},
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "model_index.json"), []byte("{}"))
		for name, data := range files {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, name), data)
		}
		v, err := Open(dir, reference.New(), Options{})
		if err != nil {
			t.Errorf("%s: %v", place, err)
			continue
		}
		got, err := v.Encode(context.Background(), images)
		if err != nil {
			t.Fatal(err)
		}
		if d := difference(got.Mean.Floats(), expected.Mean.Floats()); d > 1e-6 {
			t.Errorf("%s: means differ by %g", place, d)
		}
		v.Close()
	}
}

// wholePipeline is a file with the autoencoder among other parts, as ComfyUI keeps pipelines.
func wholePipeline(t *testing.T) string {
	t.Helper()
	src, err := safetensors.Open(original)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	all := []safetensors.Tensor{safetensors.Float32s("model.diffusion_model.img_in.weight", safetensors.F32, []int{1}, []float32{1})}
	for _, info := range src.Tensors() {
		raw, err := src.Bytes(info.Name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, safetensors.Raw("vae."+info.Name, info.DType, info.Shape, raw))
	}
	path := filepath.Join(t.TempDir(), "whole.safetensors")
	if err := safetensors.WriteFile(path, all, nil); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStorageOfTheOriginalFile(t *testing.T) {
	v, err := Open(original, reference.New(), Options{Config: tiny(), Storage: weights.BFloat16})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if v.encoder.in.weight.DType() != engine.BFloat16 {
		t.Error("storage is not passed on")
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// copyFolder is the tiny model with another config.json.
func copyFolder(t *testing.T, config string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "config.json"), []byte(config))
	data, err := os.ReadFile(filepath.Join(folder, "diffusion_pytorch_model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "diffusion_pytorch_model.safetensors"), data)
	return dir
}
