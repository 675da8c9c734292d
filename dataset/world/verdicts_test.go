package world

import (
	"math"
	"testing"
)

// everyTuple is one tuple of each subject of each task.
func everyTuple() (out []Tuple) {
	everySubject(func(_ *task, u Tuple) { out = append(out, u) })
	return out
}

// verdicts counts what the judge says of changed pictures of every subject, one outcome each, both in turn.
func verdicts(t *testing.T, change func(p Picture, u Tuple, i int) Picture) (asDrawn, neither, wrong int, missed map[string]int) {
	t.Helper()
	j := NewJudge()
	missed = map[string]int{}
	for i, u := range everyTuple() {
		if i/2%3 > 0 {
			continue // a third, of every task, tells enough
		}
		right := i%2 == 0
		r, err := j.Judge(change(u.Draw(right, 64), u, i), u)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case r.Verdict == Neither:
			neither++
			missed[u.Task+" "+u.Subject]++
		case (r.Verdict == Right) == right:
			asDrawn++
		default:
			wrong++
			missed[u.Task+" "+u.Subject+" the other way"]++
		}
	}
	return asDrawn, neither, wrong, missed
}

// shifted moves a picture by whole pixels; the rim repeats.
func shifted(p Picture, dx, dy int) Picture {
	q := Picture{Side: p.Side, Pix: make([]uint8, len(p.Pix))}
	clamp := func(v int) int { return min(max(v, 0), p.Side-1) }
	for y := range p.Side {
		for x := range p.Side {
			copy(q.Pix[(y*p.Side+x)*3:][:3], p.Pix[(clamp(y-dy)*p.Side+clamp(x-dx))*3:][:3])
		}
	}
	return q
}

func levels(p Picture, f func(v float64) float64) Picture {
	q := Picture{Side: p.Side, Pix: make([]uint8, len(p.Pix))}
	for i, v := range p.Pix {
		q.Pix[i] = uint8(min(255, max(0, math.Round(f(float64(v))))))
	}
	return q
}

// TestVerdictsSurviveChange: what a camera or a decoder does to a picture does not turn its verdict over.
func TestVerdictsSurviveChange(t *testing.T) {
	for name, c := range map[string]struct {
		want   float64
		change func(p Picture, u Tuple, i int) Picture
	}{
		"a pixel aside": {0.99, func(p Picture, _ Tuple, i int) Picture { return shifted(p, i%3-1, i/3%3-1) }},
		"brighter":      {0.99, func(p Picture, _ Tuple, _ int) Picture { return levels(p, func(v float64) float64 { return v + 12 }) }},
		"darker":        {0.99, func(p Picture, _ Tuple, _ int) Picture { return levels(p, func(v float64) float64 { return v - 12 }) }},
		"less contrast": {0.95, func(p Picture, _ Tuple, _ int) Picture {
			return levels(p, func(v float64) float64 { return 128 + 0.8*(v-128) })
		}},
		"few levels": {0.99, func(p Picture, _ Tuple, _ int) Picture {
			return levels(p, func(v float64) float64 { return 32*math.Floor(v/32) + 16 })
		}},
		"noise and blur": {0.99, func(p Picture, _ Tuple, i int) Picture { return damage(p, 1, 20, uint64(i)) }},
	} {
		asDrawn, neither, wrong, missed := verdicts(t, c.change)
		n := asDrawn + neither + wrong
		if float64(asDrawn) < c.want*float64(n) || float64(wrong) > 0.01*float64(n) {
			t.Errorf("%s: %d as drawn, %d neither, %d turned over: %v", name, asDrawn, neither, wrong, missed)
		} else {
			t.Logf("%s: %d as drawn, %d neither, %d turned over: %v", name, asDrawn, neither, wrong, missed)
		}
	}
}

// TestNoVerdictOnOtherPictures: an empty scene, a flat colour, another task's picture in the same scene and a picture of the
// same task upside down show neither outcome of the tuple.
func TestNoVerdictOnOtherPictures(t *testing.T) {
	all := everyTuple()
	for name, c := range map[string]struct {
		want   float64
		change func(p Picture, u Tuple, i int) Picture
	}{
		"empty scene": {1, func(p Picture, u Tuple, _ int) Picture { return Picture{Side: 64, Pix: emptyScene(u, 64)} }},
		"black":       {1, func(p Picture, _ Tuple, _ int) Picture { return levels(p, func(float64) float64 { return 0 }) }},
		"white":       {1, func(p Picture, _ Tuple, _ int) Picture { return levels(p, func(float64) float64 { return 255 }) }},
		"negative":    {0.95, func(p Picture, _ Tuple, _ int) Picture { return levels(p, func(v float64) float64 { return 255 - v }) }},
		"another task": {0.75, func(_ Picture, u Tuple, i int) Picture {
			other := all[(i+len(all)/2)%len(all)]
			other.Scene, other.Pose = u.Scene, u.Pose
			return other.Draw(i%2 == 0, 64)
		}},
	} {
		asDrawn, neither, wrong, _ := verdicts(t, c.change)
		if n := asDrawn + neither + wrong; float64(neither) < c.want*float64(n) {
			t.Errorf("%s: neither in %d of %d", name, neither, n)
		} else {
			t.Logf("%s: neither in %d of %d", name, neither, n)
		}
	}
}

// TestJudgementScale: a picture drawn exactly has a margin near +1 or -1, is explained by the drawing and found in its box; the verdict's text
// is what reports print.
func TestJudgementScale(t *testing.T) {
	j := NewJudge()
	everySubject(func(_ *task, u Tuple) {
		u.Pose = 0
		for _, right := range []bool{true, false} {
			r, err := j.Judge(u.Draw(right, 32), u)
			if err != nil {
				t.Fatal(err)
			}
			sign := map[bool]float64{true: 1, false: -1}[right]
			// The judge draws with fewer samples a pixel than pictures have, so edges and small drops differ a little.
			if r.Margin*sign < 0.65 || r.Margin*sign > 1 || r.Explained < 0.55 || r.Likeness < 0.9 || !r.Found || r.Verdict != Verdict(sign) {
				t.Errorf("%s (right: %v): %+v", u.ID(), right, r)
			}
			if v := overlap(r.Box, u.Box()); v < 0.8 {
				t.Errorf("%s (right: %v): box %+v, drawn in %+v", u.ID(), right, r.Box, u.Box())
			}
		}
	})
	for v, want := range map[Verdict]string{Right: "right", Neither: "neither", Superficial: "superficial"} {
		if v.String() != want {
			t.Errorf("%d is %q", v, v.String())
		}
	}
}

// TestSizesGetTheSameVerdict: the judge brings any side to its own.
func TestSizesGetTheSameVerdict(t *testing.T) {
	j := NewJudge()
	for _, side := range []int{32, 48, 64, 100, 128} {
		off := 0
		all := everyTuple()
		for i, u := range all {
			if i%4 != 0 {
				continue
			}
			right := i%8 == 0
			r, err := j.Judge(u.Draw(right, side), u)
			if err != nil {
				t.Fatal(err)
			}
			if (r.Verdict == Right) != right || r.Verdict == Neither {
				off++
			}
		}
		if off > len(all)/80 {
			t.Errorf("side %d: %d of %d are judged otherwise than drawn", side, off, len(all)/4)
		}
	}
}

// TestLikenessAndDistance are what their definitions say.
func TestLikenessAndDistance(t *testing.T) {
	a := []uint8{10, 20, 30, 40, 10, 90, 70, 0, 60}
	b := []uint8{11, 18, 30, 40, 20, 90, 70, 0, 60}
	if d := distance(a, b); d != 1+2+10 {
		t.Errorf("distance %d", d)
	}
	if d := distance(b, a); d != 13 {
		t.Errorf("distance is not symmetric: %d", d)
	}
	if l := likeness(a, a); math.Abs(l-1) > 1e-12 {
		t.Errorf("likeness to itself %v", l)
	}
	negative := make([]uint8, len(a))
	for i, v := range a {
		negative[i] = 255 - v
	}
	if l := likeness(a, negative); math.Abs(l+1) > 1e-12 {
		t.Errorf("likeness to the negative %v", l)
	}
	flat := make([]uint8, len(a))
	if l := likeness(a, flat); l != 0 {
		t.Errorf("likeness to a flat picture %v", l)
	}
	brighter := make([]uint8, len(a))
	for i, v := range a {
		brighter[i] = v + 20
	}
	if l := likeness(a, brighter); math.Abs(l-1) > 1e-12 {
		t.Errorf("likeness changes with brightness: %v", l)
	}
	// explained: the drawing halves the distance to the empty scene where it differs from it; elsewhere nothing counts.
	empty, drawn, x := []uint8{0, 0, 0, 9, 9, 9}, []uint8{100, 100, 100, 9, 9, 9}, []uint8{75, 75, 75, 200, 200, 200}
	if e := explained(x, drawn, empty); math.Abs(e-(1-25.0/75)) > 1e-12 {
		t.Errorf("explained %v", e)
	}
}
