package clip

import (
	"encoding/json"
	"fmt"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/weights"
)

// TextConfig is the config of a CLIP text tower: config.json of CLIPTextModel, or text_config of CLIPModel.
type TextConfig struct {
	VocabSize    int     `json:"vocab_size"`
	Width        int     `json:"hidden_size"`
	FeedForward  int     `json:"intermediate_size"`
	Layers       int     `json:"num_hidden_layers"`
	Heads        int     `json:"num_attention_heads"`
	MaxPositions int     `json:"max_position_embeddings"`
	Act          string  `json:"hidden_act"`
	Eps          float32 `json:"layer_norm_eps"`
	EOS          int32   `json:"eos_token_id"`
}

// VisionConfig is vision_config of CLIPModel.
type VisionConfig struct {
	Width       int     `json:"hidden_size"`
	FeedForward int     `json:"intermediate_size"`
	Layers      int     `json:"num_hidden_layers"`
	Heads       int     `json:"num_attention_heads"`
	Channels    int     `json:"num_channels"`
	ImageSize   int     `json:"image_size"`
	PatchSize   int     `json:"patch_size"`
	Act         string  `json:"hidden_act"`
	Eps         float32 `json:"layer_norm_eps"`
}

// Config is config.json of CLIPModel.
type Config struct {
	Text       TextConfig
	Vision     VisionConfig
	Projection int // width of the shared space; the nested configs' own projection_dim means nothing
}

// The values that transformers 4.50 takes for keys a file leaves out.
func defaultText() TextConfig {
	return TextConfig{
		VocabSize: 49408, Width: 512, FeedForward: 2048, Layers: 12, Heads: 8, MaxPositions: 77, Act: "quick_gelu", Eps: 1e-5, EOS: 49407,
	}
}

func defaultVision() VisionConfig {
	return VisionConfig{
		Width: 768, FeedForward: 3072, Layers: 12, Heads: 12, Channels: 3, ImageSize: 224, PatchSize: 32, Act: "quick_gelu", Eps: 1e-5,
	}
}

// towersJSON is config.json of CLIPModel. Old files repeat the towers' configs as text_config_dict and
// vision_config_dict; as in the library, what those say wins.
type towersJSON struct {
	Text       json.RawMessage `json:"text_config"`
	TextDict   json.RawMessage `json:"text_config_dict"`
	Vision     json.RawMessage `json:"vision_config"`
	VisionDict json.RawMessage `json:"vision_config_dict"`
	Projection int             `json:"projection_dim"`
}

// layered reads configs over one another; absent ones are passed over.
func layered(into any, texts ...json.RawMessage) error {
	for _, text := range texts {
		if len(text) == 0 {
			continue
		}
		if err := json.Unmarshal(text, into); err != nil {
			return err
		}
	}
	return nil
}

// ReadTextConfig reads config.json of a CLIPTextModel folder, or the text tower's part of a CLIPModel's, and checks it.
func ReadTextConfig(dir string) (TextConfig, error) {
	var whole json.RawMessage
	if err := weights.ReadConfig(dir, "config.json", &whole); err != nil {
		return TextConfig{}, err
	}
	fail := func(err error) (TextConfig, error) {
		return TextConfig{}, fmt.Errorf("config.json in %s: %w", dir, err)
	}
	var towers towersJSON
	if err := json.Unmarshal(whole, &towers); err != nil {
		return fail(err)
	}
	texts := []json.RawMessage{towers.Text, towers.TextDict}
	if len(towers.Text)+len(towers.TextDict) == 0 {
		texts = []json.RawMessage{whole}
	}
	c := defaultText()
	if err := layered(&c, texts...); err != nil {
		return fail(err)
	}
	if err := c.Validate(); err != nil {
		return fail(err)
	}
	return c, nil
}

// ReadConfig reads config.json of a CLIPModel folder and checks it.
func ReadConfig(dir string) (Config, error) {
	file := towersJSON{Projection: 512}
	if err := weights.ReadConfig(dir, "config.json", &file); err != nil {
		return Config{}, err
	}
	c := Config{Text: defaultText(), Vision: defaultVision(), Projection: file.Projection}
	fail := func(err error) (Config, error) { return Config{}, fmt.Errorf("config.json in %s: %w", dir, err) }
	if len(file.Text)+len(file.TextDict) == 0 || len(file.Vision)+len(file.VisionDict) == 0 {
		return fail(fmt.Errorf("text_config or vision_config is missing: not a CLIPModel; SciScore needs both towers"))
	}
	if err := layered(&c.Text, file.Text, file.TextDict); err != nil {
		return fail(err)
	}
	if err := layered(&c.Vision, file.Vision, file.VisionDict); err != nil {
		return fail(err)
	}
	if err := c.Validate(); err != nil {
		return fail(err)
	}
	return c, nil
}

// Validate refuses sizes that do not fit together and unknown activations.
func (c Config) Validate() error {
	if err := c.Text.Validate(); err != nil {
		return fmt.Errorf("text_config: %w", err)
	}
	if err := c.Vision.Validate(); err != nil {
		return fmt.Errorf("vision_config: %w", err)
	}
	return weights.Positive([]string{"projection_dim"}, c.Projection)
}

// Validate refuses sizes that do not fit together and unknown activations.
func (c TextConfig) Validate() error {
	names := []string{"vocab_size", "max_position_embeddings"}
	if err := weights.Positive(names, c.VocabSize, c.MaxPositions); err != nil {
		return err
	}
	_, err := c.tower().check()
	return err
}

// Validate refuses sizes that do not fit together and unknown activations.
func (c VisionConfig) Validate() error {
	names := []string{"num_channels", "image_size", "patch_size"}
	if err := weights.Positive(names, c.Channels, c.ImageSize, c.PatchSize); err != nil {
		return err
	}
	if c.PatchSize > c.ImageSize {
		return fmt.Errorf("patch_size %d is larger than image_size %d", c.PatchSize, c.ImageSize)
	}
	_, err := c.tower().check()
	return err
}

// Patches is the number of patches of a picture; what does not fill a patch at the right and lower edge is not seen.
func (c VisionConfig) Patches() int { return (c.ImageSize / c.PatchSize) * (c.ImageSize / c.PatchSize) }

// shape is what both towers have in common.
type shape struct {
	width, feedForward, layers, heads int
	act                               string
	eps                               float32
}

func (c TextConfig) tower() shape {
	return shape{c.Width, c.FeedForward, c.Layers, c.Heads, c.Act, c.Eps}
}

func (c VisionConfig) tower() shape {
	return shape{c.Width, c.FeedForward, c.Layers, c.Heads, c.Act, c.Eps}
}

var activations = map[string]engine.Activation{
	"gelu": engine.GELU, "quick_gelu": engine.QuickGELU, "gelu_new": engine.GELUTanh, "gelu_pytorch_tanh": engine.GELUTanh,
}

func (s shape) check() (engine.Activation, error) {
	names := []string{"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"}
	if err := weights.Positive(names, s.width, s.feedForward, s.layers, s.heads); err != nil {
		return 0, err
	}
	act, known := activations[s.act]
	switch {
	case s.width%s.heads != 0:
		return 0, fmt.Errorf("hidden_size %d is no multiple of num_attention_heads %d", s.width, s.heads)
	case !(s.eps > 0):
		return 0, fmt.Errorf("layer_norm_eps is %g, need more than 0", s.eps)
	case !known:
		return 0, fmt.Errorf("hidden_act %q: known are gelu, quick_gelu, gelu_new and gelu_pytorch_tanh", s.act)
	}
	return act, nil
}
