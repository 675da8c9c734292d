package flux

import (
	"fmt"

	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/store/safetensors"
)

// Names of a block's groups of layers that multiply one input; a group's adapters lie together.
var (
	imageQKV  = []string{"attn.to_q", "attn.to_k", "attn.to_v"}
	textQKV   = []string{"attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"}
	imageNorm = []string{"attn.norm_q", "attn.norm_k"}
	textNorm  = []string{"attn.norm_added_q", "attn.norm_added_k"}
)

func doubleName(i int) string { return fmt.Sprintf("transformer_blocks.%d.", i) }
func singleName(i int) string { return fmt.Sprintf("single_transformer_blocks.%d.", i) }

// layerList collects layers in the order of the forward pass.
type layerList []lora.Layer

// add appends a group of layers under prefix, all of them in → their out, that are consecutive rows of one original layer.
func (l *layerList) add(prefix, original string, in int, names []string, outs ...int) {
	row := 0
	for i, name := range names {
		*l = append(*l, lora.Layer{
			Name: prefix + name, In: in, Out: outs[i], Group: prefix + names[0], Original: original, OriginalRow: row,
		})
		row += outs[i]
	}
}

func (l *layerList) one(prefix, name, original string, in, out int) {
	l.add(prefix, original, in, []string{name}, out)
}

// Layers lists every linear layer of the model, in the order of the forward pass.
func (c Config) Layers() []lora.Layer {
	var l layerList
	w := c.Width()
	embedder := func(name, original string, in int) {
		l.one("time_text_embed."+name, ".linear_1", original+".in_layer", in, w)
		l.one("time_text_embed."+name, ".linear_2", original+".out_layer", w, w)
		for i := len(l) - 2; i < len(l); i++ {
			l[i].Conditioning = true
		}
	}
	embedder("timestep_embedder", "time_in", sinusoids)
	if c.GuidanceEmbed {
		embedder("guidance_embedder", "guidance_in", sinusoids)
	}
	embedder("text_embedder", "vector_in", c.PooledWidth)
	l.one("", "x_embedder", "img_in", c.InChannels, w)
	l.one("", "context_embedder", "txt_in", c.TextWidth, w)
	for i := range c.DoubleBlocks {
		c.doubleLayers(&l, doubleName(i), fmt.Sprintf("double_blocks.%d.", i))
	}
	for i := range c.SingleBlocks {
		c.singleLayers(&l, singleName(i), fmt.Sprintf("single_blocks.%d.", i))
	}
	l.one("", "norm_out.linear", finalModulation, w, 2*w)
	l[len(l)-1].Swapped = true
	l.one("", "proj_out", "final_layer.linear", w, c.OutChannels)
	return l
}

func (c Config) doubleLayers(l *layerList, p, o string) {
	w, m := c.Width(), c.Hidden()
	l.one(p, "norm1.linear", o+"img_mod.lin", w, 6*w)
	l.one(p, "norm1_context.linear", o+"txt_mod.lin", w, 6*w)
	l.add(p, o+"img_attn.qkv", w, imageQKV, w, w, w)
	l.add(p, o+"txt_attn.qkv", w, textQKV, w, w, w)
	l.one(p, "attn.to_out.0", o+"img_attn.proj", w, w)
	l.one(p, "attn.to_add_out", o+"txt_attn.proj", w, w)
	l.one(p, "ff.net.0.proj", o+"img_mlp.0", w, m)
	l.one(p, "ff.net.2", o+"img_mlp.2", m, w)
	l.one(p, "ff_context.net.0.proj", o+"txt_mlp.0", w, m)
	l.one(p, "ff_context.net.2", o+"txt_mlp.2", m, w)
}

func (c Config) singleLayers(l *layerList, p, o string) {
	w, m := c.Width(), c.Hidden()
	l.one(p, "norm.linear", o+"modulation.lin", w, 3*w)
	l.add(p, o+"linear1", w, imageQKV, w, w, w)
	l.one(p, "proj_mlp", o+"linear1", w, m)
	(*l)[len(*l)-1].OriginalRow = 3 * w
	l.one(p, "proj_out", o+"linear2", w+m, w)
}

// norm is an RMSNorm weight [HeadDim].
type norm struct{ name, original string }

// norms lists the RMSNorm weights of the model.
func (c Config) norms() []norm {
	var list []norm
	add := func(prefix string, names []string, original string) {
		list = append(list, norm{prefix + names[0], original + "query_norm.scale"}, norm{prefix + names[1], original + "key_norm.scale"})
	}
	for i := range c.DoubleBlocks {
		add(doubleName(i), imageNorm, fmt.Sprintf("double_blocks.%d.img_attn.norm.", i))
		add(doubleName(i), textNorm, fmt.Sprintf("double_blocks.%d.txt_attn.norm.", i))
	}
	for i := range c.SingleBlocks {
		add(singleName(i), imageNorm, fmt.Sprintf("single_blocks.%d.norm.", i))
	}
	return list
}

// Tensors lists the tensors of a checkpoint in diffusers naming, with their shapes.
func (c Config) Tensors() []safetensors.Want {
	var list []safetensors.Want
	for _, l := range c.Layers() {
		list = append(list, safetensors.Want{Name: l.Name + ".weight", Shape: []int{l.Out, l.In}},
			safetensors.Want{Name: l.Name + ".bias", Shape: []int{l.Out}})
	}
	for _, n := range c.norms() {
		list = append(list, safetensors.Want{Name: n.name + ".weight", Shape: []int{c.HeadDim}})
	}
	return list
}

// Parameters is the number of tensors and of numbers of a checkpoint: 1160 and 11,901,408,320 for FLUX.1-dev.
func (c Config) Parameters() (tensors, numbers int) {
	list := c.Tensors()
	for _, t := range list {
		numbers += t.Len()
	}
	return len(list), numbers
}
