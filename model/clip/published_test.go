package clip

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/model/weights"
	"github.com/sciflux/sciflux/store/safetensors"
)

// numbers counts the parameters that were declared under a prefix.
func numbers(l *weights.Loader, prefix string) int {
	sum := 0
	for _, w := range l.Wants() {
		if strings.HasPrefix(w.Name, prefix) {
			sum += w.Len()
		}
	}
	return sum
}

// empty is a file without tensors.
func empty(t *testing.T) safetensors.Source {
	t.Helper()
	var file bytes.Buffer
	if _, err := safetensors.Write(&file, nil, nil); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Parse("empty", file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// CLIP-L's text encoder in FLUX has 123,060,480 parameters.
func TestTextEncoderOfFluxIsDeclaredWhole(t *testing.T) {
	c := defaultText()
	c.Width, c.FeedForward, c.Heads, c.EOS = 768, 3072, 12, 2
	l := weights.NewLoader(empty(t), weights.AsStored)
	(&Text{Config: c}).declare(l)
	if n := numbers(l, ""); n != 123_060_480 {
		t.Errorf("%d parameters", n)
	}
}

// SciScore has the structure of CLIP ViT-H/14: 986,109,441 parameters.
func TestSciScoreIsDeclaredWhole(t *testing.T) {
	text := defaultText()
	text.Width, text.FeedForward, text.Layers, text.Heads = 1024, 4096, 24, 16
	vision := defaultVision()
	vision.Width, vision.FeedForward, vision.Layers, vision.Heads, vision.PatchSize = 1280, 5120, 32, 16, 14
	m := &CLIP{Config: Config{text, vision, 1024}, Text: &Text{Config: text}, Vision: &Vision{Config: vision}}
	l := weights.NewLoader(empty(t), weights.AsStored)
	m.declare(l)
	for prefix, want := range map[string]int{
		"text_model.": 352_984_064, "vision_model.": 630_766_080, "visual_projection.": 1_310_720, "text_projection.": 1_048_576, "": 986_109_441,
	} {
		if n := numbers(l, prefix); n != want {
			t.Errorf("%q: %d parameters, published are %d", prefix, n, want)
		}
	}
	if n := vision.Patches(); n != 256 {
		t.Errorf("%d patches", n)
	}
}
