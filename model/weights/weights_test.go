package weights

import (
	"bytes"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/store/safetensors"
)

// tensor encodes float32 values in a dtype.
func tensor(t *testing.T, name string, dtype safetensors.DType, values []float32, shape ...int) safetensors.Tensor {
	t.Helper()
	data := make([]byte, len(values)*dtype.Bits()/8)
	if err := safetensors.EncodeFloat32(data, dtype, values); err != nil {
		t.Fatal(err)
	}
	return safetensors.Raw(name, dtype, shape, data)
}

func source(t *testing.T, tensors ...safetensors.Tensor) *safetensors.File {
	t.Helper()
	var file bytes.Buffer
	if _, err := safetensors.Write(&file, tensors, nil); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Parse("model.safetensors", file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func equal(t *testing.T, what string, got []float32, want ...float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%s: %v, want %v", what, got, want)
		}
	}
}

// rows are all numbers of a weight as float32.
func rows(w *engine.Weight) []float32 {
	all := make([]float32, w.Out*w.In)
	for o := range w.Out {
		Row(all[o*w.In:(o+1)*w.In], w, o)
	}
	return all
}

func TestLoadKeepsTheStorageAskedFor(t *testing.T) {
	values := []float32{1, 2.5, -3, 0.1, 5, 6}
	for _, c := range []struct {
		dtype   safetensors.DType
		storage Storage
		want    engine.DType
	}{
		{safetensors.F32, AsStored, engine.Float32},
		{safetensors.BF16, AsStored, engine.BFloat16},
		{safetensors.F16, AsStored, engine.Float32},
		{safetensors.BF16, Float32, engine.Float32},
		{safetensors.F32, BFloat16, engine.BFloat16},
		{safetensors.F16, BFloat16, engine.BFloat16},
	} {
		src := source(t, tensor(t, "w", c.dtype, values, 2, 3), tensor(t, "b", c.dtype, values[:2], 2))
		l := NewLoader(src, c.storage)
		var w *engine.Weight
		var b []float32
		l.Matrix(&w, "w", 2, 3)
		l.Vector(&b, "b", 2)
		if err := l.Load(); err != nil {
			t.Fatal(err)
		}
		if w.DType() != c.want || w.Out != 2 || w.In != 3 || w.Stride != 3 {
			t.Errorf("%s with storage %d: %s %d×%d stride %d, want %s", c.dtype, c.storage, w.DType(), w.Out, w.In, w.Stride, c.want)
		}
		for i, v := range rows(w) {
			if math.Abs(float64(v-values[i])) > 0.01*math.Abs(float64(values[i])) {
				t.Errorf("%s with storage %d: value %d is %g, stored %g", c.dtype, c.storage, i, v, values[i])
			}
		}
		if width := map[engine.DType]int{engine.Float32: 4, engine.BFloat16: 2}[c.want]; Bytes(w) != 6*width {
			t.Errorf("%d bytes for 6 values of %s", Bytes(w), c.want)
		}
		equal(t, "vector", b, 1, 2.5)
	}
}

func TestStackPutsMatricesBelowOneAnother(t *testing.T) {
	for _, second := range []safetensors.DType{safetensors.BF16, safetensors.F32} {
		src := source(t, tensor(t, "q", safetensors.BF16, []float32{1, 2}, 1, 2), tensor(t, "k", second, []float32{3, 4, 5, 6}, 2, 2),
			tensor(t, "q.bias", safetensors.F32, []float32{7}, 1), tensor(t, "k.bias", safetensors.F32, []float32{8, 9}, 2))
		l := NewLoader(src, AsStored)
		var w *engine.Weight
		var b []float32
		l.Stack(&w, []string{"q", "k"}, []int{1, 2}, 2)
		l.Vectors(&b, []string{"q.bias", "k.bias"}, []int{1, 2})
		if err := l.Load(); err != nil {
			t.Fatal(err)
		}
		equal(t, "stack", rows(w), 1, 2, 3, 4, 5, 6)
		equal(t, "biases", b, 7, 8, 9)
		if (w.DType() == engine.BFloat16) != (second == safetensors.BF16) {
			t.Errorf("a stack of BF16 and %s is %s", second, w.DType())
		}
	}
}

func TestConvAndScalarShapes(t *testing.T) {
	kernel := make([]float32, 2*1*3*3)
	for i := range kernel {
		kernel[i] = float32(i)
	}
	src := source(t, tensor(t, "conv", safetensors.F32, kernel, 2, 1, 3, 3), tensor(t, "scale", safetensors.F32, []float32{2.5}))
	l := NewLoader(src, AsStored)
	var w *engine.Weight
	var scale float32
	l.Conv(&w, "conv", 2, 1, 3)
	l.Scalar(&scale, "scale")
	if err := l.Load(); err != nil {
		t.Fatal(err)
	}
	if w.Out != 2 || w.In != 9 || scale != 2.5 {
		t.Errorf("kernel %d×%d, scalar %g", w.Out, w.In, scale)
	}
	equal(t, "kernel", rows(w), kernel...)
}

func TestLoadRefusesWhatDoesNotFit(t *testing.T) {
	one := func(name string, dtype safetensors.DType) safetensors.Tensor {
		return tensor(t, name, dtype, []float32{1, 2}, 1, 2)
	}
	wrong := tensor(t, "w", safetensors.F32, []float32{1, 2}, 2, 1)
	integers := safetensors.Raw("w", safetensors.I32, []int{1, 2}, make([]byte, 8))
	for name, c := range map[string]struct {
		file  []safetensors.Tensor
		class safetensors.Class
		says  string
	}{
		"missing":    {[]safetensors.Tensor{one("other", safetensors.F32)}, safetensors.MissingTensor, "w"},
		"unexpected": {[]safetensors.Tensor{one("w", safetensors.F32), one("extra", safetensors.F32)}, safetensors.UnexpectedTensor, "extra"},
		"shape":      {[]safetensors.Tensor{wrong}, safetensors.BadShape, "[2 1], expected [1 2]"},
		"dtype":      {[]safetensors.Tensor{integers}, safetensors.BadDType, "I32"},
	} {
		l := NewLoader(source(t, c.file...), AsStored)
		var w *engine.Weight
		l.Matrix(&w, "w", 1, 2)
		err := l.Load()
		if safetensors.ClassOf(err) != c.class || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if w != nil {
			t.Errorf("%s: the field was filled all the same", name)
		}
	}
}

func TestOptionalTensorsAreIgnored(t *testing.T) {
	src := source(t, tensor(t, "w", safetensors.F32, []float32{1, 2}, 1, 2),
		safetensors.Raw("text_model.embeddings.position_ids", safetensors.I64, []int{1}, make([]byte, 8)))
	load := func(optional bool) error {
		l := NewLoader(src, AsStored)
		if optional {
			l.Optional(PositionIDs)
		}
		var w *engine.Weight
		l.Matrix(&w, "w", 1, 2)
		return l.Load()
	}
	if err := load(true); err != nil {
		t.Error(err)
	}
	if err := load(false); safetensors.ClassOf(err) != safetensors.UnexpectedTensor {
		t.Errorf("without the exception: %v", err)
	}
	l := NewLoader(src, AsStored)
	if !l.Has("w") || l.Has("v") {
		t.Error("Has does not tell which tensors there are")
	}
}

func TestLookup(t *testing.T) {
	table := &engine.Weight{Out: 3, In: 2, Stride: 2, F32: []float32{0, 1, 2, 3, 4, 5}}
	got := make([]float32, 4)
	if err := Lookup(got, table, []int32{2, 0}); err != nil {
		t.Fatal(err)
	}
	equal(t, "rows", got, 4, 5, 0, 1)
	for _, id := range []int32{-1, 3} {
		if err := Lookup(got, table, []int32{0, id}); err == nil || !strings.Contains(err.Error(), "place 1") {
			t.Errorf("id %d: %v", id, err)
		}
	}
}

func TestRows(t *testing.T) {
	if n, err := Rows(make([]int32, 6), 3); n != 2 || err != nil {
		t.Errorf("%d rows, %v", n, err)
	}
	for _, c := range [][2]int{{0, 3}, {5, 3}, {6, 0}, {6, -2}} {
		if _, err := Rows(make([]int32, c[0]), c[1]); err == nil {
			t.Errorf("%d ids in rows of %d are accepted", c[0], c[1])
		}
	}
}

func TestReadConfig(t *testing.T) {
	dir := t.TempDir()
	c := struct {
		A int `json:"a"`
		B int `json:"b"`
	}{A: 1, B: 2}
	if err := ReadConfig(dir, "config.json", &c); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir) {
		t.Errorf("absent: %v", err)
	}
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"a": 5, "unknown": {}}`)
	if err := ReadConfig(dir, "config.json", &c); err != nil || c.A != 5 || c.B != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	write(`{"a": "five"}`)
	if err := ReadConfig(dir, "config.json", &c); err == nil {
		t.Error("a string is accepted as a number")
	}
	if err := Positive([]string{"width", "heads"}, 4, 0); err == nil || !strings.Contains(err.Error(), "heads") {
		t.Errorf("heads 0: %v", err)
	}
}
