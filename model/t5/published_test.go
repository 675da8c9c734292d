package t5

import (
	"bytes"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/weights"
	"github.com/sciflux/sciflux/store/safetensors"
)

// T5-XXL v1.1's encoder, which FLUX uses, has 219 tensors and 4,762,310,656 numbers.
func TestPublishedModelIsDeclaredWhole(t *testing.T) {
	var file bytes.Buffer
	if _, err := safetensors.Write(&file, nil, nil); err != nil {
		t.Fatal(err)
	}
	empty, err := safetensors.Parse("empty", file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	c := libraryDefaults()
	c.Width, c.Heads, c.FeedForward, c.Layers, c.FeedForwards = 4096, 64, 10240, 24, "gated-gelu"
	l := weights.NewLoader(empty, weights.AsStored)
	var table *engine.Weight
	(&T5{Config: c}).declare(l, &table)
	numbers := 0
	for _, w := range l.Wants() {
		numbers += w.Len()
	}
	if len(l.Wants()) != 219 || numbers != 4_762_310_656 {
		t.Errorf("%d tensors with %d numbers", len(l.Wants()), numbers)
	}
}
