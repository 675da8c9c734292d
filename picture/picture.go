// Package picture reads, resizes and writes 8-bit pictures with the very pixel values that Pillow gives, because scores
// and detections are compared with numbers that were made with Pillow: JPEG chroma is interpolated as libjpeg-turbo
// does, WebP colours have WebP's range, and resizing is Pillow's fixed-point arithmetic.
package picture

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
)

// MaxPixels is the largest picture that is decoded or made, in pixels. A file of a few kilobytes can claim more than
// any memory holds.
const MaxPixels = 100_000_000

// Picture is an 8-bit RGB picture: Pix [Height, Width, 3], row-major.
type Picture struct {
	Width, Height int
	Pix           []byte
}

// New makes a black picture. Sides must be positive.
func New(width, height int) *Picture {
	return &Picture{width, height, make([]byte, 3*width*height)}
}

// checkSize refuses sizes that no picture can have or that are too large to be meant.
func checkSize(width, height int) error {
	if width <= 0 || height <= 0 {
		return fmt.Errorf("a picture of %d×%d pixels has no area", width, height)
	}
	if int64(width)*int64(height) > MaxPixels {
		return fmt.Errorf("%d×%d pixels are more than the limit of %d; make the picture smaller first", width, height, MaxPixels)
	}
	return nil
}

// FromFloats makes a picture from samples in [0,1], planes [3, height, width], as generators give them: each sample is
// multiplied by 255 in float32, rounded half to even and clamped to 0…255.
func FromFloats(planes []float32, width, height int) (*Picture, error) {
	if err := checkSize(width, height); err != nil {
		return nil, fmt.Errorf("picture from samples: %w", err)
	}
	area := width * height
	if len(planes) != 3*area {
		return nil, fmt.Errorf("picture from samples: %d samples do not make 3 planes of %d×%d", len(planes), width, height)
	}
	p := New(width, height)
	for c := range 3 {
		for i, x := range planes[c*area : (c+1)*area] {
			if x != x {
				return nil, fmt.Errorf("picture from samples: the sample of channel %d at (%d,%d) is not a number", c, i%width, i/width)
			}
			p.Pix[3*i+c] = uint8(min(max(math.RoundToEven(float64(x*255)), 0), 255))
		}
	}
	return p, nil
}

// Floats gives the samples as planes [3, Height, Width] in [0,1], each level divided by 255 in float32.
func (p *Picture) Floats() []float32 {
	area := p.Width * p.Height
	out := make([]float32, 3*area)
	for i := range area {
		for c := range 3 {
			out[c*area+i] = float32(p.Pix[3*i+c]) / 255
		}
	}
	return out
}

// Planes gives the levels as planes [3, Height, Width].
func (p *Picture) Planes() []byte {
	area := p.Width * p.Height
	out := make([]byte, 3*area)
	for i := range area {
		out[i], out[area+i], out[2*area+i] = p.Pix[3*i], p.Pix[3*i+1], p.Pix[3*i+2]
	}
	return out
}

// At gives the colour of a pixel.
func (p *Picture) At(x, y int) color.RGBA {
	i := 3 * (y*p.Width + x)
	return color.RGBA{p.Pix[i], p.Pix[i+1], p.Pix[i+2], 255}
}

// Image is the picture as the standard library's type.
func (p *Picture) Image() *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, p.Width, p.Height))
	for i := range p.Width * p.Height {
		copy(m.Pix[4*i:], p.Pix[3*i:3*i+3])
		m.Pix[4*i+3] = 255
	}
	return m
}

// PNG encodes the picture; the same picture gives the same bytes.
func (p *Picture) PNG() ([]byte, error) {
	var out bytes.Buffer
	if err := png.Encode(&out, p.Image()); err != nil {
		return nil, fmt.Errorf("encode png of %d×%d: %w", p.Width, p.Height, err)
	}
	return out.Bytes(), nil
}

// window copies width×height pixels from (left, top); places outside the picture are black.
func (p *Picture) window(left, top, width, height int) *Picture {
	out := New(width, height)
	from, to := max(left, 0), min(left+width, p.Width)
	if from >= to {
		return out
	}
	for y := range height {
		if src := y + top; src >= 0 && src < p.Height {
			copy(out.Pix[3*(y*width+from-left):], p.Pix[3*(src*p.Width+from):3*(src*p.Width+to)])
		}
	}
	return out
}
