package pipeline

import (
	"cmp"
	"context"
	"fmt"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/random"
)

// GenerateOptions say what to draw. Zero values stand for the model's own: the autoencoder's picture size, 28 steps with a
// guidance embedder and 4 without, TextLength.
type GenerateOptions struct {
	Prompts       []string
	Height, Width int     // multiples of Factor
	Steps         int     // network calls
	Guidance      float64 // embedded by models that have a guidance embedder, ignored by others
	MaxLen        int     // T5 tokens
	// Seeds, one for each prompt, draw the start noise; a picture depends on its own seed only. nil counts from 0.
	Seeds []uint64
	// Latents are a packed start [B, N, 4Z] at sigma 1 instead of noise.
	Latents *engine.Tensor
	Adapter *lora.Adapter // nil for the base model
	// BatchTokens bounds a network call, see flux.SamplesPerCall.
	BatchTokens int
	// OnCall hears of every network call; it may be nil.
	OnCall func()
}

// Generated is a batch of pictures.
type Generated struct {
	Grid    flow.Grid
	Latents *engine.Tensor // [B, N, 4Z], final, packed and scaled
	Images  *engine.Tensor // [B, 3, H, W] in [0, 1], not rounded
}

// Generate draws one picture for each prompt with Euler steps on the scheduler's sigmas.
func (p *Pipeline) Generate(ctx context.Context, o GenerateOptions) (*Generated, error) {
	o, grid, err := p.complete(o)
	if err != nil {
		return nil, fmt.Errorf("generate: %w", err)
	}
	text, pooled, err := p.EncodePrompts(ctx, o.Prompts, o.MaxLen)
	if err != nil {
		return nil, fmt.Errorf("generate: %w", err)
	}
	latents, err := p.start(o, grid)
	if err != nil {
		return nil, fmt.Errorf("generate: %w", err)
	}
	if latents, err = p.denoise(ctx, o, grid, latents, text, pooled); err != nil {
		return nil, fmt.Errorf("generate: %w", err)
	}
	images, err := p.Decode(ctx, latents, grid)
	if err != nil {
		return nil, fmt.Errorf("generate: %w", err)
	}
	return &Generated{Grid: grid, Latents: latents, Images: images}, nil
}

// complete fills in what was left to the model.
func (p *Pipeline) complete(o GenerateOptions) (GenerateOptions, flow.Grid, error) {
	steps := 4
	if p.Transformer.GuidanceEmbed {
		steps = 28
	}
	o.Height = cmp.Or(o.Height, p.VAE.Config.SampleSize)
	o.Width = cmp.Or(o.Width, p.VAE.Config.SampleSize)
	o.Steps = cmp.Or(o.Steps, steps)
	o.MaxLen = cmp.Or(o.MaxLen, p.TextLength())
	grid, err := p.Grid(o.Height, o.Width)
	switch {
	case err != nil:
		return o, grid, err
	case len(o.Prompts) == 0:
		return o, grid, fmt.Errorf("no prompts; give at least one")
	case o.Steps < 1 || o.MaxLen < 1:
		return o, grid, fmt.Errorf("%d steps, %d text tokens: need at least 1", o.Steps, o.MaxLen)
	case o.Seeds != nil && len(o.Seeds) != len(o.Prompts):
		return o, grid, fmt.Errorf("%d seeds for %d prompts; give one each", len(o.Seeds), len(o.Prompts))
	}
	return o, grid, nil
}

// start is the given latents, copied, or noise.
func (p *Pipeline) start(o GenerateOptions, grid flow.Grid) (*engine.Tensor, error) {
	b, n, c := len(o.Prompts), grid.Tokens(), p.Transformer.InChannels
	values := make([]float32, b*n*c)
	if o.Latents != nil {
		if o.Latents.Len() != len(values) {
			return nil, fmt.Errorf("start latents of shape %v: need %v", o.Latents.Shape, []int{b, n, c})
		}
		copy(values, o.Latents.Floats())
		return engine.Wrap(values, b, n, c), nil
	}
	for i := range b {
		seed := uint64(i)
		if o.Seeds != nil {
			seed = o.Seeds[i]
		}
		random.New(seed).Purpose("start noise").Normal(values[i*n*c : (i+1)*n*c])
	}
	return engine.Wrap(values, b, n, c), nil
}

// denoise takes latents [B, N, 4Z] from sigma 1 to 0 by Euler steps.
func (p *Pipeline) denoise(ctx context.Context, o GenerateOptions, grid flow.Grid, latents, text, pooled *engine.Tensor) (
	*engine.Tensor, error) {
	sigmas := p.Scheduler.Sigmas(o.Steps, grid.Tokens())
	s := flux.Sampler{
		Model: p.Transformer, Backend: p.be, Adapter: o.Adapter, BatchTokens: o.BatchTokens, OnCall: o.OnCall,
		Steps: flow.Steps(flow.Corrected, sigmas, 0), Timesteps: p.Scheduler.Timesteps(sigmas),
	}
	end, err := s.Run(ctx, p.Transformer.NewInput(grid, o.Guidance, latents, text, pooled))
	if err != nil {
		return nil, err
	}
	return engine.Wrap(end, latents.Shape...), nil
}
