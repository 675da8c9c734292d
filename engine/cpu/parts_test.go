package cpu_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/engine"
)

// TestPartsOfProductsAreTheirProducts: with kernels of our own every value of a product is one chain over its inner size,
// so cutting rows or columns, which also changes tiles, packing and who computes them, changes no bit; only products of a
// few rows are computed in another way.
func TestPartsOfProductsAreTheirProducts(t *testing.T) {
	const few = 6
	all := backends(t, 3)
	rapid.Check(t, func(t *rapid.T) {
		from := func(name string, low, high int) int { return rapid.IntRange(low, high).Draw(t, name) }
		m, n, k := from("m", 2*few+2, 130), from("n", 2, 300), from("k", 1, 700)
		top, left := from("rows above", few+1, m-few-1), from("columns left", 1, n-1)
		half, transposed := rapid.Bool().Draw(t, "half"), rapid.Bool().Draw(t, "back")
		seed := rapid.Uint64().Draw(t, "seed")
		for name, e := range all {
			if !strings.HasSuffix(name, "own") {
				continue
			}
			b := newBench(e, seed)
			x, w, bias, y := b.view(m, k), b.weight(n, k, half), b.values(n), b.blank(m, n)
			run := func(out, in engine.View, w *engine.Weight, bias []float32) { e.Linear(out, in, w, bias, 0) }
			if transposed { // the same matrix as k outputs of n inputs, used backwards
				w = b.weight(k, n, half)
				run = func(out, in engine.View, w *engine.Weight, _ []float32) { e.LinearBack(out, in, w, 0) }
			}
			run(y, x, w, bias)
			b.keep(y)
			whole := bits(b.out)
			check := func(what string) {
				b.out = nil
				b.keep(y)
				if !slices.Equal(bits(b.out), whole) {
					t.Fatalf("%s: %d×%d×%d in two parts of %s: other bits", name, m, n, k, what)
				}
				e.Zero(y)
			}
			run(y.RowRange(0, top), x.RowRange(0, top), w, bias)
			run(y.RowRange(top, m-top), x.RowRange(top, m-top), w, bias)
			check("rows")
			part := w.RowRange
			if transposed {
				part = w.ColRange
			}
			one, two := part(0, left), part(left, n-left)
			run(y.ColRange(0, left), x, one, bias[:left])
			run(y.ColRange(left, n-left), x, two, bias[left:])
			check("columns")
			b.finish()
		}
	})
}

// TestRowsDoNotSeeEachOther: what any kernel that works row by row gives for one row does not depend on the others, also
// where those are cut differently between tasks.
func TestRowsDoNotSeeEachOther(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for name, e := range backends(t, 2) {
		const rows, cols = 90, 310
		b := newBench(e, 5)
		x, w := b.view(rows, cols), b.values(cols)
		for what, f := range map[string]func(y, x engine.View){
			"layer norm": func(y, x engine.View) { e.LayerNorm(y, x, w, w, 1e-5) },
			"rms norm":   func(y, x engine.View) { e.RMSNorm(y, x, w, 1e-5) },
			"gelu":       func(y, x engine.View) { e.Activate(y, x, engine.GELU) },
			"silu back":  func(y, x engine.View) { e.ActivateBack(y, x, x, engine.SiLU) },
			"copy":       func(y, x engine.View) { e.Copy(y, x) },
		} {
			whole := b.blank(rows, cols)
			f(whole, x)
			for range 8 {
				from := r.IntN(rows)
				n := 1 + r.IntN(rows-from)
				part := b.blank(n, cols)
				f(part, x.RowRange(from, n))
				one, two := newBench(e, 0), newBench(e, 0)
				one.keep(part)
				two.keep(whole.RowRange(from, n))
				if !slices.Equal(bits(one.out), bits(two.out)) {
					t.Errorf("%s: %s of rows %d+%d differs from the whole's", name, what, from, n)
				}
			}
		}
		b.finish()
	}
}
