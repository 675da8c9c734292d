package pipeline

import (
	"context"
	"fmt"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/tokenizer"
)

// clipLength is the number of ids CLIP is given, as FLUX's pipeline has it.
const clipLength = 77

// Tokens gives the ids of prompts for both encoders: CLIP's [B, 77] and T5's [B, maxLen], truncated and padded.
func (p *Pipeline) Tokens(prompts []string, maxLen int) (clipIDs, t5IDs []int32, err error) {
	w, err := p.tokenizers()
	if err != nil {
		return nil, nil, err
	}
	return tokenizer.Batch(w.clip, prompts, clipLength), tokenizer.Batch(w.t5, prompts, maxLen), nil
}

// Truncation is how many prompts are longer than what the encoders are given, so that their ends have no say.
type Truncation struct {
	Prompts  int // that were looked at, equal ones once
	CLIP, T5 int // of these, longer than 77 and than MaxLen tokens
	MaxLen   int
}

// Truncated counts the prompts that Tokens cuts off.
func (p *Pipeline) Truncated(prompts []string, maxLen int) (Truncation, error) {
	w, err := p.tokenizers()
	if err != nil {
		return Truncation{}, err
	}
	t := Truncation{MaxLen: maxLen}
	for _, prompt := range distinct(prompts) {
		t.Prompts++
		if len(w.clip.Encode(prompt, 0)) > clipLength {
			t.CLIP++
		}
		if len(w.t5.Encode(prompt, 0)) > maxLen {
			t.T5++
		}
	}
	return t, nil
}

// Any tells whether a prompt is cut off.
func (t Truncation) Any() bool { return t.CLIP > 0 || t.T5 > 0 }

// String is one line for people.
func (t Truncation) String() string {
	return fmt.Sprintf("%d of %d prompts are longer than the %d tokens that T5 is given, %d longer than CLIP's %d; the rest is not seen",
		t.T5, t.Prompts, t.MaxLen, t.CLIP, clipLength)
}

// distinct is prompts without repetitions, in order.
func distinct(prompts []string) []string {
	var list []string
	seen := make(map[string]bool, len(prompts))
	for _, prompt := range prompts {
		if !seen[prompt] {
			seen[prompt] = true
			list = append(list, prompt)
		}
	}
	return list
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

// PrepareText encodes the prompts that no cache holds and then gives up the encoders, so that training finds every prompt
// without them. report, if not nil, hears how many of the distinct prompts are there. Without Options.Texts it does so
// only if all prompts fit into memory together; otherwise they could not stay, and the encoders do.
func (p *Pipeline) PrepareText(ctx context.Context, prompts []string, maxLen int, report func(done, total int)) error {
	list := distinct(prompts)
	each := 4 * (maxLen*p.Transformer.TextWidth + p.Transformer.PooledWidth)
	if p.options.Texts == nil && each*len(list) > p.options.TextCacheBytes {
		return nil
	}
	for i, prompt := range list {
		if err := p.prepare(ctx, textKey{prompt, maxLen}); err != nil {
			return fmt.Errorf("encode prompt %q: %w", shorten(prompt), err)
		}
		if report != nil {
			report(i+1, len(list))
		}
	}
	return p.ReleaseText()
}

// prepare encodes a prompt unless a cache has it.
func (p *Pipeline) prepare(ctx context.Context, key textKey) error {
	place, err := p.textPlace(ctx, key)
	if err != nil {
		return err
	}
	if place == "" && p.cache.has(key) || place != "" && p.options.Texts.Has(place) {
		return ctx.Err()
	}
	_, err = p.encodePrompt(ctx, key.prompt, key.length)
	return err
}

func shorten(prompt string) string {
	const most = 60
	if runes := []rune(prompt); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return prompt
}

// encodePrompt looks into memory, then into the cache beyond it, and encodes what neither holds.
func (p *Pipeline) encodePrompt(ctx context.Context, prompt string, maxLen int) (encoded, error) {
	key := textKey{prompt, maxLen}
	if e, ok := p.cache.get(key); ok {
		return e, nil
	}
	place, err := p.textPlace(ctx, key)
	if err != nil {
		return encoded{}, err
	}
	if e, ok := p.kept(place, maxLen); ok {
		p.cache.put(key, e)
		return e, nil
	}
	e, err := p.encode(ctx, prompt, maxLen)
	if err != nil {
		return encoded{}, err
	}
	if place != "" {
		data, err := e.marshal()
		if err != nil {
			return encoded{}, err
		}
		p.options.Texts.Put(place, data)
	}
	p.cache.put(key, e)
	return e, nil
}

// encode runs both encoders on one prompt.
func (p *Pipeline) encode(ctx context.Context, prompt string, maxLen int) (encoded, error) {
	clipIDs, t5IDs, err := p.Tokens([]string{prompt}, maxLen)
	if err != nil {
		return encoded{}, err
	}
	p.using.RLock()
	defer p.using.RUnlock()
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
	return encoded{text: states.Floats(), pooled: pooled.Floats(), length: maxLen}, nil
}
