package pipeline

import (
	"bytes"
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"

	"github.com/sciflux/sciflux/model/weights"
	"github.com/sciflux/sciflux/store/safetensors"
)

// TextCache keeps encoded prompts for longer than memory does, and may be shared by runs and processes. A key is a
// lower-case hexadecimal SHA-256 of everything that the numbers depend on: the prompt, its length in tokens, the content
// of the tokenizers' and encoders' files, how the weights are kept, and what computes. So an entry is never wrong and
// never needs to be invalidated, only to be thrown away for room. Values are safetensors files of 4·(T·J + P) bytes and
// some; 8.4 MB a prompt for FLUX.1 at 512 tokens. Methods are called by several goroutines.
type TextCache interface {
	// Has tells whether Get is likely to find a value, without reading it.
	Has(key string) bool
	// Get returns what was put under a key. A damaged value is taken for an absent one.
	Get(key string) ([]byte, bool)
	// Put keeps a value. One that cannot be kept is encoded again when it is needed; saying so is up to the cache.
	Put(key string, data []byte)
}

// textVersion is part of every key; a change of the encoders' arithmetic gets another.
const textVersion = "sciflux text 1"

// textPlace is the key of a prompt in Options.Texts, "" without such a cache.
func (p *Pipeline) textPlace(ctx context.Context, key textKey) (string, error) {
	if p.options.Texts == nil {
		return "", nil
	}
	name, err := p.textName(ctx)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d\x00%s", textVersion, name, key.length, key.prompt))
	return hex.EncodeToString(sum[:]), nil
}

// textName names everything but the prompt that its states depend on.
func (p *Pipeline) textName(ctx context.Context) (string, error) {
	p.naming.Lock()
	defer p.naming.Unlock()
	if p.name != "" {
		return p.name, nil
	}
	files, err := textFiles(p.Dir)
	if err != nil {
		return "", p.failed("text_encoder", err)
	}
	identity, err := weights.Identity(ctx, p.Dir, files, weights.IdentityOptions{Cache: p.options.Identities})
	if err != nil {
		return "", err
	}
	p.name = fmt.Sprintf("%s, class %s, storage %d, on %s", identity, p.classes["tokenizer"], p.options.Storage, p.be.Name())
	return p.name, nil
}

// kept reads a prompt from the cache beyond memory.
func (p *Pipeline) kept(place string, maxLen int) (encoded, bool) {
	if place == "" {
		return encoded{}, false
	}
	data, ok := p.options.Texts.Get(place)
	if !ok {
		return encoded{}, false
	}
	file, err := safetensors.Parse(place, data)
	if err != nil {
		return encoded{}, false
	}
	e := encoded{length: maxLen}
	if e.text, err = file.Float32("text", maxLen, p.Transformer.TextWidth); err != nil {
		return encoded{}, false
	}
	if e.pooled, err = file.Float32("pooled", p.Transformer.PooledWidth); err != nil {
		return encoded{}, false
	}
	return e, true
}

// textKey names an encoded prompt in memory.
type textKey struct {
	prompt string
	length int
}

// encoded is the conditioning of one prompt.
type encoded struct {
	text   []float32 // [T, J]
	pooled []float32 // [P]
	length int       // T
}

func (e encoded) bytes() int { return 4 * (len(e.text) + len(e.pooled)) }

func (e encoded) marshal() ([]byte, error) {
	var b bytes.Buffer
	_, err := safetensors.Write(&b, []safetensors.Tensor{
		safetensors.Float32s("text", safetensors.F32, []int{e.length, len(e.text) / e.length}, e.text),
		safetensors.Float32s("pooled", safetensors.F32, []int{len(e.pooled)}, e.pooled),
	}, nil)
	return b.Bytes(), err
}

// textMemory keeps encoded prompts up to a number of bytes; those not used for longest make room.
type textMemory struct {
	mu    *sync.Mutex
	most  int
	bytes int
	held  map[textKey]*list.Element
	order *list.List // of heldText, last used first
}

type heldText struct {
	key textKey
	encoded
}

func newTextMemory(most int) textMemory {
	return textMemory{mu: &sync.Mutex{}, most: most, held: map[textKey]*list.Element{}, order: list.New()}
}

func (c *textMemory) get(key textKey) (encoded, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.held[key]
	if !ok {
		return encoded{}, false
	}
	c.order.MoveToFront(at)
	return at.Value.(heldText).encoded, true
}

func (c *textMemory) has(key textKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.held[key]
	return ok
}

func (c *textMemory) put(key textKey, e encoded) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.held[key]; ok || e.bytes() > c.most {
		return
	}
	c.held[key] = c.order.PushFront(heldText{key, e})
	c.bytes += e.bytes()
	for c.bytes > c.most {
		last := c.order.Remove(c.order.Back()).(heldText)
		c.bytes -= last.bytes()
		delete(c.held, last.key)
	}
}
