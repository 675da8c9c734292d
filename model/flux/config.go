package flux

import (
	"fmt"

	"github.com/sciflux/sciflux/model/weights"
)

const (
	className   = "FluxTransformer2DModel"
	sinusoids   = 256   // width of the time and guidance features before their first layer
	ropeTheta   = 10000 // base of the rotary frequencies, not in config.json
	normEps     = 1e-6  // of RMSNorm on q and k; LayerNorm's is the engine's, the same
	mlpRatio    = 4
	timeFactor  = 1000 // sigma and guidance are multiplied by this inside the model
	latentPatch = 2    // side of the square of latent pixels in one token
)

// Config is config.json of the transformer. The comments give the values of FLUX.1-dev.
type Config struct {
	ClassName     string `json:"_class_name"`
	PatchSize     int    `json:"patch_size"`            // 1; the 2×2 packing happens outside
	InChannels    int    `json:"in_channels"`           // 64
	OutChannels   int    `json:"out_channels"`          // absent: as InChannels
	DoubleBlocks  int    `json:"num_layers"`            // 19
	SingleBlocks  int    `json:"num_single_layers"`     // 38
	HeadDim       int    `json:"attention_head_dim"`    // 128
	Heads         int    `json:"num_attention_heads"`   // 24
	TextWidth     int    `json:"joint_attention_dim"`   // 4096, of T5
	PooledWidth   int    `json:"pooled_projection_dim"` // 768, of CLIP
	GuidanceEmbed bool   `json:"guidance_embeds"`       // true; false for schnell
	Axes          []int  `json:"axes_dims_rope"`        // 16, 56, 56, also when absent; add up to HeadDim
}

// Dev is the configuration of FLUX.1-dev.
func Dev() Config {
	c := Config{
		ClassName: className, InChannels: 64, DoubleBlocks: 19, SingleBlocks: 38, HeadDim: 128, Heads: 24,
		TextWidth: 4096, PooledWidth: 768, GuidanceEmbed: true,
	}
	c.defaults()
	return c
}

// ReadConfig reads and checks folder/config.json.
func ReadConfig(folder string) (Config, error) {
	var c Config
	if err := weights.ReadConfig(folder, "config.json", &c); err != nil {
		return c, err
	}
	c.defaults()
	if err := c.Check(); err != nil {
		return c, fmt.Errorf("config of %s: %w", folder, err)
	}
	return c, nil
}

func (c *Config) defaults() {
	if c.PatchSize == 0 {
		c.PatchSize = 1
	}
	if c.OutChannels == 0 {
		c.OutChannels = c.InChannels
	}
	if len(c.Axes) == 0 {
		c.Axes = []int{16, 56, 56}
	}
}

// Complete fills absent fields with their defaults and checks the rest.
func (c Config) Complete() (Config, error) {
	c.defaults()
	return c, c.Check()
}

// Check tells what makes the configuration impossible.
func (c Config) Check() error {
	if c.ClassName != "" && c.ClassName != className {
		return fmt.Errorf("_class_name is %s, want %s; this folder holds another model", c.ClassName, className)
	}
	names := []string{"in_channels", "out_channels", "attention_head_dim", "num_attention_heads", "joint_attention_dim", "pooled_projection_dim"}
	if err := weights.Positive(names, c.InChannels, c.OutChannels, c.HeadDim, c.Heads, c.TextWidth, c.PooledWidth); err != nil {
		return err
	}
	if c.DoubleBlocks < 0 || c.SingleBlocks < 0 {
		return fmt.Errorf("num_layers is %d and num_single_layers %d, need 0 or more", c.DoubleBlocks, c.SingleBlocks)
	}
	if c.PatchSize != 1 {
		return fmt.Errorf("patch_size is %d, only 1 is known for FLUX", c.PatchSize)
	}
	sum := 0
	for _, d := range c.Axes {
		if d < 0 || d%2 != 0 {
			return fmt.Errorf("axes_dims_rope %v: each must be even", c.Axes)
		}
		sum += d
	}
	if len(c.Axes) != 3 || sum != c.HeadDim {
		return fmt.Errorf("axes_dims_rope %v: need three that add up to attention_head_dim %d", c.Axes, c.HeadDim)
	}
	return nil
}

// Width is C, the width of the token streams.
func (c Config) Width() int { return c.Heads * c.HeadDim }

// Hidden is the width inside the feed-forward layers.
func (c Config) Hidden() int { return mlpRatio * c.Width() }
