package vae

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/weights"
	"github.com/sciflux/sciflux/store/safetensors"
)

// Options of Open.
type Options struct {
	Storage weights.Storage
	// Config is used instead of config.json. nil reads that, and without one takes the sizes from the tensors' shapes and the
	// rest (32 groups, scaling and shift) from FLUX.1.
	Config *Config
}

// Part says how an autoencoder's files are found.
func Part() weights.Kind {
	return weights.Kind{Folder: "vae", Base: "diffusion_pytorch_model", Single: "ae.safetensors", Holds: func(s safetensors.Source) bool {
		_, err := detect(weights.Under(s, prefixes...))
		return err == nil
	}}
}

// prefixes stand before the autoencoder's names in files that hold a whole pipeline.
var prefixes = []string{"vae.", "first_stage_model."}

// Open loads an autoencoder in diffusers or in the original naming: a file; a folder with its weights, whatever the file
// is called; or the pipeline folder round that, which may also hold it as a single file in its root. Close it when done:
// weights may be views of the file.
func Open(path string, be engine.Backend, o Options) (*VAE, error) {
	p, err := Part().Open(path)
	if err != nil {
		return nil, fmt.Errorf("load vae: %w", err)
	}
	fail := func(err error) (*VAE, error) {
		return nil, errors.Join(fmt.Errorf("load vae %s: %w", p.Path, err), p.Close())
	}
	source := weights.Under(p.Set, prefixes...)
	config, err := configOf(p, source, o.Config)
	if err != nil {
		return fail(err)
	}
	v := &VAE{Config: config, be: be, close: p.Close, chunkPixels: defaultChunk}
	if err := v.load(source, o.Storage); err != nil {
		return fail(err)
	}
	return v, nil
}

// configOf is the given config, that of the folder, or FLUX's with the sizes of the file.
func configOf(p *weights.Part, src safetensors.Source, given *Config) (Config, error) {
	if given != nil {
		return *given, given.Validate()
	}
	c, err := ReadConfig(p.Dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	if c, err = shapes(src); err != nil {
		return Config{}, err
	}
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("sizes read from the tensors: %w; put the autoencoder's config.json (diffusers' vae/config.json) into %s",
			err, p.Dir)
	}
	return c, nil
}

// shapes is FLUX's configuration with the sizes that a file's tensors show.
func shapes(src safetensors.Source) (Config, error) {
	original, err := detect(src)
	if err != nil {
		return Config{}, err
	}
	c := FluxConfig()
	n := naming{original: original}
	rows := func(name string) int {
		info, ok := src.Info(name)
		if !ok || len(info.Shape) == 0 {
			return 0
		}
		return info.Shape[0]
	}
	c.BlockOutChannels = nil
	for {
		width := rows(n.resnet(n.down(len(c.BlockOutChannels)), 0) + ".conv1.weight")
		if width == 0 {
			break
		}
		c.BlockOutChannels = append(c.BlockOutChannels, width)
	}
	c.LayersPerBlock = 0
	for rows(n.resnet(n.down(0), c.LayersPerBlock)+".conv1.weight") > 0 {
		c.LayersPerBlock++
	}
	c.LatentChannels = rows("encoder.conv_out.weight") / 2
	return c, nil
}

// declare adds the tensors of layers to a loader.
type declare struct {
	*weights.Loader
	naming
}

func (d declare) norm(n *norm, name string, width int) {
	d.Vector(&n.weight, name+".weight", width)
	d.Vector(&n.bias, name+".bias", width)
}

func (d declare) conv(c *conv, name string, out, in int, at engine.Conv) {
	c.at = at
	d.Conv(&c.weight, name+".weight", out, in, at.Kernel)
	d.Vector(&c.bias, name+".bias", out)
}

func (d declare) resnet(r *resnet, name string, in, out int) {
	d.norm(&r.norm1, name+".norm1", in)
	d.conv(&r.conv1, name+".conv1", out, in, same(3))
	d.norm(&r.norm2, name+".norm2", out)
	d.conv(&r.conv2, name+".conv2", out, out, same(3))
	if in != out {
		r.shortcut = &conv{}
		d.conv(r.shortcut, name+d.pick(".conv_shortcut", ".nin_shortcut"), out, in, same(1))
	}
}

func (d declare) middle(m *middle, half string, width int, attend bool) {
	d.resnet(&m.first, d.midResnet(half, 0), width, width)
	d.resnet(&m.second, d.midResnet(half, 1), width, width)
	if !attend {
		return
	}
	m.attention = &attention{}
	a := m.attention
	base := d.attention(half)
	d.norm(&a.norm, base+d.pick(".group_norm", ".norm"), width)
	var matrices, vectors []string
	for _, part := range []string{d.pick(".to_q", ".q"), d.pick(".to_k", ".k"), d.pick(".to_v", ".v")} {
		matrices = append(matrices, base+part+".weight")
		vectors = append(vectors, base+part+".bias")
	}
	var extra []int // the original file stores these matrices as 1×1 convolutions
	if d.original {
		extra = []int{1, 1}
	}
	out := base + d.pick(".to_out.0", ".proj_out")
	d.Stack(&a.qkv, matrices, []int{width, width, width}, width, extra...)
	d.Vectors(&a.qkvBias, vectors, []int{width, width, width})
	d.Stack(&a.out, []string{out + ".weight"}, []int{width}, width, extra...)
	d.Vector(&a.toBias, out+".bias", width)
}

func (v *VAE) load(src safetensors.Source, storage weights.Storage) error {
	original, err := detect(src)
	if err != nil {
		return err
	}
	d := declare{weights.NewLoader(src, storage), naming{original, len(v.Config.BlockOutChannels)}}
	d.encoder(&v.encoder, v.Config)
	d.decoder(&v.decoder, v.Config)
	if err := d.Load(); err != nil {
		return err
	}
	v.Notes = d.Notes()
	return nil
}

func (d declare) encoder(e *half, c Config) {
	width := c.BlockOutChannels[0]
	d.conv(&e.in, "encoder.conv_in", width, c.InChannels, same(3))
	e.levels = make([]level, d.levels)
	for i, out := range c.BlockOutChannels {
		l := &e.levels[i]
		d.level(l, d.down(i), width, out, c.LayersPerBlock)
		if i < d.levels-1 {
			l.downsample = &conv{}
			d.conv(l.downsample, d.down(i)+d.pick(".downsamplers.0.conv", ".downsample.conv"), out, out, halving)
		}
		width = out
	}
	d.middle(&e.mid, "encoder", width, c.MidAttention)
	d.head(&e.out, "encoder", width, 2*c.LatentChannels)
}

func (d declare) decoder(e *half, c Config) {
	width := c.BlockOutChannels[d.levels-1]
	d.conv(&e.in, "decoder.conv_in", width, c.LatentChannels, same(3))
	d.middle(&e.mid, "decoder", width, c.MidAttention)
	e.levels = make([]level, d.levels)
	for i := range e.levels {
		l, out := &e.levels[i], c.BlockOutChannels[d.levels-1-i]
		d.level(l, d.up(i), width, out, c.LayersPerBlock+1)
		if i < d.levels-1 {
			l.upsample = &conv{}
			d.conv(l.upsample, d.up(i)+d.pick(".upsamplers.0.conv", ".upsample.conv"), out, out, same(3))
		}
		width = out
	}
	d.head(&e.out, "decoder", width, c.OutChannels)
}

func (d declare) level(l *level, name string, in, out, count int) {
	l.resnets = make([]resnet, count)
	for j := range l.resnets {
		d.resnet(&l.resnets[j], d.naming.resnet(name, j), in, out)
		in = out
	}
}

func (d declare) head(h *head, half string, in, out int) {
	d.norm(&h.norm, half+d.pick(".conv_norm_out", ".norm_out"), in)
	d.conv(&h.conv, half+".conv_out", out, in, same(3))
}
