package trainer

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/flux"
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

// Item is a part of a step of stage 2 that has a loss of its own: all samples of a pair at one step of their trajectories.
type Item struct {
	*Pair
	Step   int
	number int // of the pair
}

func (it Item) transition(sample int) flow.Transition {
	t := flow.Transition{Step: it.Steps[it.Step], Sample: it.Latents[sample][it.Step], Next: it.Latents[sample][it.Step+1]}
	if it.Masks != nil {
		t.Mask = it.Masks[sample]
	}
	return t
}

// DPOResult is what one optimiser step of stage 2 reports.
type DPOResult struct {
	StepResult
	Outcomes [][]flow.Outcome // per pair and step
	KL       float64          // mean over graded samples of flow.Step.KL
	Clamped  float64          // share of graded samples whose ratio lies beyond the clamp
}

// DPO takes one optimiser step on a group of pairs against the reference adapter (nil: the base): the gradients of all
// (pair, step) losses, averaged over all of them. Pairs of equal reward count in that average, and in the means of KL and
// clamped samples, for which they are run forwards; steps without noise have no density, so they are no micro-steps and
// their Outcome stays empty.
func (l *Learner) DPO(ctx context.Context, pairs []Pair, reference *lora.Adapter, loss flow.DPO) (DPOResult, error) {
	var r DPOResult
	if err := checkRewards(pairs); err != nil {
		return r, err
	}
	if reference != nil {
		reference = reference.Upload(l.be)
		defer l.be.Free(reference.Weights)
	}
	for _, p := range pairs {
		r.Outcomes = append(r.Outcomes, make([]flow.Outcome, len(p.Steps)))
	}
	l.Clear()
	items := itemsOf(pairs)
	share := 1 / float64(max(1, len(items)))
	for len(items) > 0 {
		n := l.together(items)
		outcomes, err := l.DPOGradient(ctx, items[:n], reference, loss, share)
		if err != nil {
			return r, err
		}
		for i, it := range items[:n] {
			r.Outcomes[it.number][it.Step] = outcomes[i]
		}
		items = items[n:]
	}
	r.summarise(share)
	var err error
	r.Norm, r.Rate, err = l.Apply()
	return r, err
}

// itemsOf lists the items of pairs that have a density.
func itemsOf(pairs []Pair) []Item {
	var items []Item
	for p := range pairs {
		for j, step := range pairs[p].Steps {
			if step.Std != 0 {
				items = append(items, Item{&pairs[p], j, p})
			}
		}
	}
	return items
}

// together is how many of the first items one network call takes: at least one, for the loss couples its samples.
func (l *Learner) together(items []Item) int {
	most := l.Setting.Samples(items[0].textTokens(l.model))
	n, samples := 0, 0
	for n < len(items) && (n == 0 || samples+len(items[n].Rewards) <= most) {
		samples += len(items[n].Rewards)
		n++
	}
	return n
}

// summarise averages the outcomes: losses over items, the rest over samples.
func (r *DPOResult) summarise(share float64) {
	for _, steps := range r.Outcomes {
		for _, o := range steps {
			r.Loss += o.Loss * share
			r.Graded += len(o.KL)
			for i, kl := range o.KL {
				r.KL += kl
				if o.Clamped[i] {
					r.Clamped++
				}
			}
		}
	}
	if r.Graded > 0 {
		r.KL /= float64(r.Graded)
		r.Clamped /= float64(r.Graded)
	}
}

// DPOGradient adds share times the gradient of the sum of the items' losses: the reference's velocities without gradient,
// the policy's with, and the analytic dL/dv of each item between them. The reference lies in memory of the learner's
// backend; nil is the base. An item of more samples than a network call takes is computed in several: the samples of a
// pair meet in the loss only.
func (l *Learner) DPOGradient(ctx context.Context, items []Item, reference *lora.Adapter, loss flow.DPO, share float64) (
	[]flow.Outcome, error) {
	in, err := l.inputOf(items)
	if err != nil {
		return nil, err
	}
	batches, err := l.model.NewBatches(l.be, in, l.Setting.BatchTokens)
	if err != nil {
		return nil, err
	}
	defer batches.Free()
	defer l.session.Release()
	vRef, err := l.velocities(ctx, "velocity of the reference", batches, reference)
	if err != nil {
		return nil, err
	}
	v, err := l.forward(ctx, batches)
	if err != nil {
		return nil, err
	}
	dv, size := make([]float32, len(v)), in.Latents.Len()/in.Latents.Shape[0]
	outcomes, row := make([]flow.Outcome, len(items)), 0
	for k, it := range items {
		n := len(it.Rewards)
		rows := func(x []float32) [][]float32 { return split(x[row*size:(row+n)*size], n) }
		at := make([]flow.Transition, n)
		for i := range at {
			at[i] = it.transition(i)
		}
		outcomes[k] = loss.VelocityGradient(rows(dv), flow.Velocities{Policy: rows(v), Reference: rows(vRef)}, at, it.Rewards, share)
		if x := outcomes[k].Loss; math.IsNaN(x) || math.IsInf(x, 0) {
			return nil, l.nonFinite(fmt.Sprintf("loss of pair %d at step %d", it.number, it.Step), x)
		}
		row += n
	}
	return outcomes, l.backward(ctx, batches, dv)
}

// inputOf is the network's input of all samples of the items, in order.
func (l *Learner) inputOf(items []Item) (*flux.Input, error) {
	cond, rows, err := conditioningOf(items)
	if err != nil {
		return nil, err
	}
	var latents, times []float32
	var prompts []int
	for _, it := range items {
		for i := range it.Rewards {
			latents = append(latents, it.Latents[i][it.Step]...)
			times, prompts = append(times, flux.ModelTime(it.Timesteps[it.Step])), append(prompts, rows[it.Pair])
		}
	}
	in, err := l.Setting.input(l.model, latents, prompts, cond)
	if err != nil {
		return nil, err
	}
	in.Timestep = times
	return in, nil
}

// conditioningOf joins the rows of the items' pairs, each once, and tells which is whose.
func conditioningOf(items []Item) (c Conditioning, rows map[*Pair]int, err error) {
	rows = map[*Pair]int{}
	for _, it := range items {
		if _, ok := rows[it.Pair]; ok {
			continue
		}
		if a, b := len(it.Text), len(items[0].Text); a != b {
			return c, nil, fmt.Errorf("pair %d has %d text values, pair %d has %d: all prompts need the same number of tokens",
				it.number, a, items[0].number, b)
		}
		rows[it.Pair] = len(rows)
		if len(rows) == 1 {
			c = it.Conditioning // uncopied, for calls of a single pair
		} else {
			c = Conditioning{Text: slices.Concat(c.Text, it.Text), Pooled: slices.Concat(c.Pooled, it.Pooled)}
		}
	}
	return c, rows, nil
}

// split cuts x into n parts of one length.
func split(x []float32, n int) [][]float32 {
	parts := make([][]float32, n)
	for i := range parts {
		size := len(x) / n
		parts[i] = x[i*size : (i+1)*size]
	}
	return parts
}

// RewardError says that a reward is NaN or infinite, so that it says nothing about which sample is better.
type RewardError struct {
	Pair, Sample int
	Value        float64
}

// Error names the sample and its reward.
func (e *RewardError) Error() string {
	return fmt.Sprintf("pair %d: the reward of sample %d is %v, which cannot be compared; look at the picture and at the scorer's weights",
		e.Pair, e.Sample, e.Value)
}

// checkRewards refuses rewards that would pass for ties.
func checkRewards(pairs []Pair) error {
	for p, pair := range pairs {
		for i, r := range pair.Rewards {
			if math.IsNaN(r) || math.IsInf(r, 0) {
				return &RewardError{Pair: p, Sample: i, Value: r}
			}
		}
	}
	return nil
}
