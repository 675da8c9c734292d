package picture

import (
	"bytes"
	"image"
	"image/color"
	"image/color/palette"
	"image/jpeg"
	"image/png"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// ramp rises by step levels a pixel from left to right; turned, from top to bottom.
func ramp(width, height int, step float64, turned bool) *Picture {
	p := New(width, height)
	for i := range width * height {
		at := i % width
		if turned {
			at = i / width
		}
		v := byte(math.Round(20 + step*float64(at)))
		p.Pix[3*i], p.Pix[3*i+1], p.Pix[3*i+2] = v, v, v
	}
	return p
}

// TestRampsStayRamps: every filter reproduces a straight rise away from the rim, to any size, in both directions: pixel x of
// width w looks at place (x + 1/2)·(from/w) - 1/2 of the source.
func TestRampsStayRamps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from, to := rapid.IntRange(16, 40).Draw(t, "from"), rapid.IntRange(16, 60).Draw(t, "to")
		filter := rapid.SampledFrom([]Filter{Bilinear, Bicubic, Lanczos}).Draw(t, "filter")
		turned := rapid.Bool().Draw(t, "turned")
		const step = 5.0
		scale := float64(from) / float64(to)
		p, width, height := ramp(from, 3, step, false), to, 3
		if turned {
			p, width, height = ramp(3, from, step, true), 3, to
		}
		out, err := p.Resize(width, height, filter)
		if err != nil {
			t.Fatal(err)
		}
		// Lanczos' weights add up to one only after they are divided by their sum, which costs a straight line a little.
		slack := map[Filter]float64{Bilinear: 0.51, Bicubic: 0.51, Lanczos: 1.1}[filter]
		reach := filter.support() * max(scale, 1)
		for o := range to {
			place := (float64(o)+0.5)*scale - 0.5
			if place < reach || place > float64(from)-1-reach {
				continue
			}
			if scale > 1 && math.Abs(scale-math.Round(scale)) > 1e-9 {
				slack = 1.6 // widened kernels keep straight lines only at whole factors
			}
			v := out.Pix[3*o]
			if turned {
				v = out.Pix[9*o]
			}
			if want := 20 + step*place; math.Abs(float64(v)-want) > slack {
				t.Fatalf("filter %d, %d to %d: pixel %d is %d, want %.2f", filter, from, to, o, v, want)
			}
		}
	})
}

// TestKnownWeights: halving and doubling have weights one can write down.
func TestKnownWeights(t *testing.T) {
	row := func(levels ...byte) *Picture {
		p := New(len(levels), 1)
		for i, v := range levels {
			p.Pix[3*i], p.Pix[3*i+1], p.Pix[3*i+2] = v, v, v
		}
		return p
	}
	for name, tc := range map[string]struct {
		in    *Picture
		width int
		f     Filter
		want  []byte
	}{
		// halving with a triangle over four pixels: 1, 3, 3, 1 eighths; at the rim the missing one is left out
		"halve":  {row(0, 0, 80, 0, 0, 0, 0, 0), 4, Bilinear, []byte{11, 30, 0, 0}},
		"halve2": {row(0, 0, 0, 80, 0, 0, 0, 0), 4, Bilinear, []byte{0, 30, 10, 0}},
		// doubling: three quarters and one quarter
		"double": {row(0, 100, 0), 6, Bilinear, []byte{0, 25, 75, 75, 25, 0}},
		// a quarter off the pixel the cubic has 0.8671875, 0.2265625, -0.0703125, -0.0234375
		"cubic": {row(0, 0, 0, 128, 0, 0, 0), 14, Bicubic, []byte{0, 0, 0, 0, 0, 29, 111, 111, 29, 0, 0, 0, 0, 0}},
		// one pixel of all: at a factor n the triangle weighs the middle most, and a flat picture stays flat
		"to one": {row(7, 7, 7, 7, 7), 1, Lanczos, []byte{7}},
	} {
		out, err := tc.in.Resize(tc.width, 1, tc.f)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range tc.want {
			if got := out.Pix[3*i]; got != want {
				t.Errorf("%s: %v, want %v", name, reds(out), tc.want)
				break
			}
		}
	}
}

func reds(p *Picture) (out []byte) {
	for i := 0; i < len(p.Pix); i += 3 {
		out = append(out, p.Pix[i])
	}
	return out
}

// TestBilinearStaysInRange: a filter without negative weights gives no level outside of the picture's own, and keeps the order of
// two pictures of which one is nowhere darker.
func TestBilinearStaysInRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPicture(t, 12)
		width, height := rapid.IntRange(1, 30).Draw(t, "to width"), rapid.IntRange(1, 30).Draw(t, "to height")
		lighter := New(p.Width, p.Height)
		low, high := [3]byte{255, 255, 255}, [3]byte{}
		for i, v := range p.Pix {
			lighter.Pix[i] = byte(min(255, int(v)+int(rapid.Byte().Draw(t, "light"))))
			low[i%3], high[i%3] = min(low[i%3], v), max(high[i%3], v)
		}
		a, err := p.Resize(width, height, Bilinear)
		if err != nil {
			t.Fatal(err)
		}
		b, err := lighter.Resize(width, height, Bilinear)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range a.Pix {
			if v < low[i%3] || v > high[i%3] || v > b.Pix[i] {
				t.Fatalf("value %d is %d of %d…%d, %d of the lighter picture", i, v, low[i%3], high[i%3], b.Pix[i])
			}
		}
	})
}

// TestChannelsDoNotMix: resizing treats red, green and blue alike and apart, and both directions alike.
func TestChannelsDoNotMix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPicture(t, 9)
		filter := rapid.SampledFrom([]Filter{Lanczos, Bilinear, Bicubic}).Draw(t, "filter")
		width, height := rapid.IntRange(1, 20).Draw(t, "to width"), rapid.IntRange(1, 20).Draw(t, "to height")
		swapped := New(p.Width, p.Height)
		for i := range p.Width * p.Height {
			swapped.Pix[3*i], swapped.Pix[3*i+1], swapped.Pix[3*i+2] = p.Pix[3*i+2], p.Pix[3*i], p.Pix[3*i+1]
		}
		a, err := p.Resize(width, height, filter)
		if err != nil {
			t.Fatal(err)
		}
		b, err := swapped.Resize(width, height, filter)
		if err != nil {
			t.Fatal(err)
		}
		for i := range width * height {
			if a.Pix[3*i+2] != b.Pix[3*i] || a.Pix[3*i] != b.Pix[3*i+1] || a.Pix[3*i+1] != b.Pix[3*i+2] {
				t.Fatalf("pixel %d: %v, with other channels %v", i, a.Pix[3*i:3*i+3], b.Pix[3*i:3*i+3])
			}
		}
		one, err := p.Resize(width, p.Height, filter)
		if err != nil {
			t.Fatal(err)
		}
		turned, err := p.upright(5).Resize(p.Height, width, filter)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(one.Pix, turned.upright(5).Pix) {
			t.Fatal("rows and columns are resized differently")
		}
	})
}

// encoded is the image as a PNG file.
func encoded(t *testing.T, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestPNGColourTypes: each kind of pixels that the standard library writes is read by its own rule: alpha is dropped and not
// multiplied in, of sixteen bits the high byte counts, in grey too.
func TestPNGColourTypes(t *testing.T) {
	const w, h = 5, 3
	r := image.Rect(0, 0, w, h)
	grey, grey16, nrgba, nrgba64, indexed, clear := image.NewGray(r), image.NewGray16(r), image.NewNRGBA(r), image.NewNRGBA64(r), image.NewPaletted(r, palette.WebSafe), image.NewPaletted(r, color.Palette{color.NRGBA{200, 100, 50, 30}, color.NRGBA{1, 2, 3, 255}})
	want := map[string]func(x, y int) [3]byte{}
	level := func(x, y int) byte { return byte(17*x + 50*y) }
	for y := range h {
		for x := range w {
			v := level(x, y)
			grey.SetGray(x, y, color.Gray{Y: v})
			grey16.SetGray16(x, y, color.Gray16{Y: uint16(v)<<8 | 0xfe})
			nrgba.SetNRGBA(x, y, color.NRGBA{v, 255 - v, 9, byte(60 * x)})
			nrgba64.SetNRGBA64(x, y, color.NRGBA64{R: uint16(v)<<8 | 0xff, G: uint16(v), B: 0x1234, A: uint16(9000 * x)})
			indexed.SetColorIndex(x, y, v%216)
			clear.SetColorIndex(x, y, v%2)
		}
	}
	want["grey"] = func(x, y int) [3]byte { v := level(x, y); return [3]byte{v, v, v} }
	want["grey of 16 bits"] = want["grey"]
	want["alpha"] = func(x, y int) [3]byte { v := level(x, y); return [3]byte{v, 255 - v, 9} }
	want["alpha of 16 bits"] = func(x, y int) [3]byte { return [3]byte{level(x, y), 0, 0x12} }
	want["palette"] = func(x, y int) [3]byte {
		c := color.RGBAModel.Convert(palette.WebSafe[level(x, y)%216]).(color.RGBA)
		return [3]byte{c.R, c.G, c.B}
	}
	want["clear palette"] = func(x, y int) [3]byte { return [][3]byte{{200, 100, 50}, {1, 2, 3}}[level(x, y)%2] }
	for name, m := range map[string]image.Image{"grey": grey, "grey of 16 bits": grey16, "alpha": nrgba, "alpha of 16 bits": nrgba64, "palette": indexed, "clear palette": clear} {
		p, err := Decode(encoded(t, m))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i := range w * h {
			if got, want := [3]byte(p.Pix[3*i:]), want[name](i%w, i/w); got != want {
				t.Errorf("%s at (%d, %d): %v, want %v", name, i%w, i/w, got, want)
				break
			}
		}
	}
}

// TestFlatJPEGs: a picture of one colour comes back as that colour to the rounding of the conversion, at any size, also where the
// last blocks hang over the rim.
func TestFlatJPEGs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, h := rapid.IntRange(1, 40).Draw(t, "width"), rapid.IntRange(1, 40).Draw(t, "height")
		c := [3]byte{rapid.Byte().Draw(t, "red"), rapid.Byte().Draw(t, "green"), rapid.Byte().Draw(t, "blue")}
		p := New(w, h)
		for i := range p.Pix {
			p.Pix[i] = c[i%3]
		}
		var b bytes.Buffer
		if err := jpeg.Encode(&b, p.Image(), &jpeg.Options{Quality: 100}); err != nil {
			t.Fatal(err)
		}
		got, err := Decode(b.Bytes())
		if err != nil || got.Width != w || got.Height != h {
			t.Fatalf("%v, want %d×%d", err, w, h)
		}
		for i, v := range got.Pix {
			if d := int(v) - int(c[i%3]); d < -4 || d > 4 {
				t.Fatalf("value %d is %d, was %d", i, v, c[i%3])
			}
			if v != got.Pix[i%3] {
				t.Fatalf("the colour is not flat: %d at %d, %d at the start", v, i, got.Pix[i%3])
			}
		}
	})
}

// TestShortFilesAskForNoMemory: a file of a few hundred bytes that claims a huge picture is refused before room is made for it.
func TestShortFilesAskForNoMemory(t *testing.T) {
	for _, name := range []string{"420_33x18.jpg", "progressive.jpg", "grey.jpg"} {
		data := append([]byte{}, readTestdata(t, name)...)
		at := bytes.Index(data, []byte{0xff, markBaseline})
		if at < 0 {
			at = bytes.Index(data, []byte{0xff, markProgressive})
		}
		copy(data[at+5:], []byte{0x27, 0x10, 0x27, 0x10}) // 10000 × 10000
		_, err := Decode(data)
		if err == nil || !strings.Contains(err.Error(), "bytes cannot hold 10000×10000 pixels") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFitGivesTheCrop: of a picture of any size comes one of the crop's size whose middle is the picture's middle; a picture that
// has the size already is not touched.
func TestFitGivesTheCrop(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width, height := rapid.IntRange(1, 60).Draw(t, "width"), rapid.IntRange(1, 60).Draw(t, "height")
		side := rapid.IntRange(1, 24).Draw(t, "side")
		p := Preprocessor{ShortSide: side, CropWidth: side, CropHeight: side, Filter: rapid.SampledFrom([]Filter{Bilinear, Bicubic}).Draw(t, "filter"), Scale: 1.0 / 255, Deviation: [3]float32{1, 1, 1}}
		m := New(width, height)
		for i := range width * height {
			m.Pix[3*i], m.Pix[3*i+1], m.Pix[3*i+2] = 200, byte(i%width*255/max(1, width-1)), byte(i/width*255/max(1, height-1))
		}
		out, err := p.Fit(m)
		if err != nil || out.Width != side || out.Height != side {
			t.Fatalf("%d×%d: %v", out.Width, out.Height, err)
		}
		if got := out.Pix[0]; got != 200 {
			t.Fatalf("a flat channel became %d", got)
		}
		if width == side && height == side && !bytes.Equal(out.Pix, m.Pix) {
			t.Fatal("a picture of the right size is changed")
		}
		if long, short := max(width, height), min(width, height); side >= 8 && short >= 8 && long <= 5*short {
			// The middle of the picture is the middle of both rises.
			i := side/2*side + side/2
			if g, b := int(out.Pix[3*i+1]), int(out.Pix[3*i+2]); g < 128-40 || g > 128+40 || b < 128-40 || b > 128+40 {
				t.Fatalf("%d×%d: the middle is green %d, blue %d", width, height, g, b)
			}
		}
	})
}

// TestPixelsByFormula: (level·scale - mean) / deviation, channel by channel, planes after one another.
func TestPixelsByFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := anyPicture(t, 6)
		value := rapid.Float32Range(0.05, 2)
		p := Preprocessor{Scale: rapid.Float64Range(0.001, 2).Draw(t, "scale")}
		for c := range 3 {
			p.Mean[c], p.Deviation[c] = value.Draw(t, "mean"), value.Draw(t, "deviation")
		}
		got := p.Pixels(m)
		area := m.Width * m.Height
		for i, v := range m.Pix {
			c := i % 3
			want := (float64(v)*p.Scale - float64(p.Mean[c])) / float64(p.Deviation[c])
			if g := float64(got[c*area+i/3]); math.Abs(g-want) > 1e-6*(1+math.Abs(want)+255*p.Scale/float64(p.Deviation[c])) {
				t.Fatalf("value %d: %v, want %v", i, g, want)
			}
		}
	})
}

// TestSquaresOfAnyPicture: the side asked for, the short side whole, the long one cut on both ends alike; sizes that cannot be
// are refused.
func TestSquaresOfAnyPicture(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width, height, side := rapid.IntRange(1, 90).Draw(t, "width"), rapid.IntRange(1, 90).Draw(t, "height"), rapid.IntRange(1, 40).Draw(t, "side")
		m := New(width, height)
		for i := range width * height { // mirror images of each other left and right, top and bottom
			x, y := i%width, i/width
			m.Pix[3*i], m.Pix[3*i+1] = byte(min(x, width-1-x)*4), byte(min(y, height-1-y)*4)
		}
		q, err := m.Square(side)
		if err != nil || q.Width != side || q.Height != side {
			t.Fatalf("%v, %v", q, err)
		}
		long := max(width, height) * side / min(width, height)
		if (long-side)%2 != 0 {
			return // one column more on one side
		}
		for i := range side * side {
			x, y := i%side, i/side
			for _, j := range []int{y*side + side - 1 - x, (side-1-y)*side + x} {
				if d := int(q.Pix[3*i]) - int(q.Pix[3*j]); d < -1 || d > 1 {
					t.Fatalf("%d×%d to %d: (%d, %d) is %d, its mirror image %d", width, height, side, x, y, q.Pix[3*i], q.Pix[3*j])
				}
			}
		}
	})
	for _, side := range []int{0, -1, 1 << 20} {
		if _, err := New(4, 3).Square(side); err == nil || !strings.Contains(err.Error(), "square picture of 4×3") {
			t.Errorf("side %d: %v", side, err)
		}
	}
}
