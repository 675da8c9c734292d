package world

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"math"
	"testing"

	"pgregory.net/rapid"
)

var white = rgb{255, 255, 255}

// inked is the area of the picture that is white, in square 64ths of its side.
func inked(p *pen) float64 {
	n := 0
	for i := 0; i < len(p.pix); i += 3 {
		if p.pix[i] == 255 {
			n++
		}
	}
	return float64(n) / (p.unit * p.unit)
}

// bounds is the smallest rectangle of all ink, in 64ths.
func bounds(p *pen) (x0, y0, x1, y1 float64) {
	x0, y0, x1, y1 = math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
	for i := 0; i < len(p.pix); i += 3 {
		if p.pix[i]|p.pix[i+1]|p.pix[i+2] != 0 {
			x, y := float64(i/3%p.n), float64(i/3/p.n)
			x0, x1 = math.Min(x0, x/p.unit), math.Max(x1, (x+1)/p.unit)
			y0, y1 = math.Min(y0, y/p.unit), math.Max(y1, (y+1)/p.unit)
		}
	}
	return x0, y0, x1, y1
}

// TestAreasOfShapes: a shape that lies on the canvas covers its area, whatever its place, turn and frame.
func TestAreasOfShapes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, y := rapid.Float64Range(24, 40).Draw(t, "x"), rapid.Float64Range(24, 40).Draw(t, "y")
		a, b := rapid.Float64Range(3, 16).Draw(t, "a"), rapid.Float64Range(3, 16).Draw(t, "b")
		turn, k := rapid.Float64Range(0, 360).Draw(t, "turn"), rapid.Float64Range(0.5, 1).Draw(t, "scale")
		polygon := 0.5 * 28 * math.Sin(2*math.Pi/28) // of an oval's 28 corners
		for name, shape := range map[string]struct {
			area float64
			draw func(p *pen)
		}{
			"ellipse":   {math.Pi * a * b, func(p *pen) { p.ell(0, 0, a, b, white) }},
			"rectangle": {2 * a * b, func(p *pen) { p.rect(-a, -b/2, a, b/2, white) }},
			"oval":      {polygon * a * b, func(p *pen) { p.oval(0, 0, a, b, turn, white) }},
			"triangle":  {a * b, func(p *pen) { p.poly(white, -a, b, a, b, a/3, 0) }},
			"stroke":    {2*a*b/2 + math.Pi*b*b/16, func(p *pen) { p.line(b/2, white, -a, 0, a, 0) }},
			"bow tie":   {2 * a * b, func(p *pen) { p.poly(white, -a, -b, a, b, a, -b, -a, b) }},
		} {
			p := newPen(64)
			p.at(x, y, k)
			shape.draw(p)
			want := shape.area * k * k
			if got := inked(p); math.Abs(got-want) > 0.02*want+0.5*(a+b) {
				t.Fatalf("%s: area %v, want %v", name, got, want)
			}
		}
	})
}

// TestExtentHoldsAllInk: what touch remembers is a rectangle around everything drawn since mark, also for shapes that
// leave the canvas, with outlines, in moved frames.
func TestExtentHoldsAllInk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPen(64)
		p.mark()
		p.edge = rapid.SampledFrom([]float64{0, 0.8}).Draw(t, "edge")
		at := rapid.Float64Range(-10, 74)
		size := rapid.Float64Range(1, 20)
		for range rapid.IntRange(1, 4).Draw(t, "shapes") {
			a, b := size.Draw(t, "a"), size.Draw(t, "b")
			p.moved(at.Draw(t, "x"), at.Draw(t, "y"), rapid.Float64Range(0.3, 1.5).Draw(t, "scale"), func() {
				switch rapid.IntRange(0, 4).Draw(t, "kind") {
				case 0:
					p.ell(0, 0, a, b, white)
				case 1:
					p.rect(-a, -b, a, b, white)
				case 2:
					p.oval(0, 0, a, b, 33, white)
				case 3:
					p.arc(0, 0, a, 20, 250, b/4, white)
				case 4:
					p.line(a/3, white, -a, 0, 0, b, a, a)
				}
			})
		}
		if x0, y0, x1, y1 := bounds(p); !math.IsInf(x0, 0) {
			slack := 1.5 / p.unit
			if x0 < p.x0-slack || y0 < p.y0-slack || x1 > p.x1+slack || y1 > p.y1+slack {
				t.Fatalf("ink in (%v, %v)-(%v, %v), extent (%v, %v)-(%v, %v)", x0, y0, x1, y1, p.x0, p.y0, p.x1, p.y1)
			}
		}
		if p.ox != 0 || p.oy != 0 || p.k != 1 {
			t.Fatal("moved left its frame behind")
		}
	})
}

// TestOutlinesLieAround: an outline darkens a rim outside of ellipses and rectangles and leaves their inside alone.
func TestOutlinesLieAround(t *testing.T) {
	plain, outlined, bared := newPen(64), newPen(64), newPen(64)
	outlined.edge, bared.edge = 1.5, 1.5
	plain.ell(32, 32, 10, 6, white)
	outlined.ell(32, 32, 10, 6, white)
	bared.bare(func() { bared.ell(32, 32, 10, 6, white) })
	if inked(plain) != inked(outlined) {
		t.Errorf("the inside is %v with outline, %v without", inked(outlined), inked(plain))
	}
	if !bytes.Equal(bared.pix, plain.pix) || bared.edge != 1.5 {
		t.Error("bare draws an outline, or loses it afterwards")
	}
	rim := 0
	for i := 0; i < len(outlined.pix); i += 3 {
		if v := outlined.pix[i]; v != 0 && v != 255 {
			rim++
		}
	}
	want := math.Pi * (11.5*7.5 - 60) * outlined.unit * outlined.unit
	if math.Abs(float64(rim)-want) > 0.05*want {
		t.Errorf("rim of %d samples, want %v", rim, want)
	}
}

// TestPictureAveragesSamples: an edge in the middle of a pixel gives it the mean of both sides, rounded.
func TestPictureAveragesSamples(t *testing.T) {
	p := newPen(64)
	p.rect(10.5, 20.25, 30, 40, rgb{200, 100, 40})
	pix := p.picture()
	at := func(x, y int) [3]uint8 { return [3]uint8(pix[(y*64+x)*3:]) }
	for _, c := range []struct {
		x, y int
		want [3]uint8
	}{{15, 30, [3]uint8{200, 100, 40}}, {10, 30, [3]uint8{100, 50, 20}}, {15, 20, [3]uint8{150, 75, 30}}, {9, 30, [3]uint8{}}, {30, 30, [3]uint8{}}} {
		if got := at(c.x, c.y); got != c.want {
			t.Errorf("pixel (%d, %d) is %v, want %v", c.x, c.y, got, c.want)
		}
	}
}

func TestColoursMix(t *testing.T) {
	c := rgb{100, 0, 255}
	if got := dark(c, 0.5); got != (rgb{50, 0, 128}) && got != (rgb{50, 0, 127}) {
		t.Errorf("half dark: %v", got)
	}
	if light(c, 1) != white || mix(c, white, 0) != c {
		t.Error("the ends of a mixture are not its colours")
	}
}

// TestFloatsBecomeLevels: values are clamped and rounded to the nearest level, planes and pixels alike; NaN is black.
func TestFloatsBecomeLevels(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const side = 2
		chw := rapid.SliceOfN(rapid.Float32(), 12, 12).Draw(t, "values")
		if rapid.Bool().Draw(t, "nan") {
			chw[5] = float32(math.NaN())
		}
		hwc := make([]float32, 12)
		for c := range 3 {
			for i := range 4 {
				hwc[3*i+c] = chw[4*c+i]
			}
		}
		a, b := FromPlanes(chw, side), FromFloat(hwc, side)
		if !bytes.Equal(a.Pix, b.Pix) {
			t.Fatalf("planes %v, pixels %v", a.Pix, b.Pix)
		}
		for i, v := range hwc {
			want := 0.0
			if v == v {
				want = 255 * float64(min(max(v, 0), 1))
			}
			if math.Abs(float64(b.Pix[i])-want) > 0.5 {
				t.Fatalf("%v becomes %d", v, b.Pix[i])
			}
		}
	})
}

func TestPicturesSurvivePNG(t *testing.T) {
	p := Picture{Side: 5, Pix: make([]uint8, 75)}
	for i := range p.Pix {
		p.Pix[i] = uint8(37 * i)
	}
	data, err := p.PNG()
	if err != nil {
		t.Fatal(err)
	}
	im, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	back, err := FromImage(im)
	if err != nil || back.Side != 5 || !bytes.Equal(back.Pix, p.Pix) {
		t.Errorf("%v, %v", back, err)
	}
	for _, r := range []image.Rectangle{image.Rect(0, 0, 4, 5), {}} {
		if _, err := FromImage(image.NewGray(r)); err == nil {
			t.Errorf("a picture of %v was taken", r)
		}
	}
	moved := image.NewGray(image.Rect(7, 9, 9, 11)) // bounds need not start at 0
	moved.Set(8, 9, color.Gray{Y: 80})
	if back, err := FromImage(moved); err != nil || back.Pix[3] != 80 || back.Pix[0] != 0 {
		t.Errorf("%v, %v", back, err)
	}
}

// TestShrinkKeepsTheMean: sizes that divide average exactly; any other size stays between the extremes; a picture whose
// values do not fit its side is refused.
func TestShrinkKeepsTheMean(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		side := rapid.IntRange(1, 12).Draw(t, "side")
		p := Picture{Side: side, Pix: rapid.SliceOfN(rapid.Byte(), side*side*3, side*side*3).Draw(t, "pixels")}
		small := rapid.IntRange(1, 12).Draw(t, "small")
		got, err := p.shrink(small)
		if err != nil || len(got) != small*small*3 {
			t.Fatalf("%d values, %v", len(got), err)
		}
		var sum, want [3]float64
		low, high := [3]uint8{255, 255, 255}, [3]uint8{}
		for i, v := range p.Pix {
			want[i%3] += float64(v) / float64(side*side)
			low[i%3], high[i%3] = min(low[i%3], v), max(high[i%3], v)
		}
		for i, v := range got {
			sum[i%3] += float64(v) / float64(small*small)
			if v < low[i%3] || v > high[i%3] {
				t.Fatalf("value %d outside %d…%d", v, low[i%3], high[i%3])
			}
		}
		if side%small == 0 {
			for c := range 3 {
				if math.Abs(sum[c]-want[c]) > 1 {
					t.Fatalf("mean %v, want %v", sum, want)
				}
			}
		}
	})
	for _, p := range []Picture{{}, {Side: 2, Pix: make([]uint8, 11)}, {Side: -1}} {
		if _, err := p.shrink(1); err == nil {
			t.Errorf("side %d with %d values was taken", p.Side, len(p.Pix))
		}
	}
}

// TestStreamsDrawInTheirRange: numbers of a keyed stream lie where they are asked for, and an order is a permutation.
func TestStreamsDrawInTheirRange(t *testing.T) {
	s := newStream(3, "test")
	for range 1000 {
		if v := s.in(-2, 5); v < -2 || v >= 5 {
			t.Fatalf("%v", v)
		}
		if n := s.intn(7); n < 0 || n > 6 {
			t.Fatalf("%d", n)
		}
	}
	seen := map[int]bool{}
	for _, i := range s.order(20) {
		seen[i] = true
	}
	if len(seen) != 20 || !seen[0] || !seen[19] {
		t.Errorf("order visits %d of 20", len(seen))
	}
}
