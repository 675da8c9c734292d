package trainer

import (
	"context"
	"fmt"
	"math"

	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/flux"
)

// Example is a micro-batch of stage 1: clean latents and the noise to mix in, one sigma and loss weight a sample.
type Example struct {
	Latents, Noise []float32 // [B, N, C] packed
	Sigma          []float32 // [B]
	Weight         []float64 // [B]; nil for 1
	Conditioning             // [B] rows
}

// samples is samples from … from+n−1 of an example of b.
func (e Example) samples(from, n int) Example {
	b := len(e.Sigma)
	cut := func(x []float32) []float32 { per := len(x) / b; return x[from*per : (from+n)*per] }
	part := Example{Latents: cut(e.Latents), Noise: cut(e.Noise), Sigma: e.Sigma[from : from+n]}
	part.Conditioning = Conditioning{Text: cut(e.Text), Pooled: cut(e.Pooled)}
	if e.Weight != nil {
		part.Weight = e.Weight[from : from+n]
	}
	return part
}

// SFT takes one optimiser step: the gradients of the micro-batches' mean losses, averaged over the micro-batches. A
// micro-batch of more samples than a network call takes is computed in parts.
func (l *Learner) SFT(ctx context.Context, micro []Example) (StepResult, error) {
	l.Clear()
	var r StepResult
	for _, m := range micro {
		b, loss := len(m.Sigma), 0.0
		if b == 0 || len(m.Pooled) != b*l.model.PooledWidth {
			return r, fmt.Errorf("micro-batch of %d samples with %d pooled values: need at least one, each with a row of %d",
				b, len(m.Pooled), l.model.PooledWidth)
		}
		most := l.Setting.Samples(m.textTokens(l.model))
		for from := 0; from < b; from += most {
			n := min(most, b-from)
			share := float64(n) / float64(b)
			part, err := l.SFTGradient(ctx, m.samples(from, n), share/float64(len(micro)))
			if err != nil {
				return r, err
			}
			loss += share * part
		}
		r.Micro = append(r.Micro, loss)
		r.Loss += loss / float64(len(micro))
		r.Graded += b
	}
	var err error
	r.Norm, r.Rate, err = l.Apply()
	return r, err
}

// SFTGradient adds share times the gradient of a micro-batch's mean loss, which it returns.
func (l *Learner) SFTGradient(ctx context.Context, m Example, share float64) (loss float64, err error) {
	b := len(m.Sigma)
	x := make([]float32, len(m.Latents))
	at := func(v []float32, i int) []float32 { n := len(m.Latents) / b; return v[i*n : (i+1)*n] }
	for i, s := range m.Sigma {
		flow.Noised(at(x, i), at(m.Latents, i), at(m.Noise, i), float64(s))
	}
	prompts, err := m.prompts(l.model, b)
	if err != nil {
		return 0, err
	}
	in, err := l.Setting.input(l.model, x, prompts, m.Conditioning)
	if err != nil {
		return 0, err
	}
	for i, s := range m.Sigma {
		in.Timestep[i] = flux.ModelTime(s * 1000) // the reference hands the network 1000·σ in float32
	}
	batches, err := l.model.NewBatches(l.be, in, l.Setting.BatchTokens)
	if err != nil {
		return 0, err
	}
	defer batches.Free()
	defer l.session.Release()
	v, err := l.forward(ctx, batches)
	if err != nil {
		return 0, err
	}
	dv := make([]float32, len(v))
	for i := range b {
		w := 1.0
		if m.Weight != nil {
			w = m.Weight[i]
		}
		loss += flow.MatchVelocity(at(dv, i), at(v, i), at(m.Latents, i), at(m.Noise, i), w, share/float64(b)) / float64(b)
	}
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		return loss, l.nonFinite("loss", loss)
	}
	return loss, l.backward(ctx, batches, dv)
}
