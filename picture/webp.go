package picture

import "image"

// fromVP8 converts a decoded lossy WebP with libwebp's arithmetic: chroma interpolated with its "fancy" filter, and
// colours of limited range (luma 16…235), which the decoded planes do not say.
func fromVP8(m *image.YCbCr) *Picture {
	p := New(m.Rect.Dx(), m.Rect.Dy())
	u := vp8Chroma(plane{m.Cb, m.CStride, (p.Width + 1) / 2, (p.Height + 1) / 2}, p.Width, p.Height)
	v := vp8Chroma(plane{m.Cr, m.CStride, (p.Width + 1) / 2, (p.Height + 1) / 2}, p.Width, p.Height)
	for y := range p.Height {
		luma := m.Y[y*m.YStride:][:p.Width]
		for x, l := range luma {
			i := y*p.Width + x
			p.Pix[3*i], p.Pix[3*i+1], p.Pix[3*i+2] = fromLimited(int32(l), int32(u[i]), int32(v[i]))
		}
	}
	return p
}

// fromLimited is libwebp's conversion: 14-bit coefficients, 6 fraction bits kept until the end.
func fromLimited(y, u, v int32) (r, g, b byte) {
	high := func(v, factor int32) int32 { return v * factor >> 8 }
	luma := high(y, 19077)
	return clampLevel((luma + high(v, 26149) - 14234) >> 6),
		clampLevel((luma - high(u, 6419) - high(v, 13320) + 8708) >> 6),
		clampLevel((luma + high(u, 33050) - 17685) >> 6)
}

// vp8Chroma doubles a plane in both directions with weights 9:3:3:1, computed in the two steps of libwebp, whose
// roundings do not add up to one rounding at the end.
func vp8Chroma(c plane, width, height int) []byte {
	out := make([]byte, width*height)
	for y := range height {
		// Output row 0 lies on chroma row 0; rows 2k+1 and 2k+2 lie between chroma rows k and k+1.
		near, far := c.row(y/2), c.row(min(max(y/2-1+y%2*2, 0), c.height-1))
		dst := out[y*width:][:width]
		for x := range dst {
			i := x / 2
			j := i - 1 + x%2*2
			if j < 0 || j >= c.width {
				dst[x] = byte((3*int32(near[i]) + int32(far[i]) + 2) >> 2)
				continue
			}
			a, b, d, e := int32(near[i]), int32(near[j]), int32(far[i]), int32(far[j])
			diagonal := (a + b + d + e + 8 + 2*(b+d)) >> 3
			dst[x] = byte((diagonal + a) >> 1)
		}
	}
	return out
}
