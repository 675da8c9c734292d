package world

// scene is a backdrop. Plain scenes have one wall colour; described scenes add things that stay clear of the subject's middle.
type scene struct {
	name        string // as it ends a prompt: "in a kitchen"
	wall, floor rgb
	deco        func(p *pen)
	held        bool // never in train; with held subjects never in pretrain either
}

func (s scene) plain() bool { return s.deco == nil }

func plainScene(colour string, c rgb, held bool) scene {
	return scene{name: "on a " + colour + " background", wall: c, floor: dark(c, 0.12), held: held}
}

var scenes = []scene{
	plainScene("white", rgb{240, 240, 240}, false),
	plainScene("gray", rgb{158, 158, 160}, false),
	plainScene("blue", rgb{150, 190, 232}, false),
	plainScene("beige", rgb{228, 212, 180}, false),
	plainScene("black", rgb{48, 48, 54}, false),
	plainScene("teal", rgb{110, 180, 176}, false),
	plainScene("pink", rgb{238, 194, 208}, true),
	plainScene("lavender", rgb{202, 190, 234}, true),
	plainScene("peach", rgb{248, 205, 172}, true),
	{name: "in a kitchen", wall: rgb{238, 228, 204}, floor: rgb{178, 132, 90}, deco: kitchen},
	{name: "in a bedroom", wall: rgb{206, 192, 222}, floor: rgb{142, 102, 82}, deco: bedroom},
	{name: "on the street", wall: rgb{180, 198, 218}, floor: rgb{94, 94, 100}, deco: street},
	{name: "in a garden", wall: rgb{168, 214, 242}, floor: rgb{112, 172, 84}, deco: garden},
	{name: "on a beach", wall: rgb{152, 212, 246}, floor: rgb{236, 216, 162}, deco: beach},
	{name: "in a desert", wall: rgb{250, 214, 150}, floor: rgb{216, 160, 92}, deco: desert},
	{name: "in an office", wall: rgb{214, 220, 224}, floor: rgb{120, 128, 142}, deco: office, held: true},
	{name: "in a forest", wall: rgb{126, 170, 140}, floor: rgb{98, 86, 54}, deco: forest, held: true},
	{name: "on a farm", wall: rgb{190, 222, 240}, floor: rgb{206, 184, 96}, deco: farm, held: true},
}

func sceneNamed(name string) (scene, bool) {
	for _, s := range scenes {
		if s.name == name {
			return s, true
		}
	}
	return scene{}, false
}

// backdrop paints the scene. A nil stream gives the nominal one, without jitter of colour and place.
func backdrop(p *pen, s scene, r *stream) {
	wall, floor, dx := s.wall, s.floor, 0.0
	if r != nil {
		wall, floor = jitter(wall, r, 8), jitter(floor, r, 8)
		dx = r.in(-2, 2)
	}
	y := 46.0
	if s.plain() {
		y, floor = 52, dark(wall, 0.12)
	}
	p.at(0, 0, 1)
	p.rect(0, 0, 64, y, wall)
	p.rect(0, y, 64, 64, floor)
	if s.deco != nil {
		p.at(dx, 0, 1)
		s.deco(p)
	}
}

func jitter(c rgb, r *stream, by int) rgb {
	for i := range c {
		c[i] = min(255, max(0, c[i]+r.intn(2*by+1)-by))
	}
	return c
}

func kitchen(p *pen) {
	wood, knob := rgb{152, 100, 62}, rgb{240, 220, 160}
	for _, x := range []float64{-2, 44} {
		p.rect(x, 0, x+22, 15, wood)
		p.rect(x+10.5, 0, x+11.5, 15, dark(wood, 0.35))
		p.ell(x+8.5, 11, 1, 1, knob)
		p.ell(x+13.5, 11, 1, 1, knob)
	}
	p.rect(-4, 42, 68, 46, rgb{226, 226, 228})
	for x := 1.0; x < 66; x += 13 {
		p.rect(x, 49, x+11, 66, wood)
	}
}

func bedroom(p *pen) {
	p.rect(45, 3, 61, 21, rgb{250, 250, 250})
	p.rect(46.5, 4.5, 59.5, 19.5, rgb{176, 214, 246})
	p.rect(52.3, 4.5, 53.7, 19.5, rgb{250, 250, 250})
	p.rect(-4, 26, 1, 58, rgb{120, 78, 50})
	p.rect(-4, 41, 12, 56, rgb{224, 110, 122})
	p.ell(5, 40, 6, 3.2, rgb{252, 252, 252})
}

func street(p *pen) {
	for _, b := range []struct {
		x0, y0, x1 float64
		c          rgb
	}{{-4, 4, 13, rgb{158, 94, 82}}, {50, 9, 68, rgb{112, 118, 140}}} {
		p.rect(b.x0, b.y0, b.x1, 46, b.c)
		for y := b.y0 + 4; y < 42; y += 8 {
			for x := max(b.x0, 0) + 2; x < min(b.x1, 66)-3; x += 6 {
				p.rect(x, y, x+3, y+4, rgb{250, 232, 160})
			}
		}
	}
	for _, x := range []float64{-2, 18, 38, 58} {
		p.rect(x, 57.5, x+9, 59.5, rgb{238, 228, 120})
	}
}

func garden(p *pen) {
	bush := rgb{58, 132, 62}
	p.ell(3, 42, 11, 10, bush)
	p.ell(60, 42, 10, 9, bush)
	for i, x := range []float64{4, 11, 53, 60} {
		y := 54 + 4*float64(i%2)
		p.rect(x-0.4, y, x+0.4, y+5, bush)
		p.ell(x, y, 2, 2, []rgb{{240, 120, 170}, {250, 220, 80}}[i%2])
	}
	p.ell(9, 9, 6, 3, rgb{250, 252, 255})
	p.ell(14, 10, 5, 2.5, rgb{250, 252, 255})
}

func beach(p *pen) {
	p.rect(-4, 33, 68, 46, rgb{62, 142, 202})
	p.rect(-4, 38, 68, 39, rgb{120, 186, 228})
	p.rect(-4, 45, 68, 46.5, rgb{248, 250, 252})
	p.ell(55, 9, 6, 6, rgb{255, 230, 104})
	p.poly(rgb{250, 250, 250}, 6, 31, 6, 20, 13, 31)
	p.poly(rgb{150, 70, 50}, 1, 31.5, 14, 31.5, 11, 35, 4, 35)
}

func desert(p *pen) {
	p.ell(6, 50, 20, 10, rgb{226, 172, 104})
	p.ell(60, 50, 18, 12, rgb{204, 146, 82})
	p.rect(-4, 50, 68, 64, rgb{216, 160, 92})
	p.ell(10, 9, 6, 6, rgb{255, 246, 210})
	c := rgb{70, 130, 70}
	p.line(4, c, 57, 44, 57, 26)
	p.line(2.6, c, 57, 36, 61.5, 35, 61.5, 30)
}

func office(p *pen) {
	p.rect(2, 5, 19, 23, rgb{250, 250, 250})
	p.rect(3.5, 6.5, 17.5, 21.5, rgb{120, 164, 210})
	for y := 9.0; y < 21; y += 3 {
		p.rect(3.5, y, 17.5, y+1, rgb{232, 238, 242})
	}
	p.rect(47, 4, 66, 46, rgb{112, 86, 62})
	for i, y := range []float64{6, 19, 32} {
		p.rect(49, y, 66, y+11, rgb{70, 52, 38})
		for j := range 4 {
			x := 50 + 4*float64(j)
			p.rect(x, y+2, x+3, y+11, []rgb{{190, 60, 60}, {60, 110, 180}, {230, 190, 80}, {70, 150, 90}}[(i+j)%4])
		}
	}
	p.rect(-4, 42, 14, 45, rgb{150, 116, 80})
	p.rect(2, 45, 4, 60, rgb{150, 116, 80})
}

func forest(p *pen) {
	for i, x := range []float64{2, 12, 49, 59} {
		p.rect(x, 6, x+4, 47, rgb{84, 58, 38})
		p.ell(x+2, 5, 9, 10, []rgb{{46, 104, 52}, {60, 122, 60}}[i%2])
	}
	p.ell(6, 55, 4, 2, rgb{70, 120, 60})
	p.ell(58, 58, 5, 2, rgb{70, 120, 60})
}

func farm(p *pen) {
	red := rgb{186, 58, 48}
	p.rect(-4, 24, 13, 46, red)
	p.poly(rgb{110, 62, 50}, -6, 25, 4, 13, 15, 25)
	p.rect(1, 33, 9, 46, rgb{246, 240, 232})
	p.line(1, red, 1, 33, 9, 46)
	p.line(1, red, 9, 33, 1, 46)
	for x := 48.0; x < 68; x += 6 {
		p.rect(x, 33, x+2.4, 47, rgb{250, 248, 240})
	}
	p.rect(47, 36, 68, 38, rgb{250, 248, 240})
	p.rect(47, 42, 68, 44, rgb{250, 248, 240})
	p.ell(54, 10, 6, 6, rgb{255, 226, 110})
}
