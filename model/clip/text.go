package clip

import (
	"context"
	"fmt"
	"strings"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/weights"
	"github.com/sciflux/sciflux/store/safetensors"
)

// Text is a CLIP text tower with its weights. Its methods may be called by several goroutines.
type Text struct {
	Config TextConfig
	Notes  []string // which tensors are not used as the file has them
	be     engine.Backend
	close  func() error

	tokens, positions *engine.Weight
	tower             tower
	final             norm
}

// OpenText loads the text tower of a folder with config.json and weights: a CLIPTextModel, with a projection or without, or
// a whole CLIPModel. Close it when done: weights may be views of the files.
func OpenText(dir string, be engine.Backend, storage weights.Storage) (*Text, error) {
	config, err := ReadTextConfig(dir)
	if err != nil {
		return nil, fmt.Errorf("load clip text encoder: %w", err)
	}
	src, err := safetensors.OpenDir(dir, "model")
	if err != nil {
		return nil, fmt.Errorf("load clip text encoder %s: %w", dir, err)
	}
	t := &Text{Config: config, be: be, close: src.Close}
	l := weights.NewLoader(src, storage)
	l.Optional(unusedByText)
	t.declare(l)
	if err := l.Load(); err != nil {
		src.Close()
		return nil, fmt.Errorf("load clip text encoder %s: %w", dir, err)
	}
	t.Notes = l.Notes()
	return t, nil
}

// unusedByText matches what larger models hold beside the text tower: the projections and the vision tower.
func unusedByText(name string) bool {
	switch name {
	case "text_projection.weight", "visual_projection.weight", "logit_scale":
		return true
	}
	return weights.PositionIDs(name) || strings.HasPrefix(name, "vision_model.")
}

// tokenTable is the first tensor of the text tower.
const tokenTable = "embeddings.token_embedding.weight"

func (t *Text) declare(l *weights.Loader) {
	c, prefix := t.Config, "text_model."
	if !l.Has(prefix+tokenTable) && l.Has(tokenTable) {
		prefix = "" // a CLIPTextModel saved by transformers 5
	}
	l.Matrix(&t.tokens, prefix+tokenTable, c.VocabSize, c.Width)
	l.Matrix(&t.positions, prefix+"embeddings.position_embedding.weight", c.MaxPositions, c.Width)
	t.tower.declare(l, c.tower(), prefix+"encoder.layers")
	declareNorm(l, &t.final, prefix+"final_layer_norm", c.Width)
}

// Close releases the files.
func (t *Text) Close() error { return t.close() }

// Forward gives the last hidden states after the final norm [B, L, C], and of each row the state at its end-of-text
// token [B, C], as host tensors. ids are rows of length L, at most the config's positions. Attention is causal, so
// padding after the end does not change the pooled state.
func (t *Text) Forward(ctx context.Context, ids []int32, length int) (hidden, pooled *engine.Tensor, err error) {
	batch, err := t.check(ids, length)
	if err != nil {
		return nil, nil, err
	}
	c := t.Config.Width
	hidden = engine.Wrap(make([]float32, batch*length*c), batch, length, c)
	err = t.encode(ctx, ids, length, func(be engine.Backend, from, n int, h engine.View) {
		y := be.Alloc(n*length, c)
		be.LayerNorm(engine.All(y), h, t.final.weight, t.final.bias, t.Config.Eps)
		be.Download(hidden.Floats()[from*length*c:(from+n)*length*c], y)
		be.Free(y)
	})
	if err != nil {
		return nil, nil, err
	}
	pooled = engine.Wrap(make([]float32, batch*c), batch, c)
	for b := range batch {
		at := t.Config.end(ids[b*length : (b+1)*length])
		copy(pooled.Floats()[b*c:(b+1)*c], hidden.Floats()[(b*length+at)*c:])
	}
	return hidden, pooled, nil
}

func (t *Text) check(ids []int32, length int) (int, error) {
	batch, err := weights.Rows(ids, length)
	if err != nil {
		return 0, fmt.Errorf("encode with clip: %w", err)
	}
	if length > t.Config.MaxPositions {
		return 0, fmt.Errorf("encode with clip: %d tokens, the model has %d positions; truncate the prompt", length, t.Config.MaxPositions)
	}
	return batch, nil
}

// end is the place of a row's end-of-text token. Configs with the old id 2 mean the row's largest id, others their own
// id; the first place counts, and place 0 where the id does not occur.
func (c TextConfig) end(row []int32) int {
	at := 0
	for i, id := range row {
		if c.EOS == 2 {
			if id > row[at] {
				at = i
			}
		} else if id == c.EOS {
			return i
		}
	}
	return at
}

// encode runs the tower over chunks of whole rows and hands the states before the final norm to done.
func (t *Text) encode(ctx context.Context, ids []int32, length int, done func(be engine.Backend, from, n int, h engine.View)) error {
	c, batch := t.Config.Width, len(ids)/length
	chunk := min(batch, weights.Chunk(length))
	host := make([]float32, chunk*length*c)
	position := make([]float32, c)
	for from := 0; from < batch; from += chunk {
		n := min(chunk, batch-from)
		x := host[:n*length*c]
		if err := weights.Lookup(x, t.tokens, ids[from*length:(from+n)*length]); err != nil {
			return fmt.Errorf("encode with clip: %w", err)
		}
		for l := range length {
			weights.Row(position, t.positions, l)
			for b := range n {
				row := x[(b*length+l)*c:]
				for k, v := range position {
					row[k] += v
				}
			}
		}
		if err := t.layers(ctx, x, n, length, func(be engine.Backend, h engine.View) { done(be, from, n, h) }); err != nil {
			return err
		}
	}
	return nil
}

func (t *Text) layers(ctx context.Context, x []float32, n, length int, done func(be engine.Backend, h engine.View)) (err error) {
	defer engine.Guard(&err)
	be := engine.NewScope(t.be)
	defer be.Close()
	h := be.Alloc(n*length, t.Config.Width)
	s := t.tower.scratch(be, n*length)
	be.Upload(h, x)
	all := func(v engine.View) engine.View { return v }
	if err := t.tower.run(ctx, s, engine.All(h), engine.Layout{B: n, T: length}, true, all); err != nil {
		return err
	}
	done(be, engine.All(h))
	return nil
}
