package lora

import (
	"bytes"
	"crypto/sha256"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/store/safetensors"
)

// layers is a piece of a model: a group of three, a fused layer of four parts, single layers, one without original.
var layers = []Layer{
	{Name: "transformer_blocks.0.attn.to_q", In: 6, Out: 4, Group: "d.qkv", Original: "double_blocks.0.img_attn.qkv"},
	{Name: "transformer_blocks.0.attn.to_k", In: 6, Out: 4, Group: "d.qkv", Original: "double_blocks.0.img_attn.qkv", OriginalRow: 4},
	{Name: "transformer_blocks.0.attn.to_v", In: 6, Out: 4, Group: "d.qkv", Original: "double_blocks.0.img_attn.qkv", OriginalRow: 8},
	{Name: "transformer_blocks.0.attn.to_out.0", In: 4, Out: 6, Group: "d.out", Original: "double_blocks.0.img_attn.proj"},
	{Name: "single_transformer_blocks.0.attn.to_q", In: 6, Out: 4, Group: "s.qkv", Original: "single_blocks.0.linear1"},
	{Name: "single_transformer_blocks.0.attn.to_k", In: 6, Out: 4, Group: "s.qkv", Original: "single_blocks.0.linear1", OriginalRow: 4},
	{Name: "single_transformer_blocks.0.attn.to_v", In: 6, Out: 4, Group: "s.qkv", Original: "single_blocks.0.linear1", OriginalRow: 8},
	{Name: "single_transformer_blocks.0.proj_mlp", In: 6, Out: 10, Group: "s.mlp", Original: "single_blocks.0.linear1", OriginalRow: 12},
	{Name: "norm_out.linear", In: 6, Out: 12, Group: "norm_out", Original: "final_layer.adaLN_modulation.1", Swapped: true},
	{Name: "time_text_embed.timestep_embedder.linear_1", In: 4, Out: 6, Group: "t.1", Original: "time_in.in_layer", Conditioning: true},
}

// drawn is a random adapter; every module has a rank and an alpha of its own, one rule for all.
func drawn(t *rapid.T) *Adapter {
	var modules []Module
	stable := rapid.Bool().Draw(t, "stable")
	for i, l := range layers {
		if rapid.Bool().Draw(t, l.Name) || len(modules) == 0 && i == len(layers)-1 {
			modules = append(modules, Module{Layer: l, Rank: rapid.IntRange(1, 5).Draw(t, "rank"), Alpha: alphas().Draw(t, "alpha"),
				RankStabilised: stable})
		}
	}
	a := build(modules)
	for i := range a.Weights.Floats() {
		a.Weights.Floats()[i] = float32(rapid.Float64Range(-1, 1).Draw(t, "weight")) + 0.001
	}
	return a
}

// alphas are any positive numbers, short decimals as people write them among them.
func alphas() *rapid.Generator[float64] {
	return rapid.OneOf(rapid.Float64Range(1e-3, 1e3), rapid.Map(rapid.IntRange(1, 999), func(n int) float64 { return float64(n) / 10 }),
		rapid.SampledFrom([]float64{1, 2, 16, 22.627416997969522, 0.9, 1.2}))
}

// one makes an adapter of fixed numbers.
func one(t testing.TB, s Spec) *Adapter {
	t.Helper()
	a, err := New(layers, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range a.Weights.Floats() {
		a.Weights.Floats()[i] = float32(math.Sin(float64(i))) + 2
	}
	return a
}

// TestScale: alpha/rank or alpha/√rank, as a number of the kernels' type, and an alpha of the plain rule gives every bit of
// it back, for any alpha and rank.
func TestScale(t *testing.T) {
	for _, c := range []struct {
		m    Module
		want float32
	}{
		{Module{Rank: 4, Alpha: 16}, 4}, {Module{Rank: 4, Alpha: 8, RankStabilised: true}, 4}, {Module{Rank: 20, Alpha: 1.2}, 0.06},
		{Module{Rank: 2, Alpha: 1, RankStabilised: true}, math.Sqrt2 / 2}, {Module{Rank: 3, Alpha: 1}, 1. / 3},
	} {
		if got := c.m.Scale(); got != c.want {
			t.Errorf("%+v: scale %v, want %v", c.m, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		m := Module{Rank: rapid.IntRange(1, maxRank).Draw(t, "rank"), Alpha: rapid.Float64Range(1e-6, 1e6).Draw(t, "alpha"),
			RankStabilised: rapid.Bool().Draw(t, "stable")}
		if again := (Module{Rank: m.Rank, Alpha: m.plainAlpha()}); again.Scale() != m.Scale() {
			t.Fatalf("%+v: scale %v, of the plain alpha %v", m, m.Scale(), again.Scale())
		}
		if other := m.withRank(rapid.IntRange(1, maxRank).Draw(t, "other")); other.Scale() != m.Scale() {
			t.Fatalf("%+v: scale %v, with rank %d %v", m, m.Scale(), other.Rank, other.Scale())
		}
	})
}

// TestSameAdapterSameBytes: what is written depends on the numbers alone.
func TestSameAdapterSameBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawn(t)
		hash := func(a *Adapter) [32]byte {
			var w bytes.Buffer
			if n, err := a.Write(&w, safetensors.BF16); err != nil || n != int64(w.Len()) {
				t.Fatal(n, err)
			}
			return sha256.Sum256(w.Bytes())
		}
		b := a.Clone()
		if hash(a) != hash(b) {
			t.Fatal("a copy gives other bytes")
		}
		b.Weights.Floats()[0] += 1
		if hash(a) == hash(b) {
			t.Fatal("another adapter gives the same bytes")
		}
	})
}

// TestLayout: the buffer is covered exactly, group by group, all A before all B; Group gives views of it.
func TestLayout(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawn(t)
		covered := make([]int, a.Parameters())
		total := 0
		for _, m := range a.Modules {
			total += m.Parameters()
			for i := range m.Rank * m.In {
				covered[m.A+i]++
			}
			for i := range m.Rank * m.Out {
				covered[m.B+i]++
			}
		}
		if total != len(covered) || slices.ContainsFunc(covered, func(n int) bool { return n != 1 }) {
			t.Fatal("modules do not tile the buffer")
		}
		qkv := []string{layers[0].Name, layers[1].Name, layers[2].Name}
		low := a.Group(qkv)
		var downs, ups []float32
		for i, name := range qkv {
			m, ok := a.Module(name)
			if ok != (low != nil && low.Ranks[i] > 0) {
				t.Fatalf("%s is adapted: %v, its group says otherwise", name, ok)
			}
			if ok {
				downs, ups = append(downs, a.A(m)...), append(ups, a.B(m)...)
			}
		}
		if low == nil {
			return
		}
		if !slices.Equal(low.A.Floats(), downs) || !slices.Equal(low.B.Floats(), ups) || low.A.Cols() != 6 {
			t.Fatal("the group is not its modules' matrices behind one another")
		}
		low.A.Floats()[0] = 42
		if !slices.Contains(a.Weights.Floats(), 42) {
			t.Fatal("the group is a copy")
		}
	})
}

// TestMerge: the merged weight times x is what layer and adapter give together, for both storages.
func TestMerge(t *testing.T) {
	a, err := New(layers, Spec{Targets: []string{"to_out.0"}, Rank: 2, Alpha: 4}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := a.Modules[0]
	copy(a.A(m), []float32{1, 2, 3, 4, 0, 1, 0, 1})
	for i := range a.B(m) {
		a.B(m)[i] = float32(i)
	}
	w := &engine.Weight{Out: 6, In: 4, Stride: 4, F32: make([]float32, 24)}
	merged, err := a.Merge(m, w, engine.Float32)
	if err != nil {
		t.Fatal(err)
	}
	if want := float32(2 * (2*1 + 3*0)); merged.F32[4] != want { // row 1: B = (2, 3), column 0: A = (1, 0)
		t.Errorf("merged[1][0] is %v, want %v", merged.F32[4], want)
	}
	half := &engine.Weight{Out: 6, In: 4, Stride: 4, BF16: make([]uint16, 24)}
	if merged, err = a.Merge(m, half, engine.BFloat16); err != nil || safetensors.FromBFloat16(merged.BF16[4]) != 4 {
		t.Errorf("bfloat16: %v %v", merged, err)
	}
	if _, err := a.Merge(m, &engine.Weight{Out: 5, In: 4, Stride: 4, F32: make([]float32, 20)}, engine.Float32); err == nil {
		t.Error("a weight of another shape was merged")
	}
}

func TestGradientsLayout(t *testing.T) {
	a, err := New(layers, Spec{Targets: []string{"to_q", "to_v"}, Rank: 2, Alpha: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	g := a.NewGradients()
	m := a.Modules[1]
	g.B(m)[3] = 5
	g.A(m)[2] = 7
	if g.Sum.Floats()[m.B+3] != 5 || g.Sum.Floats()[m.A+2] != 7 || g.Adapter() != a {
		t.Error("views of the gradients lie elsewhere than the adapter's numbers")
	}
	if low := g.Group([]string{layers[0].Name, layers[1].Name, layers[2].Name}); low.A.Len() != 2*2*6 || low.B.Len() != 2*2*4 {
		t.Errorf("group of %d and %d numbers", low.A.Len(), low.B.Len())
	}
	g.Zero()
	if slices.ContainsFunc(g.Sum.Floats(), func(v float32) bool { return v != 0 }) {
		t.Error("Zero leaves numbers")
	}
}
