package trainer

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/cpu"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/store/safetensors"
)

// The fixture is a flux transformer of odd sizes on a grid of 2×3 tokens with 4 text tokens.
var setting = Setting{Grid: flow.Grid{Rows: 2, Columns: 3}, Guidance: 3.5}

const (
	channels   = 8
	textTokens = 4
	size       = 6 * channels // of one sample's latents

	sampleTokens = 6 + textTokens
)

// plain are the optimiser's constants without warm-up and clipping.
var plain = OptimizerConfig{LR: 1e-3, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}

func normal(key random.Key, n int) []float32 {
	x := make([]float32, n)
	key.Normal(x)
	return x
}

// tiny writes a model of random weights in diffusers layout and loads it.
func tiny(t testing.TB) *flux.Model {
	t.Helper()
	c, err := flux.Config{InChannels: channels, DoubleBlocks: 1, SingleBlocks: 2, HeadDim: 6, Heads: 2, TextWidth: 5, PooledWidth: 3,
		GuidanceEmbed: true, Axes: []int{2, 2, 2}}.Complete()
	if err != nil {
		t.Fatal(err)
	}
	var list []safetensors.Tensor
	for _, w := range c.Tensors() {
		values := normal(random.New(1).Purpose(w.Name), w.Len())
		for i := range values {
			switch {
			case strings.Contains(w.Name, "attn.norm_"):
				values[i] = 1 + 0.1*values[i]
			case len(w.Shape) == 1:
				values[i] *= 0.1
			default:
				values[i] *= float32(0.6 / math.Sqrt(float64(w.Shape[1])))
			}
		}
		list = append(list, safetensors.Float32s(w.Name, safetensors.F32, w.Shape, values))
	}
	folder := t.TempDir()
	text, err := json.Marshal(c)
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, "config.json"), text, 0o600)
	}
	if err == nil {
		err = safetensors.WriteFile(filepath.Join(folder, "diffusion_pytorch_model.safetensors"), list, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	m, err := flux.Load(folder, flux.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// fast is the backend of training runs with a number of threads; 0 for all.
func fast(t testing.TB, threads int) engine.Backend {
	t.Helper()
	be, err := cpu.New(cpu.Options{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	return be
}

// fresh is an adapter as a run starts with it: random A, zero B.
func fresh(t testing.TB, m *flux.Model) *lora.Adapter { return freshOf(t, m, 2, 4) }

func freshOf(t testing.TB, m *flux.Model, rank int, alpha float64) *lora.Adapter {
	t.Helper()
	a, err := lora.New(m.Layers(), lora.Spec{Targets: []string{"to_q", "to_k", "to_v", "to_out.0", "proj_out"}, Rank: rank, Alpha: alpha}, func(l lora.Module, a []float32) {
		copy(a, normal(random.New(2).Purpose(l.Name), len(a)))
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// moved is an adapter whose B are not zero either, so that it changes velocities and every gradient is alive.
func moved(t testing.TB, m *flux.Model, seed uint64) *lora.Adapter {
	t.Helper()
	return move(fresh(t, m), seed)
}

func move(a *lora.Adapter, seed uint64) *lora.Adapter {
	for i, v := range normal(random.New(seed).Purpose("adapter"), a.Parameters()) {
		a.Weights.Floats()[i] += 0.2 * v
	}
	return a
}

func learner(t testing.TB, be engine.Backend, m *flux.Model, a *lora.Adapter, o OptimizerConfig) *Learner {
	t.Helper()
	l := unclosed(t, be, m, a, o, flux.SessionOptions{})
	t.Cleanup(l.Close)
	return l
}

// unclosed is a learner that the test closes itself.
func unclosed(t testing.TB, be engine.Backend, m *flux.Model, a *lora.Adapter, o OptimizerConfig, s flux.SessionOptions) *Learner {
	t.Helper()
	l, err := NewLearner(be, m, a, o, setting, s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// gradient is the sum of the gradients since Clear, in the layout of the adapter's flat buffer.
func (l *Learner) gradient() []float32 {
	sum := make([]float32, l.grads.Sum.Len())
	l.be.Download(sum, l.grads.Sum)
	return sum
}

// conditioning is that of b samples; sample i of any batch has the same numbers.
func conditioning(seed uint64, b int) Conditioning {
	var c Conditioning
	for i := range b {
		key := random.New(seed).Index(uint64(i))
		c.Text = append(c.Text, normal(key.Purpose("text"), textTokens*5)...)
		c.Pooled = append(c.Pooled, normal(key.Purpose("pooled"), 3)...)
	}
	return c
}

// example is a micro-batch of b samples; sample i has the same numbers in any batch of the seed.
func example(seed uint64, b int) Example {
	e := Example{Conditioning: conditioning(seed, b)}
	for i := range b {
		key := random.New(seed).Index(uint64(i))
		e.Latents = append(e.Latents, normal(key.Purpose("latents"), size)...)
		e.Noise = append(e.Noise, normal(key.Purpose("noise"), size)...)
		e.Sigma = append(e.Sigma, 0.1+0.8*float32(key.Float64(7)))
		e.Weight = append(e.Weight, 0.5+key.Float64(8))
	}
	return e
}

// one is sample i of an example as a batch of its own.
func (e Example) one(i int) Example {
	cut := func(x []float32) []float32 { n := len(x) / len(e.Sigma); return x[i*n : (i+1)*n] }
	return Example{Latents: cut(e.Latents), Noise: cut(e.Noise), Sigma: e.Sigma[i : i+1], Weight: e.Weight[i : i+1],
		Conditioning: Conditioning{Text: cut(e.Text), Pooled: cut(e.Pooled)}}
}

func sft(t testing.TB, l *Learner, micro ...Example) StepResult {
	t.Helper()
	r, err := l.SFT(context.Background(), micro)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// plan is a rollout of five noisy steps.
func plan(form flow.Form) Plan {
	s := flow.DefaultScheduler()
	s.Shift = 3
	sigmas := s.Sigmas(5, setting.Grid.Tokens())
	return Plan{Form: form, Sigmas: sigmas, Timesteps: s.Timesteps(sigmas), Churn: 1}
}

func rollout(t testing.TB, be engine.Backend, m *flux.Model, a *lora.Adapter, p Plan, seed uint64, b int) *Trajectory {
	t.Helper()
	var start []float32
	for i := range b {
		start = append(start, normal(random.New(seed).Purpose("start").Index(uint64(i)), size)...)
	}
	c := Conditioning{}
	for range b { // the samples of one prompt share it
		one := conditioning(seed, 1)
		c.Text, c.Pooled = append(c.Text, one.Text...), append(c.Pooled, one.Pooled...)
	}
	noise := func(step int, dst []float32) {
		for i := range b {
			random.New(seed).Purpose("step").Index(uint64(step), uint64(i)).Normal(dst[i*size : (i+1)*size])
		}
	}
	tr, err := Rollout(context.Background(), be, m, a, setting, p, start, b, c, noise)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// pair makes a training pair of a rollout of one prompt: sample 0 is preferred.
func pair(tr *Trajectory, seed uint64, masks ...*flow.Mask) Pair {
	p := Pair{Steps: tr.Steps, Timesteps: tr.Timesteps, Conditioning: conditioning(seed, 1), Masks: masks}
	for i := range tr.Batch {
		var path [][]float32
		for _, x := range tr.Latents {
			path = append(path, x[i*size:(i+1)*size])
		}
		p.Latents = append(p.Latents, path)
		p.Rewards = append(p.Rewards, float64(tr.Batch-i))
	}
	return p
}

func dpo(t testing.TB, l *Learner, reference *lora.Adapter, loss flow.DPO, pairs ...Pair) DPOResult {
	t.Helper()
	r, err := l.DPO(context.Background(), pairs, reference, loss)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// byDifferences compares a gradient with central differences of the loss over steps of 2h, for one of every stride of the
// weights. The limit is a share of the gradient's largest number.
func byDifferences(t *testing.T, w, grad []float32, first, stride int, h float32, limit float64, loss func() float64) {
	t.Helper()
	top := 0.0
	for _, g := range grad {
		top = math.Max(top, math.Abs(float64(g)))
	}
	for k := first; k < len(w); k += stride {
		old := w[k]
		w[k] = old + h
		up := loss()
		w[k] = old - h
		down := loss()
		w[k] = old
		if slope := (up - down) / (2 * float64(h)); math.Abs(slope-float64(grad[k])) > limit*top {
			t.Errorf("number %d: gradient %v, differences %v", k, grad[k], slope)
		}
	}
}

// near reports the first element that differs by more than limit of the largest.
func near(t *testing.T, what string, got, want []float32, limit float64) {
	t.Helper()
	top := 0.0
	for _, v := range want {
		top = math.Max(top, math.Abs(float64(v)))
	}
	if top == 0 {
		t.Fatalf("%s: nothing to compare with", what)
	}
	for i := range want {
		if d := math.Abs(float64(got[i] - want[i])); d > limit*top {
			t.Fatalf("%s[%d]: %v, want %v", what, i, got[i], want[i])
		}
	}
}
