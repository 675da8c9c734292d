package safetensors

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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

// OpenDir opens base.safetensors.index.json with its shards, or else base.safetensors, in dir. base is
// "diffusion_pytorch_model" or "model" in Hugging Face folders. Shards may be symbolic links, as in hub
// caches, but an index may only give plain file names. Errors are *Error: a shard that is absent, or that
// lacks a tensor the index promises, is missing_tensor.
func OpenDir(dir, base string) (*Set, error) {
	single := filepath.Join(dir, base+".safetensors")
	index := single + ".index.json"
	text, err := os.ReadFile(index)
	if errors.Is(err, fs.ErrNotExist) {
		f, err := Open(single)
		if err != nil {
			return nil, err
		}
		return newSet([]*File{f}, nil)
	}
	if err != nil {
		return nil, &Error{Class: IO, File: index, Detail: "open", Err: err}
	}
	shards, err := parseIndex(text)
	if err != nil {
		return nil, inFile(err, index)
	}
	files, err := openShards(dir, shards)
	if err != nil {
		return nil, err
	}
	return newSet(files, shards)
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
				return nil, &Error{Class: MissingTensor, File: filepath.Join(dir, file), Tensor: first[file], Detail: "the index names a shard that is absent", Err: fs.ErrNotExist}
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
