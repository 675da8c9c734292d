package flux

import (
	"fmt"

	"github.com/sciflux/sciflux/engine"
)

// Input is what the network sees of B samples. Tensors lie in host memory or in that of the backend that runs the model.
type Input struct {
	Latents  *engine.Tensor // [B, N, in_channels], packed
	Text     *engine.Tensor // [B, T, joint_attention_dim]; nil or T = 0 for none
	Pooled   *engine.Tensor // [B, pooled_projection_dim]
	Timestep []float32      // [B], sigma in 0…1
	Guidance []float32      // [B], for models with a guidance embedder only
	ImgIDs   [][3]float32   // [N], see ImageIDs
	TxtIDs   [][3]float32   // [T], see TextIDs; nil for zeros
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
	if in.Text != nil {
		if len(in.Text.Shape) != 3 || in.Text.Shape[0] != s.B || in.Text.Shape[2] != m.TextWidth {
			return fail("text", dims(in.Text), s.B, "T", m.TextWidth)
		}
		s.T = in.Text.Shape[1]
	}
	if in.Pooled == nil || len(in.Pooled.Shape) != 2 || in.Pooled.Shape[0] != s.B || in.Pooled.Shape[1] != m.PooledWidth {
		return fail("pooled", dims(in.Pooled), s.B, m.PooledWidth)
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

// call is the part of an input that the model computes before its blocks.
type call struct {
	shape
	times, guidance *engine.Tensor // sinusoids [B, 256]
	cos, sin        *engine.Tensor // [T+N, HeadDim/2]
}

// prepare checks the input and uploads its small tables. free must be called when the pass is over.
func (m *Model) prepare(b engine.Backend, in *Input) (c *call, free func(), err error) {
	s, err := m.shape(in)
	if err != nil {
		return nil, nil, err
	}
	c = &call{shape: s}
	var owned []*engine.Tensor
	upload := func(values []float32, shape ...int) *engine.Tensor {
		t := b.Alloc(shape...)
		b.Upload(t, values)
		owned = append(owned, t)
		return t
	}
	features := func(values []float32) *engine.Tensor {
		f := make([]float32, s.B*sinusoids)
		for i, v := range values {
			if i > 0 && v == values[i-1] {
				copy(f[i*sinusoids:][:sinusoids], f[(i-1)*sinusoids:])
				continue
			}
			sinusoid(f[i*sinusoids:][:sinusoids], v)
		}
		return upload(f, s.B, sinusoids)
	}
	c.times = features(in.Timestep)
	if m.GuidanceEmbed {
		c.guidance = features(in.Guidance)
	}
	ids := in.TxtIDs
	if ids == nil {
		ids = TextIDs(s.T)
	}
	ids = append(ids[:len(ids):len(ids)], in.ImgIDs...)
	half := m.HeadDim / 2
	cos, sin := make([]float32, len(ids)*half), make([]float32, len(ids)*half)
	m.rotations(cos, sin, ids)
	c.cos, c.sin = upload(cos, len(ids), half), upload(sin, len(ids), half)
	return c, func() {
		for _, t := range owned {
			b.Free(t)
		}
	}, nil
}
