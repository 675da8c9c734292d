package world

import "math"

// objects are things that sink, float, hover or melt, drawn as shapes are.
var objects = map[string]func(p *pen, c rgb){
	"stone": func(p *pen, c rgb) {
		p.poly(c, -15, 8, -12, -4, -4, -11, 6, -10, 14, -2, 15, 7, 8, 11, -9, 11)
		p.bare(func() { p.poly(light(c, 0.3), -9, -3, -3, -9, 5, -8, 0, -3); p.line(1.2, dark(c, 0.3), 3, 2, 9, 5) })
	},
	"coin": func(p *pen, c rgb) {
		p.ell(0, 0, 13, 13, c)
		p.bare(func() {
			p.ell(0, 0, 10, 10, dark(c, 0.18))
			p.rect(-1.8, -6, 1.8, 6, light(c, 0.4))
			p.rect(-4, 4, 4, 6.5, light(c, 0.4))
		})
	},
	"brick": func(p *pen, c rgb) {
		p.poly(light(c, 0.25), -16, -4, -11, -10, 17, -10, 12, -4)
		p.poly(dark(c, 0.25), 12, -4, 17, -10, 17, 3, 12, 10)
		p.rect(-16, -4, 12, 10, c)
		p.bare(func() {
			p.ell(-8, 3, 2.4, 2.4, dark(c, 0.4))
			p.ell(-1.5, 3, 2.4, 2.4, dark(c, 0.4))
			p.ell(5, 3, 2.4, 2.4, dark(c, 0.4))
		})
	},
	"marble": func(p *pen, c rgb) {
		p.ell(0, 0, 12, 12, c)
		p.bare(func() {
			p.line(3, rgb{250, 200, 60}, -7, 6, -1, 0, 7, -5)
			p.line(2, rgb{230, 70, 60}, -3, 9, 3, 3, 9, 0)
			p.ell(-4, -5, 2.6, 2.6, rgb{255, 255, 255})
		})
	},
	"cork": func(p *pen, c rgb) {
		p.poly(c, -9, -11, 9, -11, 7, 12, -7, 12)
		p.ell(0, -11, 9, 3, light(c, 0.3))
		p.bare(func() {
			for _, q := range []pt{{-3, -3}, {3, 1}, {-2, 5}, {4, -5}, {2, 8}, {-5, 0}} {
				p.ell(q.x, q.y, 1, 0.8, dark(c, 0.4))
			}
		})
	},
	"duck": func(p *pen, c rgb) {
		p.ell(-1, 5, 14, 8.5, c)
		p.poly(c, -17, -2, -9, 0, -12, 8)
		p.ell(7, -6, 7, 7, c)
		p.bare(func() {
			p.ell(0, 5, 12, 7, c)
			p.ell(-2, 5, 6, 3.5, dark(c, 0.15))
			p.ell(9, -8, 1.4, 1.6, rgb{20, 20, 20})
		})
		p.poly(rgb{240, 120, 30}, 13, -7, 19, -5, 13, -3)
	},
	"leaf": func(p *pen, c rgb) {
		p.poly(c, -15, 1, -8, -7, 3, -9, 16, 0, 3, 9, -8, 8)
		p.bare(func() {
			d := dark(c, 0.45)
			p.line(1.3, d, -19, 1, 13, 0)
			p.line(0.9, d, -5, 0, 0, -6)
			p.line(0.9, d, -5, 0, 0, 6)
			p.line(0.9, d, 2, 0, 7, -4)
			p.line(0.9, d, 2, 0, 7, 4)
		})
	},
	"log": func(p *pen, c rgb) {
		p.rect(-14, -7, 13, 7, c)
		p.ell(-14, 0, 3.5, 7, c)
		p.bare(func() { p.line(1, dark(c, 0.4), -11, -3, 7, -3); p.line(1, dark(c, 0.4), -8, 3, 8, 3) })
		p.ell(13, 0, 4, 7, rgb{226, 190, 140})
		p.bare(func() { p.ell(13, 0, 2, 3.6, rgb{176, 130, 86}) })
	},
	"ball": func(p *pen, c rgb) {
		p.ell(0, 0, 13, 13, c)
		p.bare(func() {
			p.oval(0, 0, 13, 4.4, -25, rgb{250, 250, 250})
			p.ell(0, 0, 3, 3, rgb{70, 110, 210})
			p.ell(-5, -7, 2.4, 2, light(c, 0.7))
		})
	},
	"book": func(p *pen, c rgb) {
		p.rect(-13, -10, 13, 10, c)
		p.bare(func() {
			p.rect(-12, 6.5, 13, 9, rgb{250, 248, 238})
			p.rect(-13, -10, -9, 9, dark(c, 0.35))
			p.rect(-5, -6, 9, -2, rgb{245, 215, 120})
		})
	},
	"mug": func(p *pen, c rgb) {
		p.arc(10, 0, 6, -80, 80, 3, c)
		p.rect(-10, -11, 9, 11, c)
		p.ell(-0.5, -11, 9.5, 2.6, light(c, 0.5))
		p.bare(func() { p.rect(-10, 1, 9, 5, dark(c, 0.25)) })
	},
	"hat": func(p *pen, c rgb) {
		p.poly(c, -9, 7, -8, -10, 0, -13, 8, -10, 9, 7)
		p.ell(0, 8, 17, 4.5, c)
		p.bare(func() { p.poly(c, -9, 6, 9, 6, 9, 8, -9, 8); p.rect(-9, 1, 9, 5.5, rgb{240, 205, 70}) })
	},
	"plate": func(p *pen, c rgb) {
		p.ell(0, 0, 16, 7.5, c)
		p.bare(func() { p.ell(0, 0, 13, 5.6, rgb{90, 140, 210}); p.ell(0, 0, 11.4, 4.6, c) })
	},
	"pencil": func(p *pen, c rgb) {
		p.poly(rgb{240, 205, 160}, 9, -4, 18, 0, 9, 4)
		p.rect(-14, -4, 9, 4, c)
		p.rect(-18, -4, -14, 4, rgb{240, 130, 150})
		p.bare(func() { p.poly(rgb{40, 40, 44}, 14.5, -1.6, 18, 0, 14.5, 1.6); p.line(1, dark(c, 0.3), -14, 0, 9, 0) })
	},
	"shoe": func(p *pen, c rgb) {
		p.poly(c, -14, -10, -3, -10, 2, -2, 13, 1, 16, 7, -14, 7)
		p.rect(-14, 6, 17, 10, rgb{245, 245, 245})
		p.bare(func() {
			for i := range 3 {
				x := -2 + 3*float64(i)
				p.line(1.4, rgb{250, 250, 250}, x, -6+3*float64(i), x+4, -7+3*float64(i))
			}
		})
	},
	"melon": func(p *pen, c rgb) {
		p.ell(0, 0, 15, 12.5, c)
		p.bare(func() {
			d := dark(c, 0.45)
			for _, x := range []float64{-9, -3, 3, 9} {
				h := 12 * math.Sqrt(1-x*x/225)
				p.line(1.8, d, x*0.75, -h, x, 0, x*0.75, h)
			}
		})
	},
	"clock": func(p *pen, c rgb) {
		p.ell(0, 0, 14, 14, c)
		p.bare(func() {
			p.ell(0, 0, 11, 11, rgb{252, 252, 250})
			for i := range 12 {
				s, co := math.Sincos(float64(i) * math.Pi / 6)
				p.ell(9*co, 9*s, 0.9, 0.9, rgb{40, 40, 44})
			}
			p.line(1.8, rgb{30, 30, 34}, 0, 0, 0, -7.5)
			p.line(1.8, rgb{30, 30, 34}, 0, 0, 5, 3)
		})
	},
	"teapot": func(p *pen, c rgb) {
		p.arc(-12, 1, 6, 80, 280, 2.6, c)
		p.poly(c, 9, 2, 18, -7, 19, -5, 12, 8)
		p.ell(0, 3, 13, 10, c)
		p.ell(0, -7, 7, 2.6, light(c, 0.3))
		p.ell(0, -10.5, 2, 2, light(c, 0.3))
	},
	// things that melt
	"cube": func(p *pen, c rgb) {
		p.rect(-13, -6, 7, 14, c)
		p.poly(light(c, 0.6), -13, -6, -6, -13, 14, -13, 7, -6)
		p.poly(dark(c, 0.22), 7, -6, 14, -13, 14, 7, 7, 14)
		p.bare(func() { p.line(2, light(c, 0.8), -9, -1, -5, -1); p.line(2, light(c, 0.8), -9, -1, -9, 4) })
	},
	"butter": func(p *pen, c rgb) {
		p.ell(0, 13, 17, 3.4, rgb{236, 238, 242})
		p.poly(light(c, 0.45), -13, -1, -8, -7, 14, -7, 10, -1)
		p.poly(dark(c, 0.15), 10, -1, 14, -7, 14, 6, 10, 12)
		p.rect(-13, -1, 10, 12, c)
	},
	"chocolate": func(p *pen, c rgb) {
		p.rect(-11, -14, 11, 14, c)
		p.bare(func() {
			for i := range 3 {
				for j := range 2 {
					x, y := -9.5+10*float64(j), -12.5+9*float64(i)
					p.rect(x, y, x+9, y+7.6, light(c, 0.22))
					p.rect(x+1.5, y+1.5, x+7.5, y+6, c)
				}
			}
		})
	},
	"candle": func(p *pen, c rgb) {
		p.rect(-5, -9, 5, 14, c)
		p.bare(func() { p.line(1.4, rgb{40, 40, 40}, 0, -9, 0, -13); p.rect(-4, -8, -2, 13, light(c, 0.4)) })
		p.bare(func() { p.ell(0, -14.5, 2, 3, rgb{255, 190, 60}) })
	},
	"snowman": func(p *pen, c rgb) {
		p.ell(0, 8, 11, 9, c)
		p.ell(0, -6, 7.5, 7.5, c)
		p.bare(func() {
			p.ell(-2.6, -8, 1.1, 1.1, rgb{20, 20, 20})
			p.ell(2.6, -8, 1.1, 1.1, rgb{20, 20, 20})
			p.poly(rgb{240, 130, 40}, 0, -6.5, 7, -4.5, 0, -3.8)
			p.ell(0, 4, 1.2, 1.2, rgb{20, 20, 20})
			p.ell(0, 9, 1.2, 1.2, rgb{20, 20, 20})
		})
		p.rect(-5.5, -18, 5.5, -12, rgb{50, 50, 60})
		p.rect(-8, -13, 8, -11.4, rgb{50, 50, 60})
	},
	"cone": func(p *pen, c rgb) {
		p.poly(rgb{214, 160, 96}, -9, 0, 9, 0, 0, 17)
		p.bare(func() { p.line(1, rgb{160, 108, 56}, -5, 2, 3, 10); p.line(1, rgb{160, 108, 56}, 5, 2, -3, 10) })
		p.ell(0, -6, 10.5, 8.5, c)
		p.bare(func() { p.ell(-4, -9, 2.6, 2, light(c, 0.6)); p.ell(0, -15, 2.4, 2.4, rgb{200, 30, 50}) })
	},
	"cheese": func(p *pen, c rgb) {
		p.poly(light(c, 0.4), -16, 2, 12, -11, 16, -2)
		p.poly(c, -16, 2, 16, -2, 16, 12, -16, 12)
		p.bare(func() {
			d := dark(c, 0.25)
			p.ell(-7, 7, 2.8, 2.4, d)
			p.ell(4, 5, 2.2, 2, d)
			p.ell(11, 9, 2, 1.8, d)
			p.ell(5, -4, 2, 1.4, d)
		})
	},
	"crayon": func(p *pen, c rgb) {
		p.poly(c, -4, -9, -1.5, -17, 1.5, -17, 4, -9)
		p.rect(-6, -9, 6, 15, c)
		p.bare(func() {
			p.rect(-6, -5, 6, -3, dark(c, 0.5))
			p.rect(-6, 9, 6, 11, dark(c, 0.5))
			p.ell(0, 3, 3.4, 4.4, light(c, 0.5))
		})
	},
	"popsicle": func(p *pen, c rgb) {
		p.rect(-2, 8, 2, 17, rgb{222, 184, 130})
		p.rect(-8, -9, 8, 9, c)
		p.ell(0, -9, 8, 7, c)
		p.bare(func() {
			p.rect(-8, -9, 8, 1, c)
			p.line(2, light(c, 0.55), -3.5, -9, -3.5, 4)
			p.line(2, light(c, 0.55), 3.5, -9, 3.5, 4)
		})
	},
	"marshmallow": func(p *pen, c rgb) {
		p.rect(-11, -8, 11, 11, c)
		p.ell(0, 11, 11, 4, c)
		p.bare(func() { p.rect(-11, 2, 11, 11, c) })
		p.ell(0, -8, 11, 4.5, light(c, 0.6))
	},
}

// flame burns over a dish.
func flame(p *pen, c rgb) {
	p.poly(c, -11, 10, -12, 2, -9, -5, -6, 0, -4, -9, 1, -18, 3, -9, 5, -5, 7, -10, 11, -1, 12, 4, 10, 10)
	p.bare(func() {
		p.poly(light(c, 0.5), -6, 10, -7, 4, -2, -3, 0, -8, 3, -1, 6, 4, 6, 10)
		p.poly(light(c, 0.85), -3, 10, -3, 6, 0, 2, 3, 6, 3, 10)
	})
	p.poly(rgb{112, 114, 124}, -15, 9, 15, 9, 10, 16, -10, 16)
}

// tank holds water and one thing, at its bottom or at the surface.
func tank(p *pen, shape string, c rgb, sunk bool) {
	p.rect(-19, -17, 19, 17, rgb{222, 234, 240})
	p.bare(func() { p.rect(-17.6, -6, 17.6, 15.6, water); p.rect(-17.6, -6, 17.6, -4.8, light(water, 0.6)) })
	y, s := -7.5, 0.58
	if sunk {
		y = 9.2
	}
	p.moved(0, y, s, func() { p.named(shape, c) })
	if !sunk {
		p.bare(func() { p.rect(-17.6, -3, 17.6, -1.6, light(water, 0.3)) })
	}
}

// tree stands bare under snow or green.
func tree(p *pen, shape string, c rgb, bare bool) {
	trunk := rgb{108, 76, 46}
	if bare {
		p.bare(func() { p.ell(0, 16, 15, 3, snow) })
		p.line(3.6, trunk, 0, 16, 0, 0)
		for _, b := range [][]float64{{0, 4, -11, -6}, {0, 1, -6, -14}, {0, 0, 1, -17}, {0, 1, 8, -13}, {0, 5, 12, -4}, {-6, -2, -13, -2}, {6, 0, 13, 2}} {
			p.bare(func() { p.line(1.9, trunk, b...) })
		}
		p.bare(func() {
			for _, q := range []pt{{-11, -7}, {-6, -15}, {1, -18}, {8, -14}, {12, -5}, {-13, -3}, {13, 1}} {
				p.ell(q.x, q.y, 2.6, 1.7, snow)
			}
		})
		return
	}
	p.rect(-2, 2, 2, 17, trunk)
	crown[shape](p, c)
}

var crown = map[string]func(p *pen, c rgb){
	"round": func(p *pen, c rgb) {
		p.ell(0, -4, 14, 12, c)
		p.bare(func() { p.ell(-5, -8, 5, 4, light(c, 0.2)); p.ell(5, 1, 5, 4, dark(c, 0.15)) })
	},
	"wide": func(p *pen, c rgb) {
		p.ell(-8, -1, 8, 7, c)
		p.ell(8, -1, 8, 7, c)
		p.ell(0, -8, 9, 8, c)
		p.bare(func() { p.ell(-7, -1, 7, 6, c); p.ell(7, -1, 7, 6, c); p.ell(-2, -10, 4, 3, light(c, 0.25)) })
	},
	"tall": func(p *pen, c rgb) {
		p.rect(-2, 2, 2, 17, rgb{235, 232, 224})
		p.bare(func() { p.rect(-2, 7, 0, 8.2, rgb{40, 40, 40}); p.rect(0, 11, 2, 12.2, rgb{40, 40, 40}) })
		p.ell(0, -5, 9, 13, c)
		p.bare(func() { p.ell(-3, -9, 3, 5, light(c, 0.25)) })
	},
	"droop": func(p *pen, c rgb) {
		for _, x := range []float64{-14, -9.5, -5, 5, 9.5, 14} {
			p.line(3.4, c, x*0.8, -6, x, 11)
		}
		p.ell(0, -8, 14, 8, c)
		p.bare(func() { p.ell(0, -7, 13, 7, c); p.ell(-4, -11, 5, 2.6, light(c, 0.25)) })
	},
	"twin": func(p *pen, c rgb) {
		p.ell(0, 1, 12, 6, c)
		p.ell(0, -9, 9, 7, c)
		p.bare(func() { p.ell(0, 0, 10, 5, c); p.ell(-3, -11, 3.4, 2.6, light(c, 0.25)) })
	},
	"cone": func(p *pen, c rgb) {
		p.poly(c, -12, 8, 12, 8, 0, -18)
		p.bare(func() { p.line(1.2, dark(c, 0.35), -8, 3, 8, 3); p.line(1.2, dark(c, 0.35), -5, -3, 5, -3) })
	},
	"tiers": func(p *pen, c rgb) {
		p.poly(c, -13, 10, 13, 10, 0, -3)
		p.poly(c, -11, 2, 11, 2, 0, -11)
		p.poly(c, -8, -6, 8, -6, 0, -19)
	},
	"spire": func(p *pen, c rgb) {
		p.ell(0, -2, 6, 15, c)
		p.bare(func() { p.line(1.2, light(c, 0.25), -2, -10, -2, 6) })
	},
	"fir": func(p *pen, c rgb) {
		for i := range 4 {
			y, w := 9-7*float64(i), 13-2.6*float64(i)
			p.poly(c, -w, y, w, y, 2, y-9, -2, y-9)
		}
	},
	"flat": func(p *pen, c rgb) {
		p.ell(0, 2, 15, 4, c)
		p.ell(0, -5, 12, 3.6, c)
		p.ell(0, -12, 8, 3.2, c)
	},
}
