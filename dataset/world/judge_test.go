package world

import (
	"math"
	"testing"
)

// damage returns a copy of p with blur of radius r and gaussian-like noise of the given deviation.
func damage(p Picture, r int, sigma float64, seed uint64) Picture {
	q := Picture{Side: p.Side, Pix: make([]uint8, len(p.Pix))}
	s := newStream(seed, "noise")
	for y := range p.Side {
		for x := range p.Side {
			for c := range 3 {
				sum, n := 0.0, 0.0
				for dy := -r; dy <= r; dy++ {
					for dx := -r; dx <= r; dx++ {
						if u, v := x+dx, y+dy; u >= 0 && v >= 0 && u < p.Side && v < p.Side {
							sum, n = sum+float64(p.Pix[(v*p.Side+u)*3+c]), n+1
						}
					}
				}
				g := s.float() + s.float() + s.float() + s.float() - 2 // deviation 1/sqrt(3)
				q.Pix[(y*p.Side+x)*3+c] = uint8(min(255, max(0, sum/n+g*sigma*math.Sqrt(3))))
			}
		}
	}
	return q
}

// scramble permutes square tiles of the picture.
func scramble(p Picture, tile int, seed uint64) Picture {
	n := p.Side / tile
	q := Picture{Side: p.Side, Pix: make([]uint8, len(p.Pix))}
	for i, o := range newStream(seed, "scramble").order(n * n) {
		for y := range tile {
			a := ((i/n*tile+y)*p.Side + i%n*tile) * 3
			b := ((o/n*tile+y)*p.Side + o%n*tile) * 3
			copy(q.Pix[a:a+tile*3], p.Pix[b:b+tile*3])
		}
	}
	return q
}

func TestJudgeVerdicts(t *testing.T) {
	j := NewJudge()
	ts := Tuples(Pretrain, 11, 320)
	for _, c := range []struct {
		name string
		want float64
		f    func(p Picture, seed uint64) Picture
	}{
		{"drawn", 0.998, func(p Picture, _ uint64) Picture { return p }},
		{"noise 25", 0.99, func(p Picture, s uint64) Picture { return damage(p, 0, 25, s) }},
		{"noise 50", 0.99, func(p Picture, s uint64) Picture { return damage(p, 0, 50, s) }},
		{"blur 5x5", 0.97, func(p Picture, s uint64) Picture { return damage(p, 2, 5, s) }},
	} {
		ok, miss := 0, map[string]int{}
		for i, u := range ts {
			right := i/16%2 == 0
			r, err := j.Judge(c.f(u.Draw(right, 64), uint64(i)), u)
			if err != nil {
				t.Fatal(err)
			}
			if (r.Verdict == Right) == right && r.Verdict != Neither {
				ok++
			} else {
				miss[u.Task+" "+u.Subject+" "+r.Verdict.String()]++
			}
		}
		if rate := float64(ok) / float64(len(ts)); rate < c.want {
			t.Errorf("%s: judged as drawn %.4f, want %.3f; missed %v", c.name, rate, c.want, miss)
		} else {
			t.Logf("%s: %.4f %v", c.name, rate, miss)
		}
	}
}

func TestJudgeNeither(t *testing.T) {
	j := NewJudge()
	ts := Tuples(Pretrain, 12, 320)
	for _, c := range []struct {
		name string
		want float64
		f    func(p Picture, seed uint64) Picture
	}{
		{"pixels", 1, func(p Picture, s uint64) Picture { return scramble(p, 1, s) }},
		{"tiles of 4", 0.995, func(p Picture, s uint64) Picture { return scramble(p, 4, s) }},
		{"tiles of 8", 0.995, func(p Picture, s uint64) Picture { return scramble(p, 8, s) }},
		{"tiles of 16", 0.98, func(p Picture, s uint64) Picture { return scramble(p, 16, s) }},
		{"noise only", 1, func(p Picture, s uint64) Picture {
			r := newStream(s, "white")
			for i := range p.Pix {
				p.Pix[i] = uint8(r.intn(256))
			}
			return p
		}},
		{"gray", 1, func(p Picture, s uint64) Picture {
			for i := range p.Pix {
				p.Pix[i] = 128
			}
			return p
		}},
	} {
		ok, miss := 0, map[string]int{}
		for i, u := range ts {
			r, err := j.Judge(c.f(u.Draw(i/16%2 == 0, 64), uint64(i)), u)
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict == Neither {
				ok++
			} else {
				miss[u.Task+" "+u.Subject]++
			}
		}
		if rate := float64(ok) / float64(len(ts)); rate < c.want {
			t.Errorf("%s: neither %.4f; missed %v", c.name, rate, miss)
		} else {
			t.Logf("%s: %.4f %v", c.name, rate, miss)
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	j, ts := NewJudge(), Tuples(TestS, 1, 0)
	var ps []Picture
	for i, u := range ts {
		ps = append(ps, u.Draw(i%2 == 0, 64))
	}
	for i := 0; b.Loop(); i++ {
		if _, err := j.Judge(ps[i%len(ps)], ts[i%len(ts)]); err != nil {
			b.Fatal(err)
		}
	}
}

// TestDetectFindsTheBox compares the found box with the drawn one, over poses the search does not hit exactly.
func TestDetectFindsTheBox(t *testing.T) {
	j := NewJudge()
	sum, worst := 0.0, 1.0
	ts := Tuples(Pretrain, 21, 320)
	for i, u := range ts {
		box, ok, err := j.Detect(damage(u.Draw(i/16%2 == 0, 64), 1, 8, uint64(i)), u)
		if err != nil || !ok {
			t.Fatalf("%s not found: %v", u.ID(), err)
		}
		v := overlap(box, u.Box())
		sum, worst = sum+v, math.Min(worst, v)
	}
	if mean := sum / float64(len(ts)); mean < 0.9 || worst < 0.65 {
		t.Errorf("intersection over union: mean %.3f, worst %.3f", mean, worst)
	}
	empty := Tuple{Task: "EV", Subject: "jar", Scene: "in a garden"}
	if _, ok, _ := j.Detect(Tuple{Task: "FR", Subject: "zinc", Scene: "in a garden"}.Draw(true, 64), empty); ok {
		t.Error("a jar is found in a picture of a flame")
	}
}

func overlap(a, b Box) float64 {
	w := math.Min(a.CX+a.W/2, b.CX+b.W/2) - math.Max(a.CX-a.W/2, b.CX-b.W/2)
	h := math.Min(a.CY+a.H/2, b.CY+b.H/2) - math.Max(a.CY-a.H/2, b.CY-b.H/2)
	i := math.Max(0, w) * math.Max(0, h)
	return i / (a.W*a.H + b.W*b.H - i)
}

func TestOutsideMeasuresTheSurroundings(t *testing.T) {
	j := NewJudge()
	u := Tuple{Task: "RI", Subject: "apple", Scene: "in a kitchen"}
	p := u.Draw(true, 64)
	clean, err := j.Judge(p, u)
	if err != nil || clean.Outside > 0.5 || clean.Verdict != Right {
		t.Fatalf("drawn exactly: %+v, %v", clean, err)
	}
	for i := range 64 * 3 * 8 { // the topmost eight rows
		p.Pix[i] ^= 0xff
	}
	hurt, _ := j.Judge(p, u)
	if hurt.Outside < clean.Outside+10 || hurt.Verdict != Right {
		t.Errorf("damage of the surroundings: %+v", hurt)
	}
}

// TestJudgeAnswersAreIndependent asks in another order, with a full cache and from many goroutines.
func TestJudgeAnswersAreIndependent(t *testing.T) {
	ts := Tuples(Pretrain, 4, 600)[:64]
	var want []Judgement
	for i, u := range ts {
		r, err := NewJudge().Judge(u.Draw(i%2 == 0, 48), u)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, r)
	}
	j := NewJudge()
	done := make(chan int)
	for w := range 4 {
		go func() {
			bad := 0
			for k := range ts {
				i := (k*7 + w*13) % len(ts)
				if r, err := j.Judge(ts[i].Draw(i%2 == 0, 48), ts[i]); err != nil || r != want[i] {
					bad++
				}
			}
			done <- bad
		}()
	}
	for range 4 {
		if bad := <-done; bad > 0 {
			t.Errorf("%d answers depend on what was asked before", bad)
		}
	}
	if _, err := j.Judge(Picture{Side: 3, Pix: []uint8{1}}, ts[0]); err == nil {
		t.Error("a picture with too few values is judged")
	}
}

// TestHalfWayIsNeither blends both outcomes.
func TestHalfWayIsNeither(t *testing.T) {
	j := NewJudge()
	n := 0
	ts := Tuples(Pretrain, 31, 160)
	for _, u := range ts {
		a, b := u.Draw(true, 64), u.Draw(false, 64)
		for i := range a.Pix {
			a.Pix[i] = uint8((int(a.Pix[i]) + int(b.Pix[i])) / 2)
		}
		if r, err := j.Judge(a, u); err == nil && r.Verdict == Neither {
			n++
		}
	}
	if n < len(ts)*8/10 {
		t.Errorf("%d of %d pictures half way between the outcomes are neither", n, len(ts))
	}
}
