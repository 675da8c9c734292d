package flux

import (
	"errors"
	"fmt"
	"io/fs"
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
	Notes []string // which tensors are not used as the file has them

	layers  map[string]engine.Layer // by full name
	stacked map[string]engine.Layer // groups of layers whose rows lie together, by the first layer
	norms   map[string][]float32
	blocks  map[string]*block
	close   func() error
}

// Part says how a transformer's files are found.
func Part() weights.Kind {
	return weights.Kind{Folder: "transformer", Base: weightsBase, Single: "flux1-dev.safetensors", Holds: holds}
}

// prefixes stand before every name in community copies of the original file.
var prefixes = []string{"model.diffusion_model.", "diffusion_model."}

// holds tells whether a file has a transformer in one of the namings.
func holds(s safetensors.Source) bool {
	s = weights.Under(s, prefixes...)
	for _, first := range [][2]string{{"img_in.weight", "double_blocks.0.img_mod.lin.weight"}, {"x_embedder.weight",
		"transformer_blocks.0.norm1.linear.weight"}} {
		_, embedder := s.Info(first[0])
		if _, block := s.Info(first[1]); embedder && block {
			return true
		}
	}
	return false
}

// Load opens a transformer in diffusers or in the original naming: a file; a folder with its weights, whatever the file is
// called; or the pipeline folder round that, which may also hold it as a single file in its root. Sizes come from
// config.json in the folder, else from the tensors' shapes. Weights are used from the mapped file in place. Refusals of
// files are *safetensors.Error and name every tensor concerned.
func Load(path string, o Options) (*Model, error) {
	p, err := Part().Open(path)
	if err != nil {
		return nil, fmt.Errorf("load transformer: %w", err)
	}
	source := weights.Under(p.Set, prefixes...)
	_, original := source.Info("img_in.weight")
	c, err := ReadConfig(p.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		c, err = shapes(source, original).Complete()
		if err != nil {
			err = fmt.Errorf("sizes read from the tensors of %s: %w; put the model's config.json (diffusers' transformer/config.json) into %s",
				p.Path, err, p.Dir)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load transformer: %w", err), p.Close())
	}
	declare := declareDiffusers
	if original {
		declare = declareOriginal
	}
	return fill(p.Path, c, source, p.Close, o, declare)
}

// shapes is FLUX.1's configuration with the sizes that a file's tensors show. Those of absent tensors stay, so that the
// tensors are missed by name.
func shapes(s safetensors.Source, original bool) Config {
	c := Dev()
	name := func(diffusers, originally string) string {
		if original {
			return originally
		}
		return diffusers
	}
	size := func(into *int, axis int, name string) {
		if info, ok := s.Info(name); ok && len(info.Shape) > axis {
			*into = info.Shape[axis]
		}
	}
	count := func(pattern string) int {
		n := 0
		for ; ; n++ {
			if _, ok := s.Info(fmt.Sprintf(pattern, n)); !ok {
				return n
			}
		}
	}
	width := c.Width()
	size(&width, 0, name("x_embedder.weight", "img_in.weight"))
	size(&c.InChannels, 1, name("x_embedder.weight", "img_in.weight"))
	size(&c.TextWidth, 1, name("context_embedder.weight", "txt_in.weight"))
	size(&c.PooledWidth, 1, name("time_text_embed.text_embedder.linear_1.weight", "vector_in.in_layer.weight"))
	size(&c.OutChannels, 0, name("proj_out.weight", "final_layer.linear.weight"))
	size(&c.HeadDim, 0, name("transformer_blocks.0.attn.norm_q.weight", "double_blocks.0.img_attn.norm.query_norm.scale"))
	c.Heads = width / max(1, c.HeadDim)
	c.DoubleBlocks = count(name("transformer_blocks.%d.norm1.linear.weight", "double_blocks.%d.img_mod.lin.weight"))
	c.SingleBlocks = count(name("single_transformer_blocks.%d.norm.linear.weight", "single_blocks.%d.modulation.lin.weight"))
	_, c.GuidanceEmbed = s.Info(name("time_text_embed.guidance_embedder.linear_1.weight", "guidance_in.in_layer.weight"))
	return c
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
	m.Notes = loader.Notes()
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
