package world

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// hue is a colour's angle on the colour circle in degrees, red at 0.
func hue(c rgb) float64 {
	r, g, b := float64(c[0]), float64(c[1]), float64(c[2])
	h := math.Atan2(math.Sqrt(3)*(g-b), 2*r-g-b) * 180 / math.Pi
	return math.Mod(h+360, 360)
}

// hues are the ranges in which a person uses a colour word, from which to which angle, clockwise.
var hues = map[string][2]float64{
	"red": {335, 20}, "crimson": {325, 355}, "orange": {15, 45}, "yellow": {40, 65}, "lime": {65, 100}, "green": {85, 160},
	"teal": {165, 200}, "azure": {195, 225}, "blue": {215, 250}, "violet": {255, 290}, "purple": {265, 300}, "magenta": {290, 330},
}

// TestColourWordsAreTrue: a prompt that names a colour names the one that is drawn.
func TestColourWordsAreTrue(t *testing.T) {
	named := 0
	for i := range tasks {
		for _, s := range tasks[i].subjects {
			if s.word == "" {
				continue
			}
			named++
			r, ok := hues[s.word]
			if !ok {
				t.Errorf("%s %s: nobody knows the colour %q", tasks[i].abbr, s.name, s.word)
				continue
			}
			h := hue(s.c)
			if inside := r[0] <= h && h <= r[1] || r[0] > r[1] && (h >= r[0] || h <= r[1]); !inside {
				t.Errorf("%s %s: %v has hue %.0f, which is not %s", tasks[i].abbr, s.name, s.c, h, s.word)
			}
		}
	}
	if named < 19 {
		t.Errorf("%d colours are named", named)
	}
	for name, c := range map[string]rgb{"green": unripe, "orange": {255, 150, 34}, "yellow": pale} {
		if h, r := hue(c), hues[name]; h < r[0] || h > r[1] {
			t.Errorf("%v has hue %.0f, which is not %s", c, h, name)
		}
	}
}

// TestMixtures: a mixture lies between its colours, nearer to the second the more of it there is, and darkening and lightening
// never leave the range of a byte.
func TestMixtures(t *testing.T) {
	colour := rapid.Custom(func(t *rapid.T) rgb {
		c := rapid.SliceOfN(rapid.IntRange(0, 255), 3, 3).Draw(t, "colour")
		return rgb{c[0], c[1], c[2]}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := colour.Draw(t, "a"), colour.Draw(t, "b")
		less, more := rapid.Float64Range(0, 1).Draw(t, "less"), rapid.Float64Range(0, 1).Draw(t, "more")
		if less > more {
			less, more = more, less
		}
		x, y, d, l := mix(a, b, less), mix(a, b, more), dark(a, more), light(a, more)
		for i := range a {
			low, high := min(a[i], b[i]), max(a[i], b[i])
			if x[i] < low || x[i] > high || y[i] < low || y[i] > high || max(x[i]-b[i], b[i]-x[i]) < max(y[i]-b[i], b[i]-y[i]) {
				t.Fatalf("of %v and %v: %.2f gives %v, %.2f gives %v", a, b, less, x, more, y)
			}
			if d[i] < 0 || d[i] > a[i] || l[i] < a[i] || l[i] > 255 {
				t.Fatalf("%v by %.2f: dark %v, light %v", a, more, d, l)
			}
		}
		if mix(a, b, 1) != b || mix(a, b, 0) != a {
			t.Fatalf("the ends of %v and %v", a, b)
		}
		j := jitter(a, newStream(rapid.Uint64().Draw(t, "seed"), "test"), 7)
		for i := range a {
			if j[i] < 0 || j[i] > 255 || j[i] < a[i]-7 || j[i] > a[i]+7 {
				t.Fatalf("%v varies to %v", a, j)
			}
		}
	})
}

// TestVesselsFill: the surface rises with the level, stays inside the walls, and an empty vessel shows no fluid.
func TestVesselsFill(t *testing.T) {
	for name, v := range vessels {
		before, fluid := math.Inf(1), rgb{255, 255, 255}
		for _, level := range []float64{0, 0.2, 0.5, 0.82, 1} {
			p := newPen(64)
			p.at(32, 32, 1)
			y, w := vessel(p, name, fluid, level)
			if y >= before || y < -v.h || y > v.h || w > math.Max(v.top, v.bottom) || w <= 0 {
				t.Errorf("%s at level %v: surface at %v, half width %v", name, level, y, w)
			}
			before = y
			area := inked(p)
			if level == 0 && area > 0 {
				t.Errorf("%s: an empty vessel shows %v of fluid", name, area)
			}
			if inner := (v.top + v.bottom - 3.6) * (v.h - y); level > 0.1 && (area < 0.5*inner*0.8 || area > 1.3*inner) {
				t.Errorf("%s at level %v: %v of fluid, about %v fits", name, level, area, inner)
			}
		}
	}
}

// TestWindowsCoverTheSource: the source pixels of all target pixels, put together, are the source, each at least one pixel wide.
func TestWindowsCoverTheSource(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from, to := rapid.IntRange(1, 200).Draw(t, "from"), rapid.IntRange(1, 200).Draw(t, "to")
		reached := 0
		for i := range to {
			a, b := window(i, from, to)
			if a < 0 || b <= a || b > from || a > reached {
				t.Fatalf("%d to %d: pixel %d takes %d…%d after %d", from, to, i, a, b, reached)
			}
			reached = max(reached, b)
		}
		if reached != from {
			t.Fatalf("%d to %d: pixels from %d on are left out", from, to, reached)
		}
	})
}
