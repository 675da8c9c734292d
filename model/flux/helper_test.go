package flux

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/cpu"
	"github.com/sciflux/sciflux/engine/reference"
	"github.com/sciflux/sciflux/model/lora"
)

// source gives the random numbers of a test.
func source(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func normal(r *rand.Rand, n int, std float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64() * std)
	}
	return v
}

// small is a configuration of odd sizes with every feature.
func small() Config {
	c := Config{
		InChannels: 4, DoubleBlocks: 2, SingleBlocks: 2, HeadDim: 6, Heads: 2, TextWidth: 5, PooledWidth: 3,
		GuidanceEmbed: true, Axes: []int{2, 2, 2},
	}
	c.defaults()
	return c
}

// randomModel makes a model in memory.
func randomModel(c Config, seed uint64) *Model {
	r := source(seed)
	m := &Model{Config: c, layers: map[string]engine.Layer{}, stacked: map[string]engine.Layer{}, norms: map[string][]float32{}, blocks: c.blockTable(), close: func() error { return nil }}
	for _, l := range c.Layers() {
		w := normal(r, l.Out*l.In, 0.6/math.Sqrt(float64(l.In)))
		m.layers[l.Name] = engine.Layer{Weight: &engine.Weight{Out: l.Out, In: l.In, Stride: l.In, F32: w}, Bias: normal(r, l.Out, 0.1)}
	}
	for _, n := range c.norms() {
		w := normal(r, c.HeadDim, 0.2)
		for i := range w {
			w[i]++
		}
		m.norms[n.name] = w
	}
	if seed%2 == 1 { // half of the tests with, half without stacks
		m.stackGroups()
	}
	return m
}

// randomInput makes an input of B samples, T text and N image tokens.
func randomInput(c Config, seed uint64, b, t, n int) *Input {
	r := source(seed)
	in := &Input{
		Latents: engine.Wrap(normal(r, b*n*c.InChannels, 1), b, n, c.InChannels),
		Pooled:  engine.Wrap(normal(r, b*c.PooledWidth, 1), b, c.PooledWidth),
	}
	if t > 0 {
		in.Text = engine.Wrap(normal(r, b*t*c.TextWidth, 1), b, t, c.TextWidth)
	}
	for range b {
		in.Timestep = append(in.Timestep, r.Float32())
		if c.GuidanceEmbed {
			in.Guidance = append(in.Guidance, 4*r.Float32())
		}
	}
	for i := range n {
		in.ImgIDs = append(in.ImgIDs, [3]float32{0, float32(i / 3), float32(i % 3)})
	}
	return in
}

// randomAdapter adapts those targets that the model has; B is random as well, so that every gradient is alive.
func randomAdapter(t testing.TB, c Config, seed uint64, targets []string, rank int, alpha float64) *lora.Adapter {
	t.Helper()
	targets = slices.DeleteFunc(slices.Clone(targets), func(name string) bool {
		_, err := lora.Match(c.Layers(), []string{name})
		return err != nil
	})
	ad, err := lora.New(c.Layers(), lora.Spec{Targets: targets, Rank: rank, Alpha: alpha}, nil)
	if err != nil {
		t.Fatal(err)
	}
	copy(ad.Weights.Floats(), normal(source(seed), ad.Parameters(), 0.3))
	return ad
}

// newBatch copies an input to a backend.
func newBatch(t testing.TB, m *Model, be engine.Backend, in *Input) *Batch {
	t.Helper()
	b, err := m.NewBatch(be, in)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var attentionTargets = []string{"to_q", "to_k", "to_v", "to_out.0"}

// blockTargets is every linear layer inside the blocks.
var blockTargets = []string{
	"norm1.linear", "norm1_context.linear", "norm.linear", "to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj",
	"to_out.0", "to_add_out", "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2", "proj_mlp", "proj_out",
}

func testBackend() engine.Backend { return reference.New() }

// fastBackend is the one that training runs use.
func fastBackend(t testing.TB) engine.Backend {
	t.Helper()
	b, err := cpu.New(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// onBackends runs a test on plain Go and on the fast kernels.
func onBackends(t *testing.T, test func(t *testing.T, b engine.Backend)) {
	t.Run("reference", func(t *testing.T) { test(t, testBackend()) })
	t.Run("cpu", func(t *testing.T) { test(t, fastBackend(t)) })
}
