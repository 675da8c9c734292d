package pipeline

import (
	"context"
	"fmt"
	"sync"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/tokenizer"
)

// clipLength is the number of ids CLIP is given, as FLUX's pipeline has it.
const clipLength = 77

// Tokens gives the ids of prompts for both encoders: CLIP's [B, 77] and T5's [B, maxLen], truncated and padded.
func (p *Pipeline) Tokens(prompts []string, maxLen int) (clipIDs, t5IDs []int32, err error) {
	e, err := p.encoders()
	if err != nil {
		return nil, nil, err
	}
	return tokenizer.Batch(e.clipWords, prompts, clipLength), tokenizer.Batch(e.t5Words, prompts, maxLen), nil
}

// EncodePrompts gives the conditioning of prompts: T5's states [B, maxLen, J] without a mask, and CLIP's pooled states
// [B, P]. Each prompt is encoded by itself and remembered, so its numbers do not depend on the others.
func (p *Pipeline) EncodePrompts(ctx context.Context, prompts []string, maxLen int) (text, pooled *engine.Tensor, err error) {
	if len(prompts) == 0 || maxLen < 1 {
		return nil, nil, fmt.Errorf("encode %d prompts to %d tokens: need at least one of each", len(prompts), maxLen)
	}
	b, j, w := len(prompts), p.Transformer.TextWidth, p.Transformer.PooledWidth
	text = engine.Wrap(make([]float32, b*maxLen*j), b, maxLen, j)
	pooled = engine.Wrap(make([]float32, b*w), b, w)
	for i, prompt := range prompts {
		e, err := p.encodePrompt(ctx, prompt, maxLen)
		if err != nil {
			return nil, nil, fmt.Errorf("encode prompt %q: %w", shorten(prompt), err)
		}
		copy(text.Floats()[i*maxLen*j:], e.text)
		copy(pooled.Floats()[i*w:], e.pooled)
	}
	return text, pooled, nil
}

func shorten(prompt string) string {
	const most = 60
	if runes := []rune(prompt); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return prompt
}

func (p *Pipeline) encodePrompt(ctx context.Context, prompt string, maxLen int) (encoded, error) {
	key := textKey{prompt, maxLen}
	if e, ok := p.cache.get(key); ok {
		return e, nil
	}
	clipIDs, t5IDs, err := p.Tokens([]string{prompt}, maxLen)
	if err != nil {
		return encoded{}, err
	}
	encoders, err := p.encoders()
	if err != nil {
		return encoded{}, err
	}
	_, pooled, err := encoders.clip.Forward(ctx, clipIDs, clipLength)
	if err != nil {
		return encoded{}, err
	}
	states, err := encoders.t5.Forward(ctx, t5IDs, maxLen)
	if err != nil {
		return encoded{}, err
	}
	e := encoded{text: states.Floats(), pooled: pooled.Floats()}
	p.cache.put(key, e)
	return e, nil
}

// textKey names an encoded prompt.
type textKey struct {
	prompt string
	length int
}

// encoded is the conditioning of one prompt.
type encoded struct {
	text   []float32 // [T, J]
	pooled []float32 // [P]
}

func (e encoded) bytes() int { return 4 * (len(e.text) + len(e.pooled)) }

// textCache keeps encoded prompts up to a number of bytes; the oldest make room.
type textCache struct {
	mu    *sync.Mutex
	most  int
	bytes int
	held  map[textKey]encoded
	order []textKey // oldest first
}

func newTextCache(most int) textCache {
	return textCache{mu: &sync.Mutex{}, most: most, held: map[textKey]encoded{}}
}

func (c *textCache) get(key textKey) (encoded, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.held[key]
	return e, ok
}

func (c *textCache) put(key textKey, e encoded) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.held[key]; ok || e.bytes() > c.most {
		return
	}
	c.held[key] = e
	c.order = append(c.order, key)
	c.bytes += e.bytes()
	for c.bytes > c.most {
		oldest := c.order[0]
		c.order = c.order[1:]
		c.bytes -= c.held[oldest].bytes()
		delete(c.held, oldest)
	}
}
