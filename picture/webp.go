package picture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"

	"golang.org/x/image/webp"
)

// webpFile is what of a WebP makes its picture, or the first frame of an animation (developers.google.com, "WebP Container
// Specification"). Alpha is dropped, so only the chunk with the colours is decoded.
type webpFile struct {
	width, height   int // of the canvas; 0 where only the frame tells
	left, top       int // of the frame
	wide, high      int // ... 0 where only its data tell
	frame           []byte
	alpha, animated bool
	exif, xmp       []byte
}

// riffChunks calls each with the chunks of a RIFF body, as far as they are whole.
func riffChunks(data []byte, each func(kind string, body []byte)) {
	for len(data) >= 8 {
		size := int64(binary.LittleEndian.Uint32(data[4:]))
		if size > int64(len(data)-8) {
			return
		}
		each(string(data[:4]), data[8:8+size])
		data = data[min(8+size+size%2, int64(len(data))):]
	}
}

func le24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

func parseWebP(data []byte) (*webpFile, error) {
	f := &webpFile{}
	riffChunks(data[12:], func(kind string, body []byte) {
		switch {
		case kind == "VP8X" && len(body) >= 10:
			f.alpha, f.animated = f.alpha || body[0]&0x10 != 0, body[0]&2 != 0
			f.width, f.height = le24(body[4:])+1, le24(body[7:])+1
		case kind == "ANMF" && len(body) >= 16 && f.animated && f.frame == nil:
			f.left, f.top, f.wide, f.high = 2*le24(body), 2*le24(body[3:]), le24(body[6:])+1, le24(body[9:])+1
			riffChunks(body[16:], f.colours)
		case kind == "EXIF" && f.exif == nil:
			f.exif = body
		case kind == "XMP " && f.xmp == nil:
			f.xmp = body
		case !f.animated:
			f.colours(kind, body)
		}
	})
	if f.frame == nil {
		return nil, errors.New("no picture in the file")
	}
	return f, nil
}

// colours takes the chunk with the colours of a frame, as a file of its own.
func (f *webpFile) colours(kind string, body []byte) {
	if f.frame != nil || kind != "VP8 " && kind != "VP8L" {
		return
	}
	const alphaUsed = 0x10 // bit 28 of the lossless header
	f.alpha = f.alpha || kind == "VP8L" && len(body) >= 5 && body[4]&alphaUsed != 0
	pad := len(body) % 2
	out := binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(12+len(body)+pad))
	out = binary.LittleEndian.AppendUint32(append(append(out, "WEBP"...), kind...), uint32(len(body)))
	f.frame = append(append(out, body...), make([]byte, pad)...)
}

func webpInfo(data []byte) (Info, error) {
	f, err := parseWebP(data)
	if err != nil {
		return Info{}, err
	}
	c, err := webp.DecodeConfig(bytes.NewReader(f.frame))
	if err != nil {
		return Info{}, err
	}
	if f.width == 0 {
		f.width, f.height = c.Width, c.Height
	}
	if f.wide == 0 {
		f.wide, f.high = f.width, f.height
	}
	if c.Width != f.wide || c.Height != f.high || f.left+f.wide > f.width || f.top+f.high > f.height {
		return Info{}, fmt.Errorf("a frame of %d×%d at (%d,%d) in a picture of %d×%d",
			c.Width, c.Height, f.left, f.top, f.width, f.height)
	}
	return Info{Width: f.width, Height: f.height, Orientation: orientationOf(f.exif, f.xmp), Bits: 8,
		Alpha: f.alpha, Animated: f.animated}, nil
}

// decodeWebP decodes a picture; around the first frame of an animation it is black, as libwebp clears its canvas.
func decodeWebP(data []byte) (*Picture, error) {
	f, err := parseWebP(data)
	if err != nil {
		return nil, err
	}
	p, err := decodeFrame(f.frame)
	if err != nil || f.width == 0 || p.Width == f.width && p.Height == f.height {
		return p, err
	}
	return p.window(-f.left, -f.top, f.width, f.height), nil
}

func decodeFrame(frame []byte) (*Picture, error) {
	m, err := webp.Decode(bytes.NewReader(frame))
	if err != nil {
		return nil, err
	}
	if m, ok := m.(*image.YCbCr); ok {
		return fromVP8(m), nil
	}
	return fromImage(m)
}

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
