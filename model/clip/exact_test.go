package clip

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/reference"
	"github.com/sciflux/sciflux/store/safetensors"
)

// book reads tensors of a file in float64, by name: a second implementation of both towers straight from the paper's
// definition, which shares no code with the first but the activations.
type book struct {
	t   *testing.T
	src safetensors.Source
}

func openBook(t *testing.T, dir string) book {
	t.Helper()
	src, err := safetensors.OpenDir(dir, "model")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return book{t, src}
}

func (b book) values(name string) []float64 {
	info, ok := b.src.Info(name)
	if !ok {
		b.t.Fatalf("no tensor %s", name)
	}
	v, err := b.src.Float32(name, info.Shape...)
	if err != nil {
		b.t.Fatal(err)
	}
	w := make([]float64, len(v))
	for i, x := range v {
		w[i] = float64(x)
	}
	return w
}

// linear is x·Wᵀ + bias of the layer of a name; the bias may be absent.
func (b book) linear(name string, x []float64) []float64 {
	w := b.values(name + ".weight")
	y := make([]float64, len(w)/len(x))
	if _, ok := b.src.Info(name + ".bias"); ok {
		copy(y, b.values(name+".bias"))
	}
	for o := range y {
		for i, v := range x {
			y[o] += w[o*len(x)+i] * v
		}
	}
	return y
}

func (b book) norm(name string, x []float64, eps float32) []float64 {
	w, bias, n := b.values(name+".weight"), b.values(name+".bias"), float64(len(x))
	mean, square := 0.0, 0.0
	for _, v := range x {
		mean += v / n
	}
	for _, v := range x {
		square += (v - mean) * (v - mean) / n
	}
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = (v-mean)/math.Sqrt(square+float64(eps))*w[i] + bias[i]
	}
	return y
}

// attend is what token i takes from the tokens it sees.
func attend(q, k, v [][]float64, i, heads int, causal bool) []float64 {
	width := len(q[i]) / heads
	out := make([]float64, len(q[i]))
	seen := len(k)
	if causal {
		seen = i + 1
	}
	for h := range heads {
		weights, sum := make([]float64, seen), 0.0
		for j := range weights {
			dot := 0.0
			for c := h * width; c < (h+1)*width; c++ {
				dot += q[i][c] * k[j][c]
			}
			weights[j] = math.Exp(dot / math.Sqrt(float64(width)))
			sum += weights[j]
		}
		for j, w := range weights {
			for c := h * width; c < (h+1)*width; c++ {
				out[c] += w / sum * v[j][c]
			}
		}
	}
	return out
}

// layers takes tokens through all layers under a prefix.
func (b book) layers(prefix string, x [][]float64, s shape, act engine.Activation, causal bool) [][]float64 {
	for l := range s.layers {
		name := fmt.Sprintf("%s.%d.", prefix, l)
		var q, k, v [][]float64
		for _, token := range x {
			n := b.norm(name+"layer_norm1", token, s.eps)
			q, k, v = append(q, b.linear(name+"self_attn.q_proj", n)), append(k, b.linear(name+"self_attn.k_proj", n)), append(v, b.linear(name+"self_attn.v_proj", n))
		}
		next := make([][]float64, len(x))
		for i, token := range x {
			h := plus(token, b.linear(name+"self_attn.out_proj", attend(q, k, v, i, s.heads, causal)))
			f := b.linear(name+"mlp.fc1", b.norm(name+"layer_norm2", h, s.eps))
			for c := range f {
				f[c], _ = reference.Value(act, f[c])
			}
			next[i] = plus(h, b.linear(name+"mlp.fc2", f))
		}
		x = next
	}
	return x
}

func plus(a, b []float64) []float64 {
	c := make([]float64, len(a))
	for i := range a {
		c[i] = a[i] + b[i]
	}
	return c
}

func (b book) row(name string, i, width int) []float64 { return b.values(name)[i*width : (i+1)*width] }

func near(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i, w := range want {
		if math.Abs(float64(got[i])-w) > 2e-5*(1+math.Abs(w)) {
			t.Fatalf("%s: value %d is %v, want %v", what, i, got[i], w)
		}
	}
}

// TestTextByDefinition: hidden states and pooled state of several rows, token by token in float64.
func TestTextByDefinition(t *testing.T) {
	m, b := tinyText(t), openBook(t, textFolder)
	c := m.Config
	const length = 9
	rows := [][]int32{{0, 5, 17, 99, 3, 119, 1, 1, 1}, {0, 119, 1, 1, 1, 1, 1, 1, 1}, {0, 118, 2, 44, 44, 44, 7, 8, 119}}
	var ids []int32
	for _, r := range rows {
		ids = append(ids, r...)
	}
	hidden, pooled, err := m.Forward(context.Background(), ids, length)
	if err != nil {
		t.Fatal(err)
	}
	for r, row := range rows {
		var x [][]float64
		for i, id := range row {
			x = append(x, plus(b.row("text_model.embeddings.token_embedding.weight", int(id), c.Width), b.row("text_model.embeddings.position_embedding.weight", i, c.Width)))
		}
		x = b.layers("text_model.encoder.layers", x, c.tower(), engine.QuickGELU, true)
		for i := range x {
			want := b.norm("text_model.final_layer_norm", x[i], c.Eps)
			near(t, fmt.Sprintf("row %d, token %d", r, i), hidden.Floats()[(r*length+i)*c.Width:][:c.Width], want)
			if row[i] == 119 { // the largest id is the end of the text
				near(t, fmt.Sprintf("row %d, pooled", r), pooled.Floats()[r*c.Width:][:c.Width], want)
			}
		}
	}
}

// TestFeaturesByDefinition: features of pictures and of a text, and their score, in float64.
func TestFeaturesByDefinition(t *testing.T) {
	m, b, ctx := tinyCLIP(t), openBook(t, folder), context.Background()
	v := m.Config.Vision
	in := patches(m, 3, 2)
	got, err := m.ImageFeatures(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	unit := func(x []float64) []float64 {
		length := 0.0
		for _, a := range x {
			length += a * a
		}
		for i := range x {
			x[i] /= math.Sqrt(length)
		}
		return x
	}
	const embeddings = "vision_model.embeddings."
	for p := range 2 {
		x := [][]float64{plus(b.values(embeddings+"class_embedding"), b.row(embeddings+"position_embedding.weight", 0, v.Width))}
		for i := range v.Patches() {
			patch := make([]float64, v.PatchWidth())
			for k := range patch {
				patch[k] = float64(in[(p*v.Patches()+i)*v.PatchWidth()+k])
			}
			x = append(x, plus(b.linear(embeddings+"patch_embedding", patch), b.row(embeddings+"position_embedding.weight", 1+i, v.Width)))
		}
		for i := range x {
			x[i] = b.norm("vision_model.pre_layrnorm", x[i], v.Eps)
		}
		x = b.layers("vision_model.encoder.layers", x, v.tower(), engine.GELU, false)
		want := unit(b.linear("visual_projection", b.norm("vision_model.post_layernorm", x[0], v.Eps)))
		near(t, fmt.Sprint("picture ", p), got[p*m.Config.Projection:][:m.Config.Projection], want)

		ids := []int32{537, 4, 5, 6, 538}
		text, err := m.TextFeatures(ctx, ids, len(ids))
		if err != nil {
			t.Fatal(err)
		}
		dot := 0.0
		for k, w := range want {
			dot += w * float64(text[k])
		}
		if score := math.Exp(b.values("logit_scale")[0]) * dot; math.Abs(m.Score(text, got[p*m.Config.Projection:][:m.Config.Projection])-score) > 1e-4*(1+math.Abs(score)) {
			t.Errorf("picture %d: score %v, want %v", p, m.Score(text, got[p*m.Config.Projection:][:m.Config.Projection]), score)
		}
	}
}
