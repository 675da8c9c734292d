package pipeline

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/reference"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/clip"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/model/t5"
	"github.com/sciflux/sciflux/model/weights"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/tokenizer"
)

// TestConditioningIsWhatTheEncodersGive: T5's states of the padded prompt and CLIP's pooled state, by the encoders alone.
func TestConditioningIsWhatTheEncodersGive(t *testing.T) {
	p, ctx, be := open(t, Options{}), context.Background(), reference.New()
	const prompt, length = "a rusty nail on wet wood", 10
	text, pooled, err := p.EncodePrompts(ctx, []string{prompt}, length)
	if err != nil {
		t.Fatal(err)
	}
	c, err := clip.OpenText(filepath.Join(folder, "text_encoder"), be, weights.AsStored)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	five, err := t5.Open(filepath.Join(folder, "text_encoder_2"), be, weights.AsStored)
	if err != nil {
		t.Fatal(err)
	}
	defer five.Close()
	ids := func(part, class string, n int) []int32 {
		w, err := tokenizer.Load(filepath.Join(folder, part), class)
		if err != nil {
			t.Fatal(err)
		}
		return tokenizer.Batch(w, []string{prompt}, n)
	}
	clipIDs, t5IDs := ids("tokenizer", tokenizer.CLIP, 77), ids("tokenizer_2", tokenizer.T5Fast, length)
	gotCLIP, gotT5, err := p.Tokens([]string{prompt}, length)
	if err != nil || !slices.Equal(gotCLIP, clipIDs) || !slices.Equal(gotT5, t5IDs) {
		t.Fatalf("tokens %v and %v, %v", gotCLIP, gotT5, err)
	}
	_, wantPooled, err := c.Forward(ctx, clipIDs, 77)
	if err != nil {
		t.Fatal(err)
	}
	wantText, err := five.Forward(ctx, t5IDs, length)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(text.Floats(), wantText.Floats()) || !slices.Equal(pooled.Floats(), wantPooled.Floats()) {
		t.Error("the conditioning is not what the encoders give")
	}
}

// TestStepsByHand: generation is Euler steps x += (σ'−σ)·v on the scheduler's sigmas, the network being told σ and the
// guidance; the start is noise of the seed, or what the caller gives.
func TestStepsByHand(t *testing.T) {
	p, ctx := open(t, Options{}), context.Background()
	o := GenerateOptions{Prompts: []string{"snow", "rust"}, Height: 32, Width: 48, Steps: 3, Guidance: 2.5, MaxLen: 6, Seeds: []uint64{4, 9}}
	got, err := p.Generate(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	text, pooled, err := p.EncodePrompts(ctx, o.Prompts, o.MaxLen)
	if err != nil {
		t.Fatal(err)
	}
	grid := flow.Grid{Rows: 2, Columns: 3}
	per := grid.Tokens() * p.Transformer.InChannels
	x := make([]float32, 2*per)
	for i, seed := range o.Seeds {
		random.New(seed).Purpose("start noise").Normal(x[i*per : (i+1)*per])
	}
	start := slices.Clone(x)
	sigmas := p.Scheduler.Sigmas(3, grid.Tokens())
	for i := range 3 {
		in := &flux.Input{Latents: engine.Wrap(slices.Clone(x), 2, grid.Tokens(), p.Transformer.InChannels), Text: text, Pooled: pooled,
			Timestep: []float32{sigmas[i], sigmas[i]}, Guidance: []float32{2.5, 2.5}, ImgIDs: flux.ImageIDs(4, 6)}
		v, err := p.Transformer.Velocity(ctx, p.be, in, nil)
		if err != nil {
			t.Fatal(err)
		}
		for k, d := range v.Floats() {
			x[k] += (sigmas[i+1] - sigmas[i]) * d
		}
		p.be.Free(v)
	}
	if d := difference(got.Latents.Floats(), x); d > 1e-4 {
		t.Errorf("latents differ by %g from Euler steps", d)
	}
	images, err := p.Decode(ctx, got.Latents, grid)
	if err != nil || !slices.Equal(images.Floats(), got.Images.Floats()) {
		t.Errorf("pictures are not the decoded latents: %v", err)
	}
	o.Seeds, o.Latents = nil, engine.Wrap(start, 2, grid.Tokens(), p.Transformer.InChannels)
	given, err := p.Generate(ctx, o)
	if err != nil || !slices.Equal(given.Latents.Floats(), got.Latents.Floats()) {
		t.Errorf("the same start given as latents draws other pictures: %v", err)
	}
	o.Guidance = 4
	if other, err := p.Generate(ctx, o); err != nil || slices.Equal(other.Latents.Floats(), got.Latents.Floats()) {
		t.Errorf("another guidance draws the same pictures: %v", err)
	}
}

// TestGenerateKeepsTheBound: a bound on the tokens of a call cuts a batch into calls of that size, each heard of, and
// draws the pictures that batches of that size draw.
func TestGenerateKeepsTheBound(t *testing.T) {
	p, ctx := open(t, Options{}), context.Background()
	calls := 0
	o := GenerateOptions{Prompts: []string{"snow", "rust", "ice"}, Height: 32, Width: 16, Steps: 2, Guidance: 2, MaxLen: 8, Seeds: []uint64{7, 8, 9}}
	o.OnCall = func() { calls++ }
	draw := func(o GenerateOptions, want int) []float32 {
		t.Helper()
		calls = 0
		g, err := p.Generate(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		if calls != want {
			t.Errorf("%d calls, want %d", calls, want)
		}
		return g.Latents.Floats()
	}
	all := draw(o, 2)
	o.BatchTokens = 2 * (8 + 2)
	parts := draw(o, 4)
	if d := difference(parts, all); d > 1e-5 {
		t.Errorf("the bound moves pictures by %g", d)
	}
	two := o
	two.Prompts, two.Seeds = o.Prompts[:2], o.Seeds[:2]
	if first := draw(two, 2); !slices.Equal(first, parts[:len(first)]) {
		t.Error("two samples of a bounded batch are not those of a batch of two")
	}
}

// TestLengthOfText is the tokenizer's own where it is usable, and FLUX's otherwise.
func TestLengthOfText(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		want int
	}{
		"own": {`{"model_max_length": 77}`, 77}, "one": {`{"model_max_length": 1}`, 1}, "flux's": {`{"model_max_length": 512}`, 512}, "none": {`{}`, 512},
		"huge": {`{"model_max_length": 1000000000000000019884624838656}`, 512}, "zero": {`{"model_max_length": 0}`, 512}, "no JSON": {`{`, 512},
	} {
		p := &Pipeline{Dir: t.TempDir()}
		dir := filepath.Join(p.Dir, "tokenizer_2")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "tokenizer_config.json"), []byte(c.file), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := p.TextLength(); got != c.want {
			t.Errorf("%s: %d tokens, want %d", name, got, c.want)
		}
	}
}

// TestUsersAtOnce: several goroutines that encode, generate and decode with one pipeline get what each gets alone, and the
// text encoders are loaded once.
func TestUsersAtOnce(t *testing.T) {
	p, ctx := open(t, Options{}), context.Background()
	prompts := []string{"snow", "rust", "ice", "an apple"}
	draw := func(i int) []float32 {
		g, err := p.Generate(ctx, GenerateOptions{Prompts: prompts[i : i+1], Height: 16, Width: 32, Steps: 2, MaxLen: 5, Guidance: 1, Seeds: []uint64{uint64(i)}})
		if err != nil {
			t.Error(err)
			return nil
		}
		return g.Images.Floats()
	}
	got := make([][]float32, len(prompts))
	var wait sync.WaitGroup
	for i := range prompts {
		wait.Go(func() { got[i] = draw(i) })
	}
	wait.Wait()
	first := p.text
	for i := range prompts {
		if !slices.Equal(got[i], draw(i)) {
			t.Errorf("picture %d depends on who else draws", i)
		}
	}
	if p.text != first {
		t.Error("the text encoders were loaded again")
	}
}

// TestLongPromptsAreShortenedInErrors: an error names the prompt, not all of a long one.
func TestLongPromptsAreShortenedInErrors(t *testing.T) {
	if got := shorten(strings.Repeat("ü", 60)); got != strings.Repeat("ü", 60) {
		t.Errorf("60 letters become %q", got)
	}
	if got := shorten(strings.Repeat("ü", 61)); got != strings.Repeat("ü", 60)+"…" {
		t.Errorf("61 letters become %q", got)
	}
	p := open(t, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err := p.EncodePrompts(ctx, []string{strings.Repeat("word ", 100)}, 4)
	if err == nil || len(err.Error()) > 300 || !strings.Contains(err.Error(), "word word") {
		t.Errorf("%v", err)
	}
}
