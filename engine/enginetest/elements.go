package enginetest

import (
	"fmt"
	"math"

	"github.com/sciflux/sciflux/engine"
)

var rectangles = [][2]int{{0, 4}, {1, 1}, {3, 5}, {1, 20000}, {17, 64}, {64, 129}, {5, 3072}, {700, 33}}

func elements(b *bench) {
	for _, s := range rectangles {
		what := fmt.Sprintf("%d×%d", s[0], s[1])
		kernels := map[string]func(e engine.Backend, y, x, z engine.View){
			"copy":         func(e engine.Backend, y, x, _ engine.View) { e.Copy(y, x) },
			"zero":         func(e engine.Backend, y, _, _ engine.View) { e.Zero(y) },
			"add":          func(e engine.Backend, y, x, z engine.View) { e.Add(y, x, z) },
			"add in place": func(e engine.Backend, y, x, _ engine.View) { e.Add(y, y, x) },
			"mul":          func(e engine.Backend, y, x, z engine.View) { e.Mul(y, x, z) },
			"mul in place": func(e engine.Backend, y, x, _ engine.View) { e.Mul(y, x, y) },
			"axpy":         func(e engine.Backend, y, x, _ engine.View) { e.Axpy(y, -0.3, x) },
		}
		for f := engine.GELUTanh; f <= engine.SiLU; f++ {
			kernels[fmt.Sprint("activation ", f)] = func(e engine.Backend, y, x, _ engine.View) { e.Activate(y, x, f) }
			kernels[fmt.Sprint("activation back ", f)] = func(e engine.Backend, y, x, z engine.View) { e.ActivateBack(y, x, z, f) }
			kernels[fmt.Sprint("activation back in place ", f)] = func(e engine.Backend, y, _, z engine.View) { e.ActivateBack(y, y, z, f) }
		}
		for name, f := range kernels {
			py, y := b.view("y", s[0], s[1])
			px, x := b.view("x", s[0], s[1])
			pz, z := b.view("z", s[0], s[1])
			b.both(func(e engine.Backend, i int) { f(e, y[i], x[i], z[i]) })
			b.check(name+" "+what, py)
			b.drop(px, pz)
		}
	}
	extremes(b)
}

// extremes puts huge, tiny and broken numbers through the activations and norms.
func extremes(b *bench) {
	inf := float32(math.Inf(1))
	special := []float32{
		0, -0.001, 3e-39, 1, -1, 5, -5, 12.5, -12.5, 30, -30, 90, -90, 1e4, -1e4, 1e20, -1e20, 3e38, -3e38, float32(math.NaN()),
	}
	for f := engine.GELUTanh; f <= engine.SiLU; f++ {
		x, y, one := b.tensor("x", len(special)), b.tensor("y", len(special)), b.tensor("dy", len(special))
		ones := make([]float32, len(special))
		for i := range ones {
			ones[i] = 1
		}
		b.e.Upload(x.got, special)
		b.ref.Upload(x.ref, special)
		b.e.Upload(one.got, ones)
		b.ref.Upload(one.ref, ones)
		side := func(p pair, i int) engine.View { return engine.All([]*engine.Tensor{p.got, p.ref}[i]) }
		b.both(func(e engine.Backend, i int) { e.ActivateBack(side(y, i), side(one, i), side(x, i), f) })
		b.check(fmt.Sprint("slope of special values ", f), y)
		y = b.tensor("y", len(special))
		b.both(func(e engine.Backend, i int) { e.Activate(side(y, i), side(x, i), f) })
		got := make([]float32, len(special))
		b.e.Download(got, y.got)
		for i, v := range special {
			want := max(v, 0)
			far := math.Abs(float64(v)) >= 30 && v == v && math.Abs(float64(got[i]-want)) > 1e-6*float64(want)+1e-6
			if far || (got[i] != got[i]) != (v != v) || got[i] == inf {
				b.t.Errorf("activation %d of %g is %g", f, v, got[i])
			}
		}
		b.drop(x, y, one)
	}
}

func norms(b *bench) {
	for _, s := range rectangles {
		for _, affine := range []bool{false, true} {
			var w, bias []float32
			if affine {
				w, bias = b.values(s[1]), b.values(s[1])
			}
			px, x := b.view("x", s[0], s[1])
			py, y := b.view("y", s[0], s[1])
			b.both(func(e engine.Backend, i int) { e.LayerNorm(y[i], x[i], w, bias, 1e-5) })
			b.check(fmt.Sprintf("layer norm %d×%d affine %v", s[0], s[1], affine), py)
			py, y = b.view("y", s[0], s[1])
			b.both(func(e engine.Backend, i int) { e.RMSNorm(y[i], x[i], w, 1e-6) })
			b.check(fmt.Sprintf("rms norm %d×%d affine %v", s[0], s[1], affine), py)
			b.drop(px)
		}
	}
}

// modulates are samples, rows per sample, columns.
func modulates(b *bench) {
	for _, s := range [][3]int{{1, 1, 3}, {2, 0, 8}, {3, 5, 33}, {2, 40, 128}, {1, 70, 257}, {16, 32, 64}} {
		b.modulate(s[0], s[1], s[2], 0)
		b.modulate(s[0], s[1], s[2], 1)
	}
}

func (b *bench) modulate(n, per, cols int, beta float32) {
	what := fmt.Sprintf("%d×%d×%d beta %g", n, per, cols, beta)
	px, x := b.view("x", n*per, cols)
	ps, scale := b.view("scale", n, cols)
	ph, shift := b.view("shift", n, cols)
	pg, dy := b.view("dy", n*per, cols)
	py, y := b.view("y", n*per, cols)
	b.both(func(e engine.Backend, i int) { e.Modulate(y[i], x[i], shift[i], scale[i], per) })
	b.check("modulate "+what, py)
	py, y = b.view("y", n*per, cols)
	b.both(func(e engine.Backend, i int) { e.GateAdd(y[i], x[i], dy[i], scale[i], per) })
	b.check("gate add "+what, py)
	py, y = b.view("y", n*per, cols)
	b.both(func(e engine.Backend, i int) { e.GateAdd(y[i], y[i], dy[i], scale[i], per) })
	b.check("gate add in place "+what, py)
	for _, wanted := range []bool{true, false} {
		pd, dx := b.view("dx", n*per, cols)
		p1, d1 := b.view("dshift", n, cols)
		p2, d2 := b.view("dscale", n, cols)
		if !wanted {
			for i := range 2 {
				d1[i].T, d2[i].T = nil, nil
			}
		}
		b.both(func(e engine.Backend, i int) { e.ModulateBack(dx[i], d1[i], d2[i], x[i], scale[i], dy[i], per, beta) })
		b.check("modulate back "+what, pd, p1, p2)
		pd, dx = b.view("dx", n*per, cols)
		p1, d1 = b.view("dgate", n, cols)
		if !wanted {
			d1[0].T, d1[1].T = nil, nil
		}
		b.both(func(e engine.Backend, i int) { e.GateBack(dx[i], d1[i], dy[i], x[i], scale[i], per) })
		b.check("gate back "+what, pd, p1)
	}
	b.drop(px, ps, ph, pg)
}
