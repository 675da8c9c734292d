package safetensors

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"
)

// Set is the weights of a model folder: one file, or shards tied together by an index.
type Set struct {
	files []*File // in order of their names
	where map[string]*File
	names []string
}

// OpenDir opens the weights in dir: base.safetensors.index.json with its shards, or else base.safetensors, or
// else the only file of weights there under another name, such as flux1-dev.safetensors. base is
// "diffusion_pytorch_model" or "model" in Hugging Face folders. Shards may be symbolic links, as in hub
// caches, but an index may only give plain file names. Errors are *Error: a shard that is absent, or that
// lacks a tensor the index promises, is missing_tensor.
func OpenDir(dir, base string) (*Set, error) {
	path, err := Locate(dir, base)
	if err != nil {
		return nil, err
	}
	if !strings.HasSuffix(path, indexSuffix) {
		return OpenFile(path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, &Error{Class: IO, File: path, Detail: "open", Err: err}
	}
	shards, err := parseIndex(text)
	if err != nil {
		return nil, inFile(err, path)
	}
	files, err := openShards(dir, shards)
	if err != nil {
		return nil, err
	}
	return newSet(files, shards)
}

// OpenFile opens one file as a set.
func OpenFile(path string) (*Set, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	return newSet([]*File{f}, nil)
}

// indexSuffix ends the name of the file that ties shards together.
const indexSuffix = ".safetensors.index.json"

// Locate finds the file that OpenDir would open first: an index, or the file of weights. An index counts
// before a file, base before other names. Several files of other names are ambiguous.
func Locate(dir, base string) (string, error) {
	single := filepath.Join(dir, base+".safetensors")
	for _, path := range []string{filepath.Join(dir, base+indexSuffix), single} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", &Error{Class: IO, File: path, Detail: "open", Err: err}
		}
	}
	names, err := Files(dir)
	if err != nil {
		return "", &Error{Class: IO, File: single, Detail: "open", Err: err}
	}
	indices := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !strings.HasSuffix(name, indexSuffix) })
	switch {
	case len(indices) == 1 || len(names) == 1:
		return filepath.Join(dir, append(indices, names...)[0]), nil
	case len(names) > 1 && len(indices) == 0 && isShard(names[0]):
		return "", &Error{Class: MissingTensor, File: filepath.Join(dir, base+indexSuffix),
			Detail: "the folder holds shards (" + shorten(names) + ") without the index that ties them together"}
	case len(names) > 1:
		return "", &Error{Class: Ambiguous, File: dir, Detail: fmt.Sprintf("no %s, and several files that could be meant: %s",
			filepath.Base(single), shorten(names))}
	}
	detail := "open"
	if other := foreignIn(dir); other != "" {
		detail = fmt.Sprintf("not there, and %s is of a format that is not read: give the weights as safetensors, not quantised", other)
	}
	return "", &Error{Class: IO, File: single, Detail: detail, Err: fs.ErrNotExist}
}

// Files lists the names in dir that a reader of weights looks at, sorted: *.safetensors, *.sft (as FLUX's
// authors once called them) and indices.
func Files(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		lower := strings.ToLower(name)
		if !e.IsDir() && (strings.HasSuffix(lower, ".safetensors") || strings.HasSuffix(lower, ".sft") || strings.HasSuffix(name, indexSuffix)) {
			names = append(names, name)
		}
	}
	return names, nil
}

// isShard tells whether a file is called as one of several: NAME-00001-of-00003.safetensors.
func isShard(name string) bool {
	var part, of int
	at := strings.LastIndex(name, "-of-")
	if at < len("-00001") {
		return false
	}
	_, err := fmt.Sscanf(name[at-len("-00001"):], "-%05d-of-%05d.", &part, &of)
	return err == nil
}

// parseIndex returns tensor name -> file name.
func parseIndex(text []byte) (map[string]string, error) {
	if !utf8.Valid(text) {
		return nil, refuse(BadJSON, "", "index is not UTF-8")
	}
	p := newParser(text)
	var shards map[string]string
	err := p.object(func(key string) error {
		if key != "weight_map" {
			return p.skip()
		}
		if shards != nil {
			return refuse(Duplicate, "", "weight_map is given twice")
		}
		shards = map[string]string{}
		return p.object(func(name string) error {
			file, err := p.string()
			if err != nil {
				return inTensor(err, name)
			}
			if _, seen := shards[name]; seen {
				return refuse(Duplicate, name, "the index gives the name twice")
			}
			if !plainName(file) {
				return refuse(BadPath, name, "the index names the file %q", file)
			}
			shards[name] = file
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	if shards == nil {
		return nil, refuse(BadJSON, "", "index without weight_map")
	}
	if len(shards) == 0 {
		return nil, refuse(MissingTensor, "", "the index names no tensor")
	}
	return shards, p.end(" \t\r\n")
}

func plainName(file string) bool {
	return file != "" && file != "." && file != ".." && !strings.ContainsAny(file, "/\\\x00:")
}

// skip passes over one value of any kind.
func (p *parser) skip() error {
	var value json.RawMessage
	if err := p.dec.Decode(&value); err != nil {
		return &Error{Class: BadJSON, Detail: "broken JSON", Err: err}
	}
	return nil
}

func openShards(dir string, shards map[string]string) ([]*File, error) {
	first := map[string]string{} // file -> the first tensor it should hold, for the message
	for name, file := range shards {
		if have, ok := first[file]; !ok || name < have {
			first[file] = name
		}
	}
	order := make([]string, 0, len(first))
	for file := range first {
		order = append(order, file)
	}
	sort.Strings(order)
	var files []*File
	for _, file := range order {
		f, err := Open(filepath.Join(dir, file))
		if err != nil {
			_ = closeAll(files)
			if errors.Is(err, fs.ErrNotExist) {
				return nil, &Error{Class: MissingTensor, File: filepath.Join(dir, file), Tensor: first[file],
					Detail: "the index names a shard that is absent", Err: fs.ErrNotExist}
			}
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// newSet takes over files. shards, if any, says which file a tensor is read from; tensors that no index
// mentions are kept, so that a model can report them as unexpected.
func newSet(files []*File, shards map[string]string) (*Set, error) {
	s := &Set{files: files, where: map[string]*File{}}
	byName := map[string]*File{}
	for _, f := range files {
		byName[filepath.Base(f.path)] = f
		for _, t := range f.tensors {
			if s.where[t.Name] == nil {
				s.where[t.Name] = f
			}
		}
	}
	promised := make([]string, 0, len(shards))
	for name := range shards {
		promised = append(promised, name)
	}
	sort.Strings(promised)
	for _, name := range promised {
		f := byName[shards[name]]
		if _, ok := f.Info(name); !ok {
			_ = closeAll(files)
			return nil, &Error{Class: MissingTensor, File: f.path, Tensor: name, Detail: "the index says it is in this shard, it is not"}
		}
		s.where[name] = f
	}
	for name := range s.where {
		s.names = append(s.names, name)
	}
	sort.Strings(s.names)
	return s, nil
}

func closeAll(files []*File) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// Close releases all files.
func (s *Set) Close() error { return closeAll(s.files) }

// Names returns the tensor names in lexical order.
func (s *Set) Names() []string { return append([]string(nil), s.names...) }

// Files returns the open files in order of their names.
func (s *Set) Files() []*File { return append([]*File(nil), s.files...) }

// Info returns dtype and shape of a tensor, and whether it is there.
func (s *Set) Info(name string) (Info, bool) {
	if f := s.where[name]; f != nil {
		return f.Info(name)
	}
	return Info{}, false
}

func (s *Set) file(name string) (*File, error) {
	if f := s.where[name]; f != nil {
		return f, nil
	}
	return nil, inFile(refuse(MissingTensor, name, "not in the model's files"), filepath.Dir(s.files[0].path))
}

// Bytes returns a view of a tensor's bytes; see File.Bytes.
func (s *Set) Bytes(name string) ([]byte, error) {
	f, err := s.file(name)
	if err != nil {
		return nil, err
	}
	return f.Bytes(name)
}

// Float32 returns a tensor's elements; see File.Float32.
func (s *Set) Float32(name string, shape ...int) ([]float32, error) {
	f, err := s.file(name)
	if err != nil {
		return nil, err
	}
	return f.Float32(name, shape...)
}

// BFloat16 returns a tensor's elements as bfloat16 bits; see File.BFloat16.
func (s *Set) BFloat16(name string, shape ...int) ([]uint16, error) {
	f, err := s.file(name)
	if err != nil {
		return nil, err
	}
	return f.BFloat16(name, shape...)
}
