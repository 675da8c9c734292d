package trainer

import (
	"context"
	"fmt"
	"slices"

	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/model/lora"
)

// peer is a frozen adapter whose velocities a loss compares the policy's with; a nil adapter is the base. Its numbers lie in
// memory of the learner's backend. Where same says that they are the policy's, no pass is run for it.
type peer struct {
	what    string // for errors
	adapter *lora.Adapter
	same    bool
}

// grade adds the gradient of a loss of one network call: the peers' velocities without gradient, the policy's with, the
// analytic dL/dv that loss writes into dv between them, and one backward pass. Samples that are more than a call takes are
// computed in several: they meet in the loss only.
func (l *Learner) grade(ctx context.Context, in *flux.Input, peers []peer, loss func(v []float32, others [][]float32, dv []float32) error) error {
	batches, err := l.model.NewBatches(l.be, in, l.Setting.BatchTokens)
	if err != nil {
		return err
	}
	defer batches.Free()
	defer l.session.Release()
	others := make([][]float32, len(peers))
	for i, p := range peers {
		if p.same {
			continue
		}
		if others[i], err = l.velocities(ctx, p.what, batches, p.adapter); err != nil {
			return err
		}
	}
	v, err := l.forward(ctx, batches)
	if err != nil {
		return err
	}
	for i, p := range peers {
		if p.same {
			others[i] = v
		}
	}
	dv := make([]float32, len(v))
	if err := loss(v, others, dv); err != nil {
		return err
	}
	return l.backward(ctx, batches, dv)
}

// shown is what the network is shown of one item: some samples of one prompt at one time.
type shown struct {
	latents      [][]float32 // [N, C] each
	timestep     float32     // 1000·sigma
	conditioning *Conditioning
	what         string // for errors: pair or group
	number       int
}

// inputShown is the network's input of all samples of the items, in order. Each conditioning is there once, whatever the
// number of items that share it.
func (l *Learner) inputShown(items []shown) (*flux.Input, error) {
	var cond Conditioning
	var latents, times []float32
	var prompts []int
	rows := map[*Conditioning]int{}
	for _, it := range items {
		row, ok := rows[it.conditioning]
		if !ok {
			if a, b := len(it.conditioning.Text), len(items[0].conditioning.Text); a != b {
				return nil, fmt.Errorf("%s %d has %d text values, %s %d has %d: all prompts need the same number of tokens",
					it.what, it.number, a, it.what, items[0].number, b)
			}
			row = len(rows)
			rows[it.conditioning] = row
			if row == 0 {
				cond = *it.conditioning // uncopied, for calls of a single prompt
			} else {
				cond = Conditioning{Text: slices.Concat(cond.Text, it.conditioning.Text), Pooled: slices.Concat(cond.Pooled, it.conditioning.Pooled)}
			}
		}
		for _, x := range it.latents {
			latents = append(latents, x...)
			times, prompts = append(times, flux.ModelTime(it.timestep)), append(prompts, row)
		}
	}
	in, err := l.Setting.input(l.model, latents, prompts, cond)
	if err != nil {
		return nil, err
	}
	in.Timestep = times
	return in, nil
}

// together is how many of the first items, each of so many samples, one network call takes: at least one, for the loss
// couples its samples.
func together(most int, samples []int) int {
	n, sum := 0, 0
	for n < len(samples) && (n == 0 || sum+samples[n] <= most) {
		sum += samples[n]
		n++
	}
	return n
}
