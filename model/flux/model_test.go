package flux

import (
	"context"
	"errors"
	"math"
	"math/cmplx"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/lora"
)

func velocity(t testing.TB, m *Model, in *Input, ad *lora.Adapter) []float32 {
	t.Helper()
	b := testBackend()
	v, err := m.Velocity(context.Background(), b, in, ad)
	if err != nil {
		t.Fatal(err)
	}
	out := slices.Clone(v.Floats())
	b.Free(v)
	if live, _ := b.Memory(); live != 0 {
		t.Errorf("%d bytes left behind", live)
	}
	return out
}

func near(t *testing.T, what string, got, want []float32, limit float64) {
	t.Helper()
	if e := worst(got, widen(want)); e > limit {
		t.Errorf("%s: off by %.2g", what, e)
	}
}

// TestTokenOrderDoesNotMatter: image tokens permuted together with their ids give the permuted velocity.
func TestTokenOrderDoesNotMatter(t *testing.T) {
	c := small()
	m, in := randomModel(c, 1), randomInput(c, 2, 1, 3, 6)
	want := velocity(t, m, in, nil)
	order := source(9).Perm(6)
	moved := *in
	moved.Latents, moved.ImgIDs = engine.Wrap(make([]float32, in.Latents.Len()), in.Latents.Shape...), nil
	for to, from := range order {
		copy(moved.Latents.Floats()[to*c.InChannels:][:c.InChannels], in.Latents.Floats()[from*c.InChannels:])
		moved.ImgIDs = append(moved.ImgIDs, in.ImgIDs[from])
	}
	got := velocity(t, m, &moved, nil)
	back := make([]float32, len(got))
	for to, from := range order {
		copy(back[from*c.OutChannels:][:c.OutChannels], got[to*c.OutChannels:][:c.OutChannels])
	}
	near(t, "permuted tokens", back, want, 1e-5)
	unmoved := moved
	unmoved.ImgIDs = in.ImgIDs
	if worst(velocity(t, m, &unmoved, nil), widen(got)) < 1e-3 {
		t.Error("position ids have no effect: the test sees nothing")
	}
}

// TestSamplesAreIndependent: a batch gives what its samples give alone.
func TestSamplesAreIndependent(t *testing.T) {
	c := small()
	m, in := randomModel(c, 1), randomInput(c, 2, 3, 2, 4)
	ad := randomAdapter(t, c, 3, blockTargets, 2, 2)
	all := velocity(t, m, in, ad)
	for i := range 3 {
		cut := func(x *engine.Tensor) *engine.Tensor {
			n := x.Len() / 3
			return engine.Wrap(x.Floats()[i*n:][:n], append([]int{1}, x.Shape[1:]...)...)
		}
		one := *in
		one.Latents, one.Text, one.Pooled = cut(in.Latents), cut(in.Text), cut(in.Pooled)
		one.Timestep, one.Guidance = in.Timestep[i:i+1], in.Guidance[i:i+1]
		n := len(all) / 3
		near(t, "sample alone", velocity(t, m, &one, ad), all[i*n:][:n], 1e-6)
	}
}

// TestMergeEqualsAdapter: the merged model gives what base and adapter give together.
func TestMergeEqualsAdapter(t *testing.T) {
	c := small()
	m, in := randomModel(c, 1), randomInput(c, 2, 2, 3, 4)
	targets := append([]string{"x_embedder", "context_embedder", "norm_out.linear", "linear_1", "linear_2"}, blockTargets...)
	ad := randomAdapter(t, c, 3, targets, 2, 3)
	merged, err := m.Merge(ad, engine.Float32)
	if err != nil {
		t.Fatal(err)
	}
	with := velocity(t, m, in, ad)
	near(t, "merged", velocity(t, merged, in, nil), with, 1e-5)
	if worst(velocity(t, m, in, nil), widen(with)) < 1e-3 {
		t.Error("the adapter has no effect: the test sees nothing")
	}
}

// TestTextIDsDefaultToZero: no text ids are zeros, and other ids count.
func TestTextIDsDefaultToZero(t *testing.T) {
	c := small()
	m, in := randomModel(c, 1), randomInput(c, 2, 1, 3, 4)
	want := velocity(t, m, in, nil)
	in.TxtIDs = TextIDs(3)
	if !slices.Equal(velocity(t, m, in, nil), want) {
		t.Error("zero text ids give another velocity than none")
	}
	in.TxtIDs[1] = [3]float32{0, 5, 1}
	if slices.Equal(velocity(t, m, in, nil), want) {
		t.Error("text ids have no effect")
	}
}

func TestInputRefusals(t *testing.T) {
	c := small()
	m := randomModel(c, 1)
	cases := map[string]func(in *Input){
		"latents":  func(in *Input) { in.Latents = engine.Wrap(make([]float32, 6), 1, 2, 3) },
		"latents ": func(in *Input) { in.Latents = nil },
		"text":     func(in *Input) { in.Text = engine.Wrap(make([]float32, 5), 1, 1, 5) },
		"pooled":   func(in *Input) { in.Pooled = nil },
		"timestep": func(in *Input) { in.Timestep = in.Timestep[:1] },
		"guidance": func(in *Input) { in.Guidance = nil },
		"image id": func(in *Input) { in.ImgIDs = in.ImgIDs[:1] },
		"text id":  func(in *Input) { in.TxtIDs = TextIDs(1) },
	}
	for want, change := range cases {
		in := randomInput(c, 2, 2, 3, 4)
		change(in)
		_, err := m.Velocity(context.Background(), testBackend(), in, nil)
		if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%s: error %v", want, err)
		}
		if _, again := m.NewBatches(testBackend(), in, 1); again == nil || again.Error() != err.Error() {
			t.Errorf("%s: cutting into batches says %v", want, again)
		}
	}
	schnell := small()
	schnell.GuidanceEmbed = false
	in := randomInput(c, 2, 2, 3, 4)
	if _, err := randomModel(schnell, 1).Velocity(context.Background(), testBackend(), in, nil); err == nil {
		t.Error("guidance for a model without guidance embedder was accepted")
	}
}

// TestSessionMisuse: wrong orders and wrong partners are errors, and leave nothing behind.
func TestSessionMisuse(t *testing.T) {
	m, in, ad, dv := setups[0].make(t)
	b := testBackend()
	s, batch := m.NewSession(SessionOptions{}), newBatch(t, m, b, in)
	ctx := context.Background()
	if _, err := s.Backward(ctx, dv, ad.NewGradients()); err == nil || !strings.Contains(err.Error(), "Forward") {
		t.Errorf("Backward without Forward: %v", err)
	}
	forward := func() {
		v, err := s.Forward(ctx, batch, ad)
		if err != nil {
			t.Fatal(err)
		}
		b.Free(v)
	}
	other := randomAdapter(t, m.Config, 3, []string{"to_q"}, 1, 1)
	forward()
	if _, err := s.Backward(ctx, dv, other.NewGradients()); err == nil || !strings.Contains(err.Error(), "another adapter") {
		t.Errorf("gradients of another adapter: %v", err)
	}
	forward()
	if _, err := s.Backward(ctx, dv, nil); err == nil {
		t.Error("Backward without gradients to add to")
	}
	forward()
	if _, err := s.Backward(ctx, engine.Wrap(make([]float32, 3), 3), ad.NewGradients()); err == nil {
		t.Error("a gradient of another shape was accepted")
	}
	forward()
	forward() // forgets the first
	s.Release()
	embed := randomAdapter(t, m.Config, 3, []string{"linear_1", "to_q"}, 1, 1)
	if _, err := s.Forward(ctx, batch, embed); err == nil || !strings.Contains(err.Error(), "time_text_embed") {
		t.Errorf("adapter before the conditioning vector: %v", err)
	}
	batch.Free()
	if live, _ := b.Memory(); live != 0 {
		t.Errorf("%d bytes left behind", live)
	}
}

// TestCancel: a finished context ends passes between blocks with its own error and leaves nothing behind.
func TestCancel(t *testing.T) {
	m, in, ad, dv := setups[0].make(t)
	b := testBackend()
	ctx, cancel := context.WithCancel(context.Background())
	s, batch := m.NewSession(SessionOptions{}), newBatch(t, m, b, in)
	v, err := s.Forward(ctx, batch, ad)
	if err != nil {
		t.Fatal(err)
	}
	b.Free(v)
	cancel()
	if _, err := s.Backward(ctx, dv, ad.NewGradients()); !errors.Is(err, context.Canceled) {
		t.Errorf("Backward: %v", err)
	}
	if _, err := s.Forward(ctx, batch, ad); !errors.Is(err, context.Canceled) {
		t.Errorf("Forward: %v", err)
	}
	if _, err := m.Velocity(ctx, b, in, ad); !errors.Is(err, context.Canceled) {
		t.Errorf("Velocity: %v", err)
	}
	batch.Free()
	if live, _ := b.Memory(); live != 0 {
		t.Errorf("%d bytes left behind", live)
	}
}

// broken is a backend whose attention panics.
type broken struct{ engine.Backend }

func (broken) Attend(o, q, k, v engine.View, a *engine.Attention) { panic("no attention today") }

// TestErrorsNameBlockAndOperation, for a run at once and for graphs.
func TestErrorsNameBlockAndOperation(t *testing.T) {
	m, in, ad, _ := setups[0].make(t)
	b := testBackend()
	batch := newBatch(t, m, broken{b}, in)
	_, err := m.Velocity(context.Background(), broken{b}, in, ad)
	_, again := m.NewSession(SessionOptions{}).Forward(context.Background(), batch, ad)
	batch.Free()
	for _, err := range []error{err, again} {
		if err == nil || !strings.Contains(err.Error(), "transformer_blocks.0") || !strings.Contains(err.Error(), "no attention today") {
			t.Errorf("error %v, want one that names block and cause", err)
		}
	}
	if live, _ := b.Memory(); live != 0 {
		t.Errorf("%d bytes left behind", live)
	}
}

// TestPack: unpacking undoes packing, and the numbers of one token are those of its square.
func TestPack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, c := rapid.IntRange(1, 3).Draw(t, "b"), rapid.IntRange(1, 4).Draw(t, "c")
		h, w := 2*rapid.IntRange(1, 5).Draw(t, "h/2"), 2*rapid.IntRange(1, 5).Draw(t, "w/2")
		latents := make([]float32, b*c*h*w)
		for i := range latents {
			latents[i] = float32(i)
		}
		tokens := Pack(latents, b, c, h, w)
		if !slices.Equal(Unpack(tokens, b, c, h, w), latents) {
			t.Fatal("unpacking does not undo packing")
		}
		sample, ch := rapid.IntRange(0, b-1).Draw(t, "sample"), rapid.IntRange(0, c-1).Draw(t, "channel")
		y, x := rapid.IntRange(0, h-1).Draw(t, "y"), rapid.IntRange(0, w-1).Draw(t, "x")
		n := (y/2)*(w/2) + x/2
		got := tokens[(sample*(h/2)*(w/2)+n)*4*c+4*ch+2*(y%2)+x%2]
		if got != latents[((sample*c+ch)*h+y)*w+x] {
			t.Fatal("a pixel lies elsewhere")
		}
		if id := ImageIDs(h, w)[n]; id != [3]float32{0, float32(y / 2), float32(x / 2)} {
			t.Fatalf("token %d has id %v", n, id)
		}
	})
	defer func() {
		if recover() == nil {
			t.Error("an odd side was packed")
		}
	}()
	Pack(make([]float32, 6), 1, 1, 3, 2)
}

// TestRope: rotations by two positions in turn are the rotation by their sum, and axis 0 of position 0 does nothing.
func TestRope(t *testing.T) {
	c := Dev()
	half := c.HeadDim / 2
	table := func(id [3]float32) []complex128 {
		cos, sin := c.rope([][3]float32{id})
		z := make([]complex128, half)
		for i := range z {
			z[i] = complex(float64(cos[i]), float64(sin[i]))
		}
		return z
	}
	a, b, sum := table([3]float32{1, 2, 30}), table([3]float32{0, 5, 11}), table([3]float32{1, 7, 41})
	for i := range sum {
		if cmplx.Abs(a[i]*b[i]-sum[i]) > 1e-6 {
			t.Errorf("frequency %d: rotations do not add up", i)
		}
	}
	for i, z := range table([3]float32{0, 3, 4})[:8] {
		if z != 1 {
			t.Errorf("frequency %d of axis 0 rotates by %v", i, z)
		}
	}
	if z := table([3]float32{0, 1, 0})[8]; math.Abs(cmplx.Phase(z)-1) > 1e-6 {
		t.Errorf("first frequency of the rows turns by %v, want 1 radian", cmplx.Phase(z))
	}
}

// TestSinusoid: cosines first, the first frequency is 1, values times 1000.
func TestSinusoid(t *testing.T) {
	f := make([]float32, sinusoids)
	sinusoid(f, 0.5)
	if math.Abs(float64(f[0])-math.Cos(500)) > 1e-6 || math.Abs(float64(f[128])-math.Sin(500)) > 1e-6 {
		t.Errorf("features of 0.5 begin with %v and %v", f[0], f[128])
	}
	slowest := 500 * math.Pow(10000, -127.0/128)
	if math.Abs(float64(f[127])-math.Cos(slowest)) > 1e-5 {
		t.Errorf("slowest cosine is %v, want %v", f[127], math.Cos(slowest))
	}
}

// TestModelTimeIsFloat32: 1000·σ and back in float32 is not always σ; the network gets what the reference's network gets.
func TestModelTimeIsFloat32(t *testing.T) {
	other := 0
	for k := range 1000 {
		s := float32(source(uint64(k)).Float64())
		scaled := s * 1000
		if got := ModelTime(s * 1000); got != scaled/1000 || math.Abs(float64(got-s)) > 1e-7 {
			t.Fatalf("%v becomes %v", s, got)
		} else if got != s {
			other++
		}
	}
	if other == 0 {
		t.Error("every time came back: the round trip is not in float32")
	}
}
