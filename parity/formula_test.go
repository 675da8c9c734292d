package parity

import (
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// fatal is what tests and properties share.
type fatal interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// compute runs a case that exists in memory only.
func compute(t fatal, kind string, args any, inputs *Outputs) *Outputs {
	t.Helper()
	text, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	c := &Case{Name: kind, Kind: kind, args: text}
	if inputs != nil {
		c.inputs = inputs.tensors
	}
	out, err := guarded(context.Background(), runners[kind], c, Options{Device: "cpu", DType: Float32})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// output is a tensor's values, after its shape was looked at.
func (o *Outputs) output(t fatal, name string, shape ...int) []float64 {
	t.Helper()
	x, ok := o.tensors[name]
	if !ok || !slices.Equal(x.Shape, shape) {
		t.Fatalf("output %s: shape %v, want %v", name, x.Shape, shape)
	}
	v, err := x.Float64s()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// near fails unless all values agree to a part of the largest.
func near(t fatal, name string, got, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", name, len(got), len(want))
	}
	scale := 0.0
	for _, v := range want {
		scale = max(scale, math.Abs(v))
	}
	for i := range want {
		if d := math.Abs(got[i] - want[i]); !(d <= tolerance*max(scale, 1e-30)) {
			t.Fatalf("%s: value %d is %v, want %v", name, i, got[i], want[i])
		}
	}
}

// schedulerArgs are a scheduler_config.json of any kind.
func schedulerArgs(t *rapid.T) map[string]any {
	base := rapid.IntRange(8, 400).Draw(t, "base length")
	return map[string]any{
		"num_train_timesteps": rapid.SampledFrom([]int{1000, 500, 100}).Draw(t, "grid"), "shift": rapid.Float64Range(0.5, 5).Draw(t, "shift"),
		"use_dynamic_shifting": rapid.Bool().Draw(t, "dynamic"), "base_shift": rapid.Float64Range(0.2, 0.8).Draw(t, "base"),
		"max_shift": rapid.Float64Range(0.9, 1.6).Draw(t, "max"), "base_image_seq_len": base, "max_image_seq_len": base + rapid.IntRange(200, 5000).Draw(t, "more"),
	}
}

// shifted moves a noise level: exp(mu) in place of the shift where the schedule depends on the picture's size.
func shifted(scheduler map[string]any, u, mu float64) float64 {
	s := scheduler["shift"].(float64)
	if scheduler["use_dynamic_shifting"].(bool) {
		s = math.Exp(mu)
	}
	return s * u / (1 + (s-1)*u)
}

// TestSchedulesByFormula: n levels evenly spaced from 1 to 1/n, shifted, and a final 0.
func TestSchedulesByFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, tokens, scheduler := rapid.IntRange(1, 60).Draw(t, "steps"), rapid.IntRange(1, 5000).Draw(t, "tokens"), schedulerArgs(t)
		slope := (scheduler["max_shift"].(float64) - scheduler["base_shift"].(float64)) / float64(scheduler["max_image_seq_len"].(int)-scheduler["base_image_seq_len"].(int))
		mu := scheduler["base_shift"].(float64) + slope*float64(tokens-scheduler["base_image_seq_len"].(int))
		out := compute(t, "flow_schedule", map[string]any{"steps": n, "image_tokens": tokens, "scheduler": scheduler}, nil)
		sigmas, times := make([]float64, n+1), make([]float64, n)
		for i := range n {
			u := 1.0
			if n > 1 {
				u = 1 + (1/float64(n)-1)*float64(i)/float64(n-1)
			}
			sigmas[i] = shifted(scheduler, u, mu)
			times[i] = sigmas[i] * float64(scheduler["num_train_timesteps"].(int))
		}
		near(t, "sigmas", out.output(t, "sigmas", n+1), sigmas, 1e-6)
		near(t, "timesteps", out.output(t, "timesteps", n), times, 1e-6)
		if _, has := out.tensors["mu"]; has != scheduler["use_dynamic_shifting"].(bool) {
			t.Fatalf("mu given: %v", has)
		} else if has {
			near(t, "mu", out.output(t, "mu", 1), []float64{mu}, 1e-9)
		}
	})
}

// TestTrainingGridByFormula: descending from 1 to 1/T; only a static shift moves it.
func TestTrainingGridByFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scheduler := schedulerArgs(t)
		n := scheduler["num_train_timesteps"].(int)
		out := compute(t, "flow_training_grid", map[string]any{"scheduler": scheduler}, nil)
		want, times := make([]float64, n), make([]float64, n)
		for k := range want {
			want[k] = float64(n-k) / float64(n)
			if !scheduler["use_dynamic_shifting"].(bool) {
				want[k] = shifted(scheduler, want[k], 0)
			}
			times[k] = float64(n) * want[k]
		}
		near(t, "sigmas", out.output(t, "sigmas", n), want, 1e-6)
		near(t, "timesteps", out.output(t, "timesteps", n), times, 1e-6)
	})
}

// TestDensitiesByFormula checks places, grid indices, levels and weights for draws that do not hang on rounding.
func TestDensitiesByFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]string{"none", "logit_normal", "mode"}).Draw(t, "density")
		weighting := rapid.SampledFrom([]string{"none", "sigma_sqrt", "cosmap"}).Draw(t, "weighting")
		mean, std, scale, shift := rapid.Float64Range(-1, 1).Draw(t, "mean"), rapid.Float64Range(0.3, 2).Draw(t, "std"), rapid.Float64Range(-0.9, 1.9).Draw(t, "scale"), rapid.Float64Range(0.5, 4).Draw(t, "shift")
		var draws []float32
		var u, sigma, weight []float64
		var index []int64
		for _, d := range rapid.SliceOfN(rapid.Float32Range(0.01, 0.99), 1, 12).Draw(t, "draws") {
			if kind == "logit_normal" {
				d = 4*d - 2
			}
			x := float64(d)
			place := map[string]float64{"none": x, "logit_normal": 1 / (1 + math.Exp(-mean-std*x)), "mode": 1 - x - scale*(math.Pow(math.Cos(math.Pi*x/2), 2)-1+x)}[kind]
			if _, part := math.Modf(1000 * place); part < 0.001 || part > 0.999 || place < 0 || place >= 1 {
				continue
			}
			k := int64(1000 * place)
			level := float64(1000-k) / 1000
			s := shift * level / (1 + (shift-1)*level)
			draws, u, index, sigma = append(draws, d), append(u, place), append(index, k), append(sigma, s)
			weight = append(weight, map[string]float64{"none": 1, "sigma_sqrt": 1 / (s * s), "cosmap": 2 / (math.Pi * (1 - 2*s + 2*s*s))}[weighting])
		}
		in, n := NewOutputs(), len(draws)
		if n == 0 {
			t.Skip("every draw hangs on rounding")
		}
		in.Float32("draw", []int{n}, draws)
		out := compute(t, "timestep_density", map[string]any{"density": kind, "mean": mean, "std": std, "scale": scale, "weighting": weighting, "scheduler": map[string]any{"shift": shift}}, in)
		if got, err := out.tensors["index"].Int64s(); err != nil || !slices.Equal(got, index) {
			t.Fatalf("index %v, want %v (%v)", got, index, err)
		}
		near(t, "u", out.output(t, "u", n), u, 1e-6)
		near(t, "sigma", out.output(t, "sigma", n), sigma, 1e-6)
		near(t, "weight", out.output(t, "weight", n), weight, 1e-5)
		near(t, "timestep", out.output(t, "timestep", n), times(1000, sigma), 1e-6)
	})
}

func times(f float64, x []float64) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = f * v
	}
	return y
}

// stepCase is a stochastic step with boxes that lie well inside their cells, so that no corner hangs on rounding.
type stepCase struct {
	rows, columns, channels, batch int
	form                           string
	churn                          float64
	sigmas                         []float32
	index                          []int64
	boxes                          []float32 // nil without masks
	from, to                       [][2]int  // cells of each box: [x, y]
	rng                            *rand.Rand
}

func drawStep(t *rapid.T) *stepCase {
	s := &stepCase{
		rows: rapid.IntRange(1, 4).Draw(t, "rows"), columns: rapid.IntRange(1, 4).Draw(t, "columns"), channels: 4 * rapid.IntRange(1, 3).Draw(t, "latent channels"),
		batch: rapid.IntRange(2, 3).Draw(t, "batch"), form: rapid.SampledFrom([]string{"paper", "corrected"}).Draw(t, "form"),
		churn: rapid.SampledFrom([]float64{0.1, 0.5, 2, 9}).Draw(t, "churn"), rng: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)),
	}
	n := rapid.IntRange(1, 8).Draw(t, "steps")
	for i := range n {
		s.sigmas = append(s.sigmas, float32(n-i)/float32(n)*0.95)
	}
	s.sigmas = append(s.sigmas, 0)
	masked := rapid.Bool().Draw(t, "boxes")
	for range s.batch {
		s.index = append(s.index, int64(rapid.IntRange(0, n-1).Draw(t, "index")))
		if masked {
			s.addBox(t)
		}
	}
	return s
}

func (s *stepCase) addBox(t *rapid.T) {
	w, h := 2*s.columns, 2*s.rows
	x1, y1 := rapid.IntRange(0, w-1).Draw(t, "x1"), rapid.IntRange(0, h-1).Draw(t, "y1")
	x2, y2 := rapid.IntRange(x1+1, w).Draw(t, "x2"), rapid.IntRange(y1+1, h).Draw(t, "y2")
	left, top, right, bottom := float64(x1)+0.25, float64(y1)+0.25, float64(x2)+0.25, float64(y2)+0.25
	s.boxes = append(s.boxes, float32((left+right)/2/float64(w)), float32((top+bottom)/2/float64(h)), float32((right-left)/float64(w)), float32((bottom-top)/float64(h)))
	s.from, s.to = append(s.from, [2]int{x1, y1}), append(s.to, [2]int{x2, y2})
}

func (s *stepCase) size() int { return s.rows * s.columns * s.channels }

func (s *stepCase) normal(in *Outputs, name string) []float64 {
	v := make([]float32, s.batch*s.size())
	for i := range v {
		v[i] = float32(s.rng.NormFloat64())
	}
	in.Float32(name, []int{s.batch, s.rows * s.columns, s.channels}, v)
	return wide(v)
}

func (s *stepCase) common(in *Outputs) {
	in.Float32("sigmas", []int{len(s.sigmas)}, s.sigmas)
	in.Int64("step_index", []int{s.batch}, s.index)
	if s.boxes != nil {
		in.Float32("boxes", []int{s.batch, 4}, s.boxes)
	}
}

func (s *stepCase) args() map[string]any {
	return map[string]any{"form": s.form, "s_churn": s.churn, "grid": []int{s.rows, s.columns}}
}

// constants are the step's mean x·sample + v·velocity and its deviation, for sample b.
func (s *stepCase) constants(b int) (x, v, std float64) {
	n := float64(len(s.sigmas) - 1)
	sigma, next := float64(s.sigmas[s.index[b]]), float64(s.sigmas[s.index[b]+1])
	gamma := min(s.churn/n, math.Sqrt2-1)
	std = sigma * math.Sqrt((1+gamma)*(1+gamma)-1)
	half := std * std / (2 * sigma) // std²/2 times the score's 1/sigma
	if s.form == "paper" {          // the drift is multiplied by the step, which has no place there
		return 1 - (next-sigma)*half, (next - sigma) * (1 + half*(1-sigma)), std
	}
	return 1 - half, next - sigma - half*(1-sigma), std
}

// kept tells whether element k of a sample counts: cell (2·row + a, 2·column + b) of token (row, column), channel c·4 + 2a + b.
func (s *stepCase) kept(b, k int) bool {
	if s.boxes == nil {
		return true
	}
	token, channel := k/s.channels, k%s.channels
	y, x := 2*(token/s.columns)+channel%4/2, 2*(token%s.columns)+channel%2
	from, to := s.from[b], s.to[b]
	return x >= from[0] && x < to[0] && y >= from[1] && y < to[1]
}

// logProb is the (masked) mean of the elements' log-densities.
func (s *stepCase) logProb(b int, sample, velocity, next []float64) float64 {
	cx, cv, std := s.constants(b)
	sum, kept := 0.0, 0
	for k := range s.size() {
		if s.kept(b, k) {
			i := b*s.size() + k
			d := next[i] - cx*sample[i] - cv*velocity[i]
			sum, kept = sum-d*d/(2*std*std)-math.Log(std)-math.Log(2*math.Pi)/2, kept+1
		}
	}
	if s.form == "paper" || s.boxes == nil {
		return sum / float64(s.size())
	}
	return sum / float64(max(1, kept))
}

// TestStepsByFormula: the stochastic step, its density and its mask, element by element.
func TestStepsByFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, in := drawStep(t), NewOutputs()
		v, x, noise := s.normal(in, "velocity"), s.normal(in, "sample"), s.normal(in, "noise")
		s.common(in)
		out := compute(t, "flow_step", s.args(), in)
		total := s.batch * s.size()
		mean, next, elements, std, logProb := make([]float64, total), make([]float64, total), make([]float64, total), make([]float64, s.batch), make([]float64, s.batch)
		var mask []float64
		for b := range s.batch {
			var cx, cv float64
			cx, cv, std[b] = s.constants(b)
			for k := range s.size() {
				i := b*s.size() + k
				mean[i] = cx*x[i] + cv*v[i]
				next[i] = mean[i] + std[b]*noise[i]
				elements[i] = -noise[i]*noise[i]/2 - math.Log(std[b]) - math.Log(2*math.Pi)/2
			}
			logProb[b] = s.logProb(b, x, v, next)
			for y := range 2 * s.rows {
				for x := range 2 * s.columns {
					token, channel := y/2*s.columns+x/2, y%2*2+x%2
					mask = append(mask, map[bool]float64{true: 1}[s.kept(b, token*s.channels+channel)])
				}
			}
		}
		shape := []int{s.batch, s.rows * s.columns, s.channels}
		near(t, "mean", out.output(t, "mean", shape...), mean, 1e-6)
		near(t, "next", out.output(t, "next", shape...), next, 1e-6)
		near(t, "std", out.output(t, "std", s.batch), std, 1e-6)
		near(t, "elements", out.output(t, "log_prob_elements", shape...), elements, 1e-4)
		near(t, "log_prob", out.output(t, "log_prob", s.batch), logProb, 1e-4)
		if s.boxes != nil {
			near(t, "mask", out.output(t, "mask", s.batch, 2*s.rows, 2*s.columns), mask, 0)
		}
	})
}

// pairLoss is the preference loss from its definition: over all ordered pairs -log sigmoid(beta·(r_i - r_j)) of the clamped
// log-ratios, and in the paper's form all other places of the B×B table count with ln 2.
func pairLoss(form string, beta, eps float64, logProb, ref, rewards []float64) float64 {
	ratio := func(i int) float64 { return math.Log(min(max(math.Exp(logProb[i]-ref[i]), 1-eps), 1+eps)) }
	sum, pairs := 0.0, 0
	for i := range rewards {
		for j := range rewards {
			if rewards[i] > rewards[j] {
				sum, pairs = sum+math.Log(1+math.Exp(-beta*(ratio(i)-ratio(j)))), pairs+1
			}
		}
	}
	if n := len(rewards); form == "paper" {
		return (sum + float64(n*n-pairs)*math.Ln2) / float64(n*n)
	}
	return sum / float64(max(1, pairs))
}

// slope is a central difference of f at x[i].
func slope(f func() float64, x []float64, i int, h float64) float64 {
	old := x[i]
	x[i] = old + h
	up := f()
	x[i] = old - h
	down := f()
	x[i] = old
	return (up - down) / (2 * h)
}

// TestPairLossByFormula: the loss by its definition and its gradient by differences, away from the clamp's ends.
func TestPairLossByFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, form := rapid.IntRange(1, 5).Draw(t, "n"), rapid.SampledFrom([]string{"paper", "corrected"}).Draw(t, "form")
		beta, eps := rapid.Float64Range(0.5, 20).Draw(t, "beta"), rapid.SampledFrom([]float64{0.1, 0.3}).Draw(t, "eps")
		logProb, ref, rewards := make([]float32, n), make([]float32, n), make([]float32, n)
		for i := range n {
			ref[i] = rapid.Float32Range(-2, 2).Draw(t, "ref")
			delta := rapid.Float32Range(-0.5, 0.5).Draw(t, "delta")
			if r := math.Exp(float64(delta)); math.Abs(r-1-eps) < 0.01 || math.Abs(r-1+eps) < 0.01 {
				delta = 0
			}
			logProb[i] = ref[i] + delta
			rewards[i] = float32(rapid.IntRange(0, 3).Draw(t, "reward"))
		}
		in := NewOutputs()
		in.Float32("log_prob", []int{n}, logProb)
		in.Float32("log_prob_ref", []int{n}, ref)
		in.Float32("rewards", []int{n}, rewards)
		out := compute(t, "dpo_loss", map[string]any{"form": form, "beta": beta, "eps": eps}, in)
		l := wide(logProb)
		loss := func() float64 { return pairLoss(form, beta, eps, l, wide(ref), wide(rewards)) }
		near(t, "loss", out.output(t, "loss", 1), []float64{loss()}, 1e-6)
		for i, g := range out.output(t, "grad_log_prob", n) {
			if want := slope(loss, l, i, 1e-5); math.Abs(g-want) > 1e-5*(1+beta) {
				t.Fatalf("gradient %d is %v, by differences %v", i, g, want)
			}
		}
	})
}

// TestVelocityGradientByFormula: the closed form of the gradient against differences of the loss in float64.
func TestVelocityGradientByFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, in := drawStep(t), NewOutputs()
		v, ref, x, next := s.normal(in, "velocity"), s.normal(in, "velocity_ref"), s.normal(in, "sample"), s.normal(in, "next")
		// Both policies stay near the transition that was taken, as in training, so that the ratio stays inside the clamp.
		for b := range s.batch {
			cx, cv, std := s.constants(b)
			for k := range s.size() {
				i := b*s.size() + k
				v[i] = float64(float32(ref[i] + 0.01*v[i]*std/math.Abs(cv)))
				next[i] = float64(float32(cx*x[i] + cv*ref[i] + std*next[i]))
			}
		}
		shape := []int{s.batch, s.rows * s.columns, s.channels}
		in.Float32("velocity", shape, narrow(v))
		in.Float32("next", shape, narrow(next))
		s.common(in)
		rewards := make([]float32, s.batch)
		for b := range rewards {
			rewards[b] = float32(rapid.IntRange(0, 2).Draw(t, "reward"))
		}
		in.Float32("rewards", []int{s.batch}, rewards)
		args := s.args()
		const beta, eps = 5.0, 0.4
		args["beta"], args["eps"] = beta, eps
		out := compute(t, "dpo_velocity_grad", args, in)
		densities := func(velocity []float64) []float64 {
			l := make([]float64, s.batch)
			for b := range l {
				l[b] = s.logProb(b, x, velocity, next)
			}
			return l
		}
		loss := func() float64 { return pairLoss(s.form, beta, eps, densities(v), densities(ref), wide(rewards)) }
		near(t, "log_prob", out.output(t, "log_prob", s.batch), densities(v), 1e-5)
		near(t, "log_prob_ref", out.output(t, "log_prob_ref", s.batch), densities(ref), 1e-5)
		near(t, "loss", out.output(t, "loss", 1), []float64{loss()}, 1e-5)
		grad := out.output(t, "grad_velocity", shape...)
		largest := 1e-6
		for _, g := range grad {
			largest = max(largest, math.Abs(g))
		}
		for range 12 {
			i := s.rng.IntN(len(grad))
			if want := slope(loss, v, i, 1e-4); math.Abs(grad[i]-want) > 2e-4*largest+1e-7 {
				t.Fatalf("element %d: %v, by differences %v", i, grad[i], want)
			}
		}
	})
}
