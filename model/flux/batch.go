package flux

import (
	"context"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/lora"
)

// Batch is the samples of one network call: an Input in the memory of a backend, with what the network computes from
// positions, times and guidance before its blocks. It serves any number of passes; latents and time can be replaced
// between them.
type Batch struct {
	shape
	model   *Model
	backend engine.Backend

	latents, text, pooled *engine.Tensor // text is nil when there are no text tokens
	times, guidance       *engine.Tensor // sinusoids [B, 256]; guidance is nil without guidance embedder
	cos, sin              *engine.Tensor // RoPE tables [T+N, HeadDim/2]
}

// NewBatch checks an input and copies it to a backend, all of it or nothing. The caller frees it.
func (m *Model) NewBatch(be engine.Backend, in *Input) (made *Batch, err error) {
	s, err := m.shape(in)
	if err != nil {
		return nil, err
	}
	defer engine.Guard(&err)
	scope := engine.NewScope(be)
	defer scope.Close()
	b := &Batch{shape: s, model: m, backend: scope}
	b.latents = b.upload(in.Latents.Floats(), s.B*s.N, m.InChannels)
	if s.T > 0 {
		b.text = b.rows(in, in.Text, s.T, m.TextWidth)
	}
	b.pooled = b.rows(in, in.Pooled, 1, m.PooledWidth)
	b.times = b.upload(sinusoidRows(in.Timestep), s.B, sinusoids)
	if m.GuidanceEmbed {
		b.guidance = b.upload(sinusoidRows(in.Guidance), s.B, sinusoids)
	}
	ids := in.TxtIDs
	if ids == nil {
		ids = TextIDs(s.T)
	}
	cos, sin := m.rope(append(ids[:len(ids):len(ids)], in.ImgIDs...))
	b.cos, b.sin = b.upload(cos, s.L(), m.HeadDim/2), b.upload(sin, s.L(), m.HeadDim/2)
	b.backend = be
	scope.Close(b.tensors()...)
	return b, nil
}

func (b *Batch) upload(values []float32, shape ...int) *engine.Tensor {
	t := b.backend.Alloc(shape...)
	b.backend.Upload(t, values)
	return t
}

// rows copies each sample's row [n, width] of per-prompt values: samples of one prompt share it in ordinary memory.
func (b *Batch) rows(in *Input, values *engine.Tensor, n, width int) *engine.Tensor {
	t, per := b.backend.Alloc(b.B*n, width), n*width
	for i := range b.B {
		b.backend.Upload(engine.Slice(t, i*per, n, width), values.Floats()[in.prompt(i)*per:][:per])
	}
	return t
}

// Set replaces the latents [B, N, in_channels], and the time of all samples by one sigma.
func (b *Batch) Set(latents []float32, sigma float32) {
	b.backend.Upload(b.latents, latents)
	times := make([]float32, b.B)
	for i := range times {
		times[i] = sigma
	}
	b.backend.Upload(b.times, sinusoidRows(times))
}

// Free gives the batch's memory back.
func (b *Batch) Free() {
	for _, t := range b.tensors() {
		if t != nil {
			b.backend.Free(t)
		}
	}
}

// tensors is the memory of the batch; nil for what it has not.
func (b *Batch) tensors() []*engine.Tensor {
	return []*engine.Tensor{b.latents, b.text, b.pooled, b.times, b.guidance, b.cos, b.sin}
}

// DefaultBatchTokens bounds network calls whose caller gives no bound.
const DefaultBatchTokens = 16384

// SamplesPerCall is how many samples of that many tokens, text and image together, one network call takes under a bound
// on its tokens: at least one. A bound of 0 is DefaultBatchTokens.
func SamplesPerCall(batchTokens, tokens int) int {
	if batchTokens == 0 {
		batchTokens = DefaultBatchTokens
	}
	return max(1, batchTokens/max(1, tokens))
}

// Batches are the samples of an input in as many network calls as a bound on their tokens asks for.
type Batches []*Batch

// NewBatches cuts an input into batches of SamplesPerCall samples, in order. The caller frees them.
func (m *Model) NewBatches(be engine.Backend, in *Input, batchTokens int) (Batches, error) {
	s, err := m.shape(in)
	if err != nil {
		return nil, err
	}
	n := SamplesPerCall(batchTokens, s.L())
	var bs Batches
	for from := 0; from < s.B; from += n {
		b, err := m.NewBatch(be, in.samples(from, min(n, s.B-from)))
		if err != nil {
			bs.Free()
			return nil, err
		}
		bs = append(bs, b)
	}
	return bs, nil
}

// Free gives the memory of all batches back.
func (bs Batches) Free() {
	for _, b := range bs {
		b.Free()
	}
}

// Set replaces the latents of all samples, and their time by one sigma.
func (bs Batches) Set(latents []float32, sigma float32) {
	for _, b := range bs {
		n := b.latents.Len()
		b.Set(latents[:n], sigma)
		latents = latents[n:]
	}
}

// Velocity is the velocities [B, N, out_channels] of all samples in ordinary memory, without a way back to gradients. ad
// lies in memory of the batches' backend; nil is the base model. onCall hears of every network call; it may be nil.
func (bs Batches) Velocity(ctx context.Context, ad *lora.Adapter, onCall func()) ([]float32, error) {
	var all []float32
	for _, b := range bs {
		v, err := b.Velocity(ctx, ad)
		if err != nil {
			return nil, err
		}
		host := make([]float32, v.Len())
		b.backend.Download(host, v)
		b.backend.Free(v)
		all = append(all, host...)
		if onCall != nil {
			onCall()
		}
	}
	return all, nil
}
