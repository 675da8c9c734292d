package vae

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sciflux/sciflux/model/weights"
)

// Config is vae/config.json of AutoencoderKL, as far as it changes the arithmetic.
type Config struct {
	ClassName        string   `json:"_class_name"`
	InChannels       int      `json:"in_channels"`
	OutChannels      int      `json:"out_channels"`
	BlockOutChannels []int    `json:"block_out_channels"` // width of each level, finest first
	LayersPerBlock   int      `json:"layers_per_block"`
	LatentChannels   int      `json:"latent_channels"`
	NormNumGroups    int      `json:"norm_num_groups"`
	ScalingFactor    float64  `json:"scaling_factor"`
	ShiftFactor      float64  `json:"shift_factor"`
	MidAttention     bool     `json:"mid_block_add_attention"`
	SampleSize       int      `json:"sample_size"` // pixels of a side of the pictures it was trained on, 0 for unknown
	ActFn            string   `json:"act_fn"`
	DownBlockTypes   []string `json:"down_block_types"`
	UpBlockTypes     []string `json:"up_block_types"`
	QuantConv        bool     `json:"use_quant_conv"`
	PostQuantConv    bool     `json:"use_post_quant_conv"`
}

// FluxConfig is the autoencoder of FLUX.1: 16 channels, factor 8.
func FluxConfig() Config {
	return Config{
		InChannels: 3, OutChannels: 3, BlockOutChannels: []int{128, 256, 512, 512}, LayersPerBlock: 2, LatentChannels: 16,
		NormNumGroups: 32, ScalingFactor: 0.3611, ShiftFactor: 0.1159, MidAttention: true, SampleSize: 1024, ActFn: "silu",
	}
}

// libraryDefaults are the values that diffusers 0.31 takes for keys a file leaves out.
func libraryDefaults() Config {
	return Config{
		InChannels: 3, OutChannels: 3, BlockOutChannels: []int{64}, LayersPerBlock: 1, LatentChannels: 4, NormNumGroups: 32,
		ScalingFactor: 0.18215, MidAttention: true, ActFn: "silu", QuantConv: true, PostQuantConv: true,
	}
}

// ReadConfig reads config.json in dir and checks it.
func ReadConfig(dir string) (Config, error) {
	c := libraryDefaults()
	if err := weights.ReadConfig(dir, "config.json", &c); err != nil {
		return Config{}, err
	}
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("config.json in %s: %w", dir, err)
	}
	return c, nil
}

// Factor is the number of pixels per latent cell in each direction: 2^(levels-1).
func (c Config) Factor() int { return 1 << (len(c.BlockOutChannels) - 1) }

// Validate refuses what is not an autoencoder of FLUX's structure.
func (c Config) Validate() error {
	if c.ClassName != "" && c.ClassName != "AutoencoderKL" {
		return fmt.Errorf("_class_name is %s, want AutoencoderKL; this config belongs to another model", c.ClassName)
	}
	if len(c.BlockOutChannels) == 0 {
		return errors.New("block_out_channels is empty")
	}
	names := []string{"in_channels", "out_channels", "layers_per_block", "latent_channels", "norm_num_groups"}
	if err := weights.Positive(names, c.InChannels, c.OutChannels, c.LayersPerBlock, c.LatentChannels, c.NormNumGroups); err != nil {
		return err
	}
	for _, width := range c.BlockOutChannels {
		if width < 1 || width%c.NormNumGroups != 0 {
			return fmt.Errorf("block_out_channels %v: %d is no multiple of norm_num_groups %d", c.BlockOutChannels, width, c.NormNumGroups)
		}
	}
	switch {
	case !(c.ScalingFactor > 0):
		return fmt.Errorf("scaling_factor is %g, need more than 0", c.ScalingFactor)
	case c.ActFn != "silu":
		return fmt.Errorf("act_fn %q: only silu is supported", c.ActFn)
	case c.QuantConv || c.PostQuantConv:
		return errors.New("use_quant_conv and use_post_quant_conv must be false: FLUX's autoencoder has no such layers, this file belongs to another model")
	}
	return c.validateBlocks()
}

func (c Config) validateBlocks() error {
	other := func(want string) func(string) bool { return func(s string) bool { return s != want } }
	levels := len(c.BlockOutChannels)
	if n := len(c.DownBlockTypes); n != 0 && n != levels || slices.ContainsFunc(c.DownBlockTypes, other("DownEncoderBlock2D")) {
		return fmt.Errorf("down_block_types %v: need %d times DownEncoderBlock2D", c.DownBlockTypes, levels)
	}
	if n := len(c.UpBlockTypes); n != 0 && n != levels || slices.ContainsFunc(c.UpBlockTypes, other("UpDecoderBlock2D")) {
		return fmt.Errorf("up_block_types %v: need %d times UpDecoderBlock2D", c.UpBlockTypes, levels)
	}
	return nil
}
