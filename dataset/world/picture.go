package world

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"math"
)

// FromFloat makes a picture of [side,side,3] values in [0,1]; values outside are clamped, NaN becomes black.
func FromFloat(hwc []float32, side int) Picture {
	p := Picture{Side: side, Pix: make([]uint8, side*side*3)}
	for i := range p.Pix {
		p.Pix[i] = level(hwc[i])
	}
	return p
}

// FromPlanes makes a picture of [3,side,side] values in [0,1], the layout of a decoder's output.
func FromPlanes(chw []float32, side int) Picture {
	p := Picture{Side: side, Pix: make([]uint8, side*side*3)}
	for c := range 3 {
		for i := range side * side {
			p.Pix[i*3+c] = level(chw[c*side*side+i])
		}
	}
	return p
}

func level(v float32) uint8 {
	if v != v {
		return 0
	}
	return uint8(math.RoundToEven(float64(min(max(v, 0), 1)) * 255))
}

// FromImage makes a picture of a square image.
func FromImage(im image.Image) (Picture, error) {
	b := im.Bounds()
	if b.Dx() != b.Dy() || b.Dx() == 0 {
		return Picture{}, fmt.Errorf("world picture: %d x %d pixels; the world's pictures are square", b.Dx(), b.Dy())
	}
	p := Picture{Side: b.Dx(), Pix: make([]uint8, 0, b.Dx()*b.Dx()*3)}
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			r, g, bl, _ := im.At(x, y).RGBA()
			p.Pix = append(p.Pix, uint8(r>>8), uint8(g>>8), uint8(bl>>8))
		}
	}
	return p, nil
}

// PNG encodes the picture.
func (p Picture) PNG() ([]byte, error) {
	im := image.NewNRGBA(image.Rect(0, 0, p.Side, p.Side))
	for i := range p.Side * p.Side {
		copy(im.Pix[i*4:], p.Pix[i*3:i*3+3])
		im.Pix[i*4+3] = 255
	}
	var b bytes.Buffer
	if err := png.Encode(&b, im); err != nil {
		return nil, fmt.Errorf("encode picture: %w", err)
	}
	return b.Bytes(), nil
}

// shrink averages the picture to side x side; a smaller picture is enlarged.
func (p Picture) shrink(side int) ([]uint8, error) {
	if p.Side <= 0 || len(p.Pix) != p.Side*p.Side*3 {
		return nil, fmt.Errorf("picture of side %d with %d values; want side x side x 3", p.Side, len(p.Pix))
	}
	out := make([]uint8, side*side*3)
	for y := range side {
		y0, y1 := window(y, p.Side, side)
		for x := range side {
			x0, x1 := window(x, p.Side, side)
			var s [3]int
			for r := y0; r < y1; r++ {
				for q := p.Pix[(r*p.Side+x0)*3 : (r*p.Side+x1)*3]; len(q) > 0; q = q[3:] {
					s[0], s[1], s[2] = s[0]+int(q[0]), s[1]+int(q[1]), s[2]+int(q[2])
				}
			}
			n := (y1 - y0) * (x1 - x0)
			for c, v := range s {
				out[(y*side+x)*3+c] = uint8((v + n/2) / n)
			}
		}
	}
	return out, nil
}

// window is the range of source pixels of target pixel i.
func window(i, from, to int) (a, b int) {
	a, b = i*from/to, (i+1)*from/to
	return a, max(b, a+1)
}
