// Package world draws a small procedural Science-T2I: scenes drawn by code for the 16 tasks of the benchmark, each with
// implicit, explicit and superficial prompts, the scientifically right and the superficial picture, and the box of the
// subject; and it judges pictures of those scenes from their pixels alone.
package world

import (
	"fmt"
	"math"
	"strings"
)

// Tuple names one scene: a task, its subject, a backdrop, and the pose both of its pictures are drawn in.
type Tuple struct {
	Task    string `json:"task"`    // abbreviation, "RI"
	Subject string `json:"subject"` // "apple"
	Scene   string `json:"scene"`   // "in a kitchen"
	Pose    uint64 `json:"pose"`    // key of place, size and colour variation; 0 is the nominal pose
}

// Prompts are the wordings of a tuple. Implicit needs reasoning, Explicit states the right outcome, Superficial the wrong one.
type Prompts struct{ Implicit, Explicit, Superficial []string }

// Box is the place of the subject, normalised to the picture: centre and size.
type Box struct{ CX, CY, W, H float64 }

// Picture is an RGB picture, [Side,Side,3] bytes, rows from the top.
type Picture struct {
	Side int
	Pix  []uint8
}

// parts resolves the names of a tuple.
func (t Tuple) parts() (*task, subject, scene, error) {
	k, ok := taskNamed(t.Task)
	if !ok {
		return nil, subject{}, scene{}, fmt.Errorf("world tuple: unknown task %q; tasks are abbreviations such as RI or BU", t.Task)
	}
	s, _, ok := k.subject(t.Subject)
	if !ok {
		return nil, subject{}, scene{}, fmt.Errorf("world tuple: task %s has no subject %q", t.Task, t.Subject)
	}
	c, ok := sceneNamed(t.Scene)
	if !ok {
		return nil, subject{}, scene{}, fmt.Errorf("world tuple: unknown scene %q", t.Scene)
	}
	return k, s, c, nil
}

// Validate says whether the tuple names a task, subject and scene of the world.
func (t Tuple) Validate() error {
	_, _, _, err := t.parts()
	return err
}

func (t Tuple) must() (*task, subject, scene) {
	k, s, c, err := t.parts()
	if err != nil {
		panic(err)
	}
	return k, s, c
}

// ID is the tuple's name in the data set: task, subject, scene and pose.
func (t Tuple) ID() string { return fmt.Sprintf("%s|%s|%s|%d", t.Task, t.Subject, t.Scene, t.Pose) }

// Prompts gives every wording; index i of the three lists need not correspond. It panics on a tuple that Validate refuses.
func (t Tuple) Prompts() Prompts {
	k, s, c := t.must()
	right, wrong := k.first, k.second
	if s.b {
		right, wrong = wrong, right
	}
	all := func(forms []string) []string {
		out := make([]string, len(forms))
		for i, f := range forms {
			out[i] = word(f, s) + " " + c.name
		}
		return out
	}
	return Prompts{Implicit: all(k.ip), Explicit: all(right), Superficial: all(wrong)}
}

// Noun is the object as it stands in every implicit prompt, for detectors.
func (t Tuple) Noun() string {
	k, s, _ := t.must()
	return word(k.noun, s)
}

// Law is the task's name ("ripeness"), Category its field ("biology").
func (t Tuple) Law() string { k, _, _ := t.must(); return k.law }

// Category is physics, chemistry or biology.
func (t Tuple) Category() string { k, _, _ := t.must(); return k.category }

// Complex says whether the scene is a described place, not a plain background.
func (t Tuple) Complex() bool { _, _, c := t.must(); return !c.plain() }

// word fills in the names and turns "a apple" into "an apple".
func word(form string, s subject) string {
	f := strings.Fields(strings.NewReplacer("{n}", s.name, "{w}", s.word).Replace(form))
	for i := 0; i+1 < len(f); i++ {
		if f[i] == "a" && strings.ContainsRune("aeiou", rune(f[i+1][0])) && !strings.HasPrefix(f[i+1], "uni") {
			f[i] = "an"
		}
	}
	return strings.Join(f, " ")
}

// place is where a pose puts the subject.
type place struct{ x, y, k float64 }

var nominal = place{32, 34, 1.08}

func (t Tuple) place() place {
	if t.Pose == 0 {
		return nominal
	}
	r := newStream(t.Pose, "place")
	return place{nominal.x + r.in(-2.5, 2.5), nominal.y + r.in(-2, 2), r.in(1.02, 1.14)}
}

// drawOn paints the scene, then the subject; afterwards the pen's extent is the subject's.
func (t Tuple) drawOn(p *pen, right bool, at place) {
	k, s, c := t.must()
	var r *stream
	if t.Pose != 0 {
		r = newStream(t.Pose, "backdrop")
	}
	p.edge = 0
	backdrop(p, c, r)
	if r != nil {
		s.c = jitter(s.c, newStream(t.Pose, "colour"), 7)
	}
	p.at(at.x, at.y, at.k)
	p.edge = 0.8
	p.mark()
	k.draw(p, s, right != s.b)
}

// Draw makes the right or the superficial picture of the tuple, side x side pixels. Both share backdrop and pose, so that
// they differ inside Box only. It panics on a tuple that Validate refuses.
func (t Tuple) Draw(right bool, side int) Picture {
	p := newPen(side)
	t.drawOn(p, right, t.place())
	return Picture{Side: side, Pix: p.picture()}
}

// Box is the extent of the subject in both of its states, half a 64th of margin included.
func (t Tuple) Box() Box { return t.extent().box(t.place()) }

// extent is the subject's reach in both states, in local units of the drawing.
type extent struct{ x0, y0, x1, y1 float64 }

func (t Tuple) extent() extent {
	e := extent{math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)}
	at := t.place()
	for _, right := range []bool{true, false} {
		p := newCoarsePen(16, 2)
		t.drawOn(p, right, at)
		e.x0, e.y0, e.x1, e.y1 = math.Min(e.x0, p.x0), math.Min(e.y0, p.y0), math.Max(e.x1, p.x1), math.Max(e.y1, p.y1)
	}
	return extent{(e.x0 - at.x) / at.k, (e.y0 - at.y) / at.k, (e.x1 - at.x) / at.k, (e.y1 - at.y) / at.k}
}

// box is the reach at a place, on whole 64ths.
func (e extent) box(at place) Box {
	const margin = 0.5
	lo := func(v float64) float64 { return math.Max(0, math.Floor(v-margin)) / 64 }
	hi := func(v float64) float64 { return math.Min(64, math.Ceil(v+margin)) / 64 }
	l, u, r, b := lo(at.x+e.x0*at.k), lo(at.y+e.y0*at.k), hi(at.x+e.x1*at.k), hi(at.y+e.y1*at.k)
	return Box{CX: (l + r) / 2, CY: (u + b) / 2, W: r - l, H: b - u}
}
