package picture

import "image/color"

// plane is one component of a picture at its own resolution.
type plane struct {
	pix           []byte
	stride        int
	width, height int
}

func (p plane) row(y int) []byte { return p.pix[y*p.stride:][:p.width] }

// decodeJPEG reads a JPEG with the arithmetic of libjpeg-turbo: its accurate integer transform, chroma at half resolution
// interpolated with a triangle filter ("fancy upsampling"), other ratios by repetition, fixed-point colours.
func decodeJPEG(data []byte) (*Picture, error) {
	f, err := readJPEG(data)
	if err != nil {
		return nil, err
	}
	full := make([][]byte, len(f.parts))
	for i, p := range f.parts {
		full[i] = upsample(p.samples, f.across/p.across, f.down/p.down, f.width, f.height)
	}
	out := New(f.width, f.height)
	convert := f.colours()
	for i := range f.width * f.height {
		convert(out.Pix[3*i:3*i+3], full, i)
	}
	return out, nil
}

// colours gives the conversion of sample i of all components to RGB, chosen as libjpeg and Pillow choose.
func (f *jpegFile) colours() func(rgb []byte, full [][]byte, i int) {
	switch {
	case len(f.parts) == 1:
		return func(rgb []byte, full [][]byte, i int) { rgb[0], rgb[1], rgb[2] = full[0][i], full[0][i], full[0][i] }
	case len(f.parts) == 4:
		return f.inks()
	case f.isRGB():
		return func(rgb []byte, full [][]byte, i int) { rgb[0], rgb[1], rgb[2] = full[0][i], full[1][i], full[2][i] }
	}
	return func(rgb []byte, full [][]byte, i int) {
		rgb[0], rgb[1], rgb[2] = fromYCC(int32(full[0][i]), int32(full[1][i]), int32(full[2][i]))
	}
}

// isRGB tells whether three components are red, green and blue: by Adobe's marker, else by their names.
func (f *jpegFile) isRGB() bool {
	if f.jfif {
		return false
	}
	if f.transform >= 0 {
		return f.transform == 0
	}
	return f.parts[0].id == 'R' && f.parts[1].id == 'G' && f.parts[2].id == 'B'
}

// inks converts four components. They are taken to be inverted, as Adobe's programs write them; with Adobe's transform
// the first three are luma and chroma.
func (f *jpegFile) inks() func(rgb []byte, full [][]byte, i int) {
	ycc := f.transform > 0
	return func(rgb []byte, full [][]byte, i int) {
		c, m, y := full[0][i], full[1][i], full[2][i]
		if ycc {
			c, m, y = fromYCC(int32(c), int32(m), int32(y))
			c, m, y = 255-c, 255-m, 255-y
		}
		p := fromCMYK(color.CMYK{C: 255 - c, M: 255 - m, Y: 255 - y, K: 255 - full[3][i]})
		rgb[0], rgb[1], rgb[2] = p.R, p.G, p.B
	}
}

// fromYCC is the full-range BT.601 conversion in 16-bit fixed point.
func fromYCC(y, cb, cr int32) (r, g, b byte) {
	const half = 1 << 15
	cb, cr = cb-128, cr-128
	return clampLevel(y + (91881*cr+half)>>16), clampLevel(y + (-22554*cb-46802*cr+half)>>16), clampLevel(y + (116130*cb+half)>>16)
}

func clampLevel(v int32) byte { return byte(min(max(v, 0), 255)) }

// upsample brings a plane to width×height. Planes of one or two columns are too narrow for the triangle filter across.
func upsample(c plane, across, down, width, height int) []byte {
	out := make([]byte, width*height)
	switch {
	case across == 2 && down == 1 && c.width > 2:
		for y := range height {
			widen(out[y*width:][:width], c.row(y))
		}
	case across == 2 && down == 2 && c.width > 2:
		sums := make([]int32, c.width)
		for y := range height {
			near, far := c.row(y/2), c.row(min(max(y/2-1+y%2*2, 0), c.height-1))
			for x := range sums {
				sums[x] = 3*int32(near[x]) + int32(far[x])
			}
			widenSums(out[y*width:][:width], sums)
		}
	case across == 1 && down == 2:
		for y := range height {
			near, far := c.row(y/2), c.row(min(max(y/2-1+y%2*2, 0), c.height-1))
			for x := range width {
				out[y*width+x] = byte((3*int32(near[x]) + int32(far[x]) + 1 + int32(y%2)) >> 2)
			}
		}
	default:
		for y := range height {
			row := c.row(y / down)
			for x := range width {
				out[y*width+x] = row[x/across]
			}
		}
	}
	return out
}

// widen doubles a row: three quarters of the nearer sample, one of the farther; the two roundings alternate.
func widen(dst, src []byte) {
	last := len(src) - 1
	for x := range dst {
		i := x / 2
		near := int32(src[i])
		switch {
		case x%2 == 0 && i == 0, x%2 == 1 && i == last:
			dst[x] = src[i]
		case x%2 == 0:
			dst[x] = byte((3*near + int32(src[i-1]) + 1) >> 2)
		default:
			dst[x] = byte((3*near + int32(src[i+1]) + 2) >> 2)
		}
	}
}

// widenSums is widen for rows that already hold four times the sample, from the vertical step.
func widenSums(dst []byte, sums []int32) {
	last := len(sums) - 1
	for x := range dst {
		i := x / 2
		switch {
		case x%2 == 0 && i == 0:
			dst[x] = byte((4*sums[i] + 8) >> 4)
		case x%2 == 1 && i == last:
			dst[x] = byte((4*sums[i] + 7) >> 4)
		case x%2 == 0:
			dst[x] = byte((3*sums[i] + sums[i-1] + 8) >> 4)
		default:
			dst[x] = byte((3*sums[i] + sums[i+1] + 7) >> 4)
		}
	}
}
