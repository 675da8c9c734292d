package stages

import (
	"context"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/store"
)

// transformerOf is the one that a run with a setting opens.
func transformerOf(t *testing.T, setting string) *flux.Model {
	t.Helper()
	s, ctx, spec := newStudio(t, &store.Mem{}), context.Background(), testSpec(t, setting)
	if _, err := s.Prepare(ctx, spec, newWatcher(0)); err != nil {
		t.Fatal(err)
	}
	d, err := s.desk(ctx, spec.Job())
	if err != nil {
		t.Fatal(err)
	}
	return d.pipe.Transformer
}

// TestMatricesAreKeptAsConfigured: model.dtype decides how the base is kept. The world's files hold f32.
func TestMatricesAreKeptAsConfigured(t *testing.T) {
	for dtype, want := range map[string]engine.DType{"auto": engine.Float32, "f32": engine.Float32, "bf16": engine.BFloat16} {
		transformer := transformerOf(t, "model.dtype="+dtype)
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
	for compute, blocks := range map[string]engine.DType{"f32": engine.Float32, "bf16": engine.BFloat16} {
		transformer := transformerOf(t, "model.compute="+compute)
		for name, want := range map[string]engine.DType{
			"transformer_blocks.0.attn.to_q": blocks, "transformer_blocks.0.ff.net.2": blocks, "single_transformer_blocks.0.proj_out": blocks,
			"transformer_blocks.0.norm1.linear": engine.Float32, "x_embedder": engine.Float32, "proj_out": engine.Float32,
		} {
			if l, ok := transformer.Layer(name); !ok || l.Weight.Compute != want {
				t.Errorf("%s: %s computes in %s, want %s", compute, name, l.Weight.Compute, want)
			}
		}
	}
}
