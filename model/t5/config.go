package t5

import (
	"fmt"

	"github.com/sciflux/sciflux/model/weights"
)

// Config is config.json of T5EncoderModel, as far as it changes the encoder's arithmetic.
type Config struct {
	VocabSize    int     `json:"vocab_size"`
	Width        int     `json:"d_model"`
	HeadWidth    int     `json:"d_kv"`
	Heads        int     `json:"num_heads"`
	FeedForward  int     `json:"d_ff"`
	Layers       int     `json:"num_layers"`
	Buckets      int     `json:"relative_attention_num_buckets"`
	MaxDistance  int     `json:"relative_attention_max_distance"`
	Eps          float32 `json:"layer_norm_epsilon"`
	FeedForwards string  `json:"feed_forward_proj"`
}

// libraryDefaults are the values that transformers 4.50 takes for keys a file leaves out.
func libraryDefaults() Config {
	return Config{
		VocabSize: 32128, Width: 512, HeadWidth: 64, Heads: 8, FeedForward: 2048, Layers: 6, Buckets: 32, MaxDistance: 128, Eps: 1e-6,
		FeedForwards: "relu",
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

// Validate refuses sizes below 1 and feed-forward layers other than T5 v1.1's.
func (c Config) Validate() error {
	names := []string{"vocab_size", "d_model", "d_kv", "num_heads", "d_ff", "num_layers", "relative_attention_num_buckets", "relative_attention_max_distance"}
	if err := weights.Positive(names, c.VocabSize, c.Width, c.HeadWidth, c.Heads, c.FeedForward, c.Layers, c.Buckets, c.MaxDistance); err != nil {
		return err
	}
	switch {
	case c.FeedForwards != "gated-gelu":
		return fmt.Errorf("feed_forward_proj %q: only gated-gelu (T5 v1.1, as FLUX uses it) is supported", c.FeedForwards)
	case c.Buckets%4 != 0 || c.MaxDistance <= c.Buckets/4:
		return fmt.Errorf("relative_attention_num_buckets %d with max_distance %d: need a multiple of 4 and a distance above a quarter of it", c.Buckets, c.MaxDistance)
	case !(c.Eps > 0):
		return fmt.Errorf("layer_norm_epsilon is %g, need more than 0", c.Eps)
	}
	return nil
}
