// Package latents turns training pictures into the latents that stage 1 learns from. What the autoencoder says of a picture
// is kept in the cache, keyed by everything it depends on.
package latents

import (
	"context"
	"fmt"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/model/vae"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/worker/cache"
	"github.com/sciflux/sciflux/worker/data"
)

// Autoencoder is what a vae.VAE does with pictures.
type Autoencoder interface {
	Encode(ctx context.Context, images *engine.Tensor) (vae.Posterior, error)
	Sample(p vae.Posterior, noise []float32) (*engine.Tensor, error)
}

// Encoder draws latents of a set's pictures. Its methods may be called by several goroutines.
type Encoder struct {
	VAE   Autoencoder
	Data  *data.Set
	Cache *cache.Cache // nil: every picture is encoded each time
	Name  string       // of the autoencoder's content and of how it computes, for the cache's keys
}

// Draw gives the packed latents [N, 4Z] of picture k of a training row, drawn from the autoencoder's distribution.
func (e *Encoder) Draw(ctx context.Context, row data.Row, k int, key random.Key) ([]float32, error) {
	p, err := e.posterior(ctx, row, k)
	if err != nil {
		return nil, err
	}
	noise := make([]float32, p.Mean.Len())
	key.Normal(noise)
	z, err := e.VAE.Sample(p, noise)
	if err != nil {
		return nil, err
	}
	return flux.Pack(z.Floats(), 1, z.Shape[1], z.Shape[2], z.Shape[3]), nil
}

// posterior is what the autoencoder says of a picture: from the cache, or computed and put there.
func (e *Encoder) posterior(ctx context.Context, row data.Row, k int) (vae.Posterior, error) {
	var key string
	if e.Cache != nil {
		content, err := e.Data.PictureHash(ctx, row, k)
		if err != nil {
			return vae.Posterior{}, err
		}
		key = cache.Key("posterior", e.Name, content, fmt.Sprint(e.Data.Side()))
		if text, ok := e.Cache.Get(key); ok {
			if p, ok := decode(text); ok {
				return p, nil
			}
		}
	}
	planes, err := e.Data.Planes(ctx, row, k)
	if err != nil {
		return vae.Posterior{}, err
	}
	p, err := e.VAE.Encode(ctx, engine.Wrap(planes, 1, 3, e.Data.Side(), e.Data.Side()))
	if err == nil && e.Cache != nil {
		e.Cache.Put(key, encode(p))
	}
	return p, err
}
