package picture

import "image"

// plane is one component of a picture at its own resolution.
type plane struct {
	pix           []byte
	stride        int
	width, height int
}

func (p plane) row(y int) []byte { return p.pix[y*p.stride:][:p.width] }

// fromYCbCr converts a decoded JPEG with the arithmetic of libjpeg-turbo: chroma at half resolution is interpolated with
// a triangle filter ("fancy upsampling"), other ratios repeat samples.
func fromYCbCr(m *image.YCbCr) *Picture {
	p := New(m.Rect.Dx(), m.Rect.Dy())
	across, down := subsampling(m.SubsampleRatio)
	chroma := func(pix []byte) []byte {
		c := plane{pix, m.CStride, (p.Width + across - 1) / across, (p.Height + down - 1) / down}
		return upsample(c, across, down, p.Width, p.Height)
	}
	cb, cr := chroma(m.Cb), chroma(m.Cr)
	for y := range p.Height {
		luma := m.Y[y*m.YStride:][:p.Width]
		for x, l := range luma {
			i := y*p.Width + x
			p.Pix[3*i], p.Pix[3*i+1], p.Pix[3*i+2] = fromYCC(int32(l), int32(cb[i]), int32(cr[i]))
		}
	}
	return p
}

func subsampling(r image.YCbCrSubsampleRatio) (across, down int) {
	switch r {
	case image.YCbCrSubsampleRatio422:
		return 2, 1
	case image.YCbCrSubsampleRatio420:
		return 2, 2
	case image.YCbCrSubsampleRatio440:
		return 1, 2
	case image.YCbCrSubsampleRatio411:
		return 4, 1
	case image.YCbCrSubsampleRatio410:
		return 4, 2
	}
	return 1, 1
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
