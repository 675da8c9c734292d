package world

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// drawing is a list of shapes whose edges never lie on the middle of a sample, so that rounding decides nothing.
type drawing []func(p *pen)

func anyDrawing(t *rapid.T) (d drawing) {
	eighth := func(name string, low, high int, off float64) float64 {
		return float64(rapid.IntRange(8*low, 8*high).Draw(t, name))/8 + off
	}
	for range rapid.IntRange(1, 4).Draw(t, "shapes") {
		x, y, a, b := eighth("x", -6, 70, 0.03), eighth("y", -6, 70, 0.03), eighth("a", 1, 18, 0.011), eighth("b", 1, 18, 0.017)
		c := rgb{rapid.IntRange(0, 255).Draw(t, "red"), rapid.IntRange(0, 255).Draw(t, "green"), 255}
		d = append(d, []func(p *pen){
			func(p *pen) { p.ell(x, y, a, b, c) },
			func(p *pen) { p.rect(x-a, y-b, x+a, y+b, c) },
			func(p *pen) { p.poly(c, x-a, y, x, y-b, x+a, y+b/2, x, y+b) },
			func(p *pen) { p.oval(x, y, a, b, 17, c) },
			func(p *pen) { p.line(a/4, c, x, y, x+a, y+b, x+a, y-b) },
			func(p *pen) { p.arc(x, y, a, 20, 200, b/6, c) },
		}[rapid.IntRange(0, 5).Draw(t, "kind")])
	}
	return d
}

func (d drawing) on(p *pen) *pen {
	for _, f := range d {
		f(p)
	}
	return p
}

// TestShiftsMovePixels: a frame moved by whole pixels moves every sample by that much, also of shapes that the canvas cuts
// off; what leaves on one side does not come back on another.
func TestShiftsMovePixels(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := anyDrawing(t)
		dx, dy := rapid.IntRange(-20, 20).Draw(t, "dx"), rapid.IntRange(-20, 20).Draw(t, "dy")
		edge := rapid.SampledFrom([]float64{0, 0.8}).Draw(t, "edge")
		here, there := newPen(64), newPen(64)
		here.edge, there.edge = edge, edge
		there.at(float64(dx), float64(dy), 1)
		d.on(here)
		d.on(there)
		a, b := here.picture(), there.picture()
		for y := max(0, -dy); y < min(64, 64-dy); y++ {
			from, to := max(0, -dx), min(64, 64-dx)
			row, moved := a[(y*64+from)*3:(y*64+to)*3], b[((y+dy)*64+from+dx)*3:((y+dy)*64+to+dx)*3]
			if !slices.Equal(row, moved) {
				t.Fatalf("row %d is another one when moved by (%d, %d)", y, dx, dy)
			}
		}
	})
}

// TestFramesScale: a drawing on a canvas of twice the side is the same drawing with twice the samples: averaged back, it is
// close to the small one everywhere and equal where a pixel has one colour.
func TestFramesScale(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := anyDrawing(t)
		small, large := d.on(newPen(32)).picture(), Picture{Side: 64, Pix: d.on(newPen(64)).picture()}
		back, err := large.shrink(32)
		if err != nil {
			t.Fatal(err)
		}
		off := 0.0
		for i := range small {
			off += math.Abs(float64(small[i]) - float64(back[i]))
		}
		if mean := off / float64(len(small)); mean > 4 {
			t.Fatalf("the two sizes differ by %.1f grey levels in the mean", mean)
		}
	})
}

// TestEdgesAreSmooth: the sum of a picture's levels is the shape's area, edges counted by the part that is covered, for
// shapes much thinner and smaller than what whole pixels could show.
func TestEdgesAreSmooth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, y := rapid.Float64Range(20, 44).Draw(t, "x"), rapid.Float64Range(20, 44).Draw(t, "y")
		a, b := rapid.Float64Range(0.8, 18).Draw(t, "a"), rapid.Float64Range(0.8, 18).Draw(t, "b")
		for name, c := range map[string]struct {
			area, rim float64
			draw      func(p *pen)
		}{
			"circle":    {math.Pi * a * a, 2 * math.Pi * a, func(p *pen) { p.ell(x, y, a, a, white) }},
			"ellipse":   {math.Pi * a * b, 4 * (a + b), func(p *pen) { p.ell(x, y, a, b, white) }},
			"rectangle": {4 * a * b, 9 * (a + b), func(p *pen) { p.rect(x-a, y-b, x+a, y+b, white) }},
			"rhombus":   {2 * a * b, 6 * math.Hypot(a, b), func(p *pen) { p.poly(white, x-a, y, x, y-b, x+a, y, x, y+b) }},
			"hexagon": {1.5 * math.Sqrt(3) * a * a, 6 * a, func(p *pen) {
				h := a * math.Sqrt(3) / 2
				p.poly(white, x-a, y, x-a/2, y-h, x+a/2, y-h, x+a, y, x+a/2, y+h, x-a/2, y+h)
			}},
		} {
			p := newPen(64)
			c.draw(p)
			sum := 0.0
			for _, v := range p.picture() {
				sum += float64(v) / 255 / 3
			}
			// Along a straight upright edge, or one of 45° through samples, half a sample is uncertain, an eighth of a pixel; along
			// others the errors cancel.
			if math.Abs(sum-c.area) > 0.06*c.rim+0.2 {
				t.Fatalf("%s of %.2f and %.2f: area %v, want %v", name, a, b, sum, c.area)
			}
		}
	})
}

// TestLaterShapesCover: painting is opaque and in order; a shape painted twice changes nothing.
func TestLaterShapesCover(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := anyDrawing(t)
		once, twice := d.on(newPen(32)), d.on(newPen(32))
		d[len(d)-1](twice)
		if !slices.Equal(once.pix, twice.pix) {
			t.Fatal("painting the last shape again changes the picture")
		}
		once.rect(-1, -1, 65, 65, rgb{7, 8, 9})
		for i, v := range once.picture() {
			if want := uint8(7 + i%3); v != want {
				t.Fatalf("value %d is %d under a full coat of %d", i, v, want)
			}
		}
	})
}

// TestShapesOfNothing: degenerate shapes leave the canvas alone and do not crash.
func TestShapesOfNothing(t *testing.T) {
	for name, draw := range map[string]func(p *pen){
		"no corners":         func(p *pen) { p.poly(white) },
		"one corner":         func(p *pen) { p.poly(white, 3, 3) },
		"a line as polygon":  func(p *pen) { p.poly(white, 3, 3, 40, 40) },
		"odd coordinates":    func(p *pen) { p.poly(white, 3) },
		"negative rectangle": func(p *pen) { p.rect(20, 20, 10, 10, white) },
		"flat ellipse":       func(p *pen) { p.ell(30, 30, 5, 0, white) },
		"path of one point":  func(p *pen) { p.line(3, white, 5, 5) },
		"far away":           func(p *pen) { p.ell(1e6, -1e6, 10, 10, white); p.rect(900, 900, 950, 950, white) },
	} {
		p := newPen(16)
		draw(p)
		if inked(p) != 0 {
			t.Errorf("%s: area %v", name, inked(p))
		}
	}
	p := newPen(16)
	p.ell(32, 32, 1e4, 1e4, white) // larger than any canvas
	if inked(p) != 64*64 {
		t.Errorf("a shape over everything covers %v", inked(p))
	}
}
