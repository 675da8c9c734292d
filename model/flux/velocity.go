package flux

import (
	"context"
	"fmt"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/lora"
)

// Velocity is the network's output [B, N, out_channels] for one input, computed at once, without a way back to gradients.
// ad is nil for the base model. The result belongs to the caller, who frees it. It ends early when ctx does.
func (m *Model) Velocity(ctx context.Context, b engine.Backend, in *Input, ad *lora.Adapter) (v *engine.Tensor, err error) {
	c, free, err := m.prepare(b, in)
	if err != nil {
		return nil, err
	}
	defer free()
	e := engine.NewEager(b)
	where := "conditioning"
	defer func() {
		if p := recover(); p != nil {
			e.Release()
			v, err = nil, fmt.Errorf("transformer %s: %v", where, p)
		}
	}()
	return m.velocity(ctx, e, c, in, ad, &where)
}

func (m *Model) velocity(ctx context.Context, e *engine.Eager, c *call, in *Input, ad *lora.Adapter, where *string) (*engine.Tensor, error) {
	global := m.binding(outside, c, ad)
	e.Bind(global)
	cond := condition(e, c.shape, c.times, c.guidance, in.Pooled)
	e.Release(cond)
	defer e.Free(cond)
	x := stem(e, c.shape, in.Text, in.Latents)
	e.Release(x)
	defer func() { // x is the stream that no result has taken the place of, when this ends early or panics
		if x != nil {
			e.Free(x)
		}
	}()
	for i := range m.DoubleBlocks + m.SingleBlocks {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		single := i - m.DoubleBlocks
		prefix := doubleName(i)
		if single >= 0 {
			prefix = singleName(single)
		}
		*where = prefix[:len(prefix)-1]
		e.Bind(m.binding(prefix, c, ad))
		var y *engine.Tensor
		if single >= 0 {
			y = singleBlock(e, c.shape, x, cond, single == m.SingleBlocks-1)
		} else {
			y = doubleBlock(e, c.shape, x, cond)
		}
		e.Release(y)
		e.Free(x)
		x = y
	}
	*where = "head"
	e.Bind(global)
	v := head(e, c.shape, x, cond)
	e.Release(v)
	v.Shape = []int{c.B, c.N, m.OutChannels}
	return v, nil
}
