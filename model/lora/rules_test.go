package lora

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/store/safetensors"
)

// TestDeltaByDefinition: scale·B·A, and a merged weight is the sum, rounded once, whatever the storage and stride of the
// weight it is added to.
func TestDeltaByDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawn(t)
		m := a.Modules[rapid.IntRange(0, len(a.Modules)-1).Draw(t, "module")]
		delta, stride := a.Delta(m), m.In+rapid.IntRange(0, 2).Draw(t, "gap")
		w := &engine.Weight{Out: m.Out, In: m.In, Stride: stride}
		for i := range m.Out * stride {
			w.F32 = append(w.F32, float32(math.Sin(float64(i))))
		}
		half := &engine.Weight{Out: m.Out, In: m.In, Stride: stride}
		for _, v := range w.F32 {
			half.BF16 = append(half.BF16, safetensors.ToBFloat16(v))
		}
		whole, err := a.Merge(m, w, engine.Float32)
		if err != nil {
			t.Fatal(err)
		}
		rounded, err := a.Merge(m, half, engine.BFloat16)
		if err != nil {
			t.Fatal(err)
		}
		for o := range m.Out {
			for i := range m.In {
				want := 0.0
				for k := range m.Rank {
					want += float64(a.B(m)[o*m.Rank+k]) * float64(a.A(m)[k*m.In+i])
				}
				want *= float64(m.Scale())
				d := delta[o*m.In+i]
				if math.Abs(float64(d)-want) > 1e-6*(1+math.Abs(want)) {
					t.Fatalf("%s: change (%d, %d) is %v, want %v", m.Name, o, i, d, want)
				}
				if got := whole.F32[o*m.In+i]; got != w.F32[o*stride+i]+d {
					t.Fatalf("merged (%d, %d) is %v, want %v + %v", o, i, got, w.F32[o*stride+i], d)
				}
				if got, old := rounded.BF16[o*m.In+i], safetensors.FromBFloat16(half.BF16[o*stride+i]); got != safetensors.ToBFloat16(old+d) {
					t.Fatalf("merged bfloat16 (%d, %d) is %x", o, i, got)
				}
			}
		}
	})
}

// TestGroupsAreTheModules: what the engine is given for a group is the modules' own memory in the order of the layers,
// with rank 0 where a layer has no adapter; gradients lie alike.
func TestGroupsAreTheModules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawn(t)
		g := a.NewGradients()
		for i := range g.Sum.Floats() {
			g.Sum.Floats()[i] = float32(-i)
		}
		found := 0
		for from := 0; from < len(layers); {
			var names []string
			group := layers[from].Group
			for ; from < len(layers) && layers[from].Group == group; from++ {
				names = append(names, layers[from].Name)
			}
			low, grads := a.Group(names), g.Group(names)
			var wantA, wantB, gradA, gradB []float32
			for i, n := range names {
				m, ok := a.Module(n)
				if !ok {
					if low != nil && low.Ranks[i] != 0 {
						t.Fatalf("%s has rank %d", n, low.Ranks[i])
					}
					continue
				}
				found++
				if low == nil || low.Ranks[i] != m.Rank || low.Scales[i] != m.Scale() {
					t.Fatalf("%s of rank %d, scale %v in %+v", n, m.Rank, m.Scale(), low)
				}
				wantA, wantB = append(wantA, a.A(m)...), append(wantB, a.B(m)...)
				gradA, gradB = append(gradA, g.A(m)...), append(gradB, g.B(m)...)
			}
			if (low == nil) != (wantA == nil) {
				t.Fatalf("group %s: %+v for %d numbers", group, low, len(wantA))
			}
			if low != nil && (!slices.Equal(low.A.Floats(), wantA) || !slices.Equal(low.B.Floats(), wantB) ||
				!slices.Equal(grads.A.Floats(), gradA) || !slices.Equal(grads.B.Floats(), gradB)) {
				t.Fatalf("group %s holds other numbers than its modules", group)
			}
			if low != nil {
				low.A.Floats()[0] = 42
				first := slices.IndexFunc(names, func(n string) bool { _, ok := a.Module(n); return ok })
				if m, _ := a.Module(names[first]); a.A(m)[0] != 42 {
					t.Fatalf("group %s is a copy", group)
				}
			}
		}
		if found != len(a.Modules) {
			t.Fatalf("%d of %d modules found", found, len(a.Modules))
		}
	})
}

// TestClonesAreEqualAndApart: a clone has the same modules and numbers in memory of its own.
func TestClonesAreEqualAndApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawn(t)
		c := a.Clone()
		if !a.Same(c) || !slices.Equal(a.Weights.Floats(), c.Weights.Floats()) || !slices.Equal(a.Names(), c.Names()) {
			t.Fatal("a clone differs")
		}
		c.Weights.Floats()[0]++
		if a.Weights.Floats()[0] == c.Weights.Floats()[0] {
			t.Fatal("a clone shares memory")
		}
		c.Modules[0].Alpha++
		if a.Same(c) {
			t.Fatal("adapters of different scale are the same")
		}
	})
}
