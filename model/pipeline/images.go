package pipeline

import (
	"context"
	"fmt"
	"strings"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/flux"
)

// Factor is the number of pixels of one token in each direction: the autoencoder's factor times 2 for packing.
func (p *Pipeline) Factor() int { return 2 * p.VAE.Config.Factor() }

// Grid is the grid of tokens for a picture of the given size in pixels. Sides that do not fill whole tokens are refused
// with the sizes that do.
func (p *Pipeline) Grid(height, width int) (flow.Grid, error) {
	f := p.Factor()
	var wrong []string
	for _, side := range []struct {
		name   string
		pixels int
	}{{"width", width}, {"height", height}} {
		if side.pixels < f || side.pixels%f != 0 {
			wrong = append(wrong, fmt.Sprintf("%s %d (%s)", side.name, side.pixels, nearest(side.pixels, f)))
		}
	}
	if len(wrong) > 0 {
		return flow.Grid{}, fmt.Errorf("pictures of %d×%d pixels: sides must be multiples of %d: %s", width, height, f,
			strings.Join(wrong, ", "))
	}
	return flow.Grid{Rows: height / f, Columns: width / f}, nil
}

// nearest names the multiples of f on both sides of a number of pixels.
func nearest(pixels, f int) string {
	if pixels < f {
		return fmt.Sprintf("the least is %d", f)
	}
	below := pixels / f * f
	return fmt.Sprintf("nearest are %d and %d", below, below+f)
}

// Decode gives pictures [B, 3, H, W] in [0, 1] from packed latents [B, N, 4Z] over the grid.
func (p *Pipeline) Decode(ctx context.Context, latents *engine.Tensor, grid flow.Grid) (*engine.Tensor, error) {
	z := p.VAE.Config.LatentChannels
	if len(latents.Shape) != 3 || latents.Shape[1] != grid.Tokens() || latents.Shape[2] != 4*z || latents.Len() == 0 {
		return nil, fmt.Errorf("decode packed latents of shape %v: need [B, %d, %d] for a grid of %d×%d tokens", latents.Shape,
			grid.Tokens(), 4*z, grid.Rows, grid.Columns)
	}
	b, h, w := latents.Shape[0], 2*grid.Rows, 2*grid.Columns
	images, err := p.VAE.Decode(ctx, engine.Wrap(flux.Unpack(latents.Floats(), b, z, h, w), b, z, h, w))
	if err != nil {
		return nil, err
	}
	values := images.Floats()
	for i, v := range values {
		values[i] = min(max(v/2+0.5, 0), 1)
	}
	return images, nil
}
