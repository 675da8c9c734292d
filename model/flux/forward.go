package flux

import "github.com/sciflux/sciflux/engine"

// kind says which of the functions below a section runs.
type kind uint8

const (
	embedders kind = iota
	double
	single
	lastSingle
	output
)

// section is a part of the forward pass that runs on its own, with the layers of one block.
type section struct {
	kind   kind
	prefix string // of its layers
	name   string // for errors
}

// sections is the forward pass in order. What comes before it, condition, takes no part in gradients.
func (c Config) sections() []section {
	list := []section{{embedders, outside, "embedders"}}
	add := func(k kind, prefix string) { list = append(list, section{k, prefix, prefix[:len(prefix)-1]}) }
	for i := range c.DoubleBlocks {
		add(double, doubleName(i))
	}
	for i := range c.SingleBlocks {
		if i == c.SingleBlocks-1 {
			add(lastSingle, singleName(i))
		} else {
			add(single, singleName(i))
		}
	}
	return append(list, section{output, outside, "output layers"})
}

// forward runs a section. The embedders get text tokens, if there are any, and latents; all others the stream
// and silu(temb).
func forward[V any](o engine.Ops[V], k kind, s shape, in []V) V {
	switch k {
	case embedders:
		return stem(o, s, in[0], in[len(in)-1])
	case double:
		return doubleBlock(o, s, in[0], in[1])
	case output:
		return head(o, s, in[0], in[1])
	}
	return singleBlock(o, s, in[0], in[1], k == lastSingle)
}

// shape is the sizes of one call: B samples of T text and N image tokens.
type shape struct {
	Config
	engine.Layout
}

// both is the text rows, times the layers in text, then the image rows, times those in image.
func (s shape) both(text, image []string) []engine.Segment {
	segments := []engine.Segment{{Rows: s.B * s.T, Layers: text}, {Rows: s.B * s.N, Layers: image}}
	if s.T == 0 {
		return segments[1:]
	}
	return segments
}

// all is every row of the joint matrix times the same layers.
func (s shape) all(layers ...string) []engine.Segment {
	return []engine.Segment{{Rows: s.Layout.Rows(), Layers: layers}}
}

// perSample is a matrix of one row per sample.
func (s shape) perSample(layer string) []engine.Segment {
	return []engine.Segment{{Rows: s.B, Layers: []string{layer}}}
}

// modulations lets chunks first (shift), first+1 (scale), first+2 (gate) of text act on text rows and of image on image rows.
func modulations[V any](s shape, text, image V, first int) []engine.Modulation[V] {
	ms := []engine.Modulation[V]{
		{Rows: s.B * s.T, PerSample: s.T, By: text, Shift: first, Scale: first + 1, Gate: first + 2},
		{Rows: s.B * s.N, PerSample: s.N, By: image, Shift: first, Scale: first + 1, Gate: first + 2},
	}
	if s.T == 0 {
		return ms[1:]
	}
	return ms
}

// heads is attention of one block with the norm weights of text and of image rows.
func (s shape) heads(text, image []string) engine.Heads {
	return engine.Heads{
		Layout: s.Layout, Heads: s.Heads, Dim: s.HeadDim, Eps: normEps,
		NormQ: [2]string{text[0], image[0]}, NormK: [2]string{text[1], image[1]},
	}
}

// condition is silu(temb) [B, C]: times and guidance come as sinusoids [B, 256], pooled is [B, pooled_projection_dim].
// guidance is not used by a model without guidance embedder.
func condition[V any](o engine.Ops[V], s shape, times, guidance, pooled V) V {
	embed := func(name string, x V) V {
		h := o.Activate(o.Project(s.perSample("time_text_embed."+name+".linear_1"), x), engine.SiLU)
		return o.Project(s.perSample("time_text_embed."+name+".linear_2"), h)
	}
	temb := embed("timestep_embedder", times)
	if s.GuidanceEmbed {
		temb = o.Add(temb, embed("guidance_embedder", guidance))
	}
	return o.Activate(o.Add(temb, embed("text_embedder", pooled)), engine.SiLU)
}

// stem is the joint matrix of embedded tokens; text is not used when there are no text tokens.
func stem[V any](o engine.Ops[V], s shape, text, latents V) V {
	image := o.Project([]engine.Segment{{Rows: s.B * s.N, Layers: []string{"x_embedder"}}}, latents)
	if s.T == 0 {
		return image
	}
	return o.Stack(o.Project([]engine.Segment{{Rows: s.B * s.T, Layers: []string{"context_embedder"}}}, text), image)
}

// doubleBlock is one block of two streams that meet in attention: x is the joint matrix, cond the silu(temb) [B, C].
func doubleBlock[V any](o engine.Ops[V], s shape, x, cond V) V {
	image := o.Project(s.perSample("norm1.linear"), cond)
	text := image
	if s.T > 0 {
		text = o.Project(s.perSample("norm1_context.linear"), cond)
	}
	ms := modulations(s, text, image, 0)
	n := o.Modulate(x, ms...)
	a := o.Attend(o.Project(s.both(textQKV, imageQKV), n), s.heads(textNorm, imageNorm))
	x = o.GateAdd(x, o.Project(s.both([]string{"attn.to_add_out"}, []string{"attn.to_out.0"}), a), ms...)

	ms = modulations(s, text, image, 3)
	n = o.Modulate(x, ms...)
	h := o.Activate(o.Project(s.both([]string{"ff_context.net.0.proj"}, []string{"ff.net.0.proj"}), n), engine.GELUTanh)
	return o.GateAdd(x, o.Project(s.both([]string{"ff_context.net.2"}, []string{"ff.net.2"}), h), ms...)
}

// singleBlock is one block of a single stream, attention and feed-forward side by side. Of the last block's result only the
// image rows are read, so it goes on with those alone after attention and gives [B·N, C].
func singleBlock[V any](o engine.Ops[V], s shape, x, cond V, last bool) V {
	by := o.Project(s.perSample("norm.linear"), cond)
	ms := modulations(s, by, by, 0)
	n := o.Modulate(x, ms...)
	a := o.Attend(o.Project(s.all(imageQKV...), n), s.heads(imageNorm, imageNorm))
	if last && s.T > 0 {
		x, n, a = imageRows(o, s, x), imageRows(o, s, n), imageRows(o, s, a)
		s.T = 0
		ms = modulations(s, by, by, 0)
	}
	h := o.Activate(o.Project(s.all("proj_mlp"), n), engine.GELUTanh)
	return o.GateAdd(x, o.Project(s.all("proj_out"), a, h), ms...)
}

// imageRows is the image rows of a joint matrix.
func imageRows[V any](o engine.Ops[V], s shape, x V) V { return o.Rows(x, s.B*s.T, s.B*s.N) }

// head is the velocity [B·N, out_channels] of the stream after the last block: image rows alone, or the joint matrix in a
// model without single blocks. norm_out's chunks are scale, then shift.
func head[V any](o engine.Ops[V], s shape, x, cond V) V {
	by := o.Project(s.perSample("norm_out.linear"), cond)
	if s.SingleBlocks == 0 && s.T > 0 {
		x = imageRows(o, s, x)
	}
	n := o.Modulate(x, engine.Modulation[V]{Rows: s.B * s.N, PerSample: s.N, By: by, Shift: 1, Scale: 0})
	return o.Project([]engine.Segment{{Rows: s.B * s.N, Layers: []string{"proj_out"}}}, n)
}
