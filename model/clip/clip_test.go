package clip

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/engine/reference"
	"github.com/sciflux/sciflux/model/weights"
	"github.com/sciflux/sciflux/random"
)

const folder = "../../testdata/golden/sciscore_model" // pictures of 32 px in patches of 8, width 48, shared space of 24

func tinyCLIP(t *testing.T) *CLIP {
	t.Helper()
	m, err := Open(folder, reference.New(), weights.AsStored)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Close()
		if live, _ := m.be.Memory(); live != 0 {
			t.Errorf("%d bytes are still allocated", live)
		}
	})
	return m
}

func patches(m *CLIP, seed uint64, pictures int) []float32 {
	p := make([]float32, pictures*m.Config.Vision.Patches()*m.Config.Vision.PatchWidth())
	random.New(seed).Normal(p)
	return p
}

func TestPatchifyKeepsEveryPixel(t *testing.T) {
	c := VisionConfig{Channels: 2, ImageSize: 5, PatchSize: 2} // the fifth row and column fill no patch
	pixels := make([]float32, 2*5*5)
	for i := range pixels {
		pixels[i] = float32(i)
	}
	got := make([]float32, c.Patches()*c.PatchWidth())
	c.Patchify(got, pixels)
	want := []float32{
		0, 1, 5, 6, 25, 26, 30, 31, // upper left: channel 0, channel 1
		2, 3, 7, 8, 27, 28, 32, 33,
		10, 11, 15, 16, 35, 36, 40, 41,
		12, 13, 17, 18, 37, 38, 42, 43,
	}
	if len(got) != len(want) || difference(got, want) != 0 {
		t.Errorf("patches %v, want %v", got, want)
	}
}

func TestFeaturesHaveLengthOne(t *testing.T) {
	m := tinyCLIP(t)
	image, err := m.ImageFeatures(context.Background(), patches(m, 1, 3))
	if err != nil {
		t.Fatal(err)
	}
	text, err := m.TextFeatures(context.Background(), []int32{537, 5, 9, 538}, 4)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		row := image[i*24 : (i+1)*24]
		var sum float64
		for _, v := range row {
			sum += float64(v) * float64(v)
		}
		if math.Abs(sum-1) > 1e-6 {
			t.Errorf("picture %d has squared length %g", i, sum)
		}
		if s := m.Score(text, row); math.Abs(s) > math.Exp(float64(m.LogitScale)) {
			t.Errorf("score %g is beyond the temperature", s)
		}
	}
	if s, scale := m.Score(text, text), math.Exp(float64(m.LogitScale)); math.Abs(s-scale) > 1e-4*scale {
		t.Errorf("a feature scores %g with itself, want the temperature %g", s, scale)
	}
}

func TestPicturesAreIndependentInChunks(t *testing.T) {
	m := tinyCLIP(t)
	n := m.Config.Vision.Batch() + 3
	all := patches(m, 2, n)
	per := len(all) / n
	ctx := context.Background()
	together, err := m.Vision.Forward(ctx, all)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 5, n - 4, n - 1} {
		alone, err := m.Vision.Forward(ctx, all[i*per:(i+1)*per])
		if err != nil {
			t.Fatal(err)
		}
		if d := difference(alone.Floats(), together.Floats()[i*48:(i+1)*48]); d > 1e-5 {
			t.Errorf("picture %d moves by %g beside others", i, d)
		}
	}
	if _, err := m.Vision.Forward(ctx, all[:per-1]); err == nil {
		t.Error("a picture that lacks a value is accepted")
	}
}

func config(t *testing.T, text string) (Config, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return ReadConfig(dir)
}

func TestConfigDefaultsAndOldNames(t *testing.T) {
	c, err := config(t, `{"text_config": {"hidden_size": 64, "hidden_act": "gelu"}, "vision_config": {"patch_size": 14},
		"text_config_dict": {"hidden_size": 128}, "projection_dim": 33}`)
	if err != nil {
		t.Fatal(err)
	}
	if c.Text.Width != 128 || c.Text.Act != "gelu" {
		t.Errorf("text_config_dict does not win: %+v", c.Text)
	}
	if c.Vision.PatchSize != 14 || c.Vision.Act != "quick_gelu" || c.Vision.Width != 768 || c.Text.EOS != 49407 || c.Projection != 33 {
		t.Errorf("defaults of the library: %+v", c)
	}
}

func TestBadConfigs(t *testing.T) {
	for text, says := range map[string]string{
		`{"vision_config": {}}`: "both towers",
		`{"text_config": {"hidden_act": "silu"}, "vision_config": {}}`:                         "text_config: hidden_act",
		`{"text_config": {"num_attention_heads": 7}, "vision_config": {}}`:                     "no multiple",
		`{"text_config": {}, "vision_config": {"patch_size": 300}}`:                            "vision_config: patch_size",
		`{"text_config": {}, "vision_config": {"image_size": 0}}`:                              "image_size",
		`{"text_config": {}, "vision_config": {"layer_norm_eps": 0}}`:                          "layer_norm_eps",
		`{"text_config": {}, "vision_config": {}, "projection_dim": 0}`:                        "projection_dim",
		`{"text_config": {"vocab_size": 0}, "vision_config": {}}`:                              "vocab_size",
		`{"text_config": [], "vision_config": {}}`:                                             "cannot unmarshal",
		`{"text_config": {}, "vision_config": {}, "vision_config_dict": {"num_channels": -1}}`: "num_channels",
	} {
		if _, err := config(t, text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want mention of %q", text, err, says)
		}
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(folder, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(folder, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	copyTo := func(config string) string {
		dir := t.TempDir()
		for name, content := range map[string][]byte{"config.json": []byte(config), "model.safetensors": data} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	for name, c := range map[string]struct{ dir, says string }{
		"projection": {copyTo(strings.Replace(string(text), `"projection_dim": 24`, `"projection_dim": 20`, 1)), "text_projection.weight is [24 32], expected [20 32]"},
		"patch":      {copyTo(strings.Replace(string(text), `"patch_size": 8`, `"patch_size": 16`, 1)), "position_embedding"},
	} {
		if _, err := Open(c.dir, reference.New(), weights.AsStored); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want mention of %q", name, err, c.says)
		}
	}
	// A text encoder is no SciScore: one error names the towers' missing parts.
	if _, err := Open(textFolder, reference.New(), weights.AsStored); err == nil || !strings.Contains(err.Error(), "both towers") {
		t.Errorf("text encoder: %v", err)
	}
}
