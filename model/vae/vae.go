// Package vae is FLUX's image autoencoder (AutoencoderKL): pictures to latents at 1/8 of the size and back.
//
// Pictures and latents travel as host tensors (engine.Wrap) of shape [B, C, h, w]; results are ordinary Go memory and
// need no Free. Pictures hold values around [-1, 1]. Latents are scaled as the transformer sees them:
// latent = (z - shift_factor)·scaling_factor.
package vae

import (
	"context"
	"fmt"
	"math"

	"github.com/sciflux/sciflux/engine"
)

// VAE is an autoencoder with its weights. Its methods may be called by several goroutines.
type VAE struct {
	Config  Config
	Notes   []string // which tensors are not used as the file has them
	be      engine.Backend
	encoder half
	decoder half
	close   func() error

	chunkPixels int // picture area worked on at once
}

// half is the encoder or the decoder.
type half struct {
	in     conv
	levels []level
	mid    middle
	out    head
}

// Close releases the file the weights lie in.
func (v *VAE) Close() error { return v.close() }

// defaultChunk is enough area to fill the kernels with small pictures (more was not faster on two cores), and one picture
// at a time from 256×256 on.
const defaultChunk = 256 * 256

// Posterior is the encoder's normal distribution over z, before scaling: mean and log variance [B, Z, h, w].
type Posterior struct {
	Mean, LogVar *engine.Tensor
}

// Encode gives the distribution of z for pictures [B, 3, H, W], H and W multiples of Config.Factor. The log variance is
// clamped to [-30, 20].
func (v *VAE) Encode(ctx context.Context, images *engine.Tensor) (Posterior, error) {
	f := v.Config.Factor()
	if err := checkImages("encode", images, v.Config.InChannels); err != nil {
		return Posterior{}, err
	}
	b, rows, cols := images.Shape[0], images.Shape[2], images.Shape[3]
	if rows%f != 0 || cols%f != 0 {
		return Posterior{}, fmt.Errorf("encode pictures of %d×%d pixels: sides must be multiples of %d; resize or crop first", cols, rows, f)
	}
	z, h, w := v.Config.LatentChannels, rows/f, cols/f
	moments := engine.Wrap(make([]float32, b*2*z*h*w), b, 2*z, h, w)
	if err := v.run(ctx, moments, images, rows*cols, v.encode); err != nil {
		return Posterior{}, err
	}
	return v.split(moments), nil
}

// split separates mean and log variance.
func (v *VAE) split(moments *engine.Tensor) Posterior {
	b, h, w := moments.Shape[0], moments.Shape[2], moments.Shape[3]
	z := v.Config.LatentChannels
	n := z * h * w
	mean, logvar := make([]float32, b*n), make([]float32, b*n)
	data := moments.Floats()
	for i := range b {
		copy(mean[i*n:(i+1)*n], data[2*i*n:])
		for k, value := range data[(2*i+1)*n : (2*i+2)*n] {
			logvar[i*n+k] = min(max(value, -30), 20)
		}
	}
	return Posterior{Mean: engine.Wrap(mean, b, z, h, w), LogVar: engine.Wrap(logvar, b, z, h, w)}
}

// Latent is the scaled mean of a posterior.
func (v *VAE) Latent(p Posterior) *engine.Tensor {
	shift, scale := float32(v.Config.ShiftFactor), float32(v.Config.ScalingFactor)
	out := make([]float32, p.Mean.Len())
	for i, m := range p.Mean.Floats() {
		out[i] = (m - shift) * scale
	}
	return engine.Wrap(out, p.Mean.Shape...)
}

// Sample is a scaled draw: (mean + exp(logvar/2)·noise - shift)·scaling, noise standard normal of the posterior's shape.
func (v *VAE) Sample(p Posterior, noise []float32) (*engine.Tensor, error) {
	if len(noise) != p.Mean.Len() {
		return nil, fmt.Errorf("sample latents: %d noise values for shape %v; draw %d", len(noise), p.Mean.Shape, p.Mean.Len())
	}
	shift, scale := float32(v.Config.ShiftFactor), float32(v.Config.ScalingFactor)
	mean, logvar := p.Mean.Floats(), p.LogVar.Floats()
	out := make([]float32, len(mean))
	for i := range out {
		std := float32(math.Exp(0.5 * float64(logvar[i])))
		out[i] = (mean[i] + std*noise[i] - shift) * scale
	}
	return engine.Wrap(out, p.Mean.Shape...), nil
}

// Decode gives pictures [B, 3, H, W] from scaled latents [B, Z, h, w]. Values are not clamped and may leave [-1, 1].
func (v *VAE) Decode(ctx context.Context, latents *engine.Tensor) (*engine.Tensor, error) {
	if err := checkImages("decode", latents, v.Config.LatentChannels); err != nil {
		return nil, err
	}
	f := v.Config.Factor()
	b, h, w := latents.Shape[0], latents.Shape[2]*f, latents.Shape[3]*f
	shift, scale := float32(v.Config.ShiftFactor), float32(v.Config.ScalingFactor)
	z := make([]float32, latents.Len())
	for i, l := range latents.Floats() {
		z[i] = l/scale + shift
	}
	images := engine.Wrap(make([]float32, b*v.Config.OutChannels*h*w), b, v.Config.OutChannels, h, w)
	return images, v.run(ctx, images, engine.Wrap(z, latents.Shape...), h*w, v.decode)
}

// run takes the samples of src through one half, in chunks, into dst.
func (v *VAE) run(ctx context.Context, dst, src *engine.Tensor, pixels int, f func(*pass, *engine.Tensor) *engine.Tensor) (err error) {
	defer engine.Guard(&err)
	scope := engine.NewScope(v.be)
	defer scope.Close()
	p := &pass{be: scope, groups: v.Config.NormNumGroups}
	b := src.Shape[0]
	chunk := max(1, v.chunkPixels/pixels)
	in, out := src.Len()/b, dst.Len()/b
	for from := 0; from < b; from += chunk {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(chunk, b-from)
		x := scope.Alloc(append([]int{n}, src.Shape[1:]...)...)
		v.be.Upload(x, src.Floats()[from*in:(from+n)*in])
		y := f(p, x)
		v.be.Download(dst.Floats()[from*out:(from+n)*out], y)
		scope.Free(y)
	}
	return nil
}

func (v *VAE) encode(p *pass, x *engine.Tensor) *engine.Tensor {
	x = p.convFree(x, &v.encoder.in)
	for i := range v.encoder.levels {
		x = p.level(x, &v.encoder.levels[i])
	}
	x = p.middle(x, &v.encoder.mid)
	return p.head(x, &v.encoder.out)
}

func (v *VAE) decode(p *pass, x *engine.Tensor) *engine.Tensor {
	x = p.convFree(x, &v.decoder.in)
	x = p.middle(x, &v.decoder.mid)
	for i := range v.decoder.levels {
		x = p.level(x, &v.decoder.levels[i])
	}
	return p.head(x, &v.decoder.out)
}

func checkImages(verb string, t *engine.Tensor, channels int) error {
	if len(t.Shape) != 4 || t.Shape[1] != channels || t.Len() == 0 {
		return fmt.Errorf("%s images of shape %v: need [B, %d, h, w] with at least one picture", verb, t.Shape, channels)
	}
	return nil
}
