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
		{"scaled fp8", append(slices.Clone(good[1:]), Raw("a.weight", F8E4M3, []int{2}, make([]byte, 2)), Raw("a.scale_weight", F32, nil,
			make([]byte, 4))), Quantised, "scaled 8-bit floating point"},
		{"scaled fp8 as a whole", extra(Raw("scaled_fp8", F8E4M3, []int{2}, make([]byte, 2))), Quantised, "scaled_fp8"},
		{"weight scale", extra(Raw("a.weight_scale", F32, nil, make([]byte, 4))), Quantised, "fp8 with a scale"},
		{"int8", []Tensor{good[0], Raw("b.weight", I8, []int{1, 2}, make([]byte, 2))}, Quantised, "b.weight is I8"},
		{"bitsandbytes int8", extra(Raw("a.SCB", F32, nil, make([]byte, 4))), Quantised, "int8"},
		{"gptq", extra(Raw("a.qweight", I32, nil, make([]byte, 4))), Quantised, "GPTQ"},
		{"plain fp8", []Tensor{good[0], Raw("b.weight", F8E4M3, []int{1, 2}, make([]byte, 2))}, "", ""},
		{"float64", []Tensor{good[0], Raw("b.weight", F64, []int{1, 2}, make([]byte, 16))}, "", ""},
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

// TestOpenDirUnderOtherNames: the only file of weights is taken whatever it is called; several are not guessed between.
func TestOpenDirUnderOtherNames(t *testing.T) {
	for name, c := range map[string]struct {
		files []string
		want  string // a tensor that must be there; none for a refusal
		class Class
		says  string
	}{
		"usual name first": {[]string{"model.safetensors", "other.safetensors"}, "model.safetensors", "", ""},
		"only file":        {[]string{"flux1-dev.safetensors"}, "flux1-dev.safetensors", "", ""},
		"first spelling":   {[]string{"flux1-dev.sft"}, "flux1-dev.sft", "", ""},
		"variant":          {[]string{"model.fp16.safetensors", "README.md"}, "model.fp16.safetensors", "", ""},
		"two":              {[]string{"a.safetensors", "b.safetensors"}, "", Ambiguous, "a.safetensors, b.safetensors"},
		"shards alone": {[]string{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}, "", MissingTensor,
			"without the index"},
		"pickle":  {[]string{"pytorch_model.bin"}, "", IO, "pytorch_model.bin is of a format that is not read"},
		"gguf":    {[]string{"flux1-dev-Q4_0.gguf"}, "", IO, "flux1-dev-Q4_0.gguf is of a format"},
		"nothing": {nil, "", IO, "model.safetensors"},
	} {
		dir := t.TempDir()
		for _, file := range c.files {
			writeTensors(t, filepath.Join(dir, file), file)
		}
		s, err := OpenDir(dir, "model")
		if ClassOf(err) != c.class || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		if _, ok := s.Info(c.want); !ok {
			t.Errorf("%s: tensors %q", name, s.Names())
		}
		s.Close()
	}
}

// TestIndexUnderAnotherName ties its shards together as well.
func TestIndexUnderAnotherName(t *testing.T) {
	dir := t.TempDir()
	writeTensors(t, filepath.Join(dir, "x-00001-of-00003.safetensors"), "a")
	writeTensors(t, filepath.Join(dir, "x-00002-of-00003.safetensors"), "b")
	writeTensors(t, filepath.Join(dir, "x-00003-of-00003.safetensors"), "c")
	writeIndex(t, dir, map[string]string{"a": "x-00001-of-00003.safetensors", "b": "x-00002-of-00003.safetensors",
		"c": "x-00003-of-00003.safetensors"})
	if err := os.Rename(filepath.Join(dir, "model"+indexSuffix), filepath.Join(dir, "model.fp16"+indexSuffix)); err != nil {
		t.Fatal(err)
	}
	s, err := OpenDir(dir, "model")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !slices.Equal(s.Names(), []string{"a", "b", "c"}) || len(s.Files()) != 3 {
		t.Errorf("%q in %d files", s.Names(), len(s.Files()))
	}
}

// TestForeignFiles are refused as what they are.
func TestForeignFiles(t *testing.T) {
	for begin, c := range map[string]struct {
		class Class
		says  string
	}{
		"GGUF\x03\x00\x00\x00\x10\x00\x00\x00":                {Quantised, "GGUF"},
		"PK\x03\x04\x00\x00\x08\x08\x00\x00":                  {Foreign, "PyTorch"},
		"\x80\x02}q\x00X\x05\x00\x00\x00":                     {Foreign, "pickle"},
		"version https://git-lfs.github.com/spec/v1\noid sha": {Foreign, "git lfs pull"},
		"<!DOCTYPE html><html>":                               {Foreign, "licence"},
		`{"a": {"dtype": "F32"}}`:                             {Foreign, "JSON"},
		"\x01\x02":                                            {Truncated, ""},
		"nothing known of any kind":                           {HeaderTooLong, ""},
	} {
		path := filepath.Join(t.TempDir(), "model.safetensors")
		if err := os.WriteFile(path, []byte(begin), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); ClassOf(err) != c.class || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%.12q: %v", begin, err)
		}
	}
}
