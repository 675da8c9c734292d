package flow

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/random"
)

// scene is a drawn group: dense float64 copies of everything beside what the methods take.
type scene struct {
	at        []Sample
	v         Velocities
	mask      [][]float64 // 0 and 1, per element
	divisor   []float64
	target    [][]float64
	policy    [][]float64
	reference [][]float64
	old       [][]float64
}

func anyScene(t *rapid.T) scene {
	grid, n := anyGrid(t), rapid.IntRange(2, 4).Draw(t, "samples")
	size := grid.Tokens() * 4 * rapid.IntRange(1, 2).Draw(t, "channels")
	forms := AllForms(rapid.SampledFrom([]Form{Paper, Corrected}).Draw(t, "form"))
	key := random.New(rapid.Uint64().Draw(t, "seed"))
	draw := func(name string, i int, scale float32) []float32 {
		x := make([]float32, size)
		key.Purpose(name).Index(uint64(i)).Normal(x)
		for k := range x {
			x[k] *= scale
		}
		return x
	}
	sigma := rapid.Float64Range(0.05, 0.98).Draw(t, "sigma")
	var s scene
	for i := range n {
		one := Sample{Latents: draw("x0", i, 1), Noise: draw("noise", 0, 1), Sigma: sigma,
			Reward: float64(rapid.IntRange(0, 3).Draw(t, "reward")), Advantage: rapid.Float64Range(-2, 2).Draw(t, "advantage")}
		if rapid.Bool().Draw(t, "masked") {
			one.Mask = NewMask(forms, anyBox(t), grid)
		}
		ref, policy, old := draw("error", i, 0.6), draw("policy", i, 0.05), draw("old", i, 0.05)
		mask, target := make([]float64, size), make([]float64, size)
		one.Mask.each(size, func(k int) { mask[k] = 1 })
		for k := range ref {
			target[k] = float64(one.Noise[k]) - float64(one.Latents[k])
			ref[k] += float32(target[k])
			policy[k] += ref[k]
			old[k] += ref[k]
		}
		s.at, s.mask, s.target = append(s.at, one), append(s.mask, mask), append(s.target, target)
		s.divisor = append(s.divisor, one.divisor())
		s.v.Policy, s.v.Reference, s.v.Old = append(s.v.Policy, policy), append(s.v.Reference, ref), append(s.v.Old, old)
		s.policy, s.reference, s.old = append(s.policy, wide(policy)), append(s.reference, wide(ref)), append(s.old, wide(old))
	}
	return s
}

func wide(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// square is Σ m(v−u)²/D.
func (s scene) square(v [][]float64, i int) float64 {
	sum := 0.0
	for k := range v[i] {
		d := v[i][k] - s.target[i][k]
		sum += s.mask[i][k] * d * d
	}
	return sum / s.divisor[i]
}

// kl is K by its definition.
func (s scene) kl(v [][]float64, region string) float64 {
	sum := 0.0
	for i := range v {
		part, size := 0.0, s.divisor[i]
		if region == RegionAll {
			size = float64(len(v[i]))
		}
		for k := range v[i] {
			d := v[i][k] - s.reference[i][k]
			if region == RegionAll || s.mask[i][k] == 1 {
				part += d * d
			}
		}
		sum += part / size
	}
	return sum / float64(len(v))
}

func plus(z float64) float64 { return math.Log(1 + math.Exp(z)) }

// pairFlowLoss, groupFlowLoss, nftLoss and awmLoss are the losses as their definitions say, in float64. What a definition
// takes as constant (weights, gates) is read at base and not at v.
func (s scene) pairFlowLoss(p PairFlow, v, _ [][]float64) float64 {
	sum, pairs := 0.0, 0
	rise := func(i int) float64 { return s.square(v, i) - s.square(s.reference, i) }
	for i := range s.at {
		for j := range s.at {
			if s.at[i].Reward-s.at[j].Reward > p.MinGap {
				pairs++
				z := -p.Beta / 2 * (rise(i) - rise(j))
				if p.Cap > 0 {
					z = math.Min(z, p.Cap)
				}
				sum += plus(-z)
			}
		}
	}
	return sum/math.Max(1, float64(pairs)) + p.Anchor.Weight*s.kl(v, p.Anchor.Region)
}

func (s scene) groupFlowLoss(g GroupFlow, v, base [][]float64) float64 {
	score := 0.0
	for i, a := range s.at {
		e := s.square(v, i)
		if g.Clip > 0 {
			ratio := math.Exp(s.square(s.old, i) - s.square(base, i))
			if a.Advantage > 0 && ratio > 1+g.Clip || a.Advantage <= 0 && ratio < 1-g.Clip {
				e = s.square(base, i)
			}
		}
		score += a.Advantage * (e - s.square(s.reference, i)) / float64(len(s.at))
	}
	z := -g.Beta * score
	if g.Cap > 0 {
		z = math.Min(z, g.Cap)
	}
	return plus(-z)/g.Beta + g.Anchor.Weight*s.kl(v, g.Anchor.Region)
}

func (s scene) nftLoss(n NFT, v, base [][]float64) float64 {
	sum := 0.0
	for i, a := range s.at {
		r := math.Max(0, math.Min(1, a.Advantage/(2*n.AdvantageClip)+0.5))
		for _, b := range []float64{n.Beta, -n.Beta} {
			weight, square := 0.0, 0.0
			for k := range v[i] {
				at := func(v [][]float64) float64 { return a.Sigma * (s.old[i][k] + b*(v[i][k]-s.old[i][k]) - s.target[i][k]) }
				weight += s.mask[i][k] * math.Abs(at(base)) / s.divisor[i]
				square += s.mask[i][k] * at(v) * at(v) / s.divisor[i]
			}
			sum += r * square / math.Max(weight, n.WeightMin)
			r = 1 - r
		}
	}
	return n.AdvantageClip/n.Beta*sum/float64(len(s.at)) + n.Anchor.Weight*s.kl(v, n.Anchor.Region)
}

func (s scene) awmLoss(a AWM, v, _ [][]float64) float64 {
	sum := 0.0
	for i, x := range s.at {
		psi := func(e float64) float64 {
			switch a.Weighting {
			case "uniform":
				return e
			case "sigma":
				return x.Sigma * e
			case "sigma_square":
				return x.Sigma * x.Sigma * e
			case "huber":
				return x.Sigma * (math.Sqrt(e+1e-10) - 1e-5)
			}
			return x.Sigma / a.Power * (math.Pow(e+1e-10, a.Power) - math.Pow(1e-10, a.Power))
		}
		ratio := math.Exp(psi(s.square(s.old, i)) - psi(s.square(v, i)))
		sum += math.Max(-x.Advantage*ratio, -x.Advantage*math.Max(1-a.Clip, math.Min(1+a.Clip, ratio)))
	}
	return sum/float64(len(s.at)) + a.Anchor.Weight*s.kl(v, a.Anchor.Region)
}

func anyAnchor(t *rapid.T) Anchor {
	return Anchor{Weight: rapid.SampledFrom([]float64{0, 0.3}).Draw(t, "kl"), Region: rapid.SampledFrom([]string{RegionAll, RegionMask}).Draw(t, "region")}
}

// anyMatching is a method with any options, and its definition.
func (s scene) anyMatching(t *rapid.T) (Matching, func(v, base [][]float64) float64) {
	beta := rapid.Float64Range(0.2, 120).Draw(t, "beta")
	limit := rapid.SampledFrom([]float64{0, 0.02, 3}).Draw(t, "cap")
	clip := rapid.SampledFrom([]float64{0, 1e-3, 0.01}).Draw(t, "clip")
	switch rapid.IntRange(0, 3).Draw(t, "method") {
	case 0:
		m := PairFlow{Beta: beta, MinGap: rapid.SampledFrom([]float64{0, 1}).Draw(t, "gap"), Cap: limit, Pairs: PairsAll, Anchor: anyAnchor(t)}
		return m, func(v, base [][]float64) float64 { return s.pairFlowLoss(m, v, base) }
	case 1:
		m := GroupFlow{Beta: beta, Clip: clip, Cap: limit, Anchor: anyAnchor(t)}
		return m, func(v, base [][]float64) float64 { return s.groupFlowLoss(m, v, base) }
	case 2:
		m := NFT{Beta: beta / 60, AdvantageClip: rapid.SampledFrom([]float64{0.5, 5}).Draw(t, "C"), WeightMin: rapid.SampledFrom([]float64{1e-5, 1}).Draw(t, "floor"), Anchor: anyAnchor(t)}
		return m, func(v, base [][]float64) float64 { return s.nftLoss(m, v, base) }
	}
	m := AWM{Weighting: rapid.SampledFrom([]string{"uniform", "sigma", "sigma_square", "huber", "ghuber"}).Draw(t, "weighting"),
		Power: rapid.Float64Range(0.1, 1).Draw(t, "power"), Clip: 1e-3 + clip, Anchor: anyAnchor(t)}
	return m, func(v, base [][]float64) float64 { return s.awmLoss(m, v, base) }
}

// TestMatchingByDefinition: the loss of every method under any options is its definition, and the gradient the slope of it.
func TestMatchingByDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anyScene(t)
		method, definition := s.anyMatching(t)
		grad := make([][]float32, len(s.at))
		for i := range grad {
			grad[i] = make([]float32, len(s.v.Policy[i]))
			grad[i][0] = 99 // what was there before
		}
		const scale = 0.5
		got := method.Gradient(grad, s.v, s.at, scale)
		want := definition(s.policy, s.policy)
		if math.Abs(got.Loss-want) > 1e-8*(1+math.Abs(want)) {
			t.Fatalf("%+v: loss %v, by definition %v", method, got.Loss, want)
		}
		size := 0.0
		for _, g := range grad {
			for _, x := range g {
				size = math.Max(size, math.Abs(float64(x)))
			}
		}
		for range 8 {
			i, k := rapid.IntRange(0, len(grad)-1).Draw(t, "sample"), rapid.IntRange(0, len(grad[0])-1).Draw(t, "element")
			const h = 1e-4
			at := func(by float64) float64 {
				moved := append([][]float64(nil), s.policy...)
				moved[i] = append([]float64(nil), moved[i]...)
				moved[i][k] += by
				return definition(moved, s.policy)
			}
			if up, down := (at(h)-want)/h, (want-at(-h))/h; math.Abs(up-down) > 1e-2*(1e-3+math.Abs(up)) {
				continue // a cap or clip begins here
			}
			slope := scale * (at(h) - at(-h)) / (2 * h)
			if math.Abs(slope-float64(grad[i][k])) > 1e-4*size+1e-7 {
				t.Fatalf("%+v: sample %d element %d: gradient %v, differences %v of at most %v", method, i, k, grad[i][k], slope, size)
			}
		}
	})
}

// TestMatchingTells: errors, rises and distances are what their names say, whatever the method.
func TestMatchingTells(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anyScene(t)
		method, _ := s.anyMatching(t)
		grad := make([][]float32, len(s.at))
		for i := range grad {
			grad[i] = make([]float32, len(s.v.Policy[i]))
		}
		m := method.Gradient(grad, s.v, s.at, 1)
		for i := range s.at {
			e, ref := s.square(s.policy, i), s.square(s.reference, i)
			kept, far := 0.0, 0.0
			for k, on := range s.mask[i] {
				kept += on
				far += on * math.Pow(s.policy[i][k]-s.old[i][k], 2)
			}
			if math.Abs(m.Error[i]-e) > 1e-9*(1+e) || math.Abs(m.ErrorRef[i]-ref) > 1e-9*(1+ref) || math.Abs(m.Rise[i]-(e-ref)) > 1e-9 ||
				math.Abs(m.Drift[i]-far/math.Max(1, kept)) > 1e-9 {
				t.Fatalf("sample %d: %+v, want errors %v and %v", i, m, e, ref)
			}
			if kept == 0 && m.Distance[i] != 0 {
				t.Fatalf("an empty mask has distance %v", m.Distance[i])
			}
		}
	})
}

// TestGroupOfTwoIsAPair: with advantages ±1, β times GroupFlow's loss is PairFlow's, and so is the gradient.
func TestGroupOfTwoIsAPair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anyScene(t)
		at, v := s.at[:2], Velocities{Policy: s.v.Policy[:2], Reference: s.v.Reference[:2]}
		at[0].Reward, at[0].Advantage, at[1].Reward, at[1].Advantage = 2, 1, 1, -1
		beta := rapid.Float64Range(1, 200).Draw(t, "beta")
		g, p := [2][]float32{}, [2][]float32{}
		for i := range 2 {
			g[i], p[i] = make([]float32, len(v.Policy[i])), make([]float32, len(v.Policy[i]))
		}
		group := GroupFlow{Beta: beta}.Gradient(g[:], v, at, beta)
		pair := PairFlow{Beta: beta, Pairs: PairsExtremes}.Gradient(p[:], v, at, 1)
		if math.Abs(beta*group.Loss-pair.Loss) > 1e-9*(1+pair.Loss) {
			t.Fatalf("losses %v and %v", beta*group.Loss, pair.Loss)
		}
		for i := range g {
			for k := range g[i] {
				if math.Abs(float64(g[i][k]-p[i][k])) > 1e-5*(1e-3+math.Abs(float64(p[i][k]))) {
					t.Fatalf("sample %d element %d: %v and %v", i, k, g[i][k], p[i][k])
				}
			}
		}
	})
}

// TestFlatGroupsAndEmptyMasks: without a preference, or with nothing kept, PairFlow, GroupFlow and AWM pull nowhere; NFT
// pulls a flat group back to the old policy.
func TestFlatGroupsAndEmptyMasks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anyScene(t)
		flat := rapid.Bool().Draw(t, "flat")
		grid := Grid{Rows: 1, Columns: len(s.v.Policy[0]) / 4}
		for i := range s.at {
			if flat {
				s.at[i].Reward, s.at[i].Advantage = 1, 0
			} else {
				s.at[i].Mask = NewMask(AllForms(Corrected), Box{CX: 2, CY: 2, W: 0.1, H: 0.1}, grid)
			}
		}
		grad := make([][]float32, len(s.at))
		for i := range grad {
			grad[i] = make([]float32, len(s.v.Policy[i]))
		}
		for _, m := range []Matching{PairFlow{Beta: 50, Pairs: PairsAll}, GroupFlow{Beta: 50, Clip: 0.1}, AWM{Weighting: "uniform", Clip: 1}, NFT{Beta: 1, AdvantageClip: 5, WeightMin: 1e-5}} {
			m.Gradient(grad, s.v, s.at, 1)
			towards := 0.0
			for i := range grad {
				for k, g := range grad[i] {
					if _, nft := m.(NFT); g != 0 && !(nft && flat) {
						t.Fatalf("%T: gradient %v", m, g)
					}
					towards += float64(g) * (s.policy[i][k] - s.old[i][k])
				}
			}
			if towards < -1e-6 {
				t.Fatalf("%T: the gradient leads away from the old policy", m)
			}
		}
	})
}

func TestUnknownMethodsNames(t *testing.T) {
	for _, w := range []string{"uniform", "sigma", "sigma_square", "huber", "ghuber"} {
		if err := (AWM{Weighting: w, Power: 0.25}).Validate(); err != nil {
			t.Error(err)
		}
	}
	if (AWM{Weighting: "ghuber"}).Validate() == nil || (AWM{Weighting: "x"}).Validate() == nil {
		t.Error("a weighting without a meaning is accepted")
	}
	if (Advantages{Kind: "rank"}).Validate() == nil || (Advantages{Kind: "centred"}).Validate() != nil {
		t.Error("kinds of advantages")
	}
}
