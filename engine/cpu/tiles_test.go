package cpu_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/engine"
)

// near draws a size at, just below or just above a multiple of a tile, or any small one.
func near(t *rapid.T, name string, tiles ...int) int {
	base := rapid.SampledFrom(append(tiles, 0)).Draw(t, name+" tile")
	return max(1, base+rapid.IntRange(-2, 3).Draw(t, name+" beside it"))
}

// TestProductsAtTheEdgesOfTiles: products whose sizes lie around the tiles of the kernels, plain, transposed, added to and
// with bfloat16 weights, checked at random elements against sums in float64.
func TestProductsAtTheEdgesOfTiles(t *testing.T) {
	all := backends(t, 2)
	rapid.Check(t, func(t *rapid.T) {
		m, n, k := near(t, "m", 16, 96, 192), near(t, "n", 16, 64, 256, 512), near(t, "k", 8, 320, 640)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		values := func(n int) []float32 {
			v := make([]float32, n)
			for i := range v {
				v[i] = float32(r.NormFloat64())
			}
			return v
		}
		a, w, bias, old := values(m*k), values(n*k), values(n), values(m*n)
		half := make([]uint16, n*k)
		rounded := make([]float32, n*k)
		for i, x := range w {
			half[i] = uint16(math.Float32bits(x) >> 16)
			rounded[i] = math.Float32frombits(uint32(half[i]) << 16)
		}
		for name, e := range all {
			y, x := e.Alloc(m, n), engine.Wrap(a, m, k)
			run := func(what string, weights []float32, extra func(i, j int) float64, do func()) {
				e.Upload(y, old)
				do()
				got := y.Floats()
				for range 40 {
					i, j := r.IntN(m), r.IntN(n)
					if r.IntN(4) == 0 { // the last corner is where tiles go wrong
						i, j = m-1, n-1
					}
					want := extra(i, j)
					for l := range k {
						want += float64(a[i*k+l]) * float64(weights[j*k+l])
					}
					if math.Abs(float64(got[i*n+j])-want) > 1e-5*(1+math.Sqrt(float64(k)))*(1+math.Abs(want)) {
						t.Fatalf("%s, %s of %d×%d×%d: element (%d, %d) is %v, want %v", name, what, m, n, k, i, j, got[i*n+j], want)
					}
				}
			}
			none := func(int, int) float64 { return 0 }
			withBias := func(_, j int) float64 { return float64(bias[j]) }
			run("linear", w, withBias, func() {
				e.Linear(engine.All(y), engine.All(x), &engine.Weight{Out: n, In: k, Stride: k, F32: w}, bias, 0)
			})
			run("bfloat16 linear", rounded, none, func() {
				e.Linear(engine.All(y), engine.All(x), &engine.Weight{Out: n, In: k, Stride: k, BF16: half}, nil, 0)
			})
			run("added product", w, func(i, j int) float64 { return float64(old[i*n+j]) }, func() {
				e.MatMul(engine.All(y), engine.All(x), false, engine.All(engine.Wrap(w, n, k)), true, 1, 1)
			})
			e.Free(y)
		}
	})
}
