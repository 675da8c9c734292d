package models

import (
	"testing"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/cpu"
	"github.com/sciflux/sciflux/model/flux"
	builtin "github.com/sciflux/sciflux/models"
)

// quick is a machine that is fastest in a type.
type quick struct {
	engine.Backend
	in engine.DType
}

func (q quick) Fast() engine.DType { return q.in }

// transformerOf is the one that a run with a setting opens on a machine that is fastest in a type.
func transformerOf(t *testing.T, setting string, fast engine.DType) *flux.Model {
	t.Helper()
	be, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	return openWorld(t, NewKeeper(quick{be, fast}, builtin.Files, t.TempDir(), 0), setting).Pipeline.Transformer
}

// openWorld opens the models of the world with a setting of the config.
func openWorld(t *testing.T, k *Keeper, setting string) *Set {
	t.Helper()
	cfg, err := configs.Load(configs.Sources{Name: "world", Set: []string{setting}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := k.Open(t.Context(), cfg, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Release)
	return s
}

// TestMatricesAreKeptAsConfigured: model.dtype decides how the base is kept. The world's files hold f32.
func TestMatricesAreKeptAsConfigured(t *testing.T) {
	for dtype, want := range map[string]engine.DType{"auto": engine.Float32, "f32": engine.Float32, "bf16": engine.BFloat16} {
		transformer := transformerOf(t, "model.dtype="+dtype, engine.Float32)
		kept := map[engine.DType]int{}
		for _, l := range transformer.Layers() {
			if layer, ok := transformer.Layer(l.Name); ok {
				kept[layer.Weight.DType()]++
			}
		}
		if kept[want] == 0 || len(kept) != 1 {
			t.Errorf("%s: matrices are kept as %v, want %s", dtype, kept, want)
		}
	}
}

// TestBlocksComputeAsConfigured: model.compute decides what the layers of the blocks multiply in; all others stay in f32.
func TestBlocksComputeAsConfigured(t *testing.T) {
	for _, c := range []struct {
		compute      string
		fast, blocks engine.DType
	}{
		{"f32", engine.BFloat16, engine.Float32}, {"bf16", engine.Float32, engine.BFloat16},
		{"auto", engine.Float32, engine.Float32}, {"auto", engine.BFloat16, engine.BFloat16},
	} {
		transformer := transformerOf(t, "model.compute="+c.compute, c.fast)
		for name, want := range map[string]engine.DType{
			"transformer_blocks.0.attn.to_q": c.blocks, "transformer_blocks.0.ff.net.2": c.blocks, "single_transformer_blocks.0.proj_out": c.blocks,
			"transformer_blocks.0.norm1.linear": engine.Float32, "x_embedder": engine.Float32, "proj_out": engine.Float32,
		} {
			if l, ok := transformer.Layer(name); !ok || l.Weight.Compute != want {
				t.Errorf("%s on a machine for %s: %s computes in %s, want %s", c.compute, c.fast, name, l.Weight.Compute, want)
			}
		}
	}
}
