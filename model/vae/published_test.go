package vae

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/model/weights"
	"github.com/sciflux/sciflux/store/safetensors"
)

// declared are FLUX's tensors in one layout.
func declared(original bool) []safetensors.Want {
	c := FluxConfig()
	d := declare{weights.NewLoader(nil, weights.AsStored), naming{original, len(c.BlockOutChannels)}}
	var v VAE
	d.encoder(&v.encoder, c)
	d.decoder(&v.decoder, c)
	return d.Wants()
}

// FLUX's encoder has 34,274,208 parameters, its decoder 49,545,475, in either layout.
func TestPublishedModelIsDeclaredWhole(t *testing.T) {
	for _, original := range []bool{false, true} {
		sums := map[string]int{}
		for _, w := range declared(original) {
			half, _, _ := strings.Cut(w.Name, ".")
			sums[half] += w.Len()
		}
		want := map[string]int{"encoder": 34_274_208, "decoder": 49_545_475}
		if !maps.Equal(sums, want) {
			t.Errorf("original names %v: %v parameters, published are %v", original, sums, want)
		}
	}
}

func TestNamesOfBothLayouts(t *testing.T) {
	for _, c := range []struct {
		original bool
		names    []string
	}{
		{false, []string{
			"encoder.conv_in.weight", "encoder.down_blocks.1.resnets.0.conv_shortcut.weight", "encoder.down_blocks.2.downsamplers.0.conv.bias",
			"encoder.mid_block.attentions.0.to_out.0.weight", "decoder.mid_block.attentions.0.group_norm.weight", "decoder.mid_block.resnets.1.norm2.bias",
			"decoder.up_blocks.2.resnets.0.conv_shortcut.bias", "decoder.up_blocks.0.upsamplers.0.conv.weight", "decoder.up_blocks.3.resnets.2.conv2.weight",
			"decoder.conv_norm_out.weight", "encoder.conv_out.bias",
		}},
		{true, []string{
			"encoder.conv_in.weight", "encoder.down.1.block.0.nin_shortcut.weight", "encoder.down.2.downsample.conv.bias",
			"encoder.mid.attn_1.proj_out.weight", "decoder.mid.attn_1.norm.weight", "decoder.mid.block_2.norm2.bias",
			"decoder.up.1.block.0.nin_shortcut.bias", "decoder.up.3.upsample.conv.weight", "decoder.up.0.block.2.conv2.weight",
			"decoder.norm_out.weight", "encoder.conv_out.bias",
		}},
	} {
		have := map[string]bool{}
		for _, w := range declared(c.original) {
			if have[w.Name] {
				t.Errorf("%s is declared twice", w.Name)
			}
			have[w.Name] = true
		}
		for _, name := range c.names {
			if !have[name] {
				t.Errorf("original names %v: %s is not declared", c.original, name)
			}
		}
		for name := range have {
			if strings.Contains(name, "downsample") && strings.Contains(name, "3.") || strings.Contains(name, "up_blocks.3.upsample") || strings.Contains(name, "up.0.upsample") {
				t.Errorf("the last level resamples: %s", name)
			}
		}
	}
}

// The original file stores the attention's matrices as 1×1 convolutions; the rest has the same shapes in both layouts.
func TestShapesOfBothLayouts(t *testing.T) {
	diffusers, original := declared(false), declared(true)
	if len(diffusers) != len(original) {
		t.Fatalf("%d and %d tensors", len(diffusers), len(original))
	}
	for i, d := range diffusers {
		o := original[i]
		want := d.Shape
		if strings.Contains(o.Name, "attn_1") && strings.HasSuffix(o.Name, "weight") && !strings.Contains(o.Name, "norm") {
			want = append(slices.Clone(want), 1, 1)
		}
		if !slices.Equal(o.Shape, want) {
			t.Errorf("%s %v, %s %v", d.Name, d.Shape, o.Name, o.Shape)
		}
	}
}
