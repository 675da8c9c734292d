package picture

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image/color"
	"image/jpeg"
	"testing"

	"pgregory.net/rapid"
)

// corners says, for each EXIF orientation, where the first stored row and column lie in the upright picture: the corner of the
// stored pixel (0, 0), and the way from there along the stored row (EXIF 2.32, tag 274).
var corners = map[int]struct {
	right, bottom bool // the corner of pixel (0, 0)
	dx, dy        int  // one step along the stored row
}{
	1: {false, false, 1, 0}, 2: {true, false, -1, 0}, 3: {true, true, -1, 0}, 4: {false, true, 1, 0},
	5: {false, false, 0, 1}, 6: {true, false, 0, 1}, 7: {true, true, 0, -1}, 8: {false, true, 0, -1},
}

// TestOrientationsByTheStandard: each of the eight puts the stored corner and row where the standard says.
func TestOrientationsByTheStandard(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPicture(t, 7)
		for o, want := range corners {
			q := p.upright(o)
			if o < 5 && q.Width != p.Width || o >= 5 && q.Width != p.Height || q.Width*q.Height != p.Width*p.Height {
				t.Fatalf("orientation %d: %d×%d became %d×%d", o, p.Width, p.Height, q.Width, q.Height)
			}
			x, y := 0, 0
			if want.right {
				x = q.Width - 1
			}
			if want.bottom {
				y = q.Height - 1
			}
			for i := range p.Width {
				if at := q.At(x+i*want.dx, y+i*want.dy); at != p.At(i, 0) {
					t.Fatalf("orientation %d: pixel %d of the stored row is not at (%d, %d)", o, i, x+i*want.dx, y+i*want.dy)
				}
			}
		}
		if !bytes.Equal(p.upright(0).Pix, p.Pix) {
			t.Fatal("no orientation turns the picture")
		}
	})
}

// withTag stores a picture with an orientation tag, as PNG or as JPEG.
func withTag(t *rapid.T, p *Picture, orientation uint16, asPNG bool) []byte {
	tags := tiff(binary.BigEndian, "MM\x00*", 3, orientation)
	if asPNG {
		file, err := p.PNG()
		if err != nil {
			t.Fatal(err)
		}
		chunk := append([]byte("eXIf"), tags...)
		out := append(append([]byte{}, file[:33]...), binary.BigEndian.AppendUint32(nil, uint32(len(tags)))...)
		out = binary.BigEndian.AppendUint32(append(out, chunk...), crc32.ChecksumIEEE(chunk))
		return append(out, file[33:]...)
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, p.Image(), &jpeg.Options{Quality: 95}); err != nil {
		t.Fatal(err)
	}
	body := append([]byte("Exif\x00\x00"), tags...)
	out := append([]byte{0xff, 0xd8, 0xff, 0xe1}, binary.BigEndian.AppendUint16(nil, uint16(len(body)+2))...)
	return append(append(out, body...), b.Bytes()[2:]...)
}

// TestTaggedFilesAreTurned: a file with a tag decodes to the upright picture of the same file without one, and its head tells the
// stored size and the tag.
func TestTaggedFilesAreTurned(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPicture(t, 12)
		o, asPNG := rapid.IntRange(1, 8).Draw(t, "orientation"), rapid.Bool().Draw(t, "png")
		plain, err := Decode(withTag(t, p, 1, asPNG))
		if err != nil {
			t.Fatal(err)
		}
		file := withTag(t, p, uint16(o), asPNG)
		turned, err := Decode(file)
		if err != nil {
			t.Fatal(err)
		}
		if want := plain.upright(o); turned.Width != want.Width || !bytes.Equal(turned.Pix, want.Pix) {
			t.Fatalf("orientation %d: another picture", o)
		}
		info, err := Inspect(file)
		if err != nil || info.Width != p.Width || info.Height != p.Height || info.Orientation != o || info.Format != map[bool]string{true: "png", false: "jpeg"}[asPNG] {
			t.Fatalf("%+v, %v", info, err)
		}
	})
}

// TestWindows: pixels inside come over, places outside are black, wherever the window lies.
func TestWindows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPicture(t, 6)
		left, top := rapid.IntRange(-9, 9).Draw(t, "left"), rapid.IntRange(-9, 9).Draw(t, "top")
		width, height := rapid.IntRange(1, 9).Draw(t, "width"), rapid.IntRange(1, 9).Draw(t, "height")
		q := p.window(left, top, width, height)
		for y := range height {
			for x := range width {
				want := color.RGBA{A: 255}
				if sx, sy := x+left, y+top; sx >= 0 && sy >= 0 && sx < p.Width && sy < p.Height {
					want = p.At(sx, sy)
				}
				if q.At(x, y) != want {
					t.Fatalf("(%d, %d) of the window at (%d, %d) is %v, want %v", x, y, left, top, q.At(x, y), want)
				}
			}
		}
	})
}

// TestInks: no ink is white, full black is black, each ink takes away its own colour, in proportion to what black leaves.
func TestInks(t *testing.T) {
	for ink, want := range map[color.CMYK]color.NRGBA{
		{}:                       {255, 255, 255, 255},
		{K: 255}:                 {0, 0, 0, 255},
		{C: 255}:                 {0, 255, 255, 255},
		{M: 255}:                 {255, 0, 255, 255},
		{Y: 255}:                 {255, 255, 0, 255},
		{C: 255, M: 255, Y: 255}: {0, 0, 0, 255},
		{C: 255, K: 55}:          {0, 200, 200, 255},
	} {
		if got := fromCMYK(ink); got != want {
			t.Errorf("%+v is %v, want %v", ink, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		c, k := rapid.Byte().Draw(t, "ink"), rapid.Byte().Draw(t, "black")
		got := int(fromCMYK(color.CMYK{C: c, K: k}).R)
		if want := (255 - int(c)) * (255 - int(k)) / 255; got < want-1 || got > want+1 {
			t.Fatalf("ink %d under black %d leaves %d, want %d", c, k, got, want)
		}
	})
}
