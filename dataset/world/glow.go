package world

// fixture draws an electric thing, lit or off. Lit things stand in a halo.
func fixture(p *pen, shape string, lit bool) {
	c := rgb{66, 70, 80}
	if lit {
		c = rgb{255, 238, 112}
		p.bare(func() {
			p.ell(0, 0, 19, 18, rgb{255, 246, 176})
			p.ell(0, 0, 16, 15, rgb{255, 250, 208})
		})
	}
	fixtures[shape](p, c)
}

// fixtures take the colour of their lamp or screen.
var fixtures = map[string]func(p *pen, c rgb){
	"bulb": func(p *pen, c rgb) {
		p.poly(c, -6, 0, 6, 0, 4, 8, -4, 8)
		p.ell(0, -5, 10, 10, c)
		p.bare(func() { p.poly(c, -6, 0, 6, 0, 4, 7, -4, 7); p.line(1.2, dark(c, 0.35), -3, -3, -1, -7, 1, -3, 3, -7) })
		p.rect(-4, 8, 4, 15, rgb{150, 152, 158})
		p.bare(func() { p.line(1, rgb{90, 92, 98}, -4, 10.5, 4, 10.5); p.line(1, rgb{90, 92, 98}, -4, 13, 4, 13) })
	},
	"lamp": func(p *pen, c rgb) {
		p.rect(-1.4, 1, 1.4, 14, rgb{130, 84, 50})
		p.ell(0, 15, 8, 2, rgb{130, 84, 50})
		p.poly(c, -13, 2, 13, 2, 7, -14, -7, -14)
	},
	"television": func(p *pen, c rgb) {
		p.line(1.3, rgb{40, 40, 46}, -6, -18, 0, -12, 6, -18)
		p.rect(-16, -12, 16, 11, rgb{120, 76, 46})
		p.rect(-13, -9, 7, 8, c)
		p.bare(func() { p.ell(11.5, -5, 2, 2, rgb{230, 220, 200}); p.ell(11.5, 1, 2, 2, rgb{230, 220, 200}) })
		p.rect(-11, 12, -7, 16, rgb{120, 76, 46})
		p.rect(7, 12, 11, 16, rgb{120, 76, 46})
	},
	"monitor": func(p *pen, c rgb) {
		g := rgb{206, 208, 214}
		p.rect(-2, 6, 2, 14, g)
		p.rect(-9, 13, 9, 15.5, g)
		p.rect(-16, -14, 16, 7, g)
		p.rect(-14, -12, 14, 5, c)
	},
	"lantern": func(p *pen, c rgb) {
		r := rgb{168, 50, 44}
		p.arc(0, -12, 6, 180, 360, 1.8, r)
		p.poly(r, -9, -8, -5, -13, 5, -13, 9, -8)
		p.rect(-8, -8, 8, 11, c)
		p.rect(-9.5, 10, 9.5, 15, r)
		p.bare(func() { p.rect(-4, -8, -2.6, 10, r); p.rect(2.6, -8, 4, 10, r) })
	},
	"sign": func(p *pen, c rgb) {
		p.rect(-17, -10, 17, 8, rgb{58, 50, 96})
		p.bare(func() {
			for _, l := range [][]float64{{-13, -5, -13, 4}, {-13, -0.5, -8, -0.5}, {-8, -5, -8, 4}, {8, -5, 8, 4}, {13, -5, 13, 4}} {
				p.line(2.4, c, l...)
			}
			p.arc(0, -0.5, 4, 0, 360, 2.4, c)
		})
		p.rect(-12, 9, -10, 15, rgb{90, 92, 98})
		p.rect(10, 9, 12, 15, rgb{90, 92, 98})
	},
	"phone": func(p *pen, c rgb) {
		p.rect(-9, -16, 9, 16, rgb{206, 70, 110})
		p.rect(-7, -12, 7, 11, c)
		p.bare(func() { p.ell(0, 13.6, 1.6, 1.6, rgb{250, 230, 235}); p.rect(-3, -14.6, 3, -13.4, rgb{250, 230, 235}) })
	},
	"laptop": func(p *pen, c rgb) {
		g := rgb{186, 190, 198}
		p.rect(-13, -13, 13, 6, g)
		p.rect(-11, -11, 11, 4, c)
		p.poly(g, -13, 7, 13, 7, 18, 15, -18, 15)
		p.bare(func() { p.poly(rgb{90, 92, 100}, -11, 8.5, 11, 8.5, 13, 12, -13, 12) })
	},
	"oven": func(p *pen, c rgb) {
		p.rect(-14, -15, 14, 16, rgb{222, 224, 228})
		p.rect(-11, -5, 11, 12, c)
		p.bare(func() {
			p.line(1.6, rgb{120, 122, 130}, -10, -8, 10, -8)
			for _, x := range []float64{-9, -3, 3, 9} {
				p.ell(x, -11.6, 1.7, 1.7, rgb{60, 60, 66})
			}
		})
	},
	"flashlight": func(p *pen, c rgb) {
		r := rgb{196, 54, 50}
		p.rect(-18, -4, 0, 4, r)
		p.poly(r, 0, -4, 7, -9, 7, 9, 0, 4)
		p.ell(8, 0, 4, 9, c)
		p.bare(func() { p.rect(-11, -1.4, -6, 1.4, rgb{250, 220, 210}) })
	},
}

// puddle is what is left of a melted thing.
func puddle(p *pen, shape string, c rgb) {
	p.poly(c, -18, 12, -14, 8, -7, 9, -3, 6, 4, 8, 10, 7, 17, 10, 18, 14, 10, 17, 0, 16, -9, 17, -16, 15)
	p.bare(func() {
		p.ell(-5, 11, 6, 1.6, light(c, 0.6))
		p.ell(8, 13, 3, 1, light(c, 0.6))
		switch shape {
		case "snowman":
			p.rect(2, 6, 11, 10, rgb{50, 50, 60})
			p.poly(rgb{240, 130, 40}, -10, 12, -4, 13, -10, 14)
		case "cone":
			p.poly(rgb{214, 160, 96}, 2, 8, 16, 4, 12, 13)
		case "popsicle":
			p.line(3, rgb{222, 184, 130}, -6, 13, 8, 10)
		case "candle":
			p.line(1.4, rgb{40, 40, 40}, 0, 10, 2, 6)
		}
	})
}

// vessels are half widths (top, bottom) and half height of containers seen from the side.
var vessels = map[string]struct {
	top, bottom, h float64
	c              rgb // rim and outline
}{
	"cup": {11, 8, 10, rgb{196, 70, 70}}, "bowl": {17, 8, 9, rgb{70, 110, 190}}, "glass": {9, 7, 15, rgb{112, 128, 142}},
	"bucket": {13, 9, 13, rgb{100, 104, 112}}, "jar": {11, 11, 14, rgb{170, 120, 60}}, "pot": {14, 13, 11, rgb{64, 66, 74}},
	"vase": {6, 10, 15, rgb{130, 80, 160}}, "tray": {18, 16, 6, rgb{90, 140, 90}}, "beaker": {11, 12, 15, rgb{112, 128, 142}},
	"bottle": {5, 9, 16, rgb{60, 130, 90}},
}

// vessel draws a container with its wall cut away, filled to level 0..1 with fluid; it returns the surface's height
// and half width, in local units.
func vessel(p *pen, shape string, fluid rgb, level float64) (y, w float64) {
	v := vessels[shape]
	switch shape {
	case "bucket":
		p.arc(0, -v.h+1, v.top-1, 190, 350, 1.6, v.c)
	case "cup":
		p.arc(v.top-1, -2, 6, -70, 80, 2.4, v.c)
	case "pot":
		p.rect(-v.top-4, -7, -v.top, -4, v.c)
		p.rect(v.top, -7, v.top+4, -4, v.c)
	case "jar":
		p.rect(-v.top+1, -v.h-4, v.top-1, -v.h, v.c)
	case "bottle":
		p.rect(-4, -v.h-2, 4, -v.h+6, v.c)
	}
	p.poly(v.c, -v.top, -v.h, v.top, -v.h, v.bottom, v.h, -v.bottom, v.h)
	p.bare(func() {
		t, b := v.top-1.8, v.bottom-1.8
		p.poly(glassy, -t, -v.h, t, -v.h, b, v.h-1.8, -b, v.h-1.8)
		y = v.h - 1.8 - (2*v.h-1.8)*level
		w = b + (t-b)*level
		if level > 0 {
			p.poly(fluid, -w, y, w, y, b, v.h-1.8, -b, v.h-1.8)
			p.rect(-w, y, w, y+1.3, light(fluid, 0.45))
		}
		p.line(1.2, rgb{250, 252, 255}, -t+2, -v.h+2, -b-0.2+2, v.h-5)
	})
	return y, w
}

// frozen is a glass of fluid, or of its ice.
func frozen(p *pen, fluid rgb, ice bool) {
	if !ice {
		vessel(p, "glass", fluid, 0.8)
		return
	}
	c := mix(fluid, rgb{214, 238, 255}, 0.6)
	vessel(p, "glass", c, 0.8)
	p.poly(light(c, 0.55), -7, -9, -5, -14, 0, -12, 4, -16, 7, -9)
	p.bare(func() {
		w := rgb{255, 255, 255}
		p.line(1.3, w, -4, -6, 1, 0, -2, 6)
		p.line(1.3, w, 4, -6, 1, 0, 4, 8)
		for _, q := range []pt{{-8.5, -6}, {-8, 2}, {8.5, -2}, {7.6, 8}, {-7, 10}} {
			p.ell(q.x, q.y, 1.9, 1.9, w)
		}
	})
}

// cold draws a chilled container, dry or with dew. Its drops and the wet ring are the difference.
func cold(p *pen, shape string, c rgb, dew bool) {
	h := chilled[shape](p, c)
	if !dew {
		return
	}
	p.bare(func() {
		d := rgb{220, 243, 255}
		p.ell(0, h+1, 20, 4, rgb{74, 150, 226})
		p.ell(-4, h+0.8, 9, 1.5, rgb{200, 232, 255})
		p.rect(-6, h-2, 6, h+0.8, c)
		for _, q := range []pt{{-7, -6}, {0, -9}, {6.5, -4}, {-3, -1}, {4.5, 2.5}, {-8, 4}, {-1.5, 6}, {8, 8}, {-6, 11.5}, {3, 11}} {
			p.ell(q.x, q.y, 2.5, 3.1, dark(c, 0.5))
			p.ell(q.x, q.y, 2, 2.6, d)
		}
	})
}

// chilled shapes return the height of their foot.
var chilled = map[string]func(p *pen, c rgb) float64{
	"bottle": func(p *pen, c rgb) float64 {
		p.rect(-3.4, -18, 3.4, -6, c)
		p.poly(c, -3.4, -9, 3.4, -9, 9, -4, 9, 15, -9, 15, -9, -4)
		p.bare(func() { p.rect(-3.2, -12, 3.2, -6, c); p.rect(-3.4, -18, 3.4, -15.5, dark(c, 0.5)) })
		return 15
	},
	"can": func(p *pen, c rgb) float64 {
		p.rect(-10, -13, 10, 14, c)
		p.ell(0, -13, 10, 2.6, rgb{200, 204, 210})
		p.bare(func() { p.rect(-10, -3, 10, 3, rgb{248, 248, 250}); p.rect(-10, 12, 10, 14, rgb{200, 204, 210}) })
		return 14
	},
	"mug": func(p *pen, c rgb) float64 {
		p.arc(11, 2, 6, -80, 80, 3, c)
		p.rect(-11, -10, 10, 14, c)
		p.ell(-0.5, -10, 10.5, 2.8, light(c, 0.5))
		return 14
	},
	"flask": func(p *pen, c rgb) float64 {
		p.rect(-4, -18, 4, -13, rgb{90, 92, 100})
		p.poly(c, -5, -13, 5, -13, 10, -7, 10, 15, -10, 15, -10, -7)
		p.bare(func() { p.rect(-10, -4, 10, -2, light(c, 0.5)) })
		return 15
	},
	"jug": func(p *pen, c rgb) float64 {
		p.arc(9, 0, 8, -80, 80, 2.8, c)
		p.poly(c, -12, -15, 7, -12, 8, -6, 11, 14, -11, 14, -9, -8)
		return 14
	},
	"goblet": func(p *pen, c rgb) float64 {
		p.rect(-1.8, 2, 1.8, 13, c)
		p.ell(0, 14, 8, 2, c)
		p.poly(c, -10, -15, 10, -15, 9, -3, 4, 4, -4, 4, -9, -3)
		p.ell(0, -15, 10, 2.4, light(c, 0.5))
		return 15
	},
	"glass": func(p *pen, c rgb) float64 {
		p.poly(c, -10, -15, 10, -15, 8, 14, -8, 14)
		p.ell(0, -15, 10, 2.4, light(c, 0.6))
		p.line(1.4, rgb{245, 120, 120}, 2, -14, 7, -19)
		return 14
	},
	"kettle": func(p *pen, c rgb) float64 {
		p.arc(0, -8, 9, 190, 350, 2.4, rgb{60, 60, 66})
		p.poly(c, 8, 0, 17, -8, 18, -5, 11, 8)
		p.poly(c, -9, -8, 9, -8, 13, 14, -13, 14)
		return 14
	},
	"jar": func(p *pen, c rgb) float64 {
		p.rect(-9, -17, 9, -12, rgb{226, 190, 90})
		p.rect(-11, -12, 11, 14, c)
		p.bare(func() { p.rect(-7, -4, 7, 6, rgb{250, 246, 232}) })
		return 14
	},
	"carafe": func(p *pen, c rgb) float64 {
		p.poly(c, -6, -17, 6, -17, 3, -6, 12, 6, 11, 14, -11, 14, -12, 6, -3, -6)
		p.ell(0, -17, 6, 1.8, light(c, 0.5))
		return 14
	},
}

// liquids draws a beaker with water and another liquid: apart (the other on top) or blended.
func liquids(p *pen, c rgb, apart bool) {
	if !apart {
		vessel(p, "beaker", mix(water, c, 0.55), 0.85)
		return
	}
	vessel(p, "beaker", water, 0.85)
	p.bare(func() {
		p.rect(-9.4, -10, 9.6, 1.5, c)
		p.rect(-9.4, 1.5, 9.8, 2.7, dark(c, 0.3))
		p.rect(-9.4, -10, 9.4, -8.7, light(c, 0.45))
		for _, q := range []pt{{-4, -4}, {2, -2}, {5, -6}} {
			p.ell(q.x, q.y, 1.1, 1.1, light(c, 0.6))
		}
	})
}

// diffusing draws a jar with a drop of c: spread through the water, or one blob.
func diffusing(p *pen, c rgb, spread bool) {
	if spread {
		vessel(p, "jar", mix(water, c, 0.66), 0.85)
		return
	}
	vessel(p, "jar", light(water, 0.35), 0.85)
	p.ell(0, 3, 5.6, 5.6, c)
	p.bare(func() { p.ell(-2, 1, 1.4, 1.4, light(c, 0.6)) })
}
