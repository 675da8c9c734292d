package parity

import (
	"context"
	"fmt"
	"sort"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/model/lora"
)

// loadFlux loads the case's transformer, its matrices rounded when the case is judged in bfloat16.
func loadFlux(c *Case, o Options) (*flux.Model, engine.Backend, error) {
	path, be, err := prepare(c, o)
	if err != nil {
		return nil, nil, err
	}
	m, err := flux.Load(path, flux.Options{Storage: o.storage(), Compute: engine.DTypes[o.DType]})
	return m, be, err
}

// fluxInput collects the transformer's inputs.
func (c *Case) fluxInput() (*flux.Input, error) {
	in := &flux.Input{}
	for name, dst := range map[string]**engine.Tensor{"latents": &in.Latents, "text": &in.Text, "pooled": &in.Pooled} {
		var err error
		if *dst, err = c.hostInput(name); err != nil {
			return nil, err
		}
	}
	times, err := c.hostInput("timestep")
	if err != nil {
		return nil, err
	}
	in.Timestep = times.Floats()
	if c.HasInput("guidance") {
		guidance, err := c.hostInput("guidance")
		if err != nil {
			return nil, err
		}
		in.Guidance = guidance.Floats()
	}
	for name, dst := range map[string]*[][3]float32{"img_ids": &in.ImgIDs, "txt_ids": &in.TxtIDs} {
		ids, err := c.hostInput(name)
		if err != nil {
			return nil, err
		}
		if len(ids.Shape) != 2 || ids.Shape[1] != 3 {
			return nil, fmt.Errorf("input %s: shape %v, want [tokens, 3]", name, ids.Shape)
		}
		*dst = make([][3]float32, ids.Shape[0])
		for i := range *dst {
			copy((*dst)[i][:], ids.Floats()[3*i:])
		}
	}
	return in, nil
}

// runFluxTransformer is kind "flux_transformer".
func runFluxTransformer(ctx context.Context, c *Case, o Options) (*Outputs, error) {
	var args struct {
		Mode string `json:"mode"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	if args.Mode != "forward" {
		return nil, fmt.Errorf("case %s: unknown mode %q; known: forward", c.Name, args.Mode)
	}
	in, err := c.fluxInput()
	if err != nil {
		return nil, err
	}
	m, be, err := loadFlux(c, o)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	out := NewOutputs()
	return out, out.velocity(ctx, m, be, in, nil)
}

// velocity computes and records the output "velocity".
func (o *Outputs) velocity(ctx context.Context, m *flux.Model, be engine.Backend, in *flux.Input, ad *lora.Adapter) error {
	v, err := m.Velocity(ctx, be, in, ad)
	if err != nil {
		return err
	}
	o.download("velocity", be, v)
	return nil
}

// download records a tensor of a backend and frees it.
func (o *Outputs) download(name string, be engine.Backend, t *engine.Tensor) {
	host := make([]float32, t.Len())
	be.Download(host, t)
	o.Float32(name, t.Shape, host)
	be.Free(t)
}

// runLatentPack is kind "latent_pack".
func runLatentPack(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	var args struct {
		Channels int `json:"channels"`
		Height   int `json:"height"`
		Width    int `json:"width"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	latents, err := c.hostInput("latents")
	if err != nil {
		return nil, err
	}
	tokens, err := c.hostInput("tokens")
	if err != nil {
		return nil, err
	}
	ch, h, w := args.Channels, args.Height, args.Width
	if ch < 1 || h < 2 || w < 2 || h%2 != 0 || w%2 != 0 {
		return nil, fmt.Errorf("case %s: latents of %d channels and %d×%d cannot be packed; both sides must be even", c.Name, ch, h, w)
	}
	if latents.Len()%(ch*h*w) != 0 || tokens.Len()%(ch*h*w) != 0 {
		return nil, fmt.Errorf("case %s: latents %v and tokens %v do not have %d channels of %d×%d", c.Name, latents.Shape,
			tokens.Shape, ch, h, w)
	}
	out := NewOutputs()
	b := latents.Len() / (ch * h * w)
	out.Float32("packed", []int{b, h * w / 4, 4 * ch}, flux.Pack(latents.Floats(), b, ch, h, w))
	b = tokens.Len() / (ch * h * w)
	out.Float32("unpacked", []int{b, ch, h, w}, flux.Unpack(tokens.Floats(), b, ch, h, w))
	var flat []float32
	for _, id := range flux.ImageIDs(h, w) {
		flat = append(flat, id[:]...)
	}
	out.Float32("img_ids", []int{h * w / 4, 3}, flat)
	return out, nil
}

// runLoRATargets is kind "lora_targets".
func runLoRATargets(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	var args struct {
		Config  flux.Config `json:"config"`
		Targets []string    `json:"target_modules"`
		Rank    int         `json:"rank"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	if err := c.atLeastOne(map[string]int{"rank": args.Rank}); err != nil {
		return nil, err
	}
	config, err := args.Config.Complete()
	if err != nil {
		return nil, err
	}
	layers, err := lora.Match(config.Layers(), args.Targets)
	if err != nil {
		return nil, err
	}
	names, parameters := []string{}, 0
	for _, l := range layers {
		names = append(names, l.Name)
		parameters += lora.Module{Layer: l, Rank: args.Rank}.Parameters()
	}
	sort.Strings(names)
	tensors, numbers := config.Parameters()
	out := NewOutputs()
	out.Value("modules", names)
	out.Value("parameters", parameters)
	out.Value("base_tensors", tensors)
	out.Value("base_parameters", numbers)
	return out, nil
}

// loadTransformer is the load "flux_transformer" of kind "bad_file".
func loadTransformer(path string) error {
	m, err := flux.Load(path, flux.Options{})
	if err != nil {
		return err
	}
	return m.Close()
}
