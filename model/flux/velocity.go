package flux

import (
	"context"
	"fmt"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/lora"
)

// Velocity is the network's output [B, N, out_channels] for one input, computed at once, without a way back to gradients.
// Input and adapter are copied to the backend for this call; ad is nil for the base model. The result belongs to the
// caller, who frees it. It ends early when ctx does.
func (m *Model) Velocity(ctx context.Context, be engine.Backend, in *Input, ad *lora.Adapter) (v *engine.Tensor, err error) {
	defer engine.Guard(&err)
	b, err := m.NewBatch(be, in)
	if err != nil {
		return nil, err
	}
	defer b.Free()
	if ad != nil {
		ad = ad.Upload(be)
		defer be.Free(ad.Weights)
	}
	return b.Velocity(ctx, ad)
}

// Velocity is the network's output [B, N, out_channels] for the batch, computed at once; see Model.Velocity. ad lies in
// memory of the batch's backend.
func (b *Batch) Velocity(ctx context.Context, ad *lora.Adapter) (v *engine.Tensor, err error) {
	e := engine.NewEager(b.backend)
	where := "conditioning"
	var cond, x *engine.Tensor // x is the stream that no result has taken the place of yet
	defer func() {
		if p := recover(); p != nil {
			e.Release()
			v, err = nil, fmt.Errorf("transformer %s: %w", where, engine.Recovered(p))
		}
		for _, t := range []*engine.Tensor{cond, x} {
			if t != nil {
				e.Free(t)
			}
		}
	}()
	cond = b.condition(e, ad)
	for _, s := range b.sections() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		where = s.name
		e.Bind(b.binding(s.prefix, b.model.adapters(s.prefix, ad)))
		y := forward(e, s.kind, b.shape, b.inputs(s.kind, x, cond))
		e.Release(y)
		if x != nil {
			e.Free(x)
		}
		x = y
	}
	v, x = x, nil
	v.Shape = []int{b.B, b.N, b.OutChannels}
	return v, nil
}

// condition is silu(temb) [B, C], which the caller frees.
func (b *Batch) condition(e *engine.Eager, ad *lora.Adapter) *engine.Tensor {
	e.Bind(b.binding(outside, b.model.adapters(outside, ad)))
	cond := condition(e, b.shape, b.times, b.guidance, b.pooled)
	e.Release(cond)
	return cond
}

// inputs are what a section reads: the embedders text and latents, all others the stream and the conditioning vector.
func (b *Batch) inputs(k kind, stream, cond *engine.Tensor) []*engine.Tensor {
	switch {
	case k != embedders:
		return []*engine.Tensor{stream, cond}
	case b.text == nil:
		return []*engine.Tensor{b.latents}
	}
	return []*engine.Tensor{b.text, b.latents}
}
