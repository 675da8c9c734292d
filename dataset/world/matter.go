package world

// soak draws a slab of material under poured water: soaked and dark, or dry with puddles on top.
func soak(p *pen, shape string, c rgb, wet bool) {
	if wet {
		c = mix(c, rgb{44, 74, 120}, 0.5)
	}
	slabs[shape](p, c)
	if wet {
		p.bare(func() {
			for _, x := range []float64{-11, -3, 6, 12} {
				p.ell(x, 15.5, 1.6, 2.2, rgb{96, 160, 226})
			}
		})
		return
	}
	b := rgb{70, 156, 240}
	for _, q := range []struct{ x, y, r float64 }{{-9, -5, 5}, {3, -6, 4}, {11, -5, 3}, {-2, 1, 2.2}} {
		p.ell(q.x, q.y, q.r*1.2, q.r*0.8, b)
		p.bare(func() { p.ell(q.x-q.r*0.3, q.y-q.r*0.3, q.r*0.35, q.r*0.2, rgb{235, 248, 255}) })
	}
}

var slabs = map[string]func(p *pen, c rgb){
	"sponge": func(p *pen, c rgb) {
		p.rect(-16, -5, 16, 13, c)
		p.bare(func() {
			for _, q := range []pt{{-12, 0}, {-6, 6}, {-1, 2}, {5, 8}, {10, 3}, {13, 10}, {-11, 10}, {1, 10}, {6, -1}} {
				p.ell(q.x, q.y, 1.6, 1.4, dark(c, 0.3))
			}
		})
	},
	"towel": func(p *pen, c rgb) {
		p.rect(-15, -5, 15, 1, light(c, 0.15))
		p.rect(-15, 1, 15, 7, c)
		p.rect(-15, 7, 15, 13, light(c, 0.15))
		p.bare(func() { p.rect(-11, -5, -8, 13, light(c, 0.7)); p.rect(8, -5, 11, 13, light(c, 0.7)) })
	},
	"paper": func(p *pen, c rgb) {
		p.poly(c, -16, 12, -10, -7, 16, -7, 13, 12)
		p.bare(func() {
			for i := range 4 {
				y := -3 + 4*float64(i)
				p.line(0.9, rgb{110, 120, 170}, -8-float64(i), y, 11-0.6*float64(i), y)
			}
		})
	},
	"cotton": func(p *pen, c rgb) {
		for _, q := range []pt{{-10, 6}, {10, 6}, {-5, -1}, {6, -1}, {0, 7}} {
			p.ell(q.x, q.y, 7.5, 6.5, c)
		}
		p.bare(func() {
			p.ell(0, 4, 12, 6, c)
			p.arc(-6, 3, 4, 20, 160, 1, dark(c, 0.2))
			p.arc(6, 4, 4, 20, 160, 1, dark(c, 0.2))
		})
	},
	"bread": func(p *pen, c rgb) {
		crust := mix(c, rgb{150, 84, 36}, 0.6)
		p.rect(-12, -3, 12, 13, crust)
		p.ell(-5, -4, 9, 5, crust)
		p.ell(5, -4, 9, 5, crust)
		p.bare(func() { p.rect(-10, -3, 10, 11, c); p.ell(-5, -3, 7, 4, c); p.ell(5, -3, 7, 4, c) })
	},
	"plastic": func(p *pen, c rgb) {
		p.rect(-15, -2, 15, 13, c)
		for _, x := range []float64{-10, 0, 10} {
			p.rect(x-3, -6, x+3, -2, c)
		}
		p.bare(func() { p.rect(-14, -1, 14, 1, light(c, 0.35)) })
	},
	"metal": func(p *pen, c rgb) {
		p.poly(light(c, 0.25), -16, 2, -11, -8, 16, -8, 12, 2)
		p.rect(-16, 2, 12, 11, c)
		p.poly(dark(c, 0.25), 12, 2, 16, -8, 16, 2, 12, 11)
		p.bare(func() {
			for _, x := range []float64{-13, 9} {
				p.ell(x, 6.5, 1.3, 1.3, dark(c, 0.5))
			}
		})
	},
	"rubber": func(p *pen, c rgb) {
		p.ell(0, 4, 17, 9, c)
		p.bare(func() {
			p.ell(0, 3, 7, 3.4, light(c, 0.5))
			for _, x := range []float64{-13, -8, 0, 8, 13} {
				p.rect(x-0.8, 8, x+0.8, 13, light(c, 0.25))
			}
		})
	},
	"marble": func(p *pen, c rgb) {
		p.rect(-16, -5, 16, 13, c)
		p.bare(func() {
			v := dark(c, 0.3)
			p.line(1.1, v, -15, 3, -8, 7, -5, 12)
			p.line(1.1, v, -4, -4, 2, 4, 10, 6, 15, 11)
			p.line(0.9, v, 2, 4, 1, 12)
		})
	},
	"wax": func(p *pen, c rgb) {
		p.rect(-13, -4, 13, 13, c)
		p.ell(0, -4, 13, 3.4, light(c, 0.35))
		p.bare(func() { p.line(1.4, rgb{60, 50, 40}, 0, -4, 1, -10) })
	},
}

// potted draws a plant in its pot. Wilted stems bend over the rim.
func potted(p *pen, shape string, c rgb, wilted bool) {
	if wilted {
		wilt[shape](p, c)
	} else {
		upright[shape](p, c)
	}
	clay := rgb{190, 98, 62}
	p.poly(clay, -8, 7, 8, 7, 6, 17, -6, 17)
	p.rect(-9, 5, 9, 8, light(clay, 0.12))
}

func stems(p *pen, c rgb, leafW, leafH float64, tips ...pt) {
	for _, t := range tips {
		p.bare(func() { p.line(1.8, dark(c, 0.25), 0, 6, t.x*0.45, (t.y+6)*0.5, t.x, t.y) })
	}
	for _, t := range tips {
		mx, my := t.x*0.5, (t.y+6)*0.5
		p.ell(mx-2.5, my, leafW, leafH, c)
		p.ell(mx+2.5, my-2, leafW, leafH, c)
		p.ell(t.x, t.y, leafW, leafH, c)
	}
}

func blossom(p *pen, petal rgb, x, y, r float64) {
	p.ell(x, y, r, r, petal)
	p.bare(func() { p.ell(x, y, r*0.45, r*0.45, light(petal, 0.5)) })
}

// petals keep their colour in light; without it, or without water, they take on the plant's colour.
func petals(own, plant rgb) rgb {
	if plant[1] > plant[0] {
		return own
	}
	return mix(own, plant, 0.6)
}

var upright = map[string]func(p *pen, c rgb){
	"fern": func(p *pen, c rgb) {
		for _, x := range []float64{-15, -9, 0, 9, 15} {
			y := -16 + x*x*0.05
			for i := 1; i <= 4; i++ {
				t := float64(i) / 4
				p.oval(x*t, 6+(y-6)*t, 4.2-2*t, 1.7, 35, c)
				p.oval(x*t, 6+(y-6)*t, 4.2-2*t, 1.7, -35, c)
			}
		}
	},
	"rose": func(p *pen, c rgb) {
		stems(p, c, 4, 2.4, pt{-7, -8}, pt{7, -8}, pt{0, -9})
		for _, q := range []pt{{-7, -11}, {7, -11}, {0, -14}} {
			blossom(p, petals(rgb{220, 40, 70}, c), q.x, q.y, 4.2)
		}
	},
	"cactus": func(p *pen, c rgb) {
		p.line(5, c, 0, -1, 9, -2, 9, -9)
		p.line(5, c, 0, 2, -9, 1, -9, -6)
		p.ell(0, -4, 6, 13, c)
		p.bare(func() {
			p.rect(-4, -3, 4, 1, c)
			for _, x := range []float64{-3, 0, 3} {
				p.line(0.8, light(c, 0.5), x, -12, x, 5)
			}
		})
	},
	"ivy": func(p *pen, c rgb) {
		stems(p, c, 3.6, 3, pt{-13, -3}, pt{-8, -12}, pt{0, -16}, pt{8, -12}, pt{13, -3}, pt{-15, 6}, pt{15, 6})
	},
	"tulip": func(p *pen, c rgb) {
		p.oval(-6, -1, 2.4, 8, -20, c)
		p.oval(6, -1, 2.4, 8, 20, c)
		p.line(2, c, -2, 6, -5, -8)
		p.line(2, c, 2, 6, 6, -6)
		for _, q := range []pt{{-5, -11}, {6, -9}} {
			p.poly(petals(rgb{240, 90, 150}, c), q.x-4.5, q.y-5, q.x-2, q.y-2, q.x, q.y-6, q.x+2, q.y-2, q.x+4.5, q.y-5, q.x+3.5, q.y+3, q.x-3.5, q.y+3)
		}
	},
	"basil": func(p *pen, c rgb) {
		stems(p, c, 5, 3.6, pt{-8, -9}, pt{8, -9}, pt{0, -14})
	},
	"mint": func(p *pen, c rgb) {
		for _, x := range []float64{-9, 0, 9} {
			p.bare(func() { p.line(1.6, dark(c, 0.25), x*0.3, 6, x, -15) })
			for i := range 4 {
				y, xx := 2-5*float64(i), x*(0.4+0.2*float64(i))
				p.oval(xx-3, y, 3.2, 1.8, 25, c)
				p.oval(xx+3, y, 3.2, 1.8, -25, c)
			}
		}
	},
	"daisy": func(p *pen, c rgb) {
		stems(p, c, 3.4, 2, pt{-8, -9}, pt{8, -9}, pt{0, -12})
		w := petals(rgb{250, 250, 250}, c)
		for _, q := range []pt{{-8, -10}, {8, -10}, {0, -14}} {
			p.ell(q.x, q.y, 4.8, 4.4, w)
			p.bare(func() { p.ell(q.x, q.y, 1.9, 1.9, rgb{245, 190, 40}) })
		}
	},
	"palm": func(p *pen, c rgb) {
		p.line(3.4, rgb{150, 104, 62}, 0, 6, 1, -8)
		for _, q := range []pt{{-14, -3}, {-13, -12}, {-4, -18}, {7, -18}, {15, -11}, {15, -2}} {
			p.poly(c, 1, -10, q.x*0.5, (q.y-10)*0.5-3, q.x, q.y, q.x*0.5+1, (q.y-10)*0.5+2)
		}
	},
	"sunflower": func(p *pen, c rgb) {
		p.line(2.4, c, 0, 6, 0, -6)
		p.oval(-6, 1, 5.5, 2.6, 25, c)
		p.oval(6, -1, 5.5, 2.6, -25, c)
		p.ell(0, -10, 8.5, 8, petals(rgb{250, 200, 40}, c))
		p.bare(func() { p.ell(0, -10, 4.4, 4.2, rgb{96, 60, 32}) })
	},
}

func droop(p *pen, c rgb, leafW, leafH float64, tips ...pt) {
	for _, t := range tips {
		p.bare(func() { p.line(1.8, dark(c, 0.3), 0, 6, t.x*0.4, -5, t.x*0.8, -2, t.x, t.y) })
	}
	for _, t := range tips {
		p.ell(t.x*0.8, t.y-6, leafH, leafW, c)
		p.ell(t.x, t.y, leafH, leafW, c)
	}
}

var wilt = map[string]func(p *pen, c rgb){
	"fern": func(p *pen, c rgb) {
		droop(p, c, 4.5, 1.8, pt{-17, 10}, pt{-12, 8}, pt{12, 8}, pt{17, 10}, pt{-6, 3}, pt{6, 3})
	},
	"basil": func(p *pen, c rgb) { droop(p, c, 4.6, 3, pt{-14, 9}, pt{14, 9}, pt{8, 3}) },
	"mint":  func(p *pen, c rgb) { droop(p, c, 3.4, 2, pt{-16, 9}, pt{-10, 6}, pt{10, 6}, pt{16, 9}) },
	"ivy":   func(p *pen, c rgb) { droop(p, c, 3.4, 2.6, pt{-17, 12}, pt{-12, 7}, pt{12, 7}, pt{17, 12}) },
	"rose": func(p *pen, c rgb) {
		droop(p, c, 3.6, 2, pt{-12, 6}, pt{12, 6})
		blossom(p, petals(rgb{220, 40, 70}, c), -13, 9, 4)
		blossom(p, petals(rgb{220, 40, 70}, c), 13, 9, 4)
	},
	"cactus": func(p *pen, c rgb) {
		p.line(8, c, 0, 4, 2, -3, 9, -5, 14, 3)
		p.line(4, c, -2, 3, -9, 1, -12, 8)
		p.bare(func() { p.line(0.9, light(c, 0.4), 0, 4, 2, -3, 9, -5, 14, 3) })
	},
	"tulip": func(p *pen, c rgb) {
		p.oval(-9, 4, 2.2, 7, -65, c)
		p.oval(9, 4, 2.2, 7, 65, c)
		for _, s := range []float64{-1, 1} {
			p.line(1.9, c, s*2, 6, s*5, -5, s*11, -4, s*13, 4)
			p.poly(petals(rgb{240, 90, 150}, c), s*13-4, 4, s*13+4, 4, s*13+3.6, 12, s*13, 9, s*13-3.6, 12)
		}
	},
	"daisy": func(p *pen, c rgb) {
		droop(p, c, 3, 1.8, pt{-13, 5}, pt{13, 5})
		w := petals(rgb{250, 250, 250}, c)
		for _, x := range []float64{-14, 14} {
			p.ell(x, 8, 3.4, 4.6, w)
			p.bare(func() { p.ell(x, 10, 1.7, 1.7, rgb{190, 140, 40}) })
		}
	},
	"palm": func(p *pen, c rgb) {
		p.line(3.4, rgb{150, 104, 62}, 0, 6, 1, -8)
		for _, x := range []float64{-15, -9, -4, 6, 11, 16} {
			p.poly(c, 1, -10, x*0.6, -8, x, 4, x*0.6-1, -3)
		}
	},
	"sunflower": func(p *pen, c rgb) {
		p.line(2.4, c, 0, 6, 0, -8, 6, -12, 12, -6)
		p.oval(-6, 6, 6, 2, 60, c)
		p.oval(5, 5, 6, 2, -60, c)
		p.ell(12, 0, 5.5, 7, petals(rgb{250, 200, 40}, c))
		p.bare(func() { p.ell(12, 2, 3, 3.6, rgb{96, 60, 32}) })
	},
}
