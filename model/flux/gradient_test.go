package flux

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/graph"
	"github.com/sciflux/sciflux/model/lora"
)

// setup is one model, input and adapter to be differentiated.
type setup struct {
	name    string
	config  func(*Config)
	b, t, n int
	targets []string // nil for no adapter
	rank    int
	alpha   float64
}

var setups = []setup{
	{"attention targets", nil, 2, 3, 4, attentionTargets, 2, 2},
	{"every layer of the blocks", nil, 2, 3, 4, blockTargets, 3, 7},
	{"three samples, one image token", nil, 3, 2, 1, blockTargets, 1, 1},
	{"no text", nil, 2, 0, 5, blockTargets, 2, 1},
	{"one sample, one token", nil, 1, 0, 1, attentionTargets, 2, 2},
	{"one text token, odd width", func(c *Config) { c.Heads = 3 }, 1, 1, 3, blockTargets, 2, 3},
	{"embedders and output layers", nil, 2, 3, 4, []string{"x_embedder", "context_embedder", "norm_out.linear", "proj_out", "to_q"}, 2, 4},
	{"values alone, in one block", nil, 2, 3, 4, []string{"transformer_blocks.1.attn.to_v"}, 2, 2},
	{"last block alone", nil, 2, 3, 4, []string{"single_transformer_blocks.1.proj_mlp"}, 2, 2},
	{"no double blocks", func(c *Config) { c.DoubleBlocks = 0 }, 2, 3, 4, blockTargets, 2, 2},
	{"no single blocks, no guidance", func(c *Config) { c.SingleBlocks, c.GuidanceEmbed = 0, false }, 2, 3, 4, blockTargets, 2, 2},
	{"base model", nil, 2, 3, 4, nil, 0, 0},
}

func (s setup) make(t testing.TB) (*Model, *Input, *lora.Adapter, *engine.Tensor) {
	c := small()
	if s.config != nil {
		s.config(&c)
	}
	m, in := randomModel(c, uint64(len(s.name))), randomInput(c, 2, s.b, s.t, s.n)
	var ad *lora.Adapter
	if s.targets != nil {
		ad = randomAdapter(t, c, 3, s.targets, s.rank, s.alpha)
	}
	dv := engine.Wrap(normal(source(4), s.b*s.n*c.OutChannels, 1), s.b, s.n, c.OutChannels)
	return m, in, ad, dv
}

// gradients is what one pass of a session gives, in host memory.
type gradients struct{ velocity, latents, adapter []float32 }

// pass runs one forward and backward pass and checks that it gives all memory back.
func runPass(t testing.TB, s *Session, be engine.Backend, in *Input, ad *lora.Adapter, dv *engine.Tensor) gradients {
	t.Helper()
	before, _ := be.Memory()
	batch := newBatch(t, s.model, be, in)
	v, err := s.Forward(context.Background(), batch, ad)
	if err != nil {
		t.Fatal(err)
	}
	var g gradients
	g.velocity = slices.Clone(v.Floats())
	be.Free(v)
	var sum *lora.Gradients
	if ad != nil {
		sum = ad.NewGradients()
	}
	dx, err := s.Backward(context.Background(), dv, sum)
	if err != nil {
		t.Fatal(err)
	}
	batch.Free()
	if s.Latents {
		g.latents = slices.Clone(dx.Floats())
		be.Free(dx)
	} else if dx != nil {
		t.Error("a gradient of the latents that nobody asked for")
	}
	if ad != nil {
		g.adapter = sum.Sum.Floats()
	}
	// The fast backend keeps workspaces of its own.
	if after, _ := be.Memory(); after != before && be.Name() == "reference" {
		t.Errorf("a pass leaves %d bytes behind", after-before)
	}
	return g
}

// worst is max|a−b| / max|b|.
func worst[F float32 | float64](a []F, b []float64) float64 {
	var d, scale float64
	for i := range b {
		d, scale = max(d, math.Abs(float64(a[i])-b[i])), max(scale, math.Abs(b[i]))
	}
	if scale == 0 {
		return d
	}
	return d / scale
}

// TestGradientsAgainstOracle compares the graphs, in float32, with the float64 tape.
func TestGradientsAgainstOracle(t *testing.T) {
	for _, s := range setups {
		t.Run(s.name, func(t *testing.T) {
			m, in, ad, dv := s.make(t)
			o := newOracle(m, in, ad)
			velocity := slices.Clone(o.run().Data)
			o.backward(dv.Floats())
			onBackends(t, func(t *testing.T, b engine.Backend) {
				compare(t, runPass(t, m.NewSession(SessionOptions{Latents: true}), b, in, ad, dv), velocity, o, ad)
			})
		})
	}
}

func compare(t *testing.T, got gradients, velocity []float64, o *oracle, ad *lora.Adapter) {
	const limit = 3e-5
	if e := worst(got.velocity, velocity); e > limit {
		t.Errorf("velocity off by %.2g", e)
	}
	if e := worst(got.latents, o.latents.grad.Data); e > limit {
		t.Errorf("gradient of the latents off by %.2g", e)
	}
	if ad == nil {
		return
	}
	sum := &gradientViews{ad, got.adapter}
	for _, mod := range ad.Modules {
		want := o.tape.adapters[mod.Name]
		if e := worst(sum.a(mod), want.a.grad.Data); e > limit {
			t.Errorf("gradient of A of %s off by %.2g", mod.Name, e)
		}
		if e := worst(sum.b(mod), want.b.grad.Data); e > limit {
			t.Errorf("gradient of B of %s off by %.2g", mod.Name, e)
		}
	}
}

type gradientViews struct {
	ad   *lora.Adapter
	flat []float32
}

func (g *gradientViews) a(m lora.Module) []float32 { return g.flat[m.A:][:m.Rank*m.In] }
func (g *gradientViews) b(m lora.Module) []float32 { return g.flat[m.B:][:m.Rank*m.Out] }

// TestOracleAgainstDifferences checks the tape's gradients by central differences of the float64 forward pass along random
// directions, one for the latents and one for each matrix of the adapter.
func TestOracleAgainstDifferences(t *testing.T) {
	for _, s := range setups {
		t.Run(s.name, func(t *testing.T) {
			m, in, ad, dv := s.make(t)
			o := newOracle(m, in, ad)
			o.run()
			o.backward(dv.Floats())
			weight := widen(dv.Floats())
			loss := func() float64 {
				var l float64
				for i, v := range o.run().Data {
					l += v * weight[i]
				}
				return l
			}
			check := func(what string, n *number) {
				r := source(uint64(len(what)))
				direction, scale := make([]float64, len(n.value.Data)), 0.0
				for i := range direction {
					direction[i] = r.NormFloat64()
					scale += n.grad.Data[i] * n.grad.Data[i]
				}
				scale = math.Sqrt(scale) * math.Sqrt(float64(len(direction)))
				var want float64
				for i, g := range n.grad.Data {
					want += g * direction[i]
				}
				const h = 1e-5
				move := func(by float64) {
					for i, d := range direction {
						n.value.Data[i] += by * d
					}
				}
				move(h)
				up := loss()
				move(-2 * h)
				down := loss()
				move(h)
				if got := (up - down) / (2 * h); math.Abs(got-want) > 1e-6*scale+1e-9 {
					t.Errorf("%s: difference quotient %.9g, gradient %.9g", what, got, want)
				}
			}
			check("latents", o.latents)
			if ad != nil {
				for _, mod := range ad.Modules {
					check("A of "+mod.Name, o.tape.adapters[mod.Name].a)
					check("B of "+mod.Name, o.tape.adapters[mod.Name].b)
				}
			}
		})
	}
}

// TestPoliciesAndReplaysGiveOneResult: every memory policy, a replay, a run without Gorgonia and the velocity computed at
// once agree in every bit.
func TestPoliciesAndReplaysGiveOneResult(t *testing.T) {
	for _, s := range setups {
		t.Run(s.name, func(t *testing.T) {
			onBackends(t, func(t *testing.T, b engine.Backend) { onePolicyOneResult(t, s, b) })
		})
	}
}

func onePolicyOneResult(t *testing.T, s setup, b engine.Backend) {
	m, in, ad, dv := s.make(t)
	want := runPass(t, m.NewSession(SessionOptions{Latents: true}), b, in, ad, dv)
	v, err := m.Velocity(context.Background(), b, in, ad)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(v.Floats(), want.velocity) {
		t.Error("the velocity computed at once differs from the graph's")
	}
	b.Free(v)
	for _, o := range []SessionOptions{{}, {Direct: true}, {Memory: graph.Selective}, {Memory: graph.Full}} {
		for _, latents := range []bool{false, true} {
			o.Latents = latents
			session := m.NewSession(o)
			for replay := range 2 {
				got := runPass(t, session, b, in, ad, dv)
				if !slices.Equal(got.velocity, want.velocity) || !slices.Equal(got.adapter, want.adapter) || latents && !slices.Equal(got.latents, want.latents) {
					t.Errorf("%+v, replay %d: other bits", o, replay)
				}
			}
		}
	}
}

// TestPoliciesSaveMemory: the more is computed again, the lower the peak.
func TestPoliciesSaveMemory(t *testing.T) {
	c := small()
	c.DoubleBlocks, c.SingleBlocks = 6, 6
	m, in := randomModel(c, 1), randomInput(c, 2, 4, 16, 16)
	ad := randomAdapter(t, c, 3, attentionTargets, 2, 2)
	dv := engine.Wrap(normal(source(4), in.Latents.Len(), 1), in.Latents.Shape...)
	var peaks []int64
	for _, memory := range []graph.Memory{graph.None, graph.Selective, graph.Full} {
		b := testBackend()
		b.ResetPeak()
		runPass(t, m.NewSession(SessionOptions{Memory: memory}), b, in, ad, dv)
		_, peak := b.Memory()
		peaks = append(peaks, peak)
	}
	if !(peaks[0] > peaks[1] && peaks[1] > peaks[2]) {
		t.Errorf("peaks of none, selective, full: %v", peaks)
	}
	if peaks[2]*2 > peaks[0] {
		t.Errorf("full keeps %d bytes at its peak, none %d: expected less than half", peaks[2], peaks[0])
	}
}

// TestGradientsAddUp: Backward adds to what the gradients hold, and each pass adds the same.
func TestGradientsAddUp(t *testing.T) {
	m, in, ad, dv := setups[0].make(t)
	be := testBackend()
	s, batch := m.NewSession(SessionOptions{}), newBatch(t, m, be, in)
	once, twice := ad.NewGradients(), ad.NewGradients()
	for i, g := range []*lora.Gradients{once, twice, twice} {
		v, err := s.Forward(context.Background(), batch, ad)
		if err != nil {
			t.Fatal(i, err)
		}
		be.Free(v)
		if _, err := s.Backward(context.Background(), dv, g); err != nil {
			t.Fatal(i, err)
		}
	}
	for i, v := range once.Sum.Floats() {
		if twice.Sum.Floats()[i] != 2*v {
			t.Fatalf("gradient %d is %v after two passes and %v after one", i, twice.Sum.Floats()[i], v)
		}
	}
}
