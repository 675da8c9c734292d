package flux

import (
	"fmt"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/flow"
)

// Input is what the network sees of B samples, in ordinary memory.
type Input struct {
	Latents  *engine.Tensor // [B, N, in_channels], packed
	Text     *engine.Tensor // [P, T, joint_attention_dim]; nil or T = 0 for none
	Pooled   *engine.Tensor // [P, pooled_projection_dim]
	Prompts  []int          // [B], the row of Text and Pooled that each sample has; nil for each its own, P = B
	Timestep []float32      // [B], sigma in 0…1
	Guidance []float32      // [B], for models with a guidance embedder only
	ImgIDs   [][3]float32   // [N], see ImageIDs
	TxtIDs   [][3]float32   // [T], see TextIDs; nil for zeros
}

// NewInput is the input of latents over a grid, every sample with the same guidance, which a model without guidance
// embedder does not get. Timesteps are 0 until they are set.
func (c Config) NewInput(grid flow.Grid, guidance float64, latents, text, pooled *engine.Tensor) *Input {
	b := latents.Shape[0]
	ids := ImageIDs(latentPatch*grid.Rows, latentPatch*grid.Columns)
	in := &Input{Latents: latents, Text: text, Pooled: pooled, Timestep: make([]float32, b), ImgIDs: ids}
	if c.GuidanceEmbed {
		in.Guidance = make([]float32, b)
		for i := range in.Guidance {
			in.Guidance[i] = float32(guidance)
		}
	}
	return in
}

// shape checks in against the model.
func (m *Model) shape(in *Input) (shape, error) {
	s := shape{Config: m.Config}
	fail := func(what string, got any, want ...any) (shape, error) {
		return s, fmt.Errorf("transformer input: %s is %v, want %v", what, got, want)
	}
	if in.Latents == nil || len(in.Latents.Shape) != 3 || in.Latents.Shape[2] != m.InChannels || in.Latents.Len() == 0 {
		return fail("latents", dims(in.Latents), "B", "N", m.InChannels)
	}
	s.B, s.N = in.Latents.Shape[0], in.Latents.Shape[1]
	prompts := s.B
	if in.Prompts != nil {
		if len(in.Prompts) != s.B {
			return fail("count of prompt rows", len(in.Prompts), s.B)
		}
		if in.Pooled != nil && len(in.Pooled.Shape) == 2 {
			prompts = in.Pooled.Shape[0]
		}
		for _, p := range in.Prompts {
			if p < 0 || p >= prompts {
				return fail("prompt row", p, fmt.Sprintf("0…%d", prompts-1))
			}
		}
	}
	if in.Text != nil {
		if len(in.Text.Shape) != 3 || in.Text.Shape[0] != prompts || in.Text.Shape[2] != m.TextWidth {
			return fail("text", dims(in.Text), prompts, "T", m.TextWidth)
		}
		s.T = in.Text.Shape[1]
	}
	if in.Pooled == nil || len(in.Pooled.Shape) != 2 || in.Pooled.Shape[0] != prompts || in.Pooled.Shape[1] != m.PooledWidth {
		return fail("pooled", dims(in.Pooled), prompts, m.PooledWidth)
	}
	if len(in.Timestep) != s.B {
		return fail("timestep count", len(in.Timestep), s.B)
	}
	if m.GuidanceEmbed && len(in.Guidance) != s.B {
		return fail("guidance count", len(in.Guidance), s.B)
	}
	if !m.GuidanceEmbed && len(in.Guidance) > 0 {
		return fail("guidance count of a model without guidance embedder", len(in.Guidance), 0)
	}
	if len(in.ImgIDs) != s.N {
		return fail("image id count", len(in.ImgIDs), s.N)
	}
	if in.TxtIDs != nil && len(in.TxtIDs) != s.T {
		return fail("text id count", len(in.TxtIDs), s.T)
	}
	return s, nil
}

func dims(t *engine.Tensor) any {
	if t == nil {
		return "missing"
	}
	return t.Shape
}

// prompt is the row of Text and Pooled of sample i.
func (in *Input) prompt(i int) int {
	if in.Prompts == nil {
		return i
	}
	return in.Prompts[i]
}

// samples is the input of samples from … from+n−1, over the same memory.
func (in *Input) samples(from, n int) *Input {
	part := *in
	per := in.Latents.Len() / in.Latents.Shape[0]
	part.Latents = engine.Wrap(in.Latents.Floats()[from*per:(from+n)*per], n, in.Latents.Shape[1], in.Latents.Shape[2])
	part.Prompts, part.Timestep = make([]int, n), in.Timestep[from:from+n]
	for i := range part.Prompts {
		part.Prompts[i] = in.prompt(from + i)
	}
	if in.Guidance != nil {
		part.Guidance = in.Guidance[from : from+n]
	}
	return &part
}
