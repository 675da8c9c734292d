package vae

import (
	"fmt"

	"github.com/sciflux/sciflux/store/safetensors"
)

// naming gives the tensor names of one file layout. Levels count in the order of execution.
type naming struct {
	original bool // Black Forest Labs' ae.safetensors, else diffusers
	levels   int
}

// detect tells the layout of a file by a tensor that every autoencoder has.
func detect(src safetensors.Source) (original bool, err error) {
	for _, name := range src.Names() {
		switch name {
		case "encoder.conv_norm_out.weight", "decoder.conv_norm_out.weight":
			return false, nil
		case "encoder.norm_out.weight", "decoder.norm_out.weight":
			return true, nil
		}
	}
	return false, fmt.Errorf("no autoencoder: neither decoder.conv_norm_out.weight (diffusers) nor decoder.norm_out.weight (ae.safetensors) is in the file; point to FLUX's vae folder or ae.safetensors")
}

func (n naming) resnet(level string, j int) string {
	if n.original {
		return fmt.Sprintf("%s.block.%d", level, j)
	}
	return fmt.Sprintf("%s.resnets.%d", level, j)
}

func (n naming) down(i int) string {
	if n.original {
		return fmt.Sprintf("encoder.down.%d", i)
	}
	return fmt.Sprintf("encoder.down_blocks.%d", i)
}

// up counts from the coarsest level on; the original file counts from the finest.
func (n naming) up(i int) string {
	if n.original {
		return fmt.Sprintf("decoder.up.%d", n.levels-1-i)
	}
	return fmt.Sprintf("decoder.up_blocks.%d", i)
}

func (n naming) midResnet(half string, j int) string {
	if n.original {
		return fmt.Sprintf("%s.mid.block_%d", half, j+1)
	}
	return fmt.Sprintf("%s.mid_block.resnets.%d", half, j)
}

func (n naming) attention(half string) string {
	if n.original {
		return half + ".mid.attn_1"
	}
	return half + ".mid_block.attentions.0"
}

// pick returns the diffusers or the original spelling of the last part of a name.
func (n naming) pick(diffusers, original string) string {
	if n.original {
		return original
	}
	return diffusers
}
