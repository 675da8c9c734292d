package parity

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/store/safetensors"
)

// adapterArgs are what a case says of its adapters.
type adapterArgs struct {
	Rank  int     `json:"rank"`
	Alpha float64 `json:"alpha"`
}

// check compares an adapter that was read with what the case says of it: a case that says another thing than it holds lies
// about what it proves. Without targets any modules will do.
func (a adapterArgs) check(c *Case, name string, ad *lora.Adapter, layers []lora.Layer, targets ...string) error {
	if a.Rank < 1 || !(a.Alpha > 0) {
		return fmt.Errorf("case %s: rank is %d and alpha %v, want those of adapter %s", c.Name, a.Rank, a.Alpha, name)
	}
	against, err := lora.Contradictions(ad, layers, lora.Spec{Targets: targets, Rank: a.Rank, Alpha: a.Alpha})
	if err != nil {
		return fmt.Errorf("case %s: adapter %s: %w", c.Name, name, err)
	}
	if len(against) > 0 {
		return fmt.Errorf("case %s: adapter %s is not what the arguments say: %s", c.Name, name, strings.Join(against, "; "))
	}
	return nil
}

// runFluxLoRA is kind "flux_lora": the velocity with an adapter, and the gradients of sum(velocity·grad_velocity), as a
// training step computes them.
func runFluxLoRA(ctx context.Context, c *Case, o Options) (*Outputs, error) {
	var args struct {
		adapterArgs
		Adapter string   `json:"adapter"`
		Targets []string `json:"target_modules"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	if err := c.atLeastOne(map[string]int{"number of target_modules": len(args.Targets)}); err != nil {
		return nil, err
	}
	in, err := c.fluxInput()
	if err != nil {
		return nil, err
	}
	dv, err := c.hostInput("grad_velocity")
	if err != nil {
		return nil, err
	}
	m, be, err := loadFlux(c, o)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	ad, err := lora.Load(c.File(args.Adapter), m.Layers())
	if err != nil {
		return nil, err
	}
	if err := args.check(c, args.Adapter, ad, m.Layers(), args.Targets...); err != nil {
		return nil, err
	}
	if o.DType == BFloat16 {
		roundBFloat16(ad.Weights.Floats())
	}
	batch, err := m.NewBatch(be, in)
	if err != nil {
		return nil, err
	}
	defer batch.Free()
	return loraGradients(ctx, be, m, batch, ad, dv)
}

// loraGradients records the velocity of a batch and, for its gradient dv, those of the latents and of every module.
func loraGradients(ctx context.Context, be engine.Backend, m *flux.Model, batch *flux.Batch, ad *lora.Adapter, dv *engine.Tensor) (
	*Outputs, error) {
	session := m.NewSession(flux.SessionOptions{Latents: true})
	defer session.Release()
	v, err := session.Forward(ctx, batch, ad)
	if err != nil {
		return nil, err
	}
	out := NewOutputs()
	out.download("velocity", be, v)
	grads := ad.NewGradients()
	dx, err := session.Backward(ctx, dv, grads)
	if err != nil {
		return nil, err
	}
	out.download("grad.latents", be, dx)
	for _, module := range ad.Modules {
		out.Float32("grad.transformer."+module.Name+".lora_A.weight", []int{module.Rank, module.In}, grads.A(module))
		out.Float32("grad.transformer."+module.Name+".lora_B.weight", []int{module.Out, module.Rank}, grads.B(module))
	}
	return out, nil
}

func roundBFloat16(values []float32) {
	for i, v := range values {
		values[i] = safetensors.FromBFloat16(safetensors.ToBFloat16(v))
	}
}

// adapterConfig is the configuration of the case's model; nothing of it is loaded.
func adapterConfig(c *Case) (flux.Config, error) {
	path, err := c.ModelPath()
	if err != nil {
		return flux.Config{}, err
	}
	return flux.ReadConfig(path)
}

// runLoRAFile is kind "lora_file": the weight changes that an adapter file means.
func runLoRAFile(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	var args struct {
		File string `json:"file"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	config, err := adapterConfig(c)
	if err != nil {
		return nil, err
	}
	ad, err := lora.Load(c.File(args.File), config.Layers())
	if err != nil {
		return nil, err
	}
	out := NewOutputs()
	for _, m := range ad.Modules {
		out.Float32("delta."+m.Name, []int{m.Out, m.In}, ad.Delta(m))
	}
	return out, nil
}

// runLoRAMerge is kind "lora_merge".
func runLoRAMerge(ctx context.Context, c *Case, o Options) (*Outputs, error) {
	var args struct {
		Adapter string `json:"adapter"`
		DType   string `json:"dtype"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	dtype, ok := engine.DTypes[args.DType]
	if !ok {
		return nil, fmt.Errorf("case %s: merge to dtype %q; known: %s, %s", c.Name, args.DType, Float32, BFloat16)
	}
	base, be, err := loadFlux(c, o)
	if err != nil {
		return nil, err
	}
	defer base.Close()
	ad, err := lora.Load(c.File(args.Adapter), base.Layers())
	if err != nil {
		return nil, err
	}
	m, err := base.Merge(ad, dtype)
	if err != nil {
		return nil, err
	}
	out := NewOutputs()
	for _, module := range ad.Modules {
		l, _ := m.Layer(module.Name)
		out.weight(module.Name+".weight", l.Weight)
	}
	if !c.Expects("velocity") {
		return out, nil
	}
	in, err := c.fluxInput()
	if err != nil {
		return nil, err
	}
	return out, out.velocity(ctx, m, be, in, nil)
}

// weight records a contiguous weight in its own dtype.
func (o *Outputs) weight(name string, w *engine.Weight) {
	if w.BF16 == nil {
		o.Float32(name, []int{w.Out, w.In}, w.F32)
		return
	}
	var raw []byte
	for _, v := range w.BF16 {
		raw = binary.LittleEndian.AppendUint16(raw, v)
	}
	o.tensors[name] = Tensor{DType: "BF16", Shape: []int{w.Out, w.In}, Data: raw}
}
