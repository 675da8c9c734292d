package vae

import (
	"context"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/enginetest"
)

// TestLackOfMemoryIsAnError: wherever an allocation fails, encoding and decoding say so and leave nothing behind.
func TestLackOfMemoryIsAnError(t *testing.T) {
	v := tinyVAE(t)
	be := v.be
	defer func() { v.be = be }()
	pictures, latents := noise(1, 2, 3, 16, 8), noise(2, 2, 4, 2, 1)
	enginetest.Starve(t, be, func(be engine.Backend) error {
		v.be = be
		_, err := v.Encode(context.Background(), pictures)
		return err
	})
	enginetest.Starve(t, be, func(be engine.Backend) error {
		v.be = be
		_, err := v.Decode(context.Background(), latents)
		return err
	})
}

// TestOnlyOwnTensors: the kernels get no operand that the backend did not allocate or that was freed.
func TestOnlyOwnTensors(t *testing.T) {
	v := tinyVAE(t)
	be := v.be
	defer func() { v.be = be }()
	v.be = enginetest.Strict(be)
	if _, err := v.Encode(context.Background(), noise(1, 1, 3, 16, 8)); err != nil {
		t.Error(err)
	}
	if _, err := v.Decode(context.Background(), noise(2, 1, 4, 2, 1)); err != nil {
		t.Error(err)
	}
}
