package parity

import (
	"context"
	"errors"
	"fmt"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/clip"
	"github.com/sciflux/sciflux/model/t5"
	"github.com/sciflux/sciflux/model/vae"
	"github.com/sciflux/sciflux/model/weights"
)

// storage is how a case's weights are kept: rounded to bfloat16 when it is judged in that arithmetic.
func (o Options) storage() weights.Storage {
	if o.DType == BFloat16 {
		return weights.BFloat16
	}
	return weights.AsStored
}

// prepare returns what every case with a model needs: its path and a backend.
func prepare(c *Case, o Options) (path string, be engine.Backend, err error) {
	if path, err = c.ModelPath(); err != nil {
		return "", nil, err
	}
	be, err = o.Backend()
	return path, be, err
}

// hostInput is an input tensor as float32 in host memory.
func (c *Case) hostInput(name string) (*engine.Tensor, error) {
	t, err := c.Input(name)
	if err != nil {
		return nil, err
	}
	data, err := t.Float32s()
	if err != nil {
		return nil, fmt.Errorf("input %s: %w", name, err)
	}
	return engine.Wrap(data, t.Shape...), nil
}

// tokenInput is the input ids [B, L].
func (c *Case) tokenInput() (ids []int32, length int, err error) {
	t, err := c.Input("ids")
	if err != nil {
		return nil, 0, err
	}
	wide, err := t.Ints()
	if err != nil || len(t.Shape) != 2 {
		return nil, 0, fmt.Errorf("input ids: shape %v, dtype %s: integers [B, L] wanted", t.Shape, t.DType)
	}
	for _, id := range wide {
		ids = append(ids, int32(id))
	}
	return ids, t.Shape[1], nil
}

// tensor records a host tensor.
func (o *Outputs) tensor(name string, t *engine.Tensor) { o.Float32(name, t.Shape, t.Floats()) }

type vaeArgs struct {
	Mode   string `json:"mode"`
	Layout string `json:"layout"`
	Config *struct {
		Channels []int   `json:"block_out_channels"`
		Layers   int     `json:"layers_per_block"`
		Latent   int     `json:"latent_channels"`
		Groups   int     `json:"norm_num_groups"`
		Scaling  float64 `json:"scaling_factor"`
		Shift    float64 `json:"shift_factor"`
	} `json:"config"`
}

// config is FLUX's with the case's sizes, nil when the model brings its own.
func (a vaeArgs) config() *vae.Config {
	if a.Config == nil {
		return nil
	}
	c := vae.FluxConfig()
	c.BlockOutChannels, c.LayersPerBlock, c.LatentChannels = a.Config.Channels, a.Config.Layers, a.Config.Latent
	c.NormNumGroups, c.ScalingFactor, c.ShiftFactor = a.Config.Groups, a.Config.Scaling, a.Config.Shift
	return &c
}

// vaeLayouts names the tensor that tells a file layout of the autoencoder from the other.
var vaeLayouts = map[string]string{"diffusers": "decoder.conv_norm_out.weight", "bfl": "decoder.norm_out.weight"}

// checkLayout refuses a case whose file is in another layout than the case says.
func (a vaeArgs) checkLayout(c *Case, path string) error {
	tensor, ok := vaeLayouts[a.Layout]
	if !ok {
		return fmt.Errorf("case %s: layout %q is unknown; known: %v", c.Name, a.Layout, sortedKeys(vaeLayouts))
	}
	part, err := vae.Part().Open(path)
	if err != nil {
		return fmt.Errorf("case %s: %w", c.Name, err)
	}
	if _, ok := part.Set.Info(tensor); !ok {
		err = fmt.Errorf("case %s: the autoencoder is not in the layout %s: it has no %s", c.Name, a.Layout, tensor)
	}
	return errors.Join(err, part.Close())
}

func runVAE(ctx context.Context, c *Case, o Options) (*Outputs, error) {
	var args vaeArgs
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	path, be, err := prepare(c, o)
	if err != nil {
		return nil, err
	}
	if err := args.checkLayout(c, path); err != nil {
		return nil, err
	}
	v, err := vae.Open(path, be, vae.Options{Storage: o.storage(), Config: args.config()})
	if err != nil {
		return nil, err
	}
	defer v.Close()
	switch args.Mode {
	case "encode":
		return encodeImage(ctx, c, v)
	case "decode":
		return decodeLatent(ctx, c, v)
	}
	return nil, fmt.Errorf("mode %q: encode or decode wanted", args.Mode)
}

func encodeImage(ctx context.Context, c *Case, v *vae.VAE) (*Outputs, error) {
	image, err := c.hostInput("image")
	if err != nil {
		return nil, err
	}
	noise, err := c.hostInput("noise")
	if err != nil {
		return nil, err
	}
	p, err := v.Encode(ctx, image)
	if err != nil {
		return nil, err
	}
	sample, err := v.Sample(p, noise.Floats())
	if err != nil {
		return nil, err
	}
	out := NewOutputs()
	out.tensor("mean", p.Mean)
	out.tensor("logvar", p.LogVar)
	out.tensor("latent", v.Latent(p))
	out.tensor("sample", sample)
	return out, nil
}

func decodeLatent(ctx context.Context, c *Case, v *vae.VAE) (*Outputs, error) {
	latent, err := c.hostInput("latent")
	if err != nil {
		return nil, err
	}
	image, err := v.Decode(ctx, latent)
	if err != nil {
		return nil, err
	}
	out := NewOutputs()
	out.tensor("image", image)
	return out, nil
}

func runT5(ctx context.Context, c *Case, o Options) (*Outputs, error) {
	path, be, err := prepare(c, o)
	if err != nil {
		return nil, err
	}
	if err := c.Args(&struct{}{}); err != nil {
		return nil, err
	}
	ids, length, err := c.tokenInput()
	if err != nil {
		return nil, err
	}
	m, err := t5.Open(path, be, o.storage())
	if err != nil {
		return nil, err
	}
	defer m.Close()
	hidden, err := m.Forward(ctx, ids, length)
	if err != nil {
		return nil, err
	}
	out := NewOutputs()
	out.tensor("hidden", hidden)
	return out, nil
}

func runCLIPText(ctx context.Context, c *Case, o Options) (*Outputs, error) {
	path, be, err := prepare(c, o)
	if err != nil {
		return nil, err
	}
	if err := c.Args(&struct{}{}); err != nil {
		return nil, err
	}
	ids, length, err := c.tokenInput()
	if err != nil {
		return nil, err
	}
	m, err := clip.OpenText(path, be, o.storage())
	if err != nil {
		return nil, err
	}
	defer m.Close()
	hidden, pooled, err := m.Forward(ctx, ids, length)
	if err != nil {
		return nil, err
	}
	out := NewOutputs()
	out.tensor("hidden", hidden)
	out.tensor("pooled", pooled)
	return out, nil
}
