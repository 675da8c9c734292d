package trainer

import (
	"context"
	"math"

	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/lora"
)

// Pair is one prompt's samples with their rewards: what stage 2 trains on.
type Pair struct {
	Latents      [][][]float32 // per sample, n+1 of [N, C]
	Rewards      []float64     // per sample
	Masks        []*flow.Mask  // per sample, nil entries keep everything
	Steps        []flow.Step   // n, as the loss reads them
	Timesteps    []float32     // n, as the network saw them
	Conditioning               // one row, shared by the samples
}

// DPOResult is what one optimiser step of stage 2 reports.
type DPOResult struct {
	StepResult
	Outcomes [][]flow.Outcome // per pair and step
	KL       float64          // mean over graded samples of flow.Step.KL
	Clamped  float64          // share of graded samples whose ratio lies beyond the clamp
}

// DPO takes one optimiser step on a group of pairs against the reference adapter (nil: the base): the gradients of all
// (pair, step) losses, averaged over all of them. Pairs of equal reward count in that average; steps without noise have
// no density, so they are no micro-steps and their Outcome stays empty.
func (l *Learner) DPO(ctx context.Context, pairs []Pair, reference *lora.Adapter, loss flow.DPO) (DPOResult, error) {
	l.grads.Zero()
	r := DPOResult{Outcomes: make([][]flow.Outcome, len(pairs))}
	var items []item
	for p, pair := range pairs {
		r.Outcomes[p] = make([]flow.Outcome, len(pair.Steps))
		for j, step := range pair.Steps {
			if step.Std == 0 {
				continue
			}
			items = append(items, item{pair: &pairs[p], step: j, out: &r.Outcomes[p][j]})
		}
	}
	scale := 1 / float64(max(1, len(items)))
	for len(items) > 0 {
		k, samples := 0, 0
		for k < len(items) && (k == 0 || samples+len(items[k].pair.Rewards) <= l.MicroSamples) {
			samples += len(items[k].pair.Rewards)
			k++
		}
		if err := l.dpoGradient(ctx, items[:k], reference, loss, scale, &r); err != nil {
			return r, err
		}
		items = items[k:]
	}
	for p := range r.Outcomes {
		for _, o := range r.Outcomes[p] {
			r.Loss += o.Loss * scale
		}
	}
	if math.IsNaN(r.Loss) || math.IsInf(r.Loss, 0) {
		return r, &NonFiniteError{What: "loss", Step: l.Optimizer.Steps + 1, Value: r.Loss}
	}
	if r.Graded > 0 {
		r.KL /= float64(r.Graded)
		r.Clamped /= float64(r.Graded)
	}
	var err error
	r.StepResult, err = l.update(r.StepResult)
	return r, err
}

// item is one micro-step: all samples of a pair at one step of their trajectories.
type item struct {
	pair *Pair
	step int
	out  *flow.Outcome
}

func (it item) transition(sample int) flow.Transition {
	t := flow.Transition{Step: it.pair.Steps[it.step], Sample: it.pair.Latents[sample][it.step], Next: it.pair.Latents[sample][it.step+1]}
	if it.pair.Masks != nil {
		t.Mask = it.pair.Masks[sample]
	}
	return t
}

// dpoGradient adds scale times the gradient of the items' losses: the reference's velocities without gradient, the
// policy's with, and the analytic dL/dv of each item between them.
func (l *Learner) dpoGradient(ctx context.Context, items []item, reference *lora.Adapter, loss flow.DPO, scale float64, r *DPOResult) error {
	b := batchOf(items)
	in := input(l.model, l.Setting, b.latents, b.times, b.cond)
	ref, err := l.model.Velocity(ctx, l.be, in, reference)
	if err != nil {
		return err
	}
	vRef := make([]float32, ref.Len())
	l.be.Download(vRef, ref)
	l.be.Free(ref)
	grad := make([]float32, len(vRef))
	return l.differentiate(ctx, in, func(v []float32) []float32 {
		row := 0
		for _, it := range items {
			n := len(it.pair.Rewards)
			at := make([]flow.Transition, n)
			rows := func(x []float32) [][]float32 {
				part := make([][]float32, n)
				for i := range part {
					part[i] = x[(row+i)*b.size : (row+i+1)*b.size]
				}
				return part
			}
			for i := range at {
				at[i] = it.transition(i)
			}
			*it.out = loss.VelocityGradient(rows(grad), rows(v), rows(vRef), at, it.pair.Rewards, scale)
			r.observe(at, rows(v), rows(vRef), it.out)
			row += n
		}
		return grad
	})
}

// observe adds an item to the means that stop rules watch.
func (r *DPOResult) observe(at []flow.Transition, v, vRef [][]float32, out *flow.Outcome) {
	for i, t := range at {
		r.Graded++
		r.KL += t.Step.KL(v[i], vRef[i], t.Mask)
		if out.Clamped[i] {
			r.Clamped++
		}
	}
}

// batch is the network input of several items, samples in item order.
type batch struct {
	size           int // N·C
	latents, times []float32
	cond           Conditioning
}

func batchOf(items []item) batch {
	b := batch{size: len(items[0].pair.Latents[0][0])}
	for _, it := range items {
		for i := range it.pair.Rewards {
			b.latents = append(b.latents, it.pair.Latents[i][it.step]...)
			b.times = append(b.times, modelTime(it.pair.Timesteps[it.step]))
			b.cond.Text = append(b.cond.Text, it.pair.Text...)
			b.cond.Pooled = append(b.cond.Pooled, it.pair.Pooled...)
		}
	}
	return b
}
