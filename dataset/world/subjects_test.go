package world

import (
	"math"
	"slices"
	"testing"
)

// everySubject calls f for each task and subject, each in another scene and pose.
func everySubject(f func(k *task, u Tuple)) {
	n := 0
	for i := range tasks {
		for _, s := range tasks[i].subjects {
			f(&tasks[i], Tuple{Task: tasks[i].abbr, Subject: s.name, Scene: scenes[n%len(scenes)].name, Pose: uint64(7*n + 1)})
			n++
		}
	}
}

// emptyScene is the tuple's picture without its subject.
func emptyScene(u Tuple, side int) []uint8 {
	_, _, c := u.must()
	p := newPen(side)
	backdrop(p, c, newStream(u.Pose, "backdrop"))
	return p.picture()
}

// reach is the rectangle of pixels in which two pictures differ by more than a trace; count is how many do.
func reach(a, b []uint8, side int) (x0, y0, x1, y1, count int) {
	x0, y0 = side, side
	for i := range side * side {
		if distance(a[i*3:i*3+3], b[i*3:i*3+3]) > 0 {
			x, y := i%side, i/side
			x0, y0, x1, y1, count = min(x0, x), min(y0, y), max(x1, x+1), max(y1, y+1), count+1
		}
	}
	return x0, y0, x1, y1, count
}

// TestSubjectsStandInTheirBox: everything that is not backdrop lies in the box, in both states, of every subject; the subject
// fills most of the box's width and height in one of them, and the same box serves pictures of any side.
func TestSubjectsStandInTheirBox(t *testing.T) {
	const side = 64
	everySubject(func(k *task, u Tuple) {
		empty, box := emptyScene(u, side), u.Box()
		wide, high := 0, 0
		for _, right := range []bool{true, false} {
			x0, y0, x1, y1, count := reach(u.Draw(right, side).Pix, empty, side)
			if count < 60 {
				t.Errorf("%s (right: %v): the subject shows in %d pixels", u.ID(), right, count)
			}
			l, r, top, bottom := side*(box.CX-box.W/2), side*(box.CX+box.W/2), side*(box.CY-box.H/2), side*(box.CY+box.H/2)
			if float64(x0) < l-1e-9 || float64(x1) > r+1e-9 || float64(y0) < top-1e-9 || float64(y1) > bottom+1e-9 {
				t.Errorf("%s (right: %v): pixels (%d,%d)-(%d,%d), box (%v,%v)-(%v,%v)", u.ID(), right, x0, y0, x1, y1, l, top, r, bottom)
			}
			wide, high = max(wide, x1-x0), max(high, y1-y0)
		}
		if float64(wide) < 0.8*box.W*side || float64(high) < 0.6*box.H*side {
			t.Errorf("%s: %d × %d pixels in a box of %.0f × %.0f", u.ID(), wide, high, box.W*side, box.H*side)
		}
	})
}

// TestBoxesAreInThePicture: on whole 64ths, inside the picture, with an area a mask can work with, whatever the pose.
func TestBoxesAreInThePicture(t *testing.T) {
	everySubject(func(_ *task, u Tuple) {
		for _, pose := range []uint64{0, 1, 99, 1 << 40, math.MaxUint64} {
			u.Pose = pose
			b := u.Box()
			for _, v := range []float64{b.CX - b.W/2, b.CX + b.W/2, b.CY - b.H/2, b.CY + b.H/2} {
				if v < 0 || v > 1 || math.Abs(64*v-math.Round(64*v)) > 1e-9 {
					t.Errorf("%s: a side of the box at %v", u.ID(), v)
				}
			}
			if area := b.W * b.H; area < 0.05 || area > 0.6 {
				t.Errorf("%s: the box covers %.2f of the picture", u.ID(), area)
			}
		}
	})
}

// TestOutcomesLookDifferent: of every subject the two states differ in many pixels, and subjects of one task whose drawings
// differ by shape or colour do not look alike, so that a picture tells its subject.
func TestOutcomesLookDifferent(t *testing.T) {
	const side = 64
	for i := range tasks {
		k := &tasks[i]
		var drawn [][]uint8
		for _, s := range k.subjects {
			u := Tuple{Task: k.abbr, Subject: s.name, Scene: "on a gray background"}
			a, b := u.Draw(true, side).Pix, u.Draw(false, side).Pix
			if _, _, _, _, n := reach(a, b, side); n < 80 {
				t.Errorf("%s: the states differ in %d pixels", u.ID(), n)
			}
			drawn = append(drawn, append(slices.Clone(a), b...))
		}
		for a := range drawn {
			for b := range a {
				if distance(drawn[a], drawn[b]) < 3*1000 {
					t.Errorf("%s: %s and %s look alike", k.abbr, k.subjects[a].name, k.subjects[b].name)
				}
			}
		}
	}
}

// TestEveryNameHasADrawing: subjects name drawings that exist; a missing one would crash in the middle of an export.
func TestEveryNameHasADrawing(t *testing.T) {
	everySubject(func(_ *task, u Tuple) {
		for _, right := range []bool{true, false} {
			if p := u.Draw(right, 16); p.Side != 16 || len(p.Pix) != 16*16*3 {
				t.Errorf("%s: side %d with %d values", u.ID(), p.Side, len(p.Pix))
			}
		}
	})
	for name := range upright {
		if wilt[name] == nil {
			t.Errorf("plant %s cannot wilt", name)
		}
	}
	for name := range wilt {
		if upright[name] == nil {
			t.Errorf("plant %s cannot stand", name)
		}
	}
}

// TestStatesFollowTheirLaw: what can be measured of an outcome is on the right side: rust is browner than steel, a ripe fruit
// redder than an unripe one, a lit lamp brighter than a dark one, a sunken thing lower than a floating one, a puddle lower
// than a solid, a hovering thing higher than a lying one, a wet cloth darker than a dry one.
func TestStatesFollowTheirLaw(t *testing.T) {
	const side = 64
	mean := func(pix []uint8, channel int) float64 {
		sum := 0.0
		for i := channel; i < len(pix); i += 3 {
			sum += float64(pix[i])
		}
		return sum / float64(len(pix)/3)
	}
	redness := func(u Tuple, right bool) float64 {
		p := u.Draw(right, side).Pix
		return mean(p, 0) - mean(p, 1)
	}
	blueness := func(u Tuple, right bool) float64 {
		p := u.Draw(right, side).Pix
		return mean(p, 2) - mean(p, 0)
	}
	light := func(u Tuple, right bool) float64 {
		p := u.Draw(right, side).Pix
		return mean(p, 0) + mean(p, 1) + mean(p, 2)
	}
	top := func(u Tuple, right bool) float64 {
		_, y0, _, _, _ := reach(u.Draw(right, side).Pix, emptyNominal(u, side), side)
		return float64(y0)
	}
	for abbr, measure := range map[string]func(u Tuple, right bool) float64{
		"RU": redness, "RI": func(u Tuple, right bool) float64 { return -redness(u, right) }, "EL": func(u Tuple, right bool) float64 { return -light(u, right) },
		"ME": top, "GR": func(u Tuple, right bool) float64 { return -top(u, right) }, "WR": redness, "LR": redness,
		"EV": func(u Tuple, right bool) float64 { return -blueness(u, right) },
	} {
		k, _ := taskNamed(abbr)
		for _, s := range k.subjects {
			if s.name == "rose" {
				continue // its red petals outweigh the leaves
			}
			u := Tuple{Task: abbr, Subject: s.name, Scene: "on a gray background"}
			if a, b := measure(u, true), measure(u, false); a <= b {
				t.Errorf("%s: %.2f of the right picture, %.2f of the other", u.ID(), a, b)
			}
		}
	}
}

// emptyNominal is the nominal scene without its subject.
func emptyNominal(u Tuple, side int) []uint8 {
	_, _, c := u.must()
	p := newPen(side)
	backdrop(p, c, nil)
	return p.picture()
}

// TestPosesVaryWithinBounds: another pose is another picture of the same scene: place, size and colours change a little, the
// box moves with the subject, and a pose draws the same whatever was drawn before.
func TestPosesVaryWithinBounds(t *testing.T) {
	u := Tuple{Task: "RU", Subject: "gear", Scene: "in a bedroom"}
	nominal, seen := u.Box(), map[string]bool{}
	for pose := uint64(1); pose <= 40; pose++ {
		u.Pose = pose
		b := u.Box()
		if math.Abs(b.CX-nominal.CX) > 4.0/64 || math.Abs(b.CY-nominal.CY) > 4.0/64 || b.W/nominal.W > 1.15 || b.W/nominal.W < 0.85 {
			t.Errorf("pose %d: box %+v, nominal %+v", pose, b, nominal)
		}
		p := u.Draw(true, 32)
		seen[string(p.Pix)] = true
		if !slices.Equal(p.Pix, u.Draw(true, 32).Pix) {
			t.Errorf("pose %d draws twice differently", pose)
		}
	}
	if len(seen) != 40 {
		t.Errorf("%d different pictures of 40 poses", len(seen))
	}
}
