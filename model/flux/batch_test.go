package flux

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/graph"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/lora"
)

// TestSamplesPerCall: as many whole samples as fit under the bound, and never none.
func TestSamplesPerCall(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bound, tokens := rapid.IntRange(1, 1<<16).Draw(t, "bound"), rapid.IntRange(1, 1<<13).Draw(t, "tokens")
		n := SamplesPerCall(bound, tokens)
		if n < 1 || n > 1 && n*tokens > bound || (n+1)*tokens <= bound {
			t.Fatalf("%d samples of %d tokens under a bound of %d", n, tokens, bound)
		}
	})
	if n := SamplesPerCall(0, 16); n != DefaultBatchTokens/16 {
		t.Errorf("%d samples without a bound", n)
	}
}

// TestPromptsAreShared: samples that name one row of text and pooled states get what they get with a copy each.
func TestPromptsAreShared(t *testing.T) {
	c := small()
	m, in := randomModel(c, 1), randomInput(c, 2, 4, 3, 4)
	rows := []int{1, 0, 1, 1}
	shared, copied := *in, *in
	cut := func(x *engine.Tensor, rows ...int) *engine.Tensor {
		var values []float32
		per := x.Len() / x.Shape[0]
		for _, r := range rows {
			values = append(values, x.Floats()[r*per:(r+1)*per]...)
		}
		return engine.Wrap(values, append([]int{len(rows)}, x.Shape[1:]...)...)
	}
	shared.Text, shared.Pooled, shared.Prompts = cut(in.Text, 0, 1), cut(in.Pooled, 0, 1), rows
	copied.Text, copied.Pooled = cut(in.Text, rows...), cut(in.Pooled, rows...)
	want := velocity(t, m, &copied, nil)
	if !slices.Equal(velocity(t, m, &shared, nil), want) {
		t.Error("shared rows give another velocity than copies")
	}
	b := testBackend()
	batches, err := m.NewBatches(b, &shared, 3*(3+4))
	if err != nil {
		t.Fatal(err)
	}
	if len(batches) != 2 || batches[0].B != 3 || batches[1].B != 1 {
		t.Fatalf("%d batches", len(batches))
	}
	calls := 0
	got, err := batches.Velocity(context.Background(), nil, func() { calls++ })
	if err != nil || calls != 2 {
		t.Fatalf("%d calls, %v", calls, err)
	}
	near(t, "in two calls", got, want, 1e-6)
	batches.Free()
	if live, _ := b.Memory(); live != 0 {
		t.Errorf("%d bytes left behind", live)
	}
	for name, change := range map[string]func(*Input){
		"count of prompt rows": func(in *Input) { in.Prompts = rows[:3] }, "prompt row is 2": func(in *Input) { in.Prompts = []int{0, 1, 2, 0} },
		"prompt row is -1": func(in *Input) { in.Prompts = []int{0, 1, -1, 0} }, "text": func(in *Input) { in.Text = cut(in.Text, 0) },
	} {
		bad := shared
		change(&bad)
		if _, err := m.NewBatch(b, &bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// counter counts the products that gradients of inputs are made of, by layer.
type counter struct {
	engine.Backend
	names map[*float32]string
	back  map[string]int
}

func newCounter(m *Model) *counter {
	c := &counter{Backend: testBackend(), names: map[*float32]string{}, back: map[string]int{}}
	for name, l := range m.layers {
		for k := range l.Weight.In { // a product may take some of the columns
			c.names[&l.Weight.F32[k]] = name
		}
	}
	return c
}

func (c *counter) LinearBack(dx, dy engine.View, w *engine.Weight, beta float32) {
	c.back[c.names[&w.F32[0]]]++
	c.Backend.LinearBack(dx, dy, w, beta)
}

// TestOnlyWhatAdaptersNeedIsDifferentiated: the backward pass goes back to the first adapter and no further: not into the
// conditioning, not to the latents unless they are asked for.
func TestOnlyWhatAdaptersNeedIsDifferentiated(t *testing.T) {
	m, in := randomModel(small(), 2), randomInput(small(), 2, 2, 3, 4)
	back := func(latents bool, targets ...string) map[string]int {
		c := newCounter(m)
		ad := randomAdapter(t, m.Config, 3, targets, 2, 2)
		dv := engine.Wrap(normal(source(4), in.Latents.Len(), 1), in.Latents.Shape...)
		runPass(t, m.NewSession(SessionOptions{Latents: latents}), c, in, ad, dv)
		return c.back
	}
	all := back(true, attentionTargets...)
	for name := range all {
		if strings.HasPrefix(name, "time_text_embed") || strings.Contains(name, "norm") || name == "context_embedder" {
			t.Errorf("%s: its input's gradient was computed, which nobody reads", name)
		}
	}
	if all["x_embedder"] != 1 || all["transformer_blocks.0.attn.to_q"] != 1 || all["proj_out"] != 1 {
		t.Errorf("gradient of the latents: %v", all)
	}
	first := back(false, attentionTargets...)
	want := maps.Clone(all)
	delete(want, "x_embedder")
	for _, name := range slices.Concat(imageQKV, textQKV) {
		delete(want, "transformer_blocks.0."+name)
	}
	if !maps.Equal(first, want) {
		t.Errorf("without the latents' gradient: %v, want %v", first, want)
	}
	for target, want := range map[string]map[string]int{
		"norm_out.linear":                       {"proj_out": 1},
		"single_transformer_blocks.1.proj_out":  {"proj_out": 1},
		"single_transformer_blocks.1.proj_mlp":  {"proj_out": 1, "single_transformer_blocks.1.proj_out": 1},
		"single_transformer_blocks.1.attn.to_v": {"proj_out": 1, "single_transformer_blocks.1.proj_out": 1},
	} {
		if got := back(false, target); !maps.Equal(got, want) {
			t.Errorf("%s alone: %v, want %v", target, got, want)
		}
	}
}

// TestOnlyWhatIsDifferentiatedIsKept: blocks before the first adapter keep nothing for a backward pass that will not reach
// them.
func TestOnlyWhatIsDifferentiatedIsKept(t *testing.T) {
	c := small()
	c.DoubleBlocks, c.SingleBlocks = 6, 6
	m, in := randomModel(c, 1), randomInput(c, 2, 2, 6, 9)
	held := func(o SessionOptions, targets ...string) int64 {
		b := testBackend()
		batch := newBatch(t, m, b, in)
		before, _ := b.Memory()
		s := m.NewSession(o)
		v, err := s.Forward(context.Background(), batch, randomAdapter(t, c, 3, targets, 1, 1))
		if err != nil {
			t.Fatal(err)
		}
		b.Free(v)
		live, _ := b.Memory()
		s.Release()
		batch.Free()
		return live - before
	}
	last, all := held(SessionOptions{}, "single_transformer_blocks.5.proj_mlp"), held(SessionOptions{}, attentionTargets...)
	if 6*last > all {
		t.Errorf("an adapter of the last block keeps %d bytes, adapters of all %d", last, all)
	}
	if asked := held(SessionOptions{Latents: true}, "single_transformer_blocks.5.proj_mlp"); asked <= last {
		t.Errorf("the latents' gradient keeps %d bytes, without it %d", asked, last)
	}
	full := held(SessionOptions{Memory: graph.Full}, "single_transformer_blocks.5.proj_mlp")
	if streams := int64(4 * 2 * (6 + 9) * c.Width()); full > 3*streams {
		t.Errorf("full keeps %d bytes for one block, a stream has %d", full, streams)
	}
}

// TestGraphsAreShared: blocks that differ in numbers only share a graph; other adapters, shapes or places need their own.
func TestGraphsAreShared(t *testing.T) {
	c := small()
	c.DoubleBlocks, c.SingleBlocks = 3, 4
	m, b := randomModel(c, 1), testBackend()
	s := m.NewSession(SessionOptions{})
	graphs := func(in *Input, ad *lora.Adapter) int {
		batch := newBatch(t, m, b, in)
		defer batch.Free()
		v, err := s.Forward(context.Background(), batch, ad)
		if err != nil {
			t.Fatal(err)
		}
		b.Free(v)
		s.Release()
		return len(s.graphs)
	}
	in := randomInput(c, 2, 2, 3, 4)
	for _, step := range []struct {
		what string
		in   *Input
		ad   *lora.Adapter
		want int // graphs so far: embedders, double, single, last single, output
	}{
		{"first", in, randomAdapter(t, c, 3, attentionTargets, 2, 2), 5},
		{"other numbers", randomInput(c, 9, 2, 3, 4), randomAdapter(t, c, 4, attentionTargets, 2, 7), 5},
		{"another rank", in, randomAdapter(t, c, 3, attentionTargets, 3, 2), 5 + 3},
		{"one block has none", in, randomAdapter(t, c, 3, []string{"transformer_blocks.1.attn.to_q"}, 2, 2), 8 + 4}, // and three kinds without
		{"another layer of the group", in, randomAdapter(t, c, 3, []string{"transformer_blocks.1.attn.to_k"}, 2, 2), 12 + 1},
		{"more samples", randomInput(c, 2, 3, 3, 4), randomAdapter(t, c, 3, attentionTargets, 2, 2), 13 + 5},
	} {
		if got := graphs(step.in, step.ad); got != step.want {
			t.Errorf("%s: %d graphs, want %d", step.what, got, step.want)
		}
	}
}

// TestSamplerByHand: x' = X·x + V·v + Std·ξ with the network told sigma, whatever the calls are cut into; noise is asked
// for in noisy steps only.
func TestSamplerByHand(t *testing.T) {
	c := small()
	m, be := randomModel(c, 1), testBackend()
	ad := randomAdapter(t, c, 3, attentionTargets, 2, 2)
	grid := flow.Grid{Rows: 2, Columns: 3}
	in := m.NewInput(grid, 2.5, randomInput(c, 2, 3, 2, 6).Latents, randomInput(c, 2, 3, 2, 6).Text, randomInput(c, 2, 3, 2, 6).Pooled)
	scheduler := flow.DefaultScheduler()
	sigmas := scheduler.Sigmas(3, grid.Tokens())
	steps := flow.Steps(flow.Exact, sigmas, 1) // its last step has no noise
	x := slices.Clone(in.Latents.Floats())
	noise := func(i int, xi []float32) { copy(xi, normal(source(uint64(100+i)), len(xi), 1)) }
	for i, step := range steps {
		one := *in
		one.Latents = engine.Wrap(slices.Clone(x), in.Latents.Shape...)
		one.Timestep = []float32{ModelTime(1000 * sigmas[i]), ModelTime(1000 * sigmas[i]), ModelTime(1000 * sigmas[i])}
		v := velocity(t, m, &one, ad)
		xi := make([]float32, len(x))
		if step.Std != 0 {
			noise(i, xi)
		}
		for k := range x {
			x[k] = float32(step.X*float64(x[k]) + step.V*float64(v[k]) + step.Std*float64(xi[k]))
		}
	}
	for _, bound := range []int{0, 8, 16} {
		var asked, seen []int
		calls := 0
		s := Sampler{Model: m, Backend: be, Adapter: ad, Steps: steps, Timesteps: scheduler.Timesteps(sigmas), BatchTokens: bound,
			Noise:  func(i int, xi []float32) { asked = append(asked, i); noise(i, xi) },
			Visit:  func(i int, _, _, _ []float32) { seen = append(seen, i) },
			OnCall: func() { calls++ }}
		got, err := s.Run(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "end of the path", got, x, 1e-5)
		want := 3 * ((3 + SamplesPerCall(bound, 8) - 1) / SamplesPerCall(bound, 8))
		if !slices.Equal(asked, []int{0, 1}) || !slices.Equal(seen, []int{0, 1, 2}) || calls != want {
			t.Errorf("bound %d: noise of steps %v, visits of %v, %d calls, want %d", bound, asked, seen, calls, want)
		}
		if live, _ := be.Memory(); live != 0 {
			t.Errorf("%d bytes left behind", live)
		}
	}
}

// TestSamplerStopsAtBadVelocities: the first velocity that is not finite ends the path, by step and sample.
func TestSamplerStopsAtBadVelocities(t *testing.T) {
	m, be := randomModel(small(), 1), testBackend()
	base := randomInput(m.Config, 2, 2, 3, 6)
	calls := 0
	s := Sampler{Model: m, Backend: be, Steps: make([]flow.Step, 4), Timesteps: []float32{1000, 750, 500, 250}, OnCall: func() { calls++ }}
	for i := range s.Steps {
		s.Steps[i] = flow.Step{X: 1}
	}
	s.Visit = func(i int, _, _, next []float32) {
		if i == 1 {
			next[len(next)-1] = float32(math.Inf(1))
		}
	}
	_, err := s.Run(context.Background(), m.NewInput(flow.Grid{Rows: 2, Columns: 3}, 1, base.Latents, base.Text, base.Pooled))
	var bad *NonFiniteError
	if !errors.As(err, &bad) || bad.Step != 2 || bad.Sample != 1 || calls != 3 {
		t.Errorf("error %v after %d calls", err, calls)
	}
	if live, _ := be.Memory(); live != 0 {
		t.Errorf("%d bytes left behind", live)
	}
}
