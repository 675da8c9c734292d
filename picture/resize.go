package picture

import (
	"fmt"
	"math"
)

// Filter is an interpolation kernel, widened when a picture shrinks so that no detail aliases.
type Filter int

// The filters, numbered as Pillow and preprocessor_config.json number them.
const (
	Lanczos  Filter = 1
	Bilinear Filter = 2
	Bicubic  Filter = 3
)

// ParseFilter reads a filter's name.
func ParseFilter(name string) (Filter, error) {
	switch name {
	case "lanczos":
		return Lanczos, nil
	case "bilinear":
		return Bilinear, nil
	case "bicubic":
		return Bicubic, nil
	}
	return 0, fmt.Errorf("filter %q: not known; use lanczos, bilinear or bicubic", name)
}

func (f Filter) known() bool { return f == Lanczos || f == Bilinear || f == Bicubic }

// support is the distance in source pixels, at scale 1, beyond which the kernel is 0.
func (f Filter) support() float64 { return map[Filter]float64{Lanczos: 3, Bilinear: 1, Bicubic: 2}[f] }

// at is the kernel's value at distance x. Products are rounded before they are added, also on machines that could fuse
// the two, so that weights are the same everywhere.
func (f Filter) at(x float64) float64 {
	const a = -0.5
	switch x = math.Abs(x); {
	case f == Bilinear && x < 1:
		return 1 - x
	case f == Lanczos && x < 3:
		return sinc(x) * sinc(x/3)
	case f == Bicubic && x < 1:
		return float64((float64((a+2)*x)-(a+3))*x*x) + 1
	case f == Bicubic && x < 2:
		return (float64((float64((x-5)*x)+8)*x) - 4) * a
	}
	return 0
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	x *= math.Pi
	return math.Sin(x) / x
}

// precision is the number of fraction bits of a weight.
const precision = 22

// taps are the weights of one axis: output place o is the sum over j of weights[o*width+j] times source place first[o]+j.
type taps struct {
	width   int
	first   []int
	count   []int
	weights []int32
}

// newTaps computes Pillow's fixed-point weights for resampling from in to out places.
func newTaps(in, out int, f Filter) taps {
	scale := float64(in) / float64(out)
	stretch := max(scale, 1)
	support := f.support() * stretch
	t := taps{width: int(math.Ceil(support))*2 + 1, first: make([]int, out), count: make([]int, out)}
	t.weights = make([]int32, out*t.width)
	row := make([]float64, t.width)
	for o := range out {
		center := (float64(o) + 0.5) * scale
		first := max(int(center-support+0.5), 0)
		n := min(int(center+support+0.5), in) - first
		sum := 0.0
		for j := range n {
			row[j] = f.at((float64(j+first) - center + 0.5) * (1 / stretch))
			sum += row[j]
		}
		t.first[o], t.count[o] = first, n
		for j := range n {
			if sum != 0 {
				row[j] /= sum
			}
			t.weights[o*t.width+j] = int32(math.Copysign(0.5, row[j]) + row[j]*(1<<precision))
		}
	}
	return t
}

// Resize gives the picture in another size with the pixel values of Pillow's 8-bit resize: the horizontal pass first,
// rounded to 8 bits, then the vertical one; a pass that keeps its side is skipped.
func (p *Picture) Resize(width, height int, f Filter) (*Picture, error) {
	for _, size := range [][2]int{{width, height}, {width, p.Height}, {p.Width, p.Height}} {
		if err := checkSize(size[0], size[1]); err != nil {
			return nil, fmt.Errorf("resize: %w", err)
		}
	}
	if !f.known() {
		return nil, fmt.Errorf("resize: filter %d: not known; use 1 (lanczos), 2 (bilinear) or 3 (bicubic)", f)
	}
	out := p
	if width != p.Width {
		out = p.resizeRows(width, f)
	}
	if height != out.Height {
		out = out.resizeColumns(height, f)
	}
	if out == p {
		out = &Picture{p.Width, p.Height, append([]byte(nil), p.Pix...)}
	}
	return out, nil
}

func (p *Picture) resizeRows(width int, f Filter) *Picture {
	t, out := newTaps(p.Width, width, f), New(width, p.Height)
	for y := range p.Height {
		src, dst := p.Pix[3*y*p.Width:3*(y+1)*p.Width], out.Pix[3*y*width:3*(y+1)*width]
		for x := range width {
			r, g, b := int32(1)<<(precision-1), int32(1)<<(precision-1), int32(1)<<(precision-1)
			in := src[3*t.first[x]:]
			for j, w := range t.weights[x*t.width : x*t.width+t.count[x]] {
				r += w * int32(in[3*j])
				g += w * int32(in[3*j+1])
				b += w * int32(in[3*j+2])
			}
			dst[3*x], dst[3*x+1], dst[3*x+2] = level(r), level(g), level(b)
		}
	}
	return out
}

func (p *Picture) resizeColumns(height int, f Filter) *Picture {
	t, out := newTaps(p.Height, height, f), New(p.Width, height)
	stride := 3 * p.Width
	sums := make([]int32, stride)
	for y := range height {
		for i := range sums {
			sums[i] = 1 << (precision - 1)
		}
		for j, w := range t.weights[y*t.width : y*t.width+t.count[y]] {
			row := p.Pix[(t.first[y]+j)*stride:][:stride]
			for i, v := range row {
				sums[i] += w * int32(v)
			}
		}
		dst := out.Pix[y*stride:][:stride]
		for i, s := range sums {
			dst[i] = level(s)
		}
	}
	return out
}

// level drops the fraction bits of a sum and clamps it to 8 bits.
func level(sum int32) byte { return byte(min(max(sum>>precision, 0), 255)) }
