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
	ts := Tuples(Pretrain, 11, 480)
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
	ts := Tuples(Pretrain, 12, 480)
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
