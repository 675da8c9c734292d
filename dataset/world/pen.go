package world

import "math"

// super is the supersampling factor of the canvas; 4 x 4 samples a pixel give clean edges.
const super = 4

// rgb is a colour, 0..255 a channel.
type rgb [3]int

func mix(a, b rgb, t float64) rgb {
	var o rgb
	for i := range o {
		o[i] = a[i] + int(float64(b[i]-a[i])*t)
	}
	return o
}
func dark(c rgb, t float64) rgb  { return mix(c, rgb{0, 0, 0}, t) }
func light(c rgb, t float64) rgb { return mix(c, rgb{255, 255, 255}, t) }

// pt is a point of the local frame.
type pt struct{ x, y float64 }

// pen draws filled shapes on a supersampled canvas. Coordinates are in 64ths of the picture's side, in a local frame set by at.
type pen struct {
	n, over   int     // canvas side in samples, samples a pixel in each direction
	unit      float64 // samples per 64th
	pix       []uint8 // [n,n,3]
	ox, oy, k float64 // local frame: origin in 64ths, scale
	edge      float64 // outline width in local units, 0 = none
	x0, y0    float64 // extent of all that was drawn since mark, in 64ths
	x1, y1    float64
	cross     []float64
	scratch   []pt
}

func newPen(side int) *pen { return newCoarsePen(side, super) }

// newCoarsePen takes over x over samples a pixel.
func newCoarsePen(side, over int) *pen {
	n := side * over
	p := &pen{n: n, over: over, unit: float64(n) / 64, pix: make([]uint8, n*n*3)}
	p.at(0, 0, 1)
	return p
}

// at sets the local frame.
func (p *pen) at(ox, oy, k float64) { p.ox, p.oy, p.k = ox, oy, k }

// moved draws f in a frame shifted by (dx, dy) local units and scaled by s.
func (p *pen) moved(dx, dy, s float64, f func()) {
	ox, oy, k := p.ox, p.oy, p.k
	p.at(ox+dx*k, oy+dy*k, k*s)
	f()
	p.at(ox, oy, k)
}

// mark forgets the extent drawn so far.
func (p *pen) mark() {
	p.x0, p.y0, p.x1, p.y1 = math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
}

func (p *pen) touch(x0, y0, x1, y1 float64) {
	p.x0, p.y0 = math.Min(p.x0, p.ox+x0*p.k), math.Min(p.y0, p.oy+y0*p.k)
	p.x1, p.y1 = math.Max(p.x1, p.ox+x1*p.k), math.Max(p.y1, p.oy+y1*p.k)
}

// span fills samples [a,b) of row y, in sample units.
func (p *pen) span(y int, a, b float64, c rgb) {
	i, j := max(0, int(math.Ceil(a-0.5))), min(p.n, int(math.Ceil(b-0.5)))
	if i >= j {
		return
	}
	row := p.pix[(y*p.n+i)*3 : (y*p.n+j)*3]
	row[0], row[1], row[2] = uint8(c[0]), uint8(c[1]), uint8(c[2])
	for done := 3; done < len(row); done *= 2 {
		copy(row[done:], row[:done])
	}
}

func (p *pen) rows(a, b float64) (int, int) {
	return max(0, int(math.Ceil(a-0.5))), min(p.n, int(math.Ceil(b-0.5)))
}

func (p *pen) sx(x float64) float64 { return (p.ox + x*p.k) * p.unit }
func (p *pen) sy(y float64) float64 { return (p.oy + y*p.k) * p.unit }

// ell fills an upright ellipse, with the outline outside of it.
func (p *pen) ell(x, y, rx, ry float64, c rgb) {
	if p.edge > 0 {
		p.plainEll(x, y, rx+p.edge, ry+p.edge, dark(c, 0.5))
	}
	p.plainEll(x, y, rx, ry, c)
}

func (p *pen) plainEll(x, y, rx, ry float64, c rgb) {
	p.touch(x-rx, y-ry, x+rx, y+ry)
	cx, cy, a, b := p.sx(x), p.sy(y), rx*p.k*p.unit, ry*p.k*p.unit
	lo, hi := p.rows(cy-b, cy+b)
	for r := lo; r < hi; r++ {
		t := (float64(r) + 0.5 - cy) / b
		w := a * math.Sqrt(math.Max(0, 1-t*t))
		p.span(r, cx-w, cx+w, c)
	}
}

// rect fills an upright rectangle, with the outline outside of it.
func (p *pen) rect(x0, y0, x1, y1 float64, c rgb) {
	if p.edge > 0 {
		p.plainRect(x0-p.edge, y0-p.edge, x1+p.edge, y1+p.edge, dark(c, 0.5))
	}
	p.plainRect(x0, y0, x1, y1, c)
}

func (p *pen) plainRect(x0, y0, x1, y1 float64, c rgb) {
	p.touch(x0, y0, x1, y1)
	lo, hi := p.rows(p.sy(y0), p.sy(y1))
	for r := lo; r < hi; r++ {
		p.span(r, p.sx(x0), p.sx(x1), c)
	}
}

// poly fills a polygon given as x, y pairs (even-odd rule), with the outline centred on its edge.
func (p *pen) poly(c rgb, xy ...float64) {
	pts := p.scratch[:0]
	for i := 0; i+1 < len(xy); i += 2 {
		pts = append(pts, pt{xy[i], xy[i+1]})
	}
	p.scratch = pts
	p.shape(c, pts)
}

func (p *pen) shape(c rgb, pts []pt) {
	if p.edge > 0 {
		d := dark(c, 0.5)
		for i := range pts {
			p.segment(pts[i], pts[(i+1)%len(pts)], 2*p.edge, d)
		}
	}
	p.fill(c, pts)
}

func (p *pen) fill(c rgb, pts []pt) {
	y0, y1 := math.Inf(1), math.Inf(-1)
	for _, q := range pts {
		p.touch(q.x, q.y, q.x, q.y)
		y0, y1 = math.Min(y0, q.y), math.Max(y1, q.y)
	}
	lo, hi := p.rows(p.sy(y0), p.sy(y1))
	for r := lo; r < hi; r++ {
		y := float64(r) + 0.5
		p.cross = p.cross[:0]
		for i := range pts {
			p.crossing(pts[i], pts[(i+1)%len(pts)], y)
		}
		for i := 0; i+1 < len(p.cross); i += 2 {
			p.span(r, p.cross[i], p.cross[i+1], c)
		}
	}
}

// crossing adds, in order, the place where edge a-b crosses sample row y.
func (p *pen) crossing(a, b pt, y float64) {
	ay, by := p.sy(a.y), p.sy(b.y)
	if (ay <= y) == (by <= y) {
		return
	}
	x := p.sx(a.x) + (p.sx(b.x)-p.sx(a.x))*(y-ay)/(by-ay)
	p.cross = append(p.cross, x)
	for i := len(p.cross) - 1; i > 0 && p.cross[i-1] > p.cross[i]; i-- {
		p.cross[i-1], p.cross[i] = p.cross[i], p.cross[i-1]
	}
}

// segment is a thick stroke with round ends.
func (p *pen) segment(a, b pt, w float64, c rgb) {
	dx, dy := b.x-a.x, b.y-a.y
	l := math.Hypot(dx, dy)
	r := w / 2
	if l > 0 {
		nx, ny := -dy/l*r, dx/l*r
		q := [4]pt{{a.x + nx, a.y + ny}, {b.x + nx, b.y + ny}, {b.x - nx, b.y - ny}, {a.x - nx, a.y - ny}}
		p.fill(c, q[:])
	}
	p.plainEll(a.x, a.y, r, r, c)
	p.plainEll(b.x, b.y, r, r, c)
}

// line strokes a path of x, y pairs.
func (p *pen) line(w float64, c rgb, xy ...float64) {
	if p.edge > 0 {
		p.path(w+2*p.edge, dark(c, 0.5), xy)
	}
	p.path(w, c, xy)
}

func (p *pen) path(w float64, c rgb, xy []float64) {
	for i := 0; i+3 < len(xy); i += 2 {
		p.segment(pt{xy[i], xy[i+1]}, pt{xy[i+2], xy[i+3]}, w, c)
	}
}

// arc strokes part of a circle; angles in degrees, clockwise from the right.
func (p *pen) arc(x, y, r, a, b, w float64, c rgb) {
	const steps = 14
	xy := make([]float64, 0, 2*(steps+1))
	for i := 0; i <= steps; i++ {
		t := (a + (b-a)*float64(i)/steps) * math.Pi / 180
		xy = append(xy, x+r*math.Cos(t), y+r*math.Sin(t))
	}
	p.line(w, c, xy...)
}

// oval fills an ellipse turned by deg degrees.
func (p *pen) oval(x, y, rx, ry, deg float64, c rgb) {
	const steps = 28
	s, co := math.Sincos(deg * math.Pi / 180)
	pts := make([]pt, steps)
	for i := range pts {
		u, v := math.Sincos(2 * math.Pi * float64(i) / steps)
		pts[i] = pt{x + rx*v*co - ry*u*s, y + rx*v*s + ry*u*co}
	}
	p.shape(c, pts)
}

// bare draws f without outlines.
func (p *pen) bare(f func()) {
	e := p.edge
	p.edge = 0
	f()
	p.edge = e
}

// picture averages the samples to side x side x 3 bytes.
func (p *pen) picture() []uint8 {
	side, area := p.n/p.over, uint32(p.over*p.over)
	out := make([]uint8, side*side*3)
	sum := make([]uint32, side*3)
	for y := range side {
		clear(sum)
		for r := y * p.over; r < (y+1)*p.over; r++ {
			row := p.pix[r*p.n*3 : (r+1)*p.n*3]
			for x := range side {
				q, s := row[x*p.over*3:(x+1)*p.over*3], sum[x*3:x*3+3]
				for ; len(q) >= 3; q = q[3:] {
					s[0] += uint32(q[0])
					s[1] += uint32(q[1])
					s[2] += uint32(q[2])
				}
			}
		}
		for i, v := range sum {
			out[y*side*3+i] = uint8((v + area/2) / area)
		}
	}
	return out
}
