package enginetest

import (
	"fmt"
	"math"

	"github.com/sciflux/sciflux/engine"
)

func optimizers(b *bench) {
	for _, n := range []int{0, 1, 7, 100, 20011} {
		w, g, m, v := b.tensor("w", n), b.tensor("g", n), b.tensor("m", n), b.tensor("v", n)
		for _, e := range []engine.Backend{b.e, b.ref} {
			zero := m.ref
			second := v.ref
			if e == b.e {
				zero, second = m.got, v.got
			}
			e.Zero(engine.All(zero))
			e.Zero(engine.All(second))
		}
		got, want := b.e.SumSquares(g.got), b.ref.SumSquares(g.ref)
		b.compare(fmt.Sprintf("sum of squares of %d", n), []float32{float32(got)}, []float32{float32(want)})
		for step := 1; step <= 3; step++ {
			a := engine.AdamW{LR: 3e-2, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: 0.1, Step: step}
			b.e.Update(w.got, m.got, v.got, g.got, 0.7, a)
			b.ref.Update(w.ref, m.ref, v.ref, g.ref, 0.7, a)
		}
		b.check(fmt.Sprintf("adamw of %d", n), w, m, v)
		b.drop(g)
	}
	decays(b)
}

// decays checks that weight decay counts however small lr·wd is: over many weights and steps of many sizes, the mean of what
// is taken off beside the gradient's part is lr·wd times the mean weight, though it is less than any of them can show alone.
func decays(b *bench) {
	const n = 200_000
	for _, decay := range []float64{1e-2, 1e-5, 1e-6} {
		a := engine.AdamW{LR: 1e-3, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, Decay: decay, Step: 3}
		w, g, m, v := b.tensor("w", n), b.tensor("g", n), b.tensor("m", n), b.tensor("v", n)
		before, mean, square, slope := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
		for i := range before {
			before[i] = 0.5 + 0.5*b.rng.Float32() // one exponent: a unit in the last place is 6e-8
			square[i] = 0.1 + b.rng.Float32()
		}
		b.e.Upload(w.got, before)
		b.e.Upload(v.got, square)
		b.e.Download(mean, m.got)
		b.e.Download(slope, g.got)
		b.e.Update(w.got, m.got, v.got, g.got, 1, a)
		after := make([]float32, n)
		b.e.Download(after, w.got)
		var got, want float64
		for i, s := range slope {
			d := float64(s)
			first := (a.Beta1*float64(mean[i]) + (1-a.Beta1)*d) / (1 - math.Pow(a.Beta1, 3))
			second := (a.Beta2*float64(square[i]) + (1-a.Beta2)*d*d) / (1 - math.Pow(a.Beta2, 3))
			got += float64(before[i]) - a.LR*first/(math.Sqrt(second)+a.Eps) - float64(after[i])
			want += a.LR * a.Decay * float64(before[i])
		}
		// A rounding of w is off by 1.7e-8 (6e-8/√12), 4e-11 in the mean of n; those of the step have either sign too.
		if off := math.Abs(got-want) / n; off > 2.5e-10+0.01*want/n {
			b.t.Errorf("decay %g at rate %g takes off %.3g of a weight in the mean, want %.3g", decay, a.LR, got/n, want/n)
		}
		b.drop(w, g, m, v)
	}
}
