package world

import "math"

// Colours shared by several tasks.
var (
	unripe = rgb{108, 186, 62}
	steel  = rgb{178, 188, 198}
	rusty  = rgb{168, 82, 28}
	water  = rgb{104, 168, 228}
	snow   = rgb{246, 249, 253}
	stalk  = rgb{92, 62, 32}
	leafy  = rgb{58, 122, 42}
	glassy = rgb{212, 228, 236}
)

// shapes are drawings in a local frame of about -17..17, by name. c is the colour that the task varies.
var shapes = map[string]func(p *pen, c rgb){
	// fruit
	"apple": func(p *pen, c rgb) {
		p.line(2, stalk, 0, -8, 2, -16)
		p.oval(6, -14, 4.5, 2, -20, leafy)
		p.ell(-5, 1, 10, 12.5, c)
		p.ell(5, 1, 10, 12.5, c)
		p.bare(func() { p.ell(0, 2, 9, 11, c); p.oval(-8, -4, 2.4, 4, 25, light(c, 0.6)) })
	},
	"banana": func(p *pen, c rgb) {
		p.poly(c, -16, -9, -12, -10, -8, -2, 0, 2, 9, 0, 14, -9, 17, -8, 16, 2, 9, 10, -2, 12, -11, 8, -15, 0)
		p.bare(func() {
			p.line(1, dark(c, 0.3), -13, -3, -7, 4, 1, 7, 10, 4, 15, -4)
			p.rect(-16.5, -11, -12, -8, stalk)
			p.ell(15.5, -8.5, 1.6, 1.6, stalk)
		})
	},
	"tomato": func(p *pen, c rgb) {
		p.ell(0, 2, 16, 13, c)
		p.bare(func() {
			p.oval(-8, -2, 3, 5, 35, light(c, 0.6))
			p.poly(leafy, 0, -7, -9, -8, -3, -11, -4, -15, 0, -12, 4, -15, 3, -11, 9, -8)
		})
	},
	"strawberry": func(p *pen, c rgb) {
		p.poly(c, -13, -6, -10, -10, 0, -9, 10, -10, 13, -6, 11, 3, 6, 11, 0, 16, -6, 11, -11, 3)
		p.bare(func() {
			for _, q := range []pt{{-7, -3}, {0, -2}, {7, -3}, {-4, 4}, {4, 4}, {0, 10}} {
				p.oval(q.x, q.y, 0.9, 1.5, 0, rgb{255, 236, 150})
			}
			p.poly(leafy, -12, -9, -5, -8, 0, -5, 5, -8, 12, -9, 5, -14, 1, -13, 1, -17, -1, -17, -1, -13, -5, -14)
		})
	},
	"orange": func(p *pen, c rgb) {
		p.ell(0, 1, 14.5, 14.5, c)
		p.bare(func() {
			for _, q := range []pt{{-4, 6}, {3, 9}, {8, 3}, {2, 2}, {6, -5}, {-9, 4}, {-2, -4}} {
				p.ell(q.x, q.y, 0.9, 0.9, dark(c, 0.2))
			}
			p.oval(-6, -6, 3, 4, 35, light(c, 0.5))
			p.oval(5, -14, 5, 2.2, -15, leafy)
			p.ell(0, -12.5, 1.8, 1.4, stalk)
		})
	},
	"mango": func(p *pen, c rgb) {
		p.oval(0, 1, 16, 11, -35, c)
		p.bare(func() {
			p.oval(-5, 6, 7, 5, -35, mix(c, rgb{255, 240, 120}, 0.35))
			p.line(2, stalk, 11, -10, 14, -15)
			p.oval(5, -6, 3.5, 2, -35, light(c, 0.5))
		})
	},
	"pear": func(p *pen, c rgb) {
		p.line(2, stalk, 0, -12, 2, -18)
		p.ell(0, 6, 13, 10, c)
		p.ell(0, -6, 7.5, 8, c)
		p.bare(func() {
			p.poly(c, -7, -4, 7, -4, 11, 3, -11, 3)
			p.ell(0, 5, 11, 8.5, c)
			p.oval(-6, 4, 2.4, 4, 20, light(c, 0.6))
		})
	},
	"cherry": func(p *pen, c rgb) {
		p.line(1.6, leafy, -8, 4, 2, -15, 8, 5)
		p.oval(8, -14, 6, 2.6, 15, leafy)
		p.ell(-8, 7, 8, 8, c)
		p.ell(9, 8, 8, 8, c)
		p.bare(func() { p.ell(-11, 4, 2, 2, light(c, 0.6)); p.ell(6, 5, 2, 2, light(c, 0.6)) })
	},
	"lemon": func(p *pen, c rgb) {
		p.poly(c, -18, 0, -13, -4, -9, -9, 0, -11, 9, -9, 13, -4, 18, 0, 13, 4, 9, 9, 0, 11, -9, 9, -13, 4)
		p.bare(func() {
			for _, q := range []pt{{-3, 5}, {5, 4}, {9, -1}, {1, -2}, {-9, 2}} {
				p.ell(q.x, q.y, 0.9, 0.9, dark(c, 0.2))
			}
			p.oval(-5, -5, 4, 2, -15, light(c, 0.6))
		})
	},
	"plum": func(p *pen, c rgb) {
		p.line(2, stalk, 0, -10, -1, -17)
		p.oval(6, -13, 6, 2.6, -15, leafy)
		p.ell(0, 2, 13, 14, c)
		p.bare(func() {
			p.line(1.4, dark(c, 0.35), 0, -11, 4, -2, 3, 8, 0, 14)
			p.oval(-6, -3, 2.4, 4.5, 20, light(c, 0.5))
		})
	},
	// metal
	"nail": func(p *pen, c rgb) {
		p.poly(c, -2.6, -12, 2.6, -12, 2.6, 11, 0, 17, -2.6, 11)
		p.rect(-8, -16, 8, -11.5, c)
	},
	"key": func(p *pen, c rgb) {
		p.rect(-2, -4, 2, 16, c)
		p.rect(2, 7, 8, 10, c)
		p.rect(2, 12, 7, 15, c)
		p.ell(0, -9, 8.5, 8, c)
		p.bare(func() { p.rect(-2, -3, 2, 15, c); p.ell(0, -10, 3.2, 3, dark(c, 0.75)) })
	},
	"gear": func(p *pen, c rgb) {
		for a := range 8 {
			s, co := math.Sincos(float64(a) * math.Pi / 4)
			p.ell(13*co, 13*s, 3.8, 3.8, c)
		}
		p.ell(0, 0, 12.5, 12.5, c)
		p.ell(0, 0, 4.5, 4.5, dark(c, 0.7))
	},
	"hammer": func(p *pen, c rgb) {
		p.rect(-2.6, -8, 2.6, 17, c)
		p.rect(-8, -16, 13, -6, c)
		p.poly(c, -8, -15, -15, -8, -14, -6, -8, -8)
	},
	"padlock": func(p *pen, c rgb) {
		p.arc(0, -6, 8, 180, 360, 4, c)
		p.rect(-12, -4, 12, 15, c)
		p.bare(func() { p.ell(0, 3, 3, 3, dark(c, 0.7)); p.rect(-1.3, 4, 1.3, 10, dark(c, 0.7)) })
	},
	"bolt": func(p *pen, c rgb) {
		p.rect(-4, -5, 4, 16, c)
		p.poly(c, -12, -9, -7, -16, 7, -16, 12, -9, 7, -4, -7, -4)
		p.bare(func() {
			for y := 0.0; y < 16; y += 3.5 {
				p.line(1.1, dark(c, 0.45), -4, y+1.5, 4, y)
			}
		})
	},
	"wrench": func(p *pen, c rgb) {
		p.line(6, c, 8, 13, -5, -6)
		p.ell(-7, -9, 8, 8, c)
		p.bare(func() { p.line(5.4, c, 7, 12, -5, -6) })
		p.bare(func() { p.poly(dark(c, 0.8), -11, -18, -4, -18, -4, -9, -9, -8) })
	},
	"anchor": func(p *pen, c rgb) {
		p.arc(0, 2, 12.5, 5, 175, 4, c)
		p.rect(-2, -10, 2, 15, c)
		p.rect(-8, -8, 8, -4.5, c)
		p.ell(0, -13, 4.5, 4, c)
		p.bare(func() { p.ell(0, -13, 1.8, 1.6, dark(c, 0.8)); p.rect(-2, -9, 2, 14, c) })
		p.poly(c, 16, -1, 9, 4, 15, 7)
		p.poly(c, -16, -1, -9, 4, -15, 7)
	},
	"saw": func(p *pen, c rgb) {
		p.poly(c, -6, -6, 17, -2, 17, 3, 15, 6, 13, 3, 11, 7, 8, 3, 6, 7, 3, 4, 1, 8, -2, 4, -4, 8, -7, 5)
		p.rect(-16, -8, -6, 8, rgb{150, 92, 50})
		p.bare(func() { p.rect(-13, -3, -9, 3, rgb{60, 36, 22}) })
	},
	"chain": func(p *pen, c rgb) {
		for i, y := range []float64{-12, 0, 12} {
			w := 8 - 2*float64(i%2)
			p.ell(0, y, w, 6, c)
			p.bare(func() { p.ell(0, y, w-3.2, 2.8, dark(c, 0.8)) })
		}
		p.bare(func() { p.rect(-1.6, -9, 1.6, -3, c); p.rect(-1.6, 3, 1.6, 9, c) })
	},
}

// named draws a shape or an object of the tables.
func (p *pen) named(shape string, c rgb) {
	if f := shapes[shape]; f != nil {
		f(p, c)
		return
	}
	objects[shape](p, c)
}
