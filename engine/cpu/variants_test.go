package cpu_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/cpu"
	"github.com/sciflux/sciflux/engine/reference"
)

// sizes are rows, columns and inner size: one value, odd ones below and above the width of every register, nothing, and
// one that splits into several tasks.
var sizes = [][3]int{{1, 1, 1}, {3, 5, 7}, {37, 129, 41}, {0, 5, 7}, {4, 0, 3}, {5, 9, 0}, {70, 257, 65}}

func each(t *testing.T, do func(t *testing.T, op operation, what string, m, n, k int)) {
	for _, op := range operations() {
		for _, s := range sizes {
			do(t, op, fmt.Sprintf("%s of %d×%d×%d", op.name, s[0], s[1], s[2]), s[0], s[1], s[2])
		}
	}
}

func bits(v []float32) []uint32 {
	b := make([]uint32, len(v))
	for i, x := range v {
		b[i] = math.Float32bits(x)
	}
	return b
}

// farthest is the largest difference of two results in units of the largest value; a NaN or infinity on one side only
// counts as infinite.
func farthest(got, want []float32) float64 {
	scale, far := 1.0, 0.0
	for _, w := range want {
		if a := math.Abs(float64(w)); !math.IsInf(a, 0) {
			scale = max(scale, a)
		}
	}
	for i, w := range want {
		if g := got[i]; g != w && (g == g || w == w) {
			d := math.Abs(float64(g)-float64(w)) / scale
			if math.IsNaN(d) {
				d = math.Inf(1)
			}
			far = max(far, d)
		}
	}
	return far
}

// tolerance of results over rows of n values: the slope of a norm of very few values is a difference of numbers a
// thousand times as large.
func tolerance(n int) float64 {
	if n < 8 {
		return 1e-3
	}
	return 2e-5
}

// TestEveryOperationAtEveryThreadCount: all operations give one variant's bits whatever the number of threads, and other
// variants' numbers within rounding.
func TestEveryOperationAtEveryThreadCount(t *testing.T) {
	counts := []int{1, 2, 3, 5, 8}
	byCount := map[int]map[string]engine.Backend{}
	for _, c := range counts {
		byCount[c] = backends(t, c)
	}
	ref := reference.New()
	each(t, func(t *testing.T, op operation, what string, m, n, k int) {
		plain := newBench(ref, 1)
		op.run(plain, m, n, k)
		want := plain.finish()
		for name := range byCount[1] {
			var first []float32
			for _, c := range counts {
				b := newBench(byCount[c][name], 1)
				op.run(b, m, n, k)
				got := b.finish()
				if c == 1 {
					first = got
					if far := farthest(got, want); len(got) != len(want) || far > tolerance(n) {
						t.Errorf("%s, %s: off by %.3g of the largest value", name, what, far)
					}
				} else if !slices.Equal(bits(got), bits(first)) {
					t.Errorf("%s, %s: other bits with %d threads", name, what, c)
				}
			}
		}
	})
}

// TestPlaceOfOperandsChangesNoBit: whether operands lie dense and aligned or at odd places with gaps between their rows,
// the result is the same, and neither the gaps nor the surroundings are read or written.
func TestPlaceOfOperandsChangesNoBit(t *testing.T) {
	for name, e := range backends(t, 2) {
		each(t, func(t *testing.T, op operation, what string, m, n, k int) {
			dense := newBench(e, 2)
			op.run(dense, m, n, k)
			want := bits(dense.finish())
			for _, place := range [][2]int{{1, 0}, {0, 1}, {3, 5}, {7, 16}} {
				b := newBench(e, 2)
				b.skip, b.gap = place[0], place[1]
				op.run(b, m, n, k)
				for _, v := range b.owned {
					if around := surroundings(b, v); around != "" {
						t.Errorf("%s, %s: %s", name, what, around)
					}
				}
				if got := bits(b.finish()); !slices.Equal(got, want) {
					t.Errorf("%s, %s: other bits %d values into a tensor with gaps of %d", name, what, place[0], place[1])
				}
			}
		})
	}
}

// surroundings says what is wrong with the values before the first row of a view's tensor: they were NaN.
func surroundings(b *bench, t *engine.Tensor) string {
	if len(t.Shape) != 1 || t.Len() < b.skip {
		return "" // not a view's
	}
	for i, v := range t.Floats()[:b.skip] {
		if v == v {
			return fmt.Sprintf("value %d before the view became %v", i, v)
		}
	}
	return ""
}

// TestOperationsBesideEachOther: two backends of different variants and thread counts, which share the machine and
// partly their threads, each used from two goroutines, give what they give alone.
func TestOperationsBesideEachOther(t *testing.T) {
	all := operations()
	results := func(e engine.Backend) (out [][]uint32) {
		for i, op := range all {
			b := newBench(e, uint64(i))
			op.run(b, 33, 130, 29)
			out = append(out, bits(b.finish()))
		}
		return out
	}
	var wait sync.WaitGroup
	for name, e := range backends(t, 3) {
		want := results(e)
		for range 2 {
			wait.Go(func() {
				for i, got := range results(e) {
					if !slices.Equal(got, want[i]) {
						t.Errorf("%s, %s beside others: other bits", name, all[i].name)
					}
				}
			})
		}
	}
	wait.Wait()
}

// TestRepeatedUseKeepsNothing: over a thousand calls neither the memory in use nor its peak grows.
func TestRepeatedUseKeepsNothing(t *testing.T) {
	for name, e := range backends(t, 1) {
		all := operations()
		round := func() {
			for i, op := range all {
				b := newBench(e, uint64(i))
				op.run(b, 17, 65, 40)
				b.finish()
			}
		}
		for range 3 {
			round()
		}
		before, _ := e.Memory()
		e.ResetPeak()
		round()
		_, peak := e.Memory()
		for range 1000 / len(all) {
			round()
		}
		if after, highest := e.Memory(); after != before || highest != peak {
			t.Errorf("%s: %d bytes in use after %d, peak %d after %d", name, after, before, highest, peak)
		}
	}
}

// class is the kind of a number: which infinity, NaN, or finite.
func class(v float32) string {
	switch {
	case v != v:
		return "NaN"
	case math.IsInf(float64(v), 0):
		return fmt.Sprint(v)
	}
	return "finite"
}

// TestSpecialValuesGoWhereTheyBelong: NaN and infinities among the operands come out exactly where the reference has
// them: none is lost at the edge of a tile, none leaks into a neighbour. Attention, which multiplies values by weights
// that are 0, may have more of them than the reference, which skips those, but never fewer; weights of convolutions are
// finite, as they meet padding in the same way.
func TestSpecialValuesGoWhereTheyBelong(t *testing.T) {
	special := []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 0, float32(math.Copysign(0, -1))}
	ref, all := reference.New(), backends(t, 2)
	for _, op := range operations() {
		for _, s := range [][3]int{{3, 5, 7}, {14, 35, 21}} {
			for seed := range uint64(4) {
				run := func(e engine.Backend) []float32 {
					b := newBench(e, seed)
					b.tame = strings.Contains(op.name, "convolve")
					b.draw = func(r *rand.Rand) float32 {
						if r.IntN(60) == 0 {
							return special[r.IntN(len(special))]
						}
						return float32(r.NormFloat64())
					}
					op.run(b, s[0], s[1], s[2])
					return b.finish()
				}
				want := run(ref)
				for name, e := range all {
					for i, g := range run(e) {
						visible := class(g) != "finite" && strings.Contains(op.name, "attend")
						if class(g) != class(want[i]) && !visible {
							t.Errorf("%s, %s of %v, seed %d: value %d is %v, want %v", name, op.name, s, seed, i, g, want[i])
							break
						}
					}
				}
			}
		}
	}
}

// TestSmallestNumbersSurvive: numbers below the normal range are not flushed to zero, whatever the state that other
// libraries leave the processor in.
func TestSmallestNumbersSurvive(t *testing.T) {
	const tiny = 3e-41
	for name, e := range backends(t, 2) {
		x, y := e.Alloc(5, 19), e.Alloc(5, 19)
		v := make([]float32, 95)
		for i := range v {
			v[i] = tiny * float32(i%3)
		}
		identity := &engine.Weight{Out: 19, In: 19, Stride: 19, F32: make([]float32, 361)}
		for i := range 19 {
			identity.F32[i*20] = 1
		}
		for what, f := range map[string]func(){
			"copy":   func() { e.Copy(engine.All(y), engine.All(x)) },
			"add":    func() { e.Add(engine.All(y), engine.All(y), engine.All(x)) },
			"axpy":   func() { e.Axpy(engine.All(y), 1, engine.All(x)) },
			"linear": func() { e.Linear(engine.All(y), engine.All(x), identity, nil, 0) },
			"matmul": func() {
				e.MatMul(engine.All(y), engine.All(x), false, engine.All(engine.Wrap(identity.F32, 19, 19)), false, 1, 0)
			},
		} {
			e.Upload(x, v)
			e.Zero(engine.All(y))
			f()
			if !slices.Equal(y.Floats(), v) {
				t.Errorf("%s: %s of numbers around %g: %v", name, what, tiny, y.Floats()[:6])
			}
		}
	}
}

// TestVariantsThatMustExist: the portable kernels can be asked for everywhere, and asking twice gives equal backends.
func TestVariantsThatMustExist(t *testing.T) {
	if cpu.Describe().ISA == "go" {
		t.Skip("built without cgo")
	}
	a, err := cpu.New(cpu.Options{ISA: "base", GEMM: "own"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := cpu.New(cpu.Options{ISA: "base", GEMM: "own", Threads: 7})
	if err != nil || a.Name() != b.Name() {
		t.Errorf("%q and %q, %v", a.Name(), b.Name(), err)
	}
}
