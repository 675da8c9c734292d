package weights

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/store/safetensors"
)

// file writes a file of one-number tensors, and the folders above it.
func file(t *testing.T, path string, names ...string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	var list []safetensors.Tensor
	for i, name := range names {
		list = append(list, safetensors.Float32s(name, safetensors.F32, []int{1}, []float32{float32(i)}))
	}
	if err := safetensors.WriteFile(path, list, nil); err != nil {
		t.Fatal(err)
	}
}

func text(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// door is a part that is known by its tensor "door".
var door = Kind{Folder: "house", Base: "usual", Single: "door.safetensors", Holds: func(s safetensors.Source) bool {
	_, ok := s.Info("door")
	return ok
}}

// TestPlacesOfAPart: which file is opened, and whose config.json describes it.
func TestPlacesOfAPart(t *testing.T) {
	for name, c := range map[string]struct {
		files     []string // with a tensor door, unless named window
		open      string
		path, dir string
	}{
		"usual":                 {[]string{"house/usual.safetensors", "door.safetensors"}, ".", "house", "house"},
		"folder itself":         {[]string{"house/usual.safetensors"}, "house", "house", "house"},
		"file itself":           {[]string{"house/any.safetensors"}, "house/any.safetensors", "house/any.safetensors", "house"},
		"root":                  {[]string{"door.safetensors", "window.safetensors"}, ".", "door.safetensors", "."},
		"root, config in house": {[]string{"door.safetensors", "house/config.json"}, ".", "door.safetensors", "house"},
		"root, index alone":     {[]string{"door.safetensors", "house/usual.safetensors.index.json"}, ".", "door.safetensors", "."},
		"a file for the folder": {[]string{"house"}, ".", "house", "."},
	} {
		root := t.TempDir()
		text(t, filepath.Join(root, indexName), "{}")
		for _, f := range c.files {
			switch {
			case filepath.Ext(f) == ".json":
				text(t, filepath.Join(root, f), "{}")
			case strings.Contains(f, "window"):
				file(t, filepath.Join(root, f), "window")
			default:
				file(t, filepath.Join(root, f), "door")
			}
		}
		p, err := door.Open(filepath.Join(root, c.open))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p.Path != filepath.Join(root, c.path) || p.Dir != filepath.Join(root, c.dir) || !door.Holds(p.Set) {
			t.Errorf("%s: %s with the config of %s", name, p.Path, p.Dir)
		}
		files, err := door.Files(filepath.Join(root, c.open))
		if err != nil || len(files) == 0 || !slices.ContainsFunc(files, func(f string) bool { return strings.HasPrefix(f, p.Path) }) {
			t.Errorf("%s: files %q, %v", name, files, err)
		}
		p.Close()
	}
	root := t.TempDir()
	text(t, filepath.Join(root, indexName), "{}")
	if _, err := door.Open(root); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(),
		"neither house/usual.safetensors nor a single file such as door.safetensors") {
		t.Errorf("nothing: %v", err)
	}
	text(t, filepath.Join(root, "house", "model.gguf"), "GGUF")
	text(t, filepath.Join(root, "broken.safetensors"), "GGUF....")
	if _, err := door.Open(root); safetensors.ClassOf(err) != safetensors.Quantised {
		t.Errorf("a GGUF file: %v", err)
	}
}

// TestUnder: the names of one part, and none of the others'.
func TestUnder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	file(t, path, "diffusion_model.b", "diffusion_model.a", "vae.a", "text_encoders.t5.c", "loose")
	set, err := safetensors.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	s := Under(set, "model.diffusion_model.", "diffusion_model.")
	if got := s.Names(); !slices.Equal(got, []string{"a", "b", "loose"}) {
		t.Errorf("names %q", got)
	}
	info, ok := s.Info("a")
	values, err := s.Float32("a", 1)
	narrow, err2 := s.BFloat16("loose")
	raw, err3 := s.Bytes("b")
	if !ok || info.Name != "diffusion_model.a" || err != nil || values[0] != 1 || err2 != nil || narrow[0] != safetensors.ToBFloat16(4) ||
		err3 != nil || len(raw) != 4 {
		t.Errorf("%+v %v %v %v, %v %v %v", info, values, narrow, raw, err, err2, err3)
	}
	if Under(set, "nowhere.") != safetensors.Source(set) {
		t.Error("a file without the prefix is not left as it is")
	}
	l := NewLoader(s, AsStored)
	var v []float32
	l.Vector(&v, "c", 1)
	if err := l.Load(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("the file is not named: %v", err)
	}
}

// TestConvertedWeights: plain 8-bit and 64-bit numbers are used, and told.
func TestConvertedWeights(t *testing.T) {
	small := safetensors.Raw("w", safetensors.F8E4M3, []int{1, 2}, []byte{0x3c, 0xfe}) // 1.5 and -448
	wide := tensor(t, "w", safetensors.F64, []float32{1.5, -448}, 1, 2)
	half := tensor(t, "w", safetensors.F16, []float32{1.5, -448}, 1, 2)
	for _, c := range []struct {
		tensor  safetensors.Tensor
		storage Storage
		want    engine.DType
		note    string
	}{
		{small, AsStored, engine.BFloat16, "1 tensors of F8_E4M3 are widened, which is exact"},
		{small, Float32, engine.Float32, "1 tensors of F8_E4M3"},
		{wide, AsStored, engine.Float32, "1 tensors of F64 are rounded to float32"},
		{half, AsStored, engine.Float32, "takes twice the size of the file"},
		{half, BFloat16, engine.BFloat16, ""},
	} {
		l := NewLoader(source(t, c.tensor), c.storage)
		var w *engine.Weight
		l.Matrix(&w, "w", 1, 2)
		if err := l.Load(); err != nil {
			t.Fatal(err)
		}
		equal(t, "weights", rows(w), 1.5, -448)
		notes := strings.Join(l.Notes(), "; ")
		if w.DType() != c.want || !strings.Contains(notes, c.note) || (c.note == "") != (notes == "") {
			t.Errorf("%s as storage %d: %s, notes %q", c.tensor.DType, c.storage, w.DType(), notes)
		}
	}
	l := NewLoader(source(t, safetensors.Raw("w", safetensors.F8E5M2, []int{1, 2}, []byte{0, 0x7c})), AsStored)
	var w *engine.Weight
	l.Matrix(&w, "w", 1, 2)
	if err := l.Load(); safetensors.ClassOf(err) != safetensors.NotFinite || w != nil {
		t.Errorf("an infinity: %v, filled: %v", err, w != nil)
	}
}
