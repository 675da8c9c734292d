package cpu_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/reference"
)

// against runs one operation on the reference and on every backend and compares.
func against(t *rapid.T, all map[string]engine.Backend, what string, run func(b *bench)) {
	seed := rapid.Uint64().Draw(t, "seed")
	skip, gap := rapid.IntRange(0, 3).Draw(t, "skip"), rapid.IntRange(0, 3).Draw(t, "gap")
	result := func(e engine.Backend) []float32 {
		b := newBench(e, seed)
		b.skip, b.gap = skip, gap
		run(b)
		return b.finish()
	}
	want := result(reference.New())
	for name, e := range all {
		got := result(e)
		if len(got) != len(want) {
			t.Fatalf("%s, %s: %d values, want %d", name, what, len(got), len(want))
		}
		if far := farthest(got, want); far > 2e-5 {
			t.Fatalf("%s, %s: off by %.3g of the largest value", name, what, far)
		}
	}
}

// TestConvolutionsOfAnyShape: any kernel, stride, uneven padding, channels and sizes, also narrower than a register and
// than the kernel itself.
func TestConvolutionsOfAnyShape(t *testing.T) {
	all := backends(t, 2)
	rapid.Check(t, func(t *rapid.T) {
		from := func(name string, low, high int) int { return rapid.IntRange(low, high).Draw(t, name) }
		c := engine.Conv{Kernel: from("kernel", 1, 5), Stride: from("stride", 1, 3)}
		c.Top, c.Bottom, c.Left, c.Right = from("top", 0, 2), from("bottom", 0, 2), from("left", 0, 2), from("right", 0, 2)
		h := from("h", max(1, c.Kernel-c.Top-c.Bottom), 24)
		w := from("w", max(1, c.Kernel-c.Left-c.Right), 40)
		batch, in, out := from("batch", 1, 2), from("in", 1, 9), from("out", 1, 19)
		half, bias := rapid.Bool().Draw(t, "half"), rapid.Bool().Draw(t, "bias")
		against(t, all, fmt.Sprintf("%d pictures [%d %d %d] to %d channels by %+v", batch, in, h, w, out, c), func(b *bench) {
			x, weight := b.tensor(batch, in, h, w), b.weight(out, in*c.Kernel*c.Kernel, half)
			var add []float32
			if bias {
				add = b.values(out)
			}
			y := b.own(b.e.Alloc(batch, out, (h+c.Top+c.Bottom-c.Kernel)/c.Stride+1, (w+c.Left+c.Right-c.Kernel)/c.Stride+1))
			b.e.Convolve(y, x, weight, add, c)
			b.keep(engine.All(y))
		})
	})
}

// TestAttentionOfAnyShape: any mixture of text and image rows, head widths that are no multiple of a register, and all
// options, forward and back.
func TestAttentionOfAnyShape(t *testing.T) {
	all := backends(t, 2)
	rapid.Check(t, func(t *rapid.T) {
		from := func(name string, low, high int) int { return rapid.IntRange(low, high).Draw(t, name) }
		a := engine.Attention{Layout: engine.Layout{B: from("B", 1, 3), T: from("T", 0, 40), N: from("N", 1, 70)}, Heads: from("H", 1, 3),
			Scale: 0.5}
		a.Dim = 2 * from("D/2", 1, 20)
		a.Causal = rapid.Bool().Draw(t, "causal")
		bias, norm, rotate := rapid.Bool().Draw(t, "bias"), rapid.Bool().Draw(t, "norm"), rapid.Bool().Draw(t, "rotate")
		against(t, all, fmt.Sprintf("attention %+v bias %v norm %v rotate %v", a, bias, norm, rotate), func(b *bench) {
			a, l := a, a.Layout.L()
			if bias {
				a.Bias = b.tensor(a.Heads, l, l)
			}
			if norm {
				a.Eps = 1e-5
				for i := range 2 {
					a.NormQ[i], a.NormK[i] = b.values(a.Dim), b.values(a.Dim)
				}
			}
			if rotate {
				a.Cos, a.Sin = b.tensor(l, a.Dim/2), b.tensor(l, a.Dim/2)
			}
			rows, cols := a.Layout.Rows(), a.Heads*a.Dim
			q, k, v, o := b.view(rows, cols), b.view(rows, cols), b.view(rows, cols), b.blank(rows, cols)
			b.e.Attend(o, q, k, v, &a)
			do, dq, dk, dv := b.view(rows, cols), b.blank(rows, cols), b.blank(rows, cols), b.blank(rows, cols)
			b.e.AttendBack(dq, dk, dv, do, o, q, k, v, &a)
			b.keep(o, dq, dk, dv)
		})
	})
}

// TestRowsOfAnyShape: norms, modulation and gates for any number of samples, rows and columns.
func TestRowsOfAnyShape(t *testing.T) {
	all := backends(t, 2)
	rapid.Check(t, func(t *rapid.T) {
		samples, per, cols := rapid.IntRange(1, 4).Draw(t, "samples"), rapid.IntRange(1, 30).Draw(t, "rows"), rapid.IntRange(8, 150).Draw(t,
			"cols")
		rows, beta := samples*per, float32(rapid.IntRange(0, 1).Draw(t, "beta"))
		affine := rapid.Bool().Draw(t, "affine")
		against(t, all, fmt.Sprintf("%d samples of %d rows, %d columns, beta %v", samples, per, cols, beta), func(b *bench) {
			x, g := b.view(rows, cols), b.view(rows, cols)
			shift, scale := b.view(samples, cols), b.view(samples, cols)
			var w, bias []float32
			if affine {
				w, bias = b.values(cols), b.values(cols)
			}
			y := b.blank(rows, cols)
			b.e.LayerNorm(y, x, w, bias, 1e-5)
			b.keep(y)
			b.e.RMSNorm(y, x, w, 1e-5)
			b.keep(y)
			b.e.Modulate(y, x, shift, scale, per)
			b.keep(y)
			b.e.GateAdd(y, x, g, scale, per)
			b.keep(y)
			dx, one, two := b.view(rows, cols), b.blank(samples, cols), b.blank(samples, cols)
			b.e.ModulateBack(dx, one, two, x, scale, g, per, beta)
			b.keep(dx, one, two)
			b.e.GateBack(dx, one, g, x, scale, per)
			b.keep(dx, one)
		})
	})
}

// TestAnyOperationAnywhere: an operation, a size, a place in memory, a variant and a number of threads that are drawn: the
// numbers are the reference's and the bits those of the same variant with one thread on dense operands.
func TestAnyOperationAnywhere(t *testing.T) {
	counts := []int{1, 2, 3, 4, 7}
	byCount := map[int]map[string]engine.Backend{}
	for _, c := range counts {
		byCount[c] = backends(t, c)
	}
	names := slices.Sorted(maps.Keys(byCount[1]))
	all, ref := operations(), reference.New()
	rapid.Check(t, func(t *rapid.T) {
		from := func(name string, high int) int { return rapid.IntRange(0, high).Draw(t, name) }
		op := all[from("operation", len(all)-1)]
		name, threads := rapid.SampledFrom(names).Draw(t, "variant"), rapid.SampledFrom(counts).Draw(t, "threads")
		m, n, k, seed := from("m", 90), from("n", 320), from("k", 400), rapid.Uint64().Draw(t, "seed")
		result := func(e engine.Backend, skip, gap int) []float32 {
			b := newBench(e, seed)
			b.skip, b.gap = skip, gap
			op.run(b, m, n, k)
			return b.finish()
		}
		got := result(byCount[threads][name], from("skip", 9), from("gap", 9))
		if !slices.Equal(bits(got), bits(result(byCount[1][name], 0, 0))) {
			t.Fatalf("%s, %s of %d×%d×%d: other bits than alone on dense operands", name, op.name, m, n, k)
		}
		if far := farthest(got, result(ref, 0, 0)); far > tolerance(n) {
			t.Fatalf("%s, %s of %d×%d×%d: off by %.3g of the largest value", name, op.name, m, n, k, far)
		}
	})
}
