package lora

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/sciflux/sciflux/store/safetensors"
)

// Names of adapter files in folders.
const (
	DiffusersFile = "pytorch_lora_weights.safetensors"
	peftFile      = "adapter_model.safetensors"
	peftConfig    = "adapter_config.json"
)

// pieces is what a file says about one key: a module, or a fused layer of the original naming.
type pieces struct {
	a, b  string // tensor names, "" if absent
	alpha string
}

// Load reads an adapter of the given layers: a file in any of the known namings, or a folder of peft or of diffusers.
// Every module keeps its own rank and scale. Unknown modules, tensors without their other half and shapes that do not
// fit are errors that name all of them.
func Load(path string, layers []Layer) (*Adapter, error) {
	a, err := load(path, layers)
	if err != nil {
		return nil, fmt.Errorf("load adapter %s: %w", path, err)
	}
	return a, nil
}

func load(path string, layers []Layer) (*Adapter, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	scale := ownScale
	if info.IsDir() {
		config, err := readPEFT(filepath.Join(path, peftConfig))
		switch {
		case err == nil:
			path, scale = filepath.Join(path, peftFile), config.scale
		case errors.Is(err, fs.ErrNotExist):
			path = filepath.Join(path, DiffusersFile)
		default:
			return nil, err
		}
	}
	file, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return read(file, layers, scale)
}

// Read makes an adapter of the tensors of an open file, in any of the namings that say their scale in the file.
func Read(file safetensors.Source, layers []Layer) (*Adapter, error) {
	return read(file, layers, ownScale)
}

// ownScale is the scale of a module without further word: alpha/rank with its own alpha, which is 0 when absent, then 1.
func ownScale(_ string, rank int, alpha float64, given bool) (float64, error) {
	if !given {
		return 1, nil
	}
	return alpha / float64(rank), nil
}

// scaler gives the scale of a module of some rank; alpha is the file's own, if given.
type scaler = func(module string, rank int, alpha float64, given bool) (float64, error)

// reader collects the modules of a file.
type reader struct {
	file   safetensors.Source
	scale  scaler
	byName map[string]int   // index in layers
	fused  map[string][]int // indices of the layers that are rows of an original layer, by kohya key
	layers []Layer
	found  map[int]loaded
	faults []string
}

// loaded is a module with its numbers.
type loaded struct {
	Module
	a, b []float32
}

func read(file safetensors.Source, layers []Layer, scale scaler) (*Adapter, error) {
	r := &reader{file: file, scale: scale, layers: layers, byName: map[string]int{}, fused: map[string][]int{}, found: map[int]loaded{}}
	for i, l := range layers {
		r.byName[l.Name] = i
		if l.Original != "" {
			key := kohyaKey(l.Original)
			r.fused[key] = append(r.fused[key], i)
		}
	}
	table := r.table()
	keys := make([]string, 0, len(table))
	for key := range table {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		if err := r.key(key, table[key]); err != nil {
			r.faults = append(r.faults, err.Error())
		}
	}
	if len(r.faults) > 0 {
		return nil, errors.New(strings.Join(r.faults, "; "))
	}
	if len(r.found) == 0 {
		return nil, fmt.Errorf("no module in the file; it holds %d tensors", len(file.Names()))
	}
	return r.adapter(), nil
}

// suffixes of tensor names and which piece they are.
var suffixes = []struct {
	text string
	of   func(*pieces) *string
}{
	{".lora_A.weight", func(p *pieces) *string { return &p.a }},
	{".lora_down.weight", func(p *pieces) *string { return &p.a }},
	{".lora_B.weight", func(p *pieces) *string { return &p.b }},
	{".lora_up.weight", func(p *pieces) *string { return &p.b }},
	{".alpha", func(p *pieces) *string { return &p.alpha }},
}

// table sorts the tensors of the file by module.
func (r *reader) table() map[string]pieces {
	table := map[string]pieces{}
	for _, name := range r.file.Names() {
		known := false
		for _, s := range suffixes {
			key, ok := strings.CutSuffix(name, s.text)
			if !ok {
				continue
			}
			key = strings.TrimPrefix(key, "base_model.model.")
			key = strings.TrimPrefix(key, "transformer.")
			p := table[key]
			if field := s.of(&p); *field == "" {
				*field, known = name, true
				table[key] = p
			}
		}
		if !known {
			r.faults = append(r.faults, fmt.Sprintf("tensor %s is no part of a plain LoRA adapter, or given twice", name))
		}
	}
	return table
}

// key reads one module, or all parts of a fused layer.
func (r *reader) key(key string, p pieces) error {
	if p.a == "" || p.b == "" {
		return fmt.Errorf("module %s has not both A (lora_A, lora_down) and B (lora_B, lora_up)", key)
	}
	parts, kohya := r.fused[key]
	if !kohya {
		i, ok := r.byName[key]
		if !ok {
			return fmt.Errorf("module %s is no linear layer of the model", key)
		}
		parts = []int{i}
	}
	in, out := r.layers[parts[0]].In, 0
	for _, i := range parts {
		out += r.layers[i].Out
	}
	a, err := r.file.Float32(p.a, -1, in)
	if err != nil {
		return err
	}
	rank := len(a) / in
	if rank == 0 {
		return fmt.Errorf("module %s has rank 0", key)
	}
	b, err := r.file.Float32(p.b, out, rank)
	if err != nil {
		return err
	}
	alpha, err := r.alpha(p.alpha)
	if err != nil {
		return err
	}
	scale, err := r.scale(key, rank, alpha, p.alpha != "")
	if err != nil {
		return err
	}
	return r.split(parts, kohya, rank, scale, a, b)
}

func (r *reader) alpha(name string) (float64, error) {
	if name == "" {
		return 0, nil
	}
	v, err := r.file.Float32(name)
	if err != nil {
		return 0, err
	}
	if len(v) != 1 {
		return 0, fmt.Errorf("%s has %d values, want one", name, len(v))
	}
	return float64(v[0]), nil
}

// split gives each part of a fused layer its rows of b, with all of a: the change of a part is scale·(its rows of b)·a. In
// a fused layer, columns of a part's rows that are all zero are left out with their rows of a, which gives block-diagonal
// files their parts' own ranks back; a part that is zero altogether is no module.
func (r *reader) split(parts []int, fused bool, rank int, scale float64, a, b []float32) error {
	for _, i := range parts {
		l := r.layers[i]
		if _, twice := r.found[i]; twice {
			return fmt.Errorf("module %s is given in two namings", l.Name)
		}
		rows := b
		if fused {
			rows = b[l.OriginalRow*rank:][:l.Out*rank]
		}
		m := loaded{Module: Module{Layer: l, Rank: rank, Scale: scale}, a: a, b: rows}
		if len(parts) > 1 {
			m = m.compact()
		}
		if m.Rank > 0 {
			r.found[i] = m
		}
	}
	return nil
}

// compact leaves out the columns of b that are zero.
func (m loaded) compact() loaded {
	var columns []int
	for k := range m.Rank {
		for o := range m.Out {
			if m.b[o*m.Rank+k] != 0 {
				columns = append(columns, k)
				break
			}
		}
	}
	c := loaded{Module: m.Module}
	c.Rank = len(columns)
	for _, k := range columns {
		c.a = append(c.a, m.a[k*m.In:][:m.In]...)
	}
	for o := range m.Out {
		for _, k := range columns {
			c.b = append(c.b, m.b[o*m.Rank+k])
		}
	}
	return c
}

// adapter lays the found modules out in the order of the model.
func (r *reader) adapter() *Adapter {
	indices := make([]int, 0, len(r.found))
	for i := range r.found {
		indices = append(indices, i)
	}
	slices.Sort(indices)
	modules := make([]Module, len(indices))
	for k, i := range indices {
		modules[k] = r.found[i].Module
	}
	a := build(modules)
	for k, i := range indices {
		copy(a.A(a.Modules[k]), r.found[i].a)
		copy(a.B(a.Modules[k]), r.found[i].b)
	}
	return a
}
