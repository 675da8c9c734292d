package trainer

import (
	"context"
	"fmt"
	"math"

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

// Part is part u of n of the pair's noisy steps, in equal parts: what the u-th of n updates on the same pair trains.
func (p Pair) Part(u, n int) Pair {
	first, count := 0, 0
	for i, s := range p.Steps {
		if s.Std != 0 {
			if count == 0 {
				first = i
			}
			count++
		}
	}
	from, to := first+u*count/n, first+(u+1)*count/n
	part := p
	part.Steps, part.Timesteps, part.Latents = p.Steps[from:to], p.Timesteps[from:to], nil
	for _, path := range p.Latents {
		part.Latents = append(part.Latents, path[from:to+1])
	}
	return part
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
	frozen, free, err := l.upload(Peers{Reference: reference})
	if err != nil {
		return r, err
	}
	defer free()
	for _, p := range pairs {
		r.Outcomes = append(r.Outcomes, make([]flow.Outcome, len(p.Steps)))
	}
	l.Clear()
	items := itemsOf(pairs)
	share := 1 / float64(max(1, len(items)))
	for len(items) > 0 {
		n := l.together(items)
		outcomes, err := l.DPOGradient(ctx, items[:n], frozen.Reference, loss, share)
		if err != nil {
			return r, err
		}
		for i, it := range items[:n] {
			r.Outcomes[it.number][it.Step] = outcomes[i]
		}
		items = items[n:]
	}
	r.summarise(share)
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
	samples := make([]int, len(items))
	for i, it := range items {
		samples[i] = len(it.Rewards)
	}
	return together(l.Setting.Samples(items[0].textTokens(l.model)), samples)
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
	outcomes := make([]flow.Outcome, len(items))
	peers := []peer{{what: "velocity of the reference", adapter: reference}}
	return outcomes, l.grade(ctx, in, peers, func(v []float32, others [][]float32, dv []float32) error {
		row, size := 0, len(v)/len(in.Prompts)
		for k, it := range items {
			n := len(it.Rewards)
			rows := func(x []float32) [][]float32 { return split(x[row*size:(row+n)*size], n) }
			at := make([]flow.Transition, n)
			for i := range at {
				at[i] = it.transition(i)
			}
			outcomes[k] = loss.VelocityGradient(rows(dv), flow.Velocities{Policy: rows(v), Reference: rows(others[0])}, at, it.Rewards, share)
			if x := outcomes[k].Loss; math.IsNaN(x) || math.IsInf(x, 0) {
				return l.nonFinite(fmt.Sprintf("loss of pair %d at step %d", it.number, it.Step), x)
			}
			row += n
		}
		return nil
	})
}

// inputOf is the network's input of all samples of the items, in order.
func (l *Learner) inputOf(items []Item) (*flux.Input, error) {
	shown := make([]shown, len(items))
	for k, it := range items {
		shown[k] = shownItem(it)
	}
	return l.inputShown(shown)
}

func shownItem(it Item) shown {
	s := shown{conditioning: &it.Conditioning, timestep: it.Timesteps[it.Step], what: "pair", number: it.number}
	for i := range it.Rewards {
		s.latents = append(s.latents, it.Latents[i][it.Step])
	}
	return s
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
	What         string // pair or group
	Pair, Sample int
	Value        float64
}

// Error names the sample and its reward.
func (e *RewardError) Error() string {
	return fmt.Sprintf("%s %d: the reward of sample %d is %v, which cannot be compared; look at the picture and at the scorer's weights",
		e.What, e.Pair, e.Sample, e.Value)
}

// checkRewards refuses rewards that would pass for ties.
func checkRewards(pairs []Pair) error {
	for p, pair := range pairs {
		for i, r := range pair.Rewards {
			if math.IsNaN(r) || math.IsInf(r, 0) {
				return &RewardError{What: "pair", Pair: p, Sample: i, Value: r}
			}
		}
	}
	return nil
}
