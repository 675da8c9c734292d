package safetensors

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func writeTensors(t *testing.T, path string, names ...string) {
	t.Helper()
	var tensors []Tensor
	for i, name := range names {
		tensors = append(tensors, Float32s(name, BF16, []int{2}, []float32{float32(i), float32(len(name))}))
	}
	if err := WriteFile(path, tensors, nil); err != nil {
		t.Fatal(err)
	}
}

func writeIndex(t *testing.T, dir string, weights map[string]string) {
	t.Helper()
	text, err := json.MarshalIndent(map[string]any{"metadata": map[string]any{"total_size": 8, "x": []int{1}}, "weight_map": weights}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "model.safetensors.index.json"), append(text, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOpenDirSingleAndSharded(t *testing.T) {
	single, sharded := t.TempDir(), t.TempDir()
	writeTensors(t, filepath.Join(single, "model.safetensors"), "a", "b", "cc")
	writeTensors(t, filepath.Join(sharded, "model-1.safetensors"), "a", "extra")
	writeTensors(t, filepath.Join(sharded, "model-2.safetensors"), "b", "cc")
	writeIndex(t, sharded, map[string]string{"a": "model-1.safetensors", "b": "model-2.safetensors", "cc": "model-2.safetensors"})
	for dir, want := range map[string][]string{single: {"a", "b", "cc"}, sharded: {"a", "b", "cc", "extra"}} {
		s, err := OpenDir(dir, "model")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(s.Names(), want) {
			t.Errorf("names %q, expected %q", s.Names(), want)
		}
		for _, name := range want {
			v, err := s.Float32(name, 2)
			if err != nil || v[1] != float32(len(name)) {
				t.Errorf("%s: %v, %v", name, v, err)
			}
			narrow, err := s.BFloat16(name)
			if err != nil || narrow[1] != ToBFloat16(float32(len(name))) {
				t.Errorf("%s as bf16: %v, %v", name, narrow, err)
			}
			if raw, err := s.Bytes(name); err != nil || len(raw) != 4 {
				t.Errorf("%s: %d bytes, %v", name, len(raw), err)
			}
		}
		if _, err := s.Float32("absent"); ClassOf(err) != MissingTensor {
			t.Errorf("absent: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestShardsMayBeLinks(t *testing.T) {
	dir, blobs := t.TempDir(), t.TempDir()
	writeTensors(t, filepath.Join(blobs, "blob"), "a")
	if err := os.Symlink(filepath.Join(blobs, "blob"), filepath.Join(dir, "one.safetensors")); err != nil {
		t.Skip(err)
	}
	writeIndex(t, dir, map[string]string{"a": "one.safetensors"})
	s, err := OpenDir(dir, "model")
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestIndexFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		index string
		want  Class
	}{
		{"good", `{"weight_map":{"a":"one.safetensors"}}`, ""},
		{"shard absent", `{"weight_map":{"a":"two.safetensors"}}`, MissingTensor},
		{"wrong shard", `{"weight_map":{"a":"one.safetensors","b":"one.safetensors"}}`, MissingTensor},
		{"no tensors", `{"weight_map":{}}`, MissingTensor},
		{"parent folder", `{"weight_map":{"a":"../one.safetensors"}}`, BadPath},
		{"absolute", `{"weight_map":{"a":"/one.safetensors"}}`, BadPath},
		{"sub-folder", `{"weight_map":{"a":"x/one.safetensors"}}`, BadPath},
		{"backslash", `{"weight_map":{"a":"..\\one.safetensors"}}`, BadPath},
		{"dots", `{"weight_map":{"a":".."}}`, BadPath},
		{"empty name", `{"weight_map":{"a":""}}`, BadPath},
		{"cut", `{"weight_map":{"a":"one.safe`, BadJSON},
		{"no map", `{"metadata":{}}`, BadJSON},
		{"array", `[]`, BadJSON},
		{"number", `{"weight_map":{"a":1}}`, BadJSON},
		{"trailing", `{"weight_map":{"a":"one.safetensors"}} x`, BadJSON},
		{"not UTF-8", "{\"weight_map\":{\"\xff\":\"one.safetensors\"}}", BadJSON},
		{"twice", `{"weight_map":{"a":"one.safetensors","a":"one.safetensors"}}`, Duplicate},
	} {
		dir := t.TempDir()
		writeTensors(t, filepath.Join(dir, "one.safetensors"), "a")
		if err := os.WriteFile(filepath.Join(dir, "model.safetensors.index.json"), []byte(c.index), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := OpenDir(dir, "model")
		if ClassOf(err) != c.want || (err != nil) != (c.want != "") {
			t.Errorf("%s: %v, expected class %q", c.name, err, c.want)
		}
		if err == nil {
			s.Close()
		}
	}
	if _, err := OpenDir(t.TempDir(), "model"); ClassOf(err) != IO {
		t.Errorf("empty folder: %v", err)
	}
}

func TestRequire(t *testing.T) {
	want := []Want{{"a.weight", []int{2}}, {"b.weight", []int{1, 2}}}
	good := []Tensor{Raw("a.weight", F32, []int{2}, make([]byte, 8)), Raw("b.weight", F16, []int{1, 2}, make([]byte, 4))}
	extra := func(t Tensor) []Tensor { return append(slices.Clone(good), t) }
	for _, c := range []struct {
		name    string
		tensors []Tensor
		class   Class
		says    string
	}{
		{"good", good, "", ""},
		{"missing", good[:1], MissingTensor, "b.weight"},
		{"unexpected", extra(Raw("c", F32, nil, make([]byte, 4))), UnexpectedTensor, "c"},
		{"quantised", extra(Raw("a.weight.absmax", F32, nil, make([]byte, 4))), Quantised, "a.weight.absmax"},
		{"quantised state", append(slices.Clone(good[1:]), Raw("a.weight", U8, []int{1}, make([]byte, 1)), Raw("a.weight.quant_state.bitsandbytes__nf4", U8, []int{1}, make([]byte, 1))), Quantised, "quant_state"},
		{"dtype", []Tensor{good[0], Raw("b.weight", I32, []int{1, 2}, make([]byte, 8))}, BadDType, "b.weight is I32"},
		{"shape", []Tensor{good[0], Raw("b.weight", F16, []int{2, 1}, make([]byte, 4))}, BadShape, "expected [1 2]"},
	} {
		dir := t.TempDir()
		if err := WriteFile(filepath.Join(dir, "model.safetensors"), c.tensors, nil); err != nil {
			t.Fatal(err)
		}
		s, err := OpenDir(dir, "model")
		if err != nil {
			t.Fatal(err)
		}
		err = Require(s, want)
		if ClassOf(err) != c.class || (err != nil && !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, expected class %q", c.name, err, c.class)
		}
		s.Close()
	}
}
