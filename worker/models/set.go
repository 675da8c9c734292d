package models

import (
	"context"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/trainer"
)

// Machine names what decides the last bits of a result: the kernels, and the type that the blocks multiply in.
func (s *Set) Machine() string { return s.Backend.Name() + " " + s.compute.String() }

// Conditioning encodes prompts to some number of T5 tokens, one row each.
func (s *Set) Conditioning(ctx context.Context, prompts []string, tokens int) (trainer.Conditioning, error) {
	text, pooled, err := s.Pipeline.EncodePrompts(ctx, prompts, tokens)
	if err != nil {
		return trainer.Conditioning{}, err
	}
	return trainer.Conditioning{Text: text.Floats(), Pooled: pooled.Floats()}, nil
}

// Decode turns the packed latents of b samples, [b, N, 4Z], into pictures.
func (s *Set) Decode(ctx context.Context, latents []float32, b int, grid flow.Grid) (reward.Images, error) {
	t, err := s.Pipeline.Decode(ctx, engine.Wrap(latents, b, grid.Tokens(), len(latents)/b/grid.Tokens()), grid)
	if err != nil {
		return reward.Images{}, err
	}
	return reward.Images{Data: t.Floats(), B: b, H: t.Shape[2], W: t.Shape[3]}, nil
}
