package flux

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/weights"
	"github.com/sciflux/sciflux/store/safetensors"
)

const weightsBase = "diffusion_pytorch_model"

// Options choose how a model is loaded.
type Options struct {
	Storage weights.Storage // of the matrices; the zero value leaves them as the file has them
	// Compute is what the layers that multiply tokens inside the blocks compute in: nearly all of the work. Embedders,
	// modulation, norms, attention and adapters stay float32.
	Compute engine.DType
}

// Model is a loaded transformer. Its weights are frozen; any number of goroutines may use it.
type Model struct {
	Config

	layers  map[string]engine.Layer // by full name
	stacked map[string]engine.Layer // groups of layers whose rows lie together, by the first layer
	norms   map[string][]float32
	blocks  map[string]*block
	close   func() error
}

// Load opens a transformer: a folder in diffusers layout (also the pipeline folder around it), or one file in the original
// or in diffusers naming with its config.json beside it; without one a file has the shape of FLUX.1. Weights are used
// from the mapped file in place. Refusals of files are *safetensors.Error and name every tensor concerned.
func Load(path string, o Options) (*Model, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("load transformer: %w; give a model folder or a .safetensors file", err)
	}
	if !info.IsDir() {
		return loadFile(path, o)
	}
	if inner := filepath.Join(path, "transformer"); exists(filepath.Join(path, "model_index.json")) && exists(inner) {
		path = inner
	}
	c, err := ReadConfig(path)
	if err != nil {
		return nil, fmt.Errorf("load transformer: %w", err)
	}
	set, err := safetensors.OpenDir(path, weightsBase)
	if err != nil {
		return nil, fmt.Errorf("load transformer %s: %w", path, err)
	}
	return fill(path, c, set, set.Close, o, declareDiffusers)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func loadFile(path string, o Options) (*Model, error) {
	file, err := safetensors.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load transformer: %w", err)
	}
	source := withoutPrefix(file)
	_, original := source.Info("img_in.weight")
	c, err := ReadConfig(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		c, err = Dev(), nil
		_, guided := source.Info("guidance_in.in_layer.weight")
		_, alsoGuided := source.Info("time_text_embed.guidance_embedder.linear_1.weight")
		c.GuidanceEmbed = guided || alsoGuided
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load transformer: %w", err), file.Close())
	}
	declare := declareDiffusers
	if original {
		declare = declareOriginal
	}
	return fill(path, c, source, file.Close, o, declare)
}

// fill declares all tensors, checks them and builds the model.
func fill(path string, c Config, s safetensors.Source, closer func() error, o Options, declare func(*Model, *weights.Loader) (finish func())) (*Model, error) {
	m := &Model{Config: c, layers: map[string]engine.Layer{}, stacked: map[string]engine.Layer{}, norms: map[string][]float32{}, blocks: c.blockTable(), close: closer}
	loader := weights.NewLoader(s, o.Storage)
	finish := declare(m, loader)
	if err := loader.Load(); err != nil {
		return nil, errors.Join(fmt.Errorf("load transformer %s: %w", path, err), closer())
	}
	finish()
	m.computeIn(o.Compute)
	return m, nil
}

func (m *Model) computeIn(d engine.DType) {
	for _, b := range m.blocks {
		for _, group := range b.groups {
			if b.prefix == outside || strings.HasPrefix(b.local(group[0]), "norm") {
				continue
			}
			for _, name := range group {
				m.layers[name].Weight.Compute = d
			}
			if stack, ok := m.stacked[group[0]]; ok {
				stack.Weight.Compute = d
			}
		}
	}
}

// Close releases the mapped files; the model must not be used afterwards.
func (m *Model) Close() error { return m.close() }

// Layer finds a linear layer by its diffusers path.
func (m *Model) Layer(name string) (engine.Layer, bool) {
	l, ok := m.layers[name]
	return l, ok
}

// slot is a tensor pair while it is being loaded.
type slot struct {
	weight *engine.Weight
	bias   []float32
}

func declareDiffusers(m *Model, l *weights.Loader) func() {
	slots := map[string]*slot{}
	for _, d := range m.Layers() {
		s := &slot{}
		slots[d.Name] = s
		l.Matrix(&s.weight, d.Name+".weight", d.Out, d.In)
		l.Vector(&s.bias, d.Name+".bias", d.Out)
	}
	finishNorms := m.declareNorms(l, func(n norm) string { return n.name + ".weight" })
	return func() {
		for name, s := range slots {
			m.layers[name] = engine.Layer{Weight: s.weight, Bias: s.bias}
		}
		m.stackGroups()
		finishNorms()
	}
}

func (m *Model) declareNorms(l *weights.Loader, file func(norm) string) func() {
	values := map[string]*[]float32{}
	for _, n := range m.Config.norms() {
		v := new([]float32)
		values[n.name] = v
		l.Vector(v, file(n), m.HeadDim)
	}
	return func() {
		for name, v := range values {
			m.norms[name] = *v
		}
	}
}

// withoutPrefix hides the prefix that community copies of the original file carry before every name.
func withoutPrefix(s safetensors.Source) safetensors.Source {
	const prefix = "model.diffusion_model."
	for _, name := range s.Names() {
		if strings.HasPrefix(name, prefix) {
			return prefixed{s, prefix}
		}
	}
	return s
}

// prefixed is a source whose names are shown without a prefix; names that lack it stay as they are.
type prefixed struct {
	inner  safetensors.Source
	prefix string
}

func (p prefixed) Names() []string {
	names := make([]string, 0, len(p.inner.Names()))
	for _, name := range p.inner.Names() {
		names = append(names, strings.TrimPrefix(name, p.prefix))
	}
	return names
}

func (p prefixed) full(name string) string {
	if _, ok := p.inner.Info(p.prefix + name); ok {
		return p.prefix + name
	}
	return name
}

func (p prefixed) Info(name string) (safetensors.Info, bool) { return p.inner.Info(p.full(name)) }
func (p prefixed) Bytes(name string) ([]byte, error)         { return p.inner.Bytes(p.full(name)) }
func (p prefixed) Float32(name string, shape ...int) ([]float32, error) {
	return p.inner.Float32(p.full(name), shape...)
}
func (p prefixed) BFloat16(name string, shape ...int) ([]uint16, error) {
	return p.inner.BFloat16(p.full(name), shape...)
}
