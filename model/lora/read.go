package lora

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/sciflux/sciflux/store/safetensors"
)

// Names of adapter files in folders.
const (
	DiffusersFile  = "pytorch_lora_weights.safetensors"
	PEFTFile       = "adapter_model.safetensors"
	PEFTConfigFile = "adapter_config.json"
)

// Load reads an adapter of the given layers: a file in any of the known namings, or a folder of peft, of diffusers, or
// with one safetensors file. Every module keeps its own rank and alpha: those of its .alpha tensor, else those of
// adapter_config.json or of the header, else alpha is the rank. Unknown modules, tensors without their other half and
// shapes that do not fit are errors that name all of them; what is left out is told in Notes.
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
	folder := filepath.Dir(path)
	if info.IsDir() {
		folder = path
		if path, err = fileIn(folder); err != nil {
			return nil, err
		}
	}
	var config *peft
	if name := filepath.Base(path); info.IsDir() || name == PEFTFile || name == DiffusersFile {
		config, err = readPEFT(filepath.Join(folder, PEFTConfigFile))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	file, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return read(file, layers, config)
}

// fileIn is the adapter's file in a folder: peft's, diffusers', or the only one.
func fileIn(folder string) (string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return "", err
	}
	var found, other []string
	for _, e := range entries {
		switch name := e.Name(); {
		case name == PEFTFile || name == DiffusersFile:
			found = append(found, name)
		case strings.HasSuffix(name, ".safetensors"):
			other = append(other, name)
		}
	}
	if len(found) == 0 {
		found = other
	}
	switch len(found) {
	case 1:
		return filepath.Join(folder, found[0]), nil
	case 0:
		return "", fmt.Errorf("no .safetensors file in the folder; save the adapter as safetensors, pickles (.bin, .pt) are not read")
	}
	return "", fmt.Errorf("several adapters in the folder, %s; name one of the files", some(found))
}

// Read makes an adapter of the tensors of an open file, in any of the namings, with what its header says.
func Read(file safetensors.Source, layers []Layer) (*Adapter, error) { return read(file, layers, nil) }

// reader collects the modules of a file.
type reader struct {
	file    safetensors.Source
	config  *peft // what goes for modules without an .alpha of their own; nil: nothing is said
	layers  []Layer
	namings namings
	ranks   map[string]int // of the parts of fused layers, where our own writer says them
	found   map[int]loaded
	faults  []string
	notes   []string
	empty   []string // parts of fused layers that have no columns
}

// pieces are the names of the tensors of one path; "" if absent.
type pieces [3]string

// loaded is a module with its numbers.
type loaded struct {
	Module
	a, b []float32
}

func read(file safetensors.Source, layers []Layer, config *peft) (*Adapter, error) {
	if config == nil {
		var err error
		if config, err = headerPEFT(file); err != nil {
			return nil, err
		}
	}
	r := &reader{file: file, config: config, layers: layers, namings: newNamings(layers), ranks: writtenRanks(file),
		found: map[int]loaded{}}
	table := r.table()
	paths := make([]string, 0, len(table))
	for path := range table {
		paths = append(paths, path)
	}
	sort.Strings(paths)
	unknown, alone := 0, 0
	for _, path := range paths {
		bare, t, ok := r.namings.find(path)
		if !ok {
			unknown++
			r.faults = append(r.faults, fmt.Sprintf("module %s is no linear layer of the model", bare))
			continue
		}
		if strings.HasPrefix(path, peftPrefix) && table[path][pieceAlpha] == "" && r.config == nil {
			alone++
		}
		if err := r.module(bare, t, table[path]); err != nil {
			r.faults = append(r.faults, err.Error())
		}
	}
	if alone > 0 {
		r.notes = append(r.notes, fmt.Sprintf("no %s and no alpha comes with PEFT's names: that of %d modules is taken as their rank",
			PEFTConfigFile, alone))
	}
	if unknown > 0 && unknown == len(paths) {
		r.faults = append([]string{unknownNaming(paths[0])}, r.faults...)
	}
	return r.adapter()
}

// table sorts the tensors of the file by path.
func (r *reader) table() map[string]pieces {
	table, texts, adapters := map[string]pieces{}, map[string]int{}, map[string]bool{}
	var stray []string
	for _, name := range r.file.Names() {
		if prefix, ok := textPrefix(name); ok {
			texts[prefix]++
			continue
		}
		path, p, adapter, ok := cutPiece(name)
		if !ok {
			stray = append(stray, name)
			continue
		}
		if adapter != "" {
			adapters[adapter] = true
		}
		at := table[path]
		if at[p] != "" {
			r.faults = append(r.faults, fmt.Sprintf("%s is given twice, as %s and %s", path, at[p], name))
		}
		at[p] = name
		table[path] = at
	}
	r.faults = append(r.faults, strays(stray)...)
	if len(adapters) > 1 {
		r.faults = append(r.faults, fmt.Sprintf("several adapters in the file: %s; keep one", strings.Join(sortedKeys(adapters), ", ")))
	}
	if prefixes := sortedKeys(texts); len(prefixes) > 0 {
		total := 0
		for _, n := range texts {
			total += n
		}
		r.notes = append(r.notes, fmt.Sprintf("%d tensors of text encoders (%s) are left out: only the transformer is adapted", total,
			strings.Join(prefixes, ", ")))
	}
	return table
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// module reads what a path names: one module, or all parts of a fused layer.
func (r *reader) module(path string, t target, p pieces) error {
	if p[pieceA] == "" || p[pieceB] == "" {
		return fmt.Errorf("module %s has not both A (lora_A, lora_down) and B (lora_B, lora_up)", path)
	}
	in, out := r.layers[t.parts[0]].In, 0
	for _, i := range t.parts {
		out += r.layers[i].Out
	}
	a, err := r.numbers(p[pieceA], -1, in)
	if err != nil {
		return err
	}
	rank := len(a) / in
	if rank == 0 {
		return fmt.Errorf("module %s has rank 0", path)
	}
	b, err := r.numbers(p[pieceB], out, rank)
	if err != nil {
		return err
	}
	m, err := r.scaled(path, rank, p[pieceAlpha])
	if err != nil {
		return err
	}
	return r.split(t, loaded{Module: m, a: a, b: b})
}

// numbers reads a tensor and refuses what no training leaves behind.
func (r *reader) numbers(name string, shape ...int) ([]float32, error) {
	values, err := r.file.Float32(name, shape...)
	if err != nil {
		return nil, err
	}
	for i, v := range values {
		if !finite(v) {
			return nil, fmt.Errorf("tensor %s holds %v at element %d; take a checkpoint from before the training diverged", name, v, i)
		}
	}
	return values, nil
}

// scaled is a module of some rank with the alpha that counts for its path.
func (r *reader) scaled(path string, rank int, alpha string) (Module, error) {
	if alpha == "" && r.config == nil {
		return Module{Rank: rank, Alpha: float64(rank)}, nil
	}
	if alpha == "" {
		return r.config.module(path, rank)
	}
	value, err := r.alpha(alpha)
	if err != nil {
		return Module{}, err
	}
	m := Module{Rank: rank, Alpha: value}
	if !finite(m.Scale()) {
		return Module{}, fmt.Errorf("tensor %s holds %v, which is no finite scale", alpha, value)
	}
	return m, nil
}

// alpha reads a scalar of any shape; float64 as it stands.
func (r *reader) alpha(name string) (float64, error) {
	v, err := r.file.Float32(name)
	if err != nil {
		return 0, err
	}
	if len(v) != 1 {
		return 0, fmt.Errorf("%s has %d values, want one", name, len(v))
	}
	if info, _ := r.file.Info(name); info.DType == safetensors.F64 {
		raw, err := r.file.Bytes(name)
		if err != nil {
			return 0, err
		}
		return math.Float64frombits(binary.LittleEndian.Uint64(raw)), nil
	}
	return float64(v[0]), nil
}

// adapter lays the found modules out in the order of the model.
func (r *reader) adapter() (*Adapter, error) {
	const shown = 12
	if n := len(r.faults); n > shown {
		r.faults = append(r.faults[:shown:shown], fmt.Sprintf("and %d more", n-shown))
	}
	if len(r.faults) > 0 {
		return nil, errors.New(strings.Join(r.faults, "; "))
	}
	if len(r.found) == 0 {
		return nil, fmt.Errorf("no module of the transformer in the file, which holds %d tensors; %s", len(r.file.Names()),
			strings.Join(r.notes, "; "))
	}
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
	if len(r.empty) > 0 {
		r.notes = append(r.notes, fmt.Sprintf("parts of fused layers that no column belongs to get no adapter: %s", some(r.empty)))
	}
	a.Notes = r.notes
	return a, nil
}
