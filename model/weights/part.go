package weights

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sciflux/sciflux/store/safetensors"
)

// Part is the open weights of one part of a pipeline.
type Part struct {
	*safetensors.Set
	Path string // the file or folder they were found in
	Dir  string // the folder whose config.json describes them
}

// Kind says how a part is found.
type Kind struct {
	Folder string // inside a pipeline
	Base   string // of the file's name, without .safetensors
	Single string // what people call the part as a single file, for messages
	Holds  func(safetensors.Source) bool
}

// indexName is the file that makes a folder a pipeline.
const indexName = "model_index.json"

// Open opens the weights at path: a file; a folder with them, under the usual name or as the only file; or the pipeline
// folder around that. A pipeline may have the part as a single file in its root, as the authors' own repositories do: it
// is known by its tensors, not by its name, and counts when the part's folder has no weights.
func (k Kind) Open(path string) (*Part, error) {
	where, dir, err := k.find(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(where)
	if err != nil {
		return nil, err
	}
	var set *safetensors.Set
	if info.IsDir() {
		set, err = safetensors.OpenDir(where, k.Base)
	} else {
		set, err = safetensors.OpenFile(where)
	}
	if err != nil {
		return nil, err
	}
	return &Part{Set: set, Path: where, Dir: dir}, nil
}

// find returns the folder or file that holds the weights, and the folder of their config.
func (k Kind) find(path string) (where, dir string, err error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", "", fmt.Errorf("%w; give a model folder or a .safetensors file", err)
	case !info.IsDir():
		return path, filepath.Dir(path), nil
	case !exists(filepath.Join(path, indexName)):
		return path, path, nil
	}
	inner := filepath.Join(path, k.Folder)
	if info, err := os.Stat(inner); err == nil && !info.IsDir() {
		return inner, path, nil
	}
	if hasWeights(inner) {
		return inner, inner, nil
	}
	single, err := k.single(path)
	if err != nil {
		return "", "", err
	}
	if exists(filepath.Join(inner, "config.json")) {
		return single, inner, nil
	}
	return single, path, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// hasWeights tells whether a folder holds weights; an index alone is none.
func hasWeights(dir string) bool {
	names, _ := safetensors.Files(dir)
	return slices.ContainsFunc(names, func(name string) bool { return filepath.Ext(name) != ".json" })
}

// single finds the one file in a pipeline's root that holds the part.
func (k Kind) single(root string) (string, error) {
	names, err := safetensors.Files(root)
	if err != nil {
		return "", err
	}
	var found []string
	var broken error
	for _, name := range names {
		if filepath.Ext(name) == ".json" {
			continue
		}
		file, err := safetensors.Open(filepath.Join(root, name))
		if err != nil {
			broken = errors.Join(broken, err)
			continue
		}
		if k.Holds(file) {
			found = append(found, name)
		}
		file.Close()
	}
	switch {
	case len(found) == 1:
		return filepath.Join(root, found[0]), nil
	case len(found) > 1:
		return "", fmt.Errorf("%s holds no weights, and several files beside it could be meant: %s; keep one, or put it into %s",
			filepath.Join(root, k.Folder), strings.Join(found, ", "), k.Folder)
	case broken != nil:
		return "", broken
	}
	if _, err := safetensors.Locate(filepath.Join(root, k.Folder), k.Base); err != nil && safetensors.ClassOf(err) != safetensors.IO {
		return "", err
	}
	return "", fmt.Errorf("there is neither %s nor a single file such as %s in %s: %w; download one of them and put it there",
		filepath.Join(k.Folder, k.Base+".safetensors"), k.Single, root, fs.ErrNotExist)
}

// components are the prefixes of the parts in files that hold a whole pipeline, and of single parts in ComfyUI's naming.
var components = []string{"model.diffusion_model.", "diffusion_model.", "vae.", "first_stage_model.", "text_encoders.",
	"cond_stage_model.", "conditioner."}

// Under shows the tensors of one part without the prefix that community copies put before every name: the first of own
// that occurs. Tensors of other parts in the same file are hidden, any others keep their names.
func Under(src safetensors.Source, own ...string) safetensors.Source {
	names := src.Names()
	for _, prefix := range own {
		if slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, prefix) }) {
			return under{src, prefix}
		}
	}
	return src
}

// under is a source whose names are shown without a prefix.
type under struct {
	inner  safetensors.Source
	prefix string
}

// Within gives the source below and what is put before its names, for messages.
func (u under) Within() (safetensors.Source, string) { return u.inner, u.prefix }

func (u under) Names() []string {
	var names []string
	for _, name := range u.inner.Names() {
		if own, ok := strings.CutPrefix(name, u.prefix); ok {
			names = append(names, own)
		} else if !slices.ContainsFunc(components, func(c string) bool { return strings.HasPrefix(name, c) }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (u under) full(name string) string {
	if _, ok := u.inner.Info(u.prefix + name); ok {
		return u.prefix + name
	}
	return name
}

func (u under) Info(name string) (safetensors.Info, bool) { return u.inner.Info(u.full(name)) }
func (u under) Bytes(name string) ([]byte, error)         { return u.inner.Bytes(u.full(name)) }
func (u under) Float32(name string, shape ...int) ([]float32, error) {
	return u.inner.Float32(u.full(name), shape...)
}
func (u under) BFloat16(name string, shape ...int) ([]uint16, error) {
	return u.inner.BFloat16(u.full(name), shape...)
}
