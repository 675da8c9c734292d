package latents

import (
	"encoding/binary"
	"math"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/vae"
)

// encode writes a posterior as the cache holds it: rank and sides of its shape, means, log variances; all little-endian.
func encode(p vae.Posterior) []byte {
	out := binary.LittleEndian.AppendUint32(nil, uint32(len(p.Mean.Shape)))
	for _, n := range p.Mean.Shape {
		out = binary.LittleEndian.AppendUint32(out, uint32(n))
	}
	for _, t := range []*engine.Tensor{p.Mean, p.LogVar} {
		for _, v := range t.Floats() {
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
		}
	}
	return out
}

// decode reads what encode wrote.
func decode(text []byte) (vae.Posterior, bool) {
	next := func() uint32 {
		if len(text) < 4 {
			return 0
		}
		v := binary.LittleEndian.Uint32(text)
		text = text[4:]
		return v
	}
	shape, n := make([]int, min(next(), 8)), 1
	for i := range shape {
		shape[i] = int(next())
		n *= shape[i]
	}
	if n <= 0 || len(text) != 8*n {
		return vae.Posterior{}, false
	}
	tensor := func() *engine.Tensor {
		values := make([]float32, n)
		for i := range values {
			values[i] = math.Float32frombits(next())
		}
		return engine.Wrap(values, shape...)
	}
	return vae.Posterior{Mean: tensor(), LogVar: tensor()}, true
}
