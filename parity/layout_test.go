package parity

import (
	"context"
	"encoding/json"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/store/safetensors"
)

func ramp(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i + 1)
	}
	return v
}

// TestPackingByIndex: token (i, j) holds the 2×2 cell at (2i, 2j), channel by channel, and unpacking is its inverse.
func TestPackingByIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, ch, rows, columns := rapid.IntRange(1, 3).Draw(t, "B"), rapid.IntRange(1, 5).Draw(t, "channels"), rapid.IntRange(1, 4).Draw(t, "rows"), rapid.IntRange(1, 4).Draw(t, "columns")
		h, w, tokens := 2*rows, 2*columns, rows*columns
		n := b * ch * h * w
		in := NewOutputs()
		in.Float32("latents", []int{b, ch, h, w}, ramp(n))
		in.Float32("tokens", []int{b, tokens, 4 * ch}, ramp(n))
		out := compute(t, "latent_pack", map[string]any{"channels": ch, "height": h, "width": w}, in)
		packed, unpacked, ids := out.output(t, "packed", b, tokens, 4*ch), out.output(t, "unpacked", b, ch, h, w), out.output(t, "img_ids", tokens, 3)
		for s := range b {
			for c := range ch {
				for y := range h {
					for x := range w {
						flat := ((s*ch+c)*h+y)*w + x
						place := (s*tokens+y/2*columns+x/2)*4*ch + 4*c + 2*(y%2) + x%2
						if packed[place] != float64(flat+1) || unpacked[flat] != float64(place+1) {
							t.Fatalf("sample %d channel %d at (%d, %d): packed %v, unpacked %v", s, c, y, x, packed[place], unpacked[flat])
						}
					}
				}
			}
		}
		for k := range tokens {
			if got := [3]float64(ids[3*k:]); got != [3]float64{0, float64(k / columns), float64(k % columns)} {
				t.Fatalf("token %d has ids %v", k, got)
			}
		}
	})
}

// TestMaskBoxByDefinition: the smallest box around all, grown by a tenth in each direction where there is room.
func TestMaskBoxByDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, form := rapid.IntRange(0, 4).Draw(t, "boxes"), rapid.SampledFrom([]string{"paper", "corrected"}).Draw(t, "form")
		low, high := [2]float64{math.Inf(1), math.Inf(1)}, [2]float64{math.Inf(-1), math.Inf(-1)}
		var boxes []float32
		for range n {
			at := func(name string, a, b float32) float64 { return float64(rapid.Float32Range(a, b).Draw(t, name)) }
			centre, size := [2]float64{at("cx", 0, 1), at("cy", 0, 1)}, [2]float64{at("w", 0.05, 0.8), at("h", 0.05, 0.8)}
			for d := range 2 {
				low[d], high[d] = min(low[d], centre[d]-size[d]/2), max(high[d], centre[d]+size[d]/2)
			}
			boxes = append(boxes, float32(centre[0]), float32(centre[1]), float32(size[0]), float32(size[1]))
		}
		in := NewOutputs()
		in.Float32("boxes", []int{n, 4}, boxes)
		got := compute(t, "mask_box", map[string]any{"form": form}, in).output(t, "box", 4)
		want := []float64{0.5, 0.5, 1, 1}
		for d := range 2 {
			if n == 0 {
				break
			}
			centre, size := (low[d]+high[d])/2, high[d]-low[d]
			if math.Abs(size-0.9) < 1e-5 {
				return // rounding decides
			}
			if size <= 0.9 {
				size += 0.1
			} else {
				size = 1
			}
			if form == "corrected" {
				a, b := max(0, centre-size/2), min(1, centre+size/2)
				centre, size = (a+b)/2, b-a
			}
			want[d], want[2+d] = centre, size
		}
		near(t, "box", got, want, 1e-5)
	})
}

// TestMetricsByFormula: both measures in percent, not clamped.
func TestMetricsByFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) float64 { return float64(rapid.IntRange(-400, 400).Draw(t, name)) / 8 }
		ip, ep, sp, tuned := draw("ip"), draw("ep"), draw("sp"), draw("tuned")
		if ep == sp || ep == ip {
			t.Skip("no distance to measure")
		}
		out := compute(t, "metrics", map[string]any{"nd": []any{map[string]any{"ip": ip, "ep": ep, "sp": sp}}, "ri": []any{map[string]any{"tuned_ip": tuned, "base_ip": ip, "base_ep": ep}}}, nil)
		near(t, "nd", out.output(t, "nd", 1), []float64{100 * (ip - sp) / (ep - sp)}, 1e-12)
		near(t, "ri", out.output(t, "ri", 1), []float64{100 * (tuned - ip) / (ep - ip)}, 1e-12)
	})
}

// TestBenchmarkByCounting: a row is right when the explicit score is strictly the larger one; shares by law and by the row's
// own category.
func TestBenchmarkByCounting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(t, "rows")
		law, category, scores := make([]string, n), make([]string, n), make([]float32, 2*n)
		byLaw, byCategory, right := map[string][2]int{}, map[string][2]int{}, 0
		probabilities := make([]float64, 2*n)
		for i := range n {
			law[i], category[i] = rapid.SampledFrom([]string{"rust", "gravity", "é"}).Draw(t, "law"), rapid.SampledFrom([]string{"physics", "biology"}).Draw(t, "category")
			a, b := rapid.IntRange(-3, 3).Draw(t, "explicit"), rapid.IntRange(-3, 3).Draw(t, "superficial")
			scores[2*i], scores[2*i+1] = float32(a), float32(b)
			probabilities[2*i] = 1 / (1 + math.Exp(float64(b-a)))
			probabilities[2*i+1] = 1 / (1 + math.Exp(float64(a-b)))
			hit := map[bool]int{true: 1}[a > b]
			right += hit
			count := func(m map[string][2]int, key string) { m[key] = [2]int{m[key][0] + hit, m[key][1] + 1} }
			count(byLaw, law[i])
			count(byCategory, category[i])
		}
		in := NewOutputs()
		in.Float32("scores", []int{n, 2}, scores)
		out := compute(t, "benchmark", map[string]any{"law": law, "category": category}, in)
		near(t, "probabilities", out.output(t, "probabilities", n, 2), probabilities, 1e-12)
		near(t, "accuracy", out.output(t, "accuracy", 1), []float64{float64(right) / float64(n)}, 1e-12)
		for name, want := range map[string]any{"overall": []int{right, n}, "law": byLaw, "category": byCategory, "laws": sortedKeys(byLaw), "categories": sortedKeys(byCategory)} {
			var row Row
			if row.compareValue(out.values[name], mustJSON(want)); !row.OK {
				t.Fatalf("%s: %s", name, row.Detail)
			}
		}
		var shares []float64
		for _, k := range sortedKeys(byLaw) {
			shares = append(shares, float64(byLaw[k][0])/float64(byLaw[k][1]))
		}
		near(t, "law_accuracy", out.output(t, "law_accuracy", len(shares)), shares, 1e-12)
	})
}

// TestRewardScheduleByFormula: the first update at the full rate, then a logarithmic rise from zero and a straight fall to zero.
func TestRewardScheduleByFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate, warmup := rapid.Float64Range(1e-7, 1).Draw(t, "rate"), rapid.IntRange(2, 30).Draw(t, "warmup")
		total, updates := warmup+rapid.IntRange(1, 40).Draw(t, "more"), rapid.IntRange(1, 90).Draw(t, "updates")
		want := make([]float64, updates)
		for i := range want {
			at := float64(i - 1)
			switch {
			case i == 0:
				want[i] = rate
			case i-1 < warmup:
				want[i] = rate * math.Log(at+1) / math.Log(float64(warmup))
			default:
				want[i] = rate * max(0, (float64(total)-at)/float64(total-warmup))
			}
		}
		out := compute(t, "reward_schedule", map[string]any{"form": "paper", "learning_rate": rate, "warmup": warmup, "total": total, "updates": updates}, nil)
		near(t, "learning_rate", out.output(t, "learning_rate", updates), want, 1e-12)
	})
}

// TestTargetsByCounting: the paper's four targets hit the picture stream's attention only; every one of them is square here,
// so the adapter has 2·rank·width numbers for each.
func TestTargetsByCounting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		heads, width := rapid.IntRange(1, 4).Draw(t, "heads"), 4*rapid.IntRange(2, 8).Draw(t, "head width")
		double, single, rank := rapid.IntRange(0, 4).Draw(t, "double"), rapid.IntRange(0, 5).Draw(t, "single"), rapid.IntRange(1, 64).Draw(t, "rank")
		if double+single == 0 {
			t.Skip("no blocks")
		}
		axes := []int{width - 4, 2, 2}
		config := map[string]any{"num_attention_heads": heads, "attention_head_dim": width, "num_layers": double, "num_single_layers": single, "in_channels": 16, "joint_attention_dim": 24, "pooled_projection_dim": 12, "guidance_embeds": true, "axes_dims_rope": axes}
		out := compute(t, "lora_targets", map[string]any{"config": config, "target_modules": []string{"to_k", "to_q", "to_v", "to_out.0"}, "rank": rank}, nil)
		modules, ok := out.values["modules"].([]string)
		if want := 4*double + 3*single; !ok || len(modules) != want || out.values["parameters"] != want*2*rank*heads*width {
			t.Fatalf("%d modules with %v numbers, want %d", len(modules), out.values["parameters"], want)
		}
		for _, m := range modules {
			if strings.Contains(m, "add_") || !strings.Contains(m, ".attn.to_") {
				t.Fatalf("%s is adapted", m)
			}
		}
	})
}

// goldenCase opens a case of the repository.
func goldenCase(t *testing.T, name string) *Case {
	t.Helper()
	c, err := Open(filepath.Join("..", "testdata", "golden", name))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// product is scale · B · A in float64.
func product(a, b []float64, in, out int, scale float64) []float64 {
	rank := len(a) / in
	d := make([]float64, out*in)
	for o := range out {
		for r := range rank {
			for i := range in {
				d[o*in+i] += scale * b[o*rank+r] * a[r*in+i]
			}
		}
	}
	return d
}

// TestWeightChangesByProduct: adapters of any rank and alpha, written as training writes them, mean alpha/rank · B·A.
func TestWeightChangesByProduct(t *testing.T) {
	base := goldenCase(t, "lora_file_alpha")
	names := slices.DeleteFunc(sortedKeys(base.expected), func(n string) bool { return !strings.HasPrefix(n, "delta.") })
	rng := rand.New(rand.NewPCG(5, 6))
	for _, alpha := range []float32{0, 1, 16, -3} { // 0: no alpha in the file, so scale 1
		var tensors []safetensors.Tensor
		want := map[string][]float64{}
		for _, name := range names {
			module, shape := strings.TrimPrefix(name, "delta."), base.expected[name].Shape
			out, in, rank := shape[0], shape[1], 1+rng.IntN(5)
			a, b := noise(rng, rank*in), noise(rng, out*rank)
			tensors = append(tensors, safetensors.Float32s("transformer."+module+".lora_A.weight", safetensors.F32, []int{rank, in}, a),
				safetensors.Float32s("transformer."+module+".lora_B.weight", safetensors.F32, []int{out, rank}, b))
			scale := 1.0
			if alpha != 0 {
				tensors = append(tensors, safetensors.Float32s("transformer."+module+".alpha", safetensors.F32, nil, []float32{alpha}))
				scale = float64(alpha) / float64(rank)
			}
			want[name] = product(wide(a), wide(b), in, out, scale)
		}
		path := filepath.Join(t.TempDir(), "adapter.safetensors")
		writeTensors(t, path, tensors)
		c := *base
		c.Folder, c.args = filepath.Dir(path), mustJSON(map[string]any{"file": filepath.Base(path)})
		c.model = relative(t, c.Folder, base.File(base.model))
		got, err := guarded(context.Background(), runLoRAFile, &c, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			near(t, name, got.output(t, name, base.expected[name].Shape...), want[name], 1e-5)
		}
	}
}

func noise(rng *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
	}
	return v
}

// relative is the way to path from an absolute folder.
func relative(t *testing.T, folder, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err == nil {
		path, err = filepath.Rel(folder, path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func writeTensors(t *testing.T, path string, tensors []safetensors.Tensor) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := safetensors.Write(f, tensors, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRolloutDensitiesByFormula: with the noise given, a transition's density does not depend on the network: the mean of
// -z²/2 minus the logarithm of the step's deviation and of √2π, for other numbers of steps and churns than the case's.
func TestRolloutDensitiesByFormula(t *testing.T) {
	base := goldenCase(t, "rollout_corrected_dev")
	start := base.inputs["start"]
	size := start.Len() / start.Shape[0]
	rng := rand.New(rand.NewPCG(7, 8))
	for _, form := range []string{"paper", "corrected"} {
		for _, churn := range []float64{0.3, 4} {
			const n = 3
			args := map[string]any{}
			if err := json.Unmarshal(base.args, &args); err != nil {
				t.Fatal(err)
			}
			args["steps"], args["s_churn"], args["form"] = n, churn, form
			c := *base
			c.args, c.inputs = mustJSON(args), maps.Clone(base.inputs)
			z, in := noise(rng, n*start.Len()), NewOutputs()
			in.Float32("noise", append([]int{n}, start.Shape...), z)
			c.inputs["noise"] = in.tensors["noise"]
			out, err := guarded(context.Background(), runRollout, &c, Options{Device: "cpu", DType: Float32})
			if err != nil {
				t.Fatal(err)
			}
			sigmas := out.output(t, "sigmas", n+1)
			gamma := min(churn/n, math.Sqrt2-1)
			var want []float64
			for i := range n {
				std := sigmas[i] * math.Sqrt((1+gamma)*(1+gamma)-1)
				for b := range start.Shape[0] {
					sum := 0.0
					for _, v := range z[(i*start.Shape[0]+b)*size:][:size] {
						sum -= float64(v) * float64(v) / 2
					}
					want = append(want, sum/float64(size)-math.Log(std)-math.Log(2*math.Pi)/2)
				}
			}
			near(t, form, out.output(t, "log_prob", n, start.Shape[0]), want, 1e-4)
			latents := out.output(t, "latents", append([]int{n + 1}, start.Shape...)...)
			first, err := start.Float64s()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(first, latents[:len(first)]); diff != "" {
				t.Errorf("%s: the first latents are not the start: %s", form, diff)
			}
		}
	}
}

// TestResizingByDefinition: enlarging by a whole factor without a kernel wider than a pixel keeps columns of equal pictures
// equal, and one pixel gives a flat picture of any size, whatever the filter; sizes come back in the order asked for.
func TestResizingByDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		filter := rapid.SampledFrom([]string{"bicubic", "lanczos", "bilinear"}).Draw(t, "filter")
		in := NewOutputs()
		colour := rapid.SliceOfN(rapid.Byte(), 3, 3).Draw(t, "colour")
		sizes := []map[string]int{}
		n := rapid.IntRange(1, 3).Draw(t, "pictures")
		for i := range n {
			in.Uint8("image."+string(rune('0'+i)), []int{1, 1, 3}, colour)
			sizes = append(sizes, map[string]int{"width": rapid.IntRange(1, 9).Draw(t, "width"), "height": rapid.IntRange(1, 9).Draw(t, "height")})
		}
		out := compute(t, "image_resize", map[string]any{"filter": filter, "sizes": sizes}, in)
		for i, s := range sizes {
			for k, v := range out.output(t, "resized."+string(rune('0'+i)), s["height"], s["width"], 3) {
				if v != float64(colour[k%3]) {
					t.Fatalf("picture %d: value %d is %v, want %d", i, k, v, colour[k%3])
				}
			}
		}
	})
}
