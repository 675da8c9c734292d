package pipeline

import (
	"context"
	"os"
	"testing"

	"github.com/sciflux/sciflux/engine/reference"
)

// The tiny pipeline that comes with the repository is an ordinary one: every part loads and a picture comes out.
func TestWorldPipeline(t *testing.T) {
	const world = "../../models/world"
	if _, err := os.Stat(world); err != nil {
		t.Skip("the world's models are not in this tree")
	}
	p, err := Open(world, reference.New(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	g, err := p.Generate(context.Background(), GenerateOptions{Prompts: []string{"an unripe apple on a table"}, Height: 16, Width: 32, Steps: 1, Guidance: 3.5, MaxLen: 16})
	if err != nil {
		t.Fatal(err)
	}
	if o, _, err := p.complete(GenerateOptions{Prompts: []string{"x"}}); err != nil || o.Height != 64 || o.Width != 64 {
		t.Errorf("pictures are %d×%d by default: %v", o.Width, o.Height, err)
	}
	if s := g.Images.Shape; s[2] != 16 || s[3] != 32 || g.Grid.Tokens() != 2 {
		t.Errorf("pictures %v on %+v", s, g.Grid)
	}
	var low, high float32 = 1, 0
	for _, v := range g.Images.Floats() {
		low, high = min(low, v), max(high, v)
	}
	if !(low >= 0 && high <= 1 && low < high) {
		t.Errorf("pixels from %g to %g", low, high)
	}
}
