package flux

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/store/safetensors"
)

// TestPlacesThatAreRefused: what is missing, or which files could be meant, is said with the way out.
func TestPlacesThatAreRefused(t *testing.T) {
	c := small()
	tensors := originalTensors(randomModel(c, 6), "")
	for says, files := range map[string][]string{
		"neither transformer/diffusion_pytorch_model.safetensors nor a single file such as flux1-dev.safetensors": nil,
		"flux1-dev.safetensors, flux1-schnell.safetensors; keep one": {"flux1-dev.safetensors",
			"flux1-schnell.safetensors"},
		"a.safetensors, b.safetensors": {"transformer/a.safetensors", "transformer/b.safetensors"},
	} {
		dir := t.TempDir()
		for _, name := range append([]string{"model_index.json", "transformer/config.json"}, files...) {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if filepath.Ext(name) == ".safetensors" {
				save(t, filepath.Join(dir, name), tensors)
			} else if err := os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		saveConfig(t, filepath.Join(dir, "transformer"), c)
		if _, err := Load(dir, Options{}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"model_index.json": "{}",
		"flux1-dev.safetensors": "version https://git-lfs.github.com/spec/v1"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Load(dir, Options{}); safetensors.ClassOf(err) != safetensors.Foreign {
		t.Errorf("a pointer file: %v", err)
	}
}

// TestTypesOfFiles: F16, F64 and 8-bit files give the weights they hold, at odd addresses too, and say that they are
// converted. Three shards give what one file does.
func TestTypesOfFiles(t *testing.T) {
	c := small()
	model := randomModel(c, 6)
	exact := func(v float32) float32 { return float32(int(v*4)) / 4 } // few bits, held by every type
	for name, l := range model.layers {
		for i, v := range l.Weight.F32 {
			l.Weight.F32[i] = exact(v)
		}
		for i, v := range l.Bias {
			l.Bias[i] = exact(v)
		}
		model.layers[name] = l
	}
	for name := range model.norms {
		for i, v := range model.norms[name] {
			model.norms[name][i] = exact(v)
		}
	}
	tensors := diffusersTensors(model)
	in := randomInput(c, 2, 2, 3, 6)
	one, err := Load(folder(t, c, tensors), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	want := velocity(t, one, in, nil)
	for _, dtype := range []safetensors.DType{safetensors.F16, safetensors.BF16, safetensors.F64, safetensors.F8E4M3, safetensors.F8E5M2} {
		m, err := Load(folder(t, c, converted(t, tensors, dtype)), Options{})
		if err != nil {
			t.Errorf("%s: %v", dtype, err)
			continue
		}
		near(t, string(dtype), velocity(t, m, in, nil), want, 0)
		if (len(m.Notes) == 1 && strings.Contains(m.Notes[0], string(dtype))) != (dtype != safetensors.BF16) {
			t.Errorf("%s: notes %q", dtype, m.Notes)
		}
		m.Close()
	}
	for name, dir := range map[string]string{"odd addresses": misaligned(t, c, tensors), "three shards": shards(t, c, tensors)} {
		m, err := Load(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		near(t, name, velocity(t, m, in, nil), want, 0)
		m.Close()
	}
}

// converted are tensors in another type. The 8-bit ones are found by trying all patterns.
func converted(t *testing.T, tensors map[string]safetensors.Tensor, dtype safetensors.DType) map[string]safetensors.Tensor {
	t.Helper()
	patterns := map[float32]byte{}
	if dtype.Bits() == 8 {
		values := make([]float32, 256)
		all := make([]byte, 256)
		for i := range all {
			all[i] = byte(i)
		}
		if err := safetensors.DecodeFloat32(values, dtype, all); err != nil {
			t.Fatal(err)
		}
		for i, v := range values {
			if i != 0x80 { // minus zero
				patterns[v] = byte(i)
			}
		}
	}
	file := parse(t, tensors)
	out := map[string]safetensors.Tensor{}
	for name := range tensors {
		info, _ := file.Info(name)
		values, err := file.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		raw := make([]byte, len(values)*dtype.Bits()/8)
		if dtype.Bits() == 8 {
			for i, v := range values {
				pattern, ok := patterns[v]
				if !ok {
					t.Fatalf("%s has no %g", dtype, v)
				}
				raw[i] = pattern
			}
		} else if err := safetensors.EncodeFloat32(raw, dtype, values); err != nil {
			t.Fatal(err)
		}
		out[name] = safetensors.Raw(name, dtype, info.Shape, raw)
	}
	return out
}

func parse(t *testing.T, tensors map[string]safetensors.Tensor) *safetensors.File {
	t.Helper()
	var list []safetensors.Tensor
	for _, x := range tensors {
		list = append(list, x)
	}
	var b bytes.Buffer
	if _, err := safetensors.Write(&b, list, nil); err != nil {
		t.Fatal(err)
	}
	file, err := safetensors.Parse("x", b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// misaligned is a folder whose tensors begin at odd addresses: the header is one byte longer.
func misaligned(t *testing.T, c Config, tensors map[string]safetensors.Tensor) string {
	t.Helper()
	dir := folder(t, c, tensors)
	path := filepath.Join(dir, weightsBase+".safetensors")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := binary.LittleEndian.Uint64(data)
	odd := binary.LittleEndian.AppendUint64(nil, n+1)
	odd = append(append(append(odd, data[8:8+n]...), ' '), data[8+n:]...)
	if err := os.WriteFile(path, odd, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func shards(t *testing.T, c Config, tensors map[string]safetensors.Tensor) string {
	t.Helper()
	dir := t.TempDir()
	saveConfig(t, dir, c)
	index := map[string]string{}
	parts := [3]map[string]safetensors.Tensor{{}, {}, {}}
	for i, name := range slices.Sorted(maps.Keys(tensors)) {
		parts[i%3][name] = tensors[name]
		index[name] = fmt.Sprintf("%s-%05d-of-00003.safetensors", weightsBase, i%3+1)
	}
	for i, part := range parts {
		save(t, filepath.Join(dir, fmt.Sprintf("%s-%05d-of-00003.safetensors", weightsBase, i+1)), part)
	}
	text, err := json.Marshal(map[string]any{"weight_map": index})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, weightsBase+".safetensors.index.json"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}
