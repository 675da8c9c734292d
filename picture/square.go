package picture

import "fmt"

// Square scales the shorter side to side pixels (bilinear, the longer one in proportion, rounded down) and cuts the
// middle out: how training pictures are prepared. A picture that is a square of that side already is returned as it is.
func (p *Picture) Square(side int) (*Picture, error) {
	if p.Width == side && p.Height == side {
		return p, nil
	}
	width, height := side, side
	if p.Width > p.Height {
		width = p.Width * side / p.Height
	} else {
		height = p.Height * side / p.Width
	}
	fitted, err := p.Resize(width, height, Bilinear)
	if err != nil {
		return nil, fmt.Errorf("square picture of %d×%d: %w", p.Width, p.Height, err)
	}
	return fitted.centreCrop(side, side), nil
}
