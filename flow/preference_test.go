package flow

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/random"
)

// preference is a drawn group of samples with rewards, some of them tied.
type preference struct {
	dpo              DPO
	policy, ref, wts []float64 // log-probabilities, and rewards
}

func anyPreference(t *rapid.T) preference {
	n := rapid.IntRange(2, 6).Draw(t, "samples")
	p := preference{dpo: DPO{Beta: rapid.Float64Range(0.1, 50).Draw(t, "beta"), Eps: rapid.Float64Range(0.05, 0.9).Draw(t, "eps"),
		Pairs: rapid.SampledFrom([]Form{Paper, Corrected}).Draw(t, "pairs")}}
	for range n {
		ref := rapid.Float64Range(-3, 3).Draw(t, "reference")
		p.ref = append(p.ref, ref)
		p.policy = append(p.policy, ref+rapid.Float64Range(-1, 1).Draw(t, "log ratio"))
		p.wts = append(p.wts, float64(rapid.IntRange(0, 3).Draw(t, "reward")))
	}
	return p
}

// nearTheClamp tells whether a step of h around a sample crosses an end of the clamp, where there is no slope.
func (p preference) nearTheClamp(i int, h float64) bool {
	ratio := math.Exp(p.policy[i] - p.ref[i])
	return math.Abs(ratio-1-p.dpo.Eps) < 4*h || math.Abs(ratio-1+p.dpo.Eps) < 4*h
}

// TestPairLossByDifferences: the gradient by every log-probability, for any number of samples, ties and clamps.
func TestPairLossByDifferences(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPreference(t)
		_, grad, clamped := p.dpo.PairLoss(p.policy, p.ref, p.wts)
		for i := range p.policy {
			const h = 1e-5
			if p.nearTheClamp(i, h) {
				continue
			}
			at := func(by float64) float64 {
				moved := slices.Clone(p.policy)
				moved[i] += by
				loss, _, _ := p.dpo.PairLoss(moved, p.ref, p.wts)
				return loss
			}
			want := (at(h) - at(-h)) / (2 * h)
			if math.Abs(grad[i]-want) > 1e-5*(1+math.Abs(want)) {
				t.Fatalf("%+v: gradient %d is %v, differences %v", p, i, grad[i], want)
			}
			if clamped[i] && grad[i] != 0 {
				t.Fatalf("%+v: gradient %v beyond the clamp", p, grad[i])
			}
		}
	})
}

// TestPairLossFactsOfAnyGroup: it sees differences of rewards' order alone, not the order of samples; the forces on the
// samples cancel where none is clamped; and Paper's mean is Corrected's spread over all B² entries, the rest at ln 2.
func TestPairLossFactsOfAnyGroup(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPreference(t)
		loss, grad, clamped := p.dpo.PairLoss(p.policy, p.ref, p.wts)
		stretched := make([]float64, len(p.wts))
		for i, w := range p.wts {
			stretched[i] = 100*w*w*w - 7
		}
		if again, _, _ := p.dpo.PairLoss(p.policy, p.ref, stretched); again != loss {
			t.Fatalf("rewards of the same order give %v, then %v", loss, again)
		}
		reverse := func(v []float64) []float64 {
			r := slices.Clone(v)
			slices.Reverse(r)
			return r
		}
		backwards, g, _ := p.dpo.PairLoss(reverse(p.policy), reverse(p.ref), reverse(p.wts))
		for i, v := range reverse(g) {
			if math.Abs(backwards-loss) > 1e-12*(1+loss) || math.Abs(v-grad[i]) > 1e-12*(1+math.Abs(v)) {
				t.Fatalf("the order of samples matters: %v and %v", grad, g)
			}
		}
		sum := 0.0
		for _, v := range grad {
			sum += v
		}
		if !slices.Contains(clamped, true) && math.Abs(sum) > 1e-9 {
			t.Fatalf("forces %v do not cancel", grad)
		}
		pairs := 0
		for _, a := range p.wts {
			for _, b := range p.wts {
				if a > b {
					pairs++
				}
			}
		}
		d := p.dpo
		d.Pairs = Corrected
		mean, _, _ := d.PairLoss(p.policy, p.ref, p.wts)
		d.Pairs = Paper
		all := float64(len(p.wts) * len(p.wts))
		if paper, _, _ := d.PairLoss(p.policy, p.ref, p.wts); math.Abs(paper-(float64(pairs)*mean+(all-float64(pairs))*math.Ln2)/all) > 1e-9*(1+paper) {
			t.Fatalf("paper %v, corrected %v of %d pairs", paper, mean, pairs)
		}
	})
}

// TestVelocityGradientOfAnyShape: dL/dv along a random direction, for any grid, channels, samples, masks and forms.
func TestVelocityGradientOfAnyShape(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		grid, form := anyGrid(t), rapid.SampledFrom(stepForms).Draw(t, "form")
		forms := Forms{Step: form, Corners: Corrected, Mean: rapid.SampledFrom([]Form{Paper, Corrected}).Draw(t, "mean"), Pairs: Corrected}
		samples, size := rapid.IntRange(2, 4).Draw(t, "samples"), grid.Tokens()*4*rapid.IntRange(1, 2).Draw(t, "channels")
		key := random.New(rapid.Uint64().Draw(t, "seed"))
		draw := func(name string, i int, scale float32) []float32 {
			x := make([]float32, size)
			key.Purpose(name).Index(uint64(i)).Normal(x)
			for k := range x {
				x[k] *= scale
			}
			return x
		}
		step := NewStep(form, 0.7, 0.5, 10, 2)
		at, v, ref, rewards := make([]Transition, samples), make([][]float32, samples), make([][]float32, samples), make([]float64, samples)
		direction, grad := make([][]float32, samples), make([][]float32, samples)
		for i := range samples {
			at[i] = Transition{Step: step, Sample: draw("x", i, 1), Next: make([]float32, size)}
			if rapid.Bool().Draw(t, "masked") {
				at[i].Mask = NewMask(forms, anyBox(t), grid)
			}
			ref[i], v[i] = draw("v", i, 1), draw("off", i, 0.02)
			step.Advance(at[i].Next, at[i].Sample, ref[i], draw("noise", i, 1))
			for k := range v[i] {
				v[i][k] += ref[i][k]
			}
			rewards[i] = float64(rapid.IntRange(0, 2).Draw(t, "reward"))
			direction[i], grad[i] = draw("direction", i, 1), make([]float32, size)
		}
		d, scale := DPO{Beta: 5, Eps: 0.8, Pairs: Corrected}, 0.5
		first := d.VelocityGradient(grad, Velocities{Policy: v, Reference: ref}, at, rewards, scale)
		if slices.Contains(first.Clamped, true) {
			return
		}
		along, steepness := 0.0, 0.0
		for i := range grad {
			for k, g := range grad[i] {
				along += float64(g) * float64(direction[i][k])
				steepness += math.Abs(float64(g) * float64(direction[i][k]))
			}
		}
		const h = 3e-3
		moved := func(by float32) float64 {
			w, scratch := make([][]float32, samples), make([][]float32, samples)
			for i := range w {
				w[i], scratch[i] = slices.Clone(v[i]), make([]float32, size)
				for k := range w[i] {
					w[i][k] += by * direction[i][k]
				}
			}
			return scale * d.VelocityGradient(scratch, Velocities{Policy: w, Reference: ref}, at, rewards, 1).Loss
		}
		if want := (moved(h) - moved(-h)) / (2 * h); math.Abs(along-want) > 4e-3*(1e-2+steepness) {
			t.Fatalf("%s, %d samples of %d: slope %v, differences %v", form, samples, size, along, want)
		}
	})
}

// TestMatchVelocityByDifferences: the loss is quadratic, so differences are exact; it is 0 at the target alone.
func TestMatchVelocityByDifferences(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "n")
		seed, weight := rapid.Uint64().Draw(t, "seed"), rapid.Float64Range(0.1, 5).Draw(t, "weight")
		z, noise, v, grad := normal(seed, "z", n), normal(seed, "noise", n), normal(seed, "v", n), make([]float32, n)
		MatchVelocity(grad, v, z, noise, weight, 0.5)
		k := rapid.IntRange(0, n-1).Draw(t, "element")
		loss := func(by float32) float64 {
			w := slices.Clone(v)
			w[k] += by
			return MatchVelocity(make([]float32, n), w, z, noise, weight, 1)
		}
		const h = 0.25
		if want := 0.5 * (loss(h) - loss(-h)) / (2 * h); math.Abs(float64(grad[k])-want) > 1e-4*(1+math.Abs(want)) {
			t.Fatalf("element %d of %d: gradient %v, differences %v", k, n, grad[k], want)
		}
		target := make([]float32, n)
		for i := range target {
			target[i] = noise[i] - z[i]
		}
		if loss := MatchVelocity(grad, target, z, noise, weight, 1); loss > 1e-10 {
			t.Fatalf("loss %v at the target", loss)
		}
	})
}
