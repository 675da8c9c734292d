package parity

import (
	"context"
	"encoding/json"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// runWith computes a case with some inputs and options replaced.
func runWith(t *testing.T, c *Case, inputs map[string]Tensor, args map[string]any) *Outputs {
	t.Helper()
	changed := *c
	changed.inputs = maps.Clone(c.inputs)
	maps.Copy(changed.inputs, inputs)
	if args != nil {
		all := map[string]any{}
		if err := json.Unmarshal(c.args, &all); err != nil {
			t.Fatal(err)
		}
		maps.Copy(all, args)
		changed.args = mustJSON(all)
	}
	out, err := guarded(context.Background(), runners[c.Kind], &changed, Options{Device: "cpu", DType: Float32})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// rows are some places of a tensor's axis, in the order given.
func rows(x Tensor, axis int, which ...int) Tensor {
	shape := slices.Clone(x.Shape)
	shape[axis] = len(which)
	inner := elementSize[x.DType]
	for _, d := range x.Shape[axis+1:] {
		inner *= d
	}
	y := Tensor{DType: x.DType, Shape: shape}
	for block := 0; block < len(x.Data); block += inner * x.Shape[axis] {
		for _, i := range which {
			y.Data = append(y.Data, x.Data[block+i*inner:block+(i+1)*inner]...)
		}
	}
	return y
}

func values(t *testing.T, x Tensor) []float64 {
	t.Helper()
	v, err := x.Float64s()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestSamplesAreIndependent: a network's answer for one sample is the same alone and among others.
func TestSamplesAreIndependent(t *testing.T) {
	for name, outputs := range map[string][]string{"t5_encoder_sharded": {"hidden"}, "clip_text_legacy_eos": {"hidden", "pooled"}, "clip_text_real_eos": {"hidden", "pooled"},
		"forward_schnell_sharded": {"velocity"}, "forward_dev": {"velocity"}, "vae_decode_bfl": {"image"}, "vae_encode_diffusers": {"mean", "latent", "sample"}} {
		c := goldenCase(t, name)
		whole, batch := runWith(t, c, nil, nil), 0
		for _, out := range outputs {
			batch = whole.tensors[out].Shape[0]
		}
		last := batch - 1
		inputs := map[string]Tensor{}
		for key, x := range c.inputs {
			if !strings.HasSuffix(key, "_ids") {
				inputs[key] = rows(x, 0, last)
			}
		}
		alone := runWith(t, c, inputs, nil)
		for _, out := range outputs {
			near(t, name+" "+out, values(t, alone.tensors[out]), values(t, rows(whole.tensors[out], 0, last)), 1e-5)
		}
	}
}

// TestTokensAreASet: the transformer knows places by their ids only, so picture tokens in another order give the same velocities in
// that order, and the order of text tokens does not matter at all.
func TestTokensAreASet(t *testing.T) {
	c := goldenCase(t, "forward_free_ids")
	whole := runWith(t, c, nil, nil).tensors["velocity"]
	rng := rand.New(rand.NewPCG(2, 3))
	image, words := rng.Perm(c.inputs["img_ids"].Shape[0]), rng.Perm(c.inputs["txt_ids"].Shape[0])
	mixed := runWith(t, c, map[string]Tensor{
		"latents": rows(c.inputs["latents"], 1, image...), "img_ids": rows(c.inputs["img_ids"], 0, image...),
		"text": rows(c.inputs["text"], 1, words...), "txt_ids": rows(c.inputs["txt_ids"], 0, words...),
	}, nil)
	near(t, "velocity", values(t, mixed.tensors["velocity"]), values(t, rows(whole, 1, image...)), 1e-4)
	swapped := runWith(t, c, map[string]Tensor{"latents": rows(c.inputs["latents"], 1, image...)}, nil)
	off := 0.0
	for i, v := range values(t, swapped.tensors["velocity"]) {
		off = max(off, math.Abs(v-values(t, rows(whole, 1, image...))[i]))
	}
	if off < 1e-3 {
		t.Errorf("without their ids the tokens' places do not matter: largest difference %v", off)
	}
}

// TestLaterWordsAreNotSeen: CLIP's text tower is causal, T5's encoder is not.
func TestLaterWordsAreNotSeen(t *testing.T) {
	for name, causal := range map[string]bool{"clip_text_real_eos": true, "t5_encoder_sharded": false} {
		c := goldenCase(t, name)
		ids := c.inputs["ids"]
		v, err := ids.Int64s()
		if err != nil {
			t.Fatal(err)
		}
		length, at := ids.Shape[1], ids.Shape[1]/2
		other := slices.Clone(v)
		other[at] = other[at]%7 + 3
		if other[at] == v[at] {
			other[at]++
		}
		in := NewOutputs()
		in.Int64("ids", ids.Shape, other)
		before, after := runWith(t, c, nil, nil).tensors["hidden"], runWith(t, c, map[string]Tensor{"ids": in.tensors["ids"]}, nil).tensors["hidden"]
		width := before.Shape[2]
		a, b := values(t, before)[:length*width], values(t, after)[:length*width]
		same := slices.Equal(a[:at*width], b[:at*width])
		if same != causal || slices.Equal(a[at*width:(at+1)*width], b[at*width:(at+1)*width]) {
			t.Errorf("%s: states before the changed word stay: %v, want %v", name, same, causal)
		}
	}
}

// TestLatentGradientByDifferences: the derivative of sum(velocity·grad_velocity) along a direction is the difference quotient.
func TestLatentGradientByDifferences(t *testing.T) {
	c := goldenCase(t, "lora_attention")
	x, dv := c.inputs["latents"], values(t, c.inputs["grad_velocity"])
	grad := values(t, runWith(t, c, nil, nil).tensors["grad.latents"])
	rng := rand.New(rand.NewPCG(4, 5))
	direction, along := make([]float64, len(grad)), 0.0
	for i := range direction {
		direction[i] = rng.NormFloat64()
		along += direction[i] * grad[i]
	}
	const h = 5e-3
	sum := func(sign float64) (s float64) {
		moved := values(t, x)
		for i := range moved {
			moved[i] += sign * h * direction[i]
		}
		in := NewOutputs()
		in.Float64("latents", x.Shape, moved)
		for i, v := range values(t, runWith(t, c, in.tensors, nil).tensors["velocity"]) {
			s += v * dv[i]
		}
		return s
	}
	if got := (sum(1) - sum(-1)) / (2 * h); math.Abs(got-along) > 2e-2*math.Abs(along) {
		t.Errorf("along a direction: %v by the gradient, %v by differences", along, got)
	}
}

// learnedState reads one state of the adapter by the names of its tensors.
func learnedState(t *testing.T, out *Outputs, prefix string) map[string][]float64 {
	t.Helper()
	m := map[string][]float64{}
	for name, x := range out.tensors {
		if key, ok := strings.CutPrefix(name, prefix+"."); ok {
			m[key] = values(t, x)
		}
	}
	return m
}

// TestFirstUpdateByFormula: after one step of AdamW from zero moments, the moments are (1-β1)·g and (1-β2)·g² of the clipped
// gradient, and the weights moved by -lr·g/(|g|+eps) after they shrank by lr·decay; for other constants than the case's.
func TestFirstUpdateByFormula(t *testing.T) {
	c := goldenCase(t, "sft_constant")
	for _, limit := range []float64{1e-3, 1e6} { // one that clips, and one that does not
		const lr, beta1, beta2, eps, decay = 0.02, 0.8, 0.95, 1e-3, 0.3
		out := runWith(t, c, nil, map[string]any{"steps": 1, "optimizer": map[string]any{"lr": lr, "betas": []float64{beta1, beta2}, "eps": eps, "weight_decay": decay, "max_grad_norm": limit, "warmup_steps": 0}})
		weights, m, v := learnedState(t, out, "adapter"), learnedState(t, out, "exp_avg"), learnedState(t, out, "exp_avg_sq")
		square := 0.0
		for _, name := range sortedKeys(m) {
			before := values(t, c.inputs["adapter."+name])
			var wantV, wantW []float64
			for i, mi := range m[name] {
				g := mi / (1 - beta1)
				square += g * g
				wantV = append(wantV, (1-beta2)*g*g)
				wantW = append(wantW, before[i]*(1-lr*decay)-lr*g/(math.Abs(g)+eps))
			}
			near(t, "exp_avg_sq "+name, v[name], wantV, 1e-4)
			near(t, "adapter "+name, weights[name], wantW, 1e-5)
		}
		norm := out.output(t, "grad_norm", 1)[0]
		if want := norm * min(1, limit/(norm+1e-6)); math.Abs(math.Sqrt(square)-want) > 1e-4*want {
			t.Errorf("limit %v: the clipped norm is %v, want %v of %v", limit, math.Sqrt(square), want, norm)
		}
		if rate := out.output(t, "lr", 1)[0]; rate != lr {
			t.Errorf("rate %v", rate)
		}
		micro, loss := out.tensors["loss_micro"], out.output(t, "loss", 1)[0]
		mean := 0.0
		for _, l := range values(t, micro) {
			mean += l / float64(micro.Len())
		}
		if math.Abs(mean-loss) > 1e-6*loss {
			t.Errorf("loss %v is not the mean %v", loss, mean)
		}
	}
}

// TestAdapterGradientByDifferences: the largest entries of the loss's gradient, through the network and the adapter.
func TestAdapterGradientByDifferences(t *testing.T) {
	c := goldenCase(t, "sft_constant")
	options := func(lr float64) map[string]any {
		return map[string]any{"steps": 1, "optimizer": map[string]any{"lr": lr, "betas": []float64{0, 0}, "eps": 1, "weight_decay": 0, "max_grad_norm": 1e9, "warmup_steps": 0}}
	}
	grad := learnedState(t, runWith(t, c, nil, options(0)), "exp_avg") // with β1 = 0 the first moment is the gradient
	tried := 0
	for _, name := range sortedKeys(grad) {
		if tried == 3 || !strings.HasSuffix(name, "lora_B.weight") {
			continue
		}
		tried++
		at := 0
		for i, g := range grad[name] {
			if math.Abs(g) > math.Abs(grad[name][at]) {
				at = i
			}
		}
		x := c.inputs["adapter."+name]
		loss := func(by float64) float64 {
			moved := values(t, x)
			moved[at] += by
			in := NewOutputs()
			in.Float64("adapter."+name, x.Shape, moved)
			return runWith(t, c, in.tensors, options(0)).output(t, "loss", 1)[0]
		}
		h := max(1e-2, 2e-5/math.Abs(grad[name][at])) // so that the loss moves by more than its last digits
		if want := (loss(h) - loss(-h)) / (2 * h); math.Abs(grad[name][at]-want) > 0.05*math.Abs(want) {
			t.Errorf("%s[%d]: %v, by differences %v", name, at, grad[name][at], want)
		}
	}
	if tried == 0 {
		t.Error("no adapter tensors")
	}
}

// TestWarmupByFormula: the rate of step k is lr·min(1, k/warmup), so the first step moves nothing but the moments.
func TestWarmupByFormula(t *testing.T) {
	c := goldenCase(t, "sft_warmup")
	var args struct {
		Optimizer map[string]any `json:"optimizer"`
	}
	if err := json.Unmarshal(c.args, &args); err != nil {
		t.Fatal(err)
	}
	optimizer := maps.Clone(args.Optimizer)
	optimizer["lr"], optimizer["warmup_steps"] = 0.5, 8
	out := runWith(t, c, nil, map[string]any{"steps": 1, "optimizer": optimizer})
	if rate := out.output(t, "lr", 1)[0]; rate != 0 {
		t.Errorf("the first rate is %v", rate)
	}
	for name, w := range learnedState(t, out, "adapter") {
		if !slices.Equal(w, values(t, c.inputs["adapter."+name])) {
			t.Errorf("%s moved at a rate of 0", name)
		}
	}
	moved := 0.0
	for _, m := range learnedState(t, out, "exp_avg") {
		for _, v := range m {
			moved = max(moved, math.Abs(v))
		}
	}
	if moved == 0 {
		t.Error("the moments did not advance")
	}
}
