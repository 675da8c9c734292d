package trainer

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/graph"
	"github.com/sciflux/sciflux/engine/reference"
	"github.com/sciflux/sciflux/model/flux"
)

// TestSFTLossByHand: the loss is the weighted mean squared distance of the model's own velocity at x_σ from noise − latents,
// averaged over samples, then over micro-batches.
func TestSFTLossByHand(t *testing.T) {
	m, be := tiny(t), fast(t, 1)
	a := moved(t, m, 3)
	micro := []Example{example(4, 3), example(5, 1)}
	want := 0.0
	for _, e := range micro {
		for i := range e.Sigma {
			want += lossByHand(t, be, m, e.one(i), func(in *flux.Input) (*engine.Tensor, error) {
				return m.Velocity(context.Background(), be, in, a)
			}) / float64(len(e.Sigma)) / 2
		}
	}
	r := sft(t, learner(t, be, m, a, plain), micro...)
	if math.Abs(r.Loss-want) > 1e-5*want || r.Graded != 4 || len(r.Micro) != 2 || math.Abs((r.Micro[0]+r.Micro[1])/2-r.Loss) > 1e-12 {
		t.Errorf("loss %v of %v with %d samples, want %v of 4", r.Loss, r.Micro, r.Graded, want)
	}
}

func lossByHand(t *testing.T, be engine.Backend, m *flux.Model, e Example, velocity func(*flux.Input) (*engine.Tensor, error)) float64 {
	t.Helper()
	x := make([]float32, size)
	for k := range x {
		x[k] = (1-e.Sigma[0])*e.Latents[k] + e.Sigma[0]*e.Noise[k]
	}
	v, err := velocity(&flux.Input{
		Latents: engine.Wrap(x, 1, 6, channels), Text: engine.Wrap(e.Text, 1, textTokens, 5), Pooled: engine.Wrap(e.Pooled, 1, 3),
		Timestep: []float32{e.Sigma[0]}, Guidance: []float32{3.5}, ImgIDs: flux.ImageIDs(4, 6),
	})
	if err != nil {
		t.Fatal(err)
	}
	host := make([]float32, size)
	be.Download(host, v)
	be.Free(v)
	sum := 0.0
	for k := range host {
		d := float64(host[k]) - float64(e.Noise[k]) + float64(e.Latents[k])
		sum += d * d
	}
	return e.Weight[0] * sum / size
}

// TestSFTGradientByDifferences: the gradient that the optimiser gets is the slope of the loss that is reported, for single
// numbers of A and of B, whatever rank, alpha and the bound on calls are.
func TestSFTGradientByDifferences(t *testing.T) {
	m, be := tiny(t), reference.New()
	micro := []Example{example(4, 2), example(5, 2)}
	for _, c := range []struct {
		rank   int
		alpha  float64
		tokens int
	}{{2, 4, 0}, {3, 1.2, sampleTokens}, {5, 3.3, 3 * sampleTokens}} {
		l := bounded(t, be, m, move(freshOf(t, m, c.rank, c.alpha), 3), c.tokens) // rate 0: steps measure and move nothing
		sft(t, l, micro...)
		byDifferences(t, l.Adapter.Weights.Floats(), l.gradient(), 0, 23*c.rank, 2e-2, 2e-3, func() float64 { return sft(t, l, micro...).Loss })
	}
}

// TestAccumulationEqualsOneBatch: four samples in one batch, two by two and one by one give the same gradient.
func TestAccumulationEqualsOneBatch(t *testing.T) {
	m, be := tiny(t), fast(t, 0)
	e := example(6, 4)
	two := func(i int) Example {
		a, b := e.one(i), e.one(i+1)
		return Example{Latents: slices.Concat(a.Latents, b.Latents), Noise: slices.Concat(a.Noise, b.Noise), Sigma: slices.Concat(a.Sigma, b.Sigma),
			Weight: slices.Concat(a.Weight, b.Weight), Conditioning: Conditioning{Text: slices.Concat(a.Text, b.Text), Pooled: slices.Concat(a.Pooled, b.Pooled)}}
	}
	var want []float32
	for _, micro := range [][]Example{{e}, {two(0), two(2)}, {e.one(0), e.one(1), e.one(2), e.one(3)}} {
		l := learner(t, be, m, moved(t, m, 3), plain)
		r := sft(t, l, micro...)
		if want == nil {
			want = l.gradient()
		}
		near(t, "gradient", l.gradient(), want, 1e-5)
		if r.Graded != 4 {
			t.Errorf("%d samples graded", r.Graded)
		}
	}
}

// TestGradientsStartAtZero: a step knows nothing of the gradients of the step before.
func TestGradientsStartAtZero(t *testing.T) {
	m, be := tiny(t), fast(t, 1)
	still := OptimizerConfig{Beta2: 0.5, Eps: 1}
	l := learner(t, be, m, moved(t, m, 3), still)
	first := sft(t, l, example(4, 2))
	sft(t, l, example(9, 2))
	if again := sft(t, l, example(4, 2)); again.Norm != first.Norm || again.Loss != first.Loss {
		t.Errorf("norm %v and loss %v, the first time %v and %v", again.Norm, again.Loss, first.Norm, first.Loss)
	}
}

// TestSFTLearns: from the initial adapter, forty steps on one batch take away most of what a LoRA of the tiny model can.
func TestSFTLearns(t *testing.T) {
	m, be := tiny(t), fast(t, 0)
	c := plain
	c.LR, c.MaxGradNorm, c.WarmupSteps = 2e-2, 1, 3
	l := learner(t, be, m, fresh(t, m), c)
	e := example(7, 4)
	first := sft(t, l, e).Loss
	last := first
	for range 40 {
		last = sft(t, l, e).Loss
	}
	if last > 0.8*first {
		t.Errorf("loss %v after 40 steps, %v before", last, first)
	}
}

// TestFreshAdapterIsTheBase: with B at zero the adapter changes nothing, and only B has a gradient.
func TestFreshAdapterIsTheBase(t *testing.T) {
	m, be := tiny(t), fast(t, 1)
	a := fresh(t, m)
	l := learner(t, be, m, a, OptimizerConfig{Beta2: 0.5, Eps: 1})
	e := example(4, 1)
	base := lossByHand(t, be, m, e, func(in *flux.Input) (*engine.Tensor, error) { return m.Velocity(context.Background(), be, in, nil) })
	if r := sft(t, l, e); math.Abs(r.Loss-base) > 1e-6*base {
		t.Errorf("loss %v, of the base %v", r.Loss, base)
	}
	for _, mod := range a.Modules {
		alive := slices.ContainsFunc(l.grads.B(mod), func(g float32) bool { return g != 0 })
		if !alive || slices.ContainsFunc(l.grads.A(mod), func(g float32) bool { return g != 0 }) {
			t.Errorf("%s: gradient of A not zero, or of B zero", mod.Name)
		}
	}
}

// state is what a checkpoint keeps of a learner.
type state struct {
	weights, m, v []float32
	steps         int
}

func save(l *Learner) state {
	return state{slices.Clone(l.Adapter.Weights.Floats()), slices.Clone(l.Optimizer.M.Floats()), slices.Clone(l.Optimizer.V.Floats()), l.Optimizer.Steps}
}

func (s state) load(l *Learner) {
	copy(l.Adapter.Weights.Floats(), s.weights)
	l.be.Upload(l.Optimizer.M, s.m)
	l.be.Upload(l.Optimizer.V, s.v)
	l.Optimizer.Steps = s.steps
}

// TestContinuationIsBitIdentical: weights, moments and the step count are all there is to a learner, so another one that
// gets them goes on with the same bits, through warm-up and clipping, for any rank, alpha and bound on calls.
func TestContinuationIsBitIdentical(t *testing.T) {
	m, be := tiny(t), fast(t, 0)
	c := plain
	c.WarmupSteps, c.MaxGradNorm, c.WeightDecay = 5, 0.5, 0.01
	for stop, adapter := range map[int]struct {
		rank   int
		alpha  float64
		tokens int
	}{1: {2, 4, 0}, 2: {20, 1.2, sampleTokens}, 3: {3, 22.627, 2 * sampleTokens}} {
		start := func() *Learner {
			l := learner(t, be, m, freshOf(t, m, adapter.rank, adapter.alpha), c)
			l.Setting.BatchTokens = adapter.tokens
			return l
		}
		unbroken := start()
		var kept state
		for step := range 6 {
			if step == stop {
				kept = save(unbroken)
			}
			sft(t, unbroken, example(uint64(step), 3))
		}
		resumed := start()
		kept.load(resumed)
		for step := stop; step < 6; step++ {
			sft(t, resumed, example(uint64(step), 3))
		}
		if got, want := save(resumed), save(unbroken); !slices.Equal(got.weights, want.weights) || !slices.Equal(got.m, want.m) || !slices.Equal(got.v, want.v) {
			t.Errorf("rank %d, alpha %v, stopped after %d steps: the end differs", adapter.rank, adapter.alpha, stop)
		}
	}
}

// TestClosingBringsTheNumbersBack: while a learner is open its adapter's numbers lie in the backend's memory; afterwards the
// adapter has the trained ones where its own were.
func TestClosingBringsTheNumbersBack(t *testing.T) {
	m, be := tiny(t), fast(t, 1)
	a := moved(t, m, 3)
	home, before := a.Weights, slices.Clone(a.Weights.Floats())
	l := unclosed(t, be, m, a, plain, flux.SessionOptions{})
	sft(t, l, example(4, 2))
	trained := save(l).weights
	if a.Weights == home || !slices.Equal(home.Floats(), before) || slices.Equal(trained, before) {
		t.Error("the numbers were trained in place")
	}
	l.Close()
	if a.Weights != home || !slices.Equal(home.Floats(), trained) {
		t.Error("closing did not bring the trained numbers back")
	}
}

// TestThreadsAndMemoryKeepTheBits: neither the number of threads nor what is kept for the backward pass changes a step.
func TestThreadsAndMemoryKeepTheBits(t *testing.T) {
	m := tiny(t)
	var want []float32
	for _, threads := range []int{1, 2, 5} {
		for _, memory := range []graph.Memory{graph.None, graph.Selective, graph.Full} {
			l := unclosed(t, fast(t, threads), m, moved(t, m, 3), plain, flux.SessionOptions{Memory: memory})
			sft(t, l, example(1, 3), example(2, 1))
			got := save(l).weights
			l.Close()
			if want == nil {
				want = got
			} else if !slices.Equal(got, want) {
				t.Errorf("%d threads, memory %v: other weights", threads, memory)
			}
		}
	}
}

// TestNonFiniteLossLeavesTheAdapter: bad latents are found in the velocity, before the optimiser sees them.
func TestNonFiniteLossLeavesTheAdapter(t *testing.T) {
	m, be := tiny(t), fast(t, 1)
	l := learner(t, be, m, moved(t, m, 3), plain)
	before := save(l)
	e := example(4, 2)
	e.Latents[size+3] = float32(math.NaN())
	_, err := l.SFT(context.Background(), []Example{example(5, 1), e})
	var bad *NonFiniteError
	if !errors.As(err, &bad) || bad.What != "velocity" || bad.Step != 1 {
		t.Fatalf("error %v", err)
	}
	if after := save(l); !slices.Equal(after.weights, before.weights) || after.steps != 0 {
		t.Error("the adapter or its steps changed")
	}
	if r := sft(t, l, example(5, 1)); math.IsNaN(r.Loss) || math.IsNaN(r.Norm) {
		t.Error("the bad batch lives on in the next step")
	}
}

// TestCancelledStepLeavesTheAdapter: a step that is cancelled fails with the cause and changes nothing.
func TestCancelledStepLeavesTheAdapter(t *testing.T) {
	m, be := tiny(t), fast(t, 1)
	l := learner(t, be, m, moved(t, m, 3), plain)
	before := save(l)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.SFT(ctx, []Example{example(4, 1)}); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	if !slices.Equal(save(l).weights, before.weights) {
		t.Error("the adapter changed")
	}
}
