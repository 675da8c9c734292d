package clip

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/engine/reference"
	"github.com/sciflux/sciflux/model/weights"
	"github.com/sciflux/sciflux/store/safetensors"
)

// textFile writes a folder with the tiny text tower, each tensor under the name that rename gives it, and more beside it.
func textFile(t *testing.T, config string, rename func(string) string, more ...safetensors.Tensor) string {
	t.Helper()
	src, err := safetensors.OpenDir(textFolder, "model")
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	list := more
	for _, name := range src.Names() {
		info, _ := src.Info(name)
		raw, err := src.Bytes(name)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, safetensors.Raw(rename(name), info.DType, info.Shape, raw))
	}
	dir := t.TempDir()
	if err := safetensors.WriteFile(filepath.Join(dir, "clip_l.safetensors"), list, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func one(name string) safetensors.Tensor {
	return safetensors.Float32s(name, safetensors.F32, []int{1}, []float32{1})
}

// TestTextTowerOfOtherFiles: flat names as transformers 5 writes them, a projection, and a whole CLIP model.
func TestTextTowerOfOtherFiles(t *testing.T) {
	own, err := os.ReadFile(filepath.Join(textFolder, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	nested, err := json.Marshal(map[string]any{"projection_dim": 8, "text_config": json.RawMessage(own),
		"vision_config": map[string]any{"hidden_size": 5}})
	if err != nil {
		t.Fatal(err)
	}
	same := func(name string) string { return name }
	flat := func(name string) string { return strings.TrimPrefix(name, "text_model.") }
	ids := []int32{3, 5, 9, 119, 119}
	_, want, err := tinyText(t).Forward(context.Background(), ids, len(ids))
	if err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{
		"flat":            textFile(t, string(own), flat),
		"flat, projected": textFile(t, string(own), flat, one("text_projection.weight")),
		"projected":       textFile(t, string(own), same, one("text_projection.weight"), one("text_model.embeddings.position_ids")),
		"whole model": textFile(t, string(nested), same, one("text_projection.weight"), one("visual_projection.weight"),
			one("logit_scale"), one("vision_model.embeddings.class_embedding")),
	} {
		m, err := OpenText(dir, reference.New(), weights.AsStored)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_, got, err := m.Forward(context.Background(), ids, len(ids))
		if err != nil {
			t.Fatal(err)
		}
		if d := difference(got.Floats(), want.Floats()); d != 0 {
			t.Errorf("%s: the pooled state differs by %g", name, d)
		}
		m.Close()
	}
}

func TestTextTowersThatAreRefused(t *testing.T) {
	own, err := os.ReadFile(filepath.Join(textFolder, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	same := func(name string) string { return name }
	for says, dir := range map[string]string{
		"surplus":            textFile(t, string(own), same, one("surplus")),
		"hidden_size is 0":   textFile(t, `{"text_config": {"hidden_size": 0}, "vision_config": {}}`, same),
		"cannot unmarshal":   textFile(t, `{"text_config": 5}`, same),
		"config.json":        textFile(t, `[]`, same),
		"position_embedding": textFile(t, string(own), func(n string) string { return strings.ReplaceAll(n, "position_embedding", "x") }),
	} {
		if _, err := OpenText(dir, reference.New(), weights.AsStored); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want mention of %q", err, says)
		}
	}
}

// TestModelWithNaN: any number of a CLIP model that is not finite is refused by name.
func TestModelWithNaN(t *testing.T) {
	const folder = "../../testdata/golden/sciscore_model"
	src, err := safetensors.OpenDir(folder, "model")
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	for _, spoilt := range []string{"logit_scale", "text_model.encoder.layers.0.mlp.fc1.bias", "vision_model.pre_layrnorm.weight"} {
		var list []safetensors.Tensor
		for _, name := range src.Names() {
			info, _ := src.Info(name)
			values, err := src.Float32(name)
			if err != nil {
				t.Fatal(err)
			}
			if name == spoilt {
				values[len(values)-1] = float32(math.NaN())
			}
			list = append(list, safetensors.Float32s(name, safetensors.F32, info.Shape, values))
		}
		dir := t.TempDir()
		config, err := os.ReadFile(filepath.Join(folder, "config.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := safetensors.WriteFile(filepath.Join(dir, "model.safetensors"), list, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, reference.New(), weights.AsStored); safetensors.ClassOf(err) != safetensors.NotFinite ||
			!strings.Contains(err.Error(), spoilt) {
			t.Errorf("%s: %v", spoilt, err)
		}
	}
}
