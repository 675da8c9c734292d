// Package t5 is the encoder of T5 v1.1, FLUX's second text encoder.
//
// FLUX gives it no attention mask: padding takes part in attention, so the states of a prompt depend on the length it is
// padded to.
package t5

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/weights"
	"github.com/sciflux/sciflux/store/safetensors"
)

// T5 is an encoder with its weights. Its methods may be called by several goroutines.
type T5 struct {
	Config Config
	Notes  []string // which tensors are not used as the file has them
	be     engine.Backend
	close  func() error

	embedding *engine.Weight // [vocabulary, C]
	relative  []float32      // [buckets, H] of the first block, used by all
	blocks    []block
	final     []float32

	mu   sync.Mutex
	bias *engine.Tensor // [H, L, L] of the last length
	held int            // its L
}

// block is one layer: norm, self-attention, norm, gated feed-forward, no biases anywhere.
type block struct {
	norm1, norm2 []float32
	q, k, v, o   *engine.Weight
	gate, up     *engine.Weight // wi_0 (through the gelu) and wi_1
	down         *engine.Weight
}

// Open loads the encoder of a folder with config.json and weights: a T5EncoderModel, or a whole T5 whose decoder is left
// alone. Close it when done: weights may be views of the files.
func Open(dir string, be engine.Backend, storage weights.Storage) (*T5, error) {
	config, err := ReadConfig(dir)
	if err != nil {
		return nil, fmt.Errorf("load t5 encoder: %w", err)
	}
	src, err := safetensors.OpenDir(dir, "model")
	if err != nil {
		return nil, fmt.Errorf("load t5 encoder %s: %w", dir, err)
	}
	m := &T5{Config: config, be: be, close: src.Close}
	if err := m.load(src, storage); err != nil {
		src.Close()
		return nil, fmt.Errorf("load t5 encoder %s: %w", dir, err)
	}
	return m, nil
}

// The embedding has two names, of which files hold one or both, with the same values.
const (
	sharedName   = "shared.weight"
	embeddedName = "encoder.embed_tokens.weight"
)

func (m *T5) load(src safetensors.Source, storage weights.Storage) error {
	l := weights.NewLoader(src, storage)
	l.Optional(func(name string) bool {
		return name == embeddedName || name == "lm_head.weight" || strings.HasPrefix(name, "decoder.")
	})
	var table *engine.Weight
	m.declare(l, &table)
	if err := l.Load(); err != nil {
		return err
	}
	m.Notes = l.Notes()
	c := m.Config
	m.relative = make([]float32, c.Buckets*c.Heads)
	for r := range c.Buckets {
		weights.Row(m.relative[r*c.Heads:], table, r)
	}
	return nil
}

// declare adds the model's tensors to a loader; table gets the relative bias [buckets, H].
func (m *T5) declare(l *weights.Loader, table **engine.Weight) {
	c := m.Config
	inner := c.Heads * c.HeadWidth
	embedding := sharedName
	if !l.Has(sharedName) && l.Has(embeddedName) {
		embedding = embeddedName
	}
	l.Matrix(&m.embedding, embedding, c.VocabSize, c.Width)
	l.Matrix(table, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", c.Buckets, c.Heads)
	m.blocks = make([]block, c.Layers)
	for i := range m.blocks {
		b := &m.blocks[i]
		attention, feed := fmt.Sprintf("encoder.block.%d.layer.0.", i), fmt.Sprintf("encoder.block.%d.layer.1.", i)
		l.Vector(&b.norm1, attention+"layer_norm.weight", c.Width)
		l.Matrix(&b.q, attention+"SelfAttention.q.weight", inner, c.Width)
		l.Matrix(&b.k, attention+"SelfAttention.k.weight", inner, c.Width)
		l.Matrix(&b.v, attention+"SelfAttention.v.weight", inner, c.Width)
		l.Matrix(&b.o, attention+"SelfAttention.o.weight", c.Width, inner)
		l.Vector(&b.norm2, feed+"layer_norm.weight", c.Width)
		l.Matrix(&b.gate, feed+"DenseReluDense.wi_0.weight", c.FeedForward, c.Width)
		l.Matrix(&b.up, feed+"DenseReluDense.wi_1.weight", c.FeedForward, c.Width)
		l.Matrix(&b.down, feed+"DenseReluDense.wo.weight", c.Width, c.FeedForward)
	}
	l.Vector(&m.final, "encoder.final_layer_norm.weight", c.Width)
}

// Close releases the files and the memory of the backend.
func (m *T5) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bias != nil {
		m.be.Free(m.bias)
		m.bias = nil
	}
	return m.close()
}

// Forward gives the last hidden states, after the final norm: a host tensor [B, L, C], padding included. ids are rows of
// length L, padded with 0.
func (m *T5) Forward(ctx context.Context, ids []int32, length int) (states *engine.Tensor, err error) {
	defer engine.Guard(&err)
	batch, err := weights.Rows(ids, length)
	if err != nil {
		return nil, fmt.Errorf("encode with t5: %w", err)
	}
	c := m.Config
	out := engine.Wrap(make([]float32, batch*length*c.Width), batch, length, c.Width)
	if err := weights.Lookup(out.Floats(), m.embedding, ids); err != nil {
		return nil, fmt.Errorf("encode with t5: %w", err)
	}
	m.mu.Lock() // one bias in use
	defer m.mu.Unlock()
	m.prepareBias(length)
	chunk := weights.Chunk(length)
	for from := 0; from < batch; from += chunk {
		n := min(chunk, batch-from)
		if err := m.encode(ctx, out.Floats()[from*length*c.Width:(from+n)*length*c.Width], engine.Layout{B: n, T: length}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (m *T5) prepareBias(length int) {
	if m.bias != nil && m.held == length {
		return
	}
	if m.bias != nil {
		m.be.Free(m.bias)
		m.bias = nil
	}
	c := m.Config
	m.bias, m.held = m.be.Alloc(c.Heads, length, length), length
	m.be.Upload(m.bias, positionBias(m.relative, c.Heads, length, c.Buckets, c.MaxDistance))
}

// encode replaces the embeddings of some whole prompts by their states.
func (m *T5) encode(ctx context.Context, states []float32, layout engine.Layout) error {
	c, be, rows := m.Config, m.be, layout.Rows()
	inner := c.Heads * c.HeadWidth
	var held []*engine.Tensor
	matrix := func(cols int) engine.View {
		t := be.Alloc(rows, cols)
		held = append(held, t)
		return engine.All(t)
	}
	defer func() {
		for _, t := range held {
			be.Free(t)
		}
	}()
	h, n, qkv, o := matrix(c.Width), matrix(c.Width), matrix(3*inner), matrix(inner)
	gate, up := matrix(c.FeedForward), matrix(c.FeedForward)
	q, k, v := qkv.ColRange(0, inner), qkv.ColRange(inner, inner), qkv.ColRange(2*inner, inner)
	attention := engine.Attention{Layout: layout, Heads: c.Heads, Dim: c.HeadWidth, Scale: 1, Bias: m.bias}

	be.Upload(h.T, states)
	for i := range m.blocks {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := &m.blocks[i]
		be.RMSNorm(n, h, b.norm1, c.Eps)
		be.Linear(q, n, b.q, nil, 0)
		be.Linear(k, n, b.k, nil, 0)
		be.Linear(v, n, b.v, nil, 0)
		be.Attend(o, q, k, v, &attention)
		be.Linear(h, o, b.o, nil, 1)

		be.RMSNorm(n, h, b.norm2, c.Eps)
		be.Linear(up, n, b.gate, nil, 0)
		be.Activate(gate, up, engine.GELUTanh)
		be.Linear(up, n, b.up, nil, 0)
		be.Mul(gate, gate, up)
		be.Linear(h, gate, b.down, nil, 1)
	}
	be.RMSNorm(n, h, m.final, c.Eps)
	be.Download(states, n.T)
	return nil
}
