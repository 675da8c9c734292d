package trainer

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/lora"
)

// Level is a noise level that a group is trained at.
type Level struct {
	Sigma float32
	// Noise writes what is mixed into a sample's latents; the same for all samples where they share it.
	Noise func(sample int, dst []float32)
}

// Group is one prompt's pictures with their rewards, as the forward-process methods train on them. It may hold no samples:
// then it counts in the mean of a step and costs nothing.
type Group struct {
	Latents             [][]float32 // per sample, clean [N, C]
	Rewards, Advantages []float64   // per sample
	Masks               []*flow.Mask
	Levels              []Level
	Conditioning        // one row, shared by the samples
}

// Peers are the adapters beside the policy. A nil Reference is the base; Old may be nil where the method needs none.
type Peers struct{ Reference, Old *lora.Adapter }

// MatchItem is a part of a step of a forward-process method that has a loss of its own: all samples of a group at one level.
type MatchItem struct {
	*Group
	Level  int
	number int // of the group
}

// MatchResult is what one optimiser step of a forward-process method reports. Values that were measured nowhere are 0.
type MatchResult struct {
	StepResult
	Outcomes [][]flow.Matched // per group and level
	// Winners and Losers are the mean rises of the errors of each group's best and worst sample over the reference's: both
	// above 0 is unlearning. Flat groups are left out.
	Winners, Losers float64
	Distance        float64 // mean square of the policy's velocities from the reference's, inside masks
	Drift           float64 // as Distance, from the old policy's
	Closed          float64 // share of graded samples that the clip stops
	Score           float64 // mean S of flow.GroupFlow
}

// Match takes one optimiser step of a forward-process method on groups at their levels from … to−1: the gradients of all
// (group, level) losses, averaged over all of them. A peer whose weights are the policy's, as at the start of a round, costs
// no pass. Where the loss does not read the reference's velocities they are computed for the first group at its first level
// alone, in a network call of its own, so that every method tells how far its policy has gone.
func (l *Learner) Match(ctx context.Context, groups []Group, from, to int, peers Peers, loss flow.Matching) (MatchResult, error) {
	var r MatchResult
	if err := checkGroups(groups); err != nil {
		return r, err
	}
	frozen, free, err := l.upload(peers)
	if err != nil {
		return r, err
	}
	defer free()
	items := matchItems(groups, from, to)
	share := 1 / float64(max(1, len(groups)*(to-from)))
	r.Outcomes = make([][]flow.Matched, len(groups))
	for g := range groups {
		r.Outcomes[g] = make([]flow.Matched, to-from)
	}
	l.Clear()
	for first := true; len(items) > 0; first = false {
		n := l.matchTogether(items)
		if reference, _ := loss.Needs(); first && !reference {
			n = 1
		}
		outcomes, err := l.MatchGradient(ctx, items[:n], frozen, loss, share, first)
		if err != nil {
			return r, err
		}
		for i, it := range items[:n] {
			r.Outcomes[it.number][it.Level-from] = outcomes[i]
		}
		items = items[n:]
	}
	r.summarise(groups, share)
	r.Norm, r.Rate, err = l.Apply()
	return r, err
}

// matchItems lists the items that have samples, group by group.
func matchItems(groups []Group, from, to int) []MatchItem {
	var items []MatchItem
	for g := range groups {
		for level := from; level < to && len(groups[g].Rewards) > 0; level++ {
			items = append(items, MatchItem{&groups[g], level, g})
		}
	}
	return items
}

func (l *Learner) matchTogether(items []MatchItem) int {
	samples := make([]int, len(items))
	for i, it := range items {
		samples[i] = len(it.Rewards)
	}
	return together(l.Setting.Samples(items[0].textTokens(l.model)), samples)
}

// upload copies the peers to memory of the backend, all or none. free gives it back.
func (l *Learner) upload(p Peers) (up Peers, free func(), err error) {
	defer engine.Guard(&err)
	scope := engine.NewScope(l.be)
	defer func() {
		if free == nil {
			scope.Close()
		}
	}()
	if p.Reference != nil {
		up.Reference = p.Reference.Upload(scope)
	}
	if p.Old != nil {
		up.Old = p.Old.Upload(scope)
	}
	return up, func() { scope.Close() }, nil
}

// isPolicy tells whether an adapter has the very weights of the one that is trained, so that its velocities are the policy's
// to the bit.
func (l *Learner) isPolicy(a *lora.Adapter) bool {
	return a != nil && a.Same(l.Adapter) && slices.Equal(a.Numbers(l.be), l.Adapter.Numbers(l.be))
}

// MatchGradient adds share times the gradient of the sum of the items' losses. The peers lie in memory of the learner's
// backend. watch asks for the reference's velocities even where the loss does not read them.
func (l *Learner) MatchGradient(ctx context.Context, items []MatchItem, p Peers, loss flow.Matching, share float64, watch bool) (
	[]flow.Matched, error) {
	samples, parts := make([][]flow.Sample, len(items)), make([]shown, len(items))
	for k, it := range items {
		samples[k], parts[k] = it.show()
	}
	in, err := l.inputShown(parts)
	if err != nil {
		return nil, err
	}
	reference, old := loss.Needs()
	var peers []peer
	if reference = reference || watch; reference {
		peers = append(peers, peer{what: "velocity of the reference", adapter: p.Reference, same: l.isPolicy(p.Reference)})
	}
	if old {
		peers = append(peers, peer{what: "velocity of the old policy", adapter: p.Old, same: l.isPolicy(p.Old)})
	}
	outcomes := make([]flow.Matched, len(items))
	return outcomes, l.grade(ctx, in, peers, func(v []float32, others [][]float32, dv []float32) error {
		row, size := 0, len(v)/len(in.Prompts)
		for k, it := range items {
			n := len(it.Rewards)
			rows := func(x []float32) [][]float32 { return split(x[row*size:(row+n)*size], n) }
			at := flow.Velocities{Policy: rows(v)}
			if reference {
				at.Reference = rows(others[0])
			}
			if old {
				at.Old = rows(others[len(others)-1])
			}
			outcomes[k] = loss.Gradient(rows(dv), at, samples[k], share)
			if x := outcomes[k].Loss; math.IsNaN(x) || math.IsInf(x, 0) {
				return l.nonFinite(fmt.Sprintf("loss of group %d at noise level %g", it.number, it.Levels[it.Level].Sigma), x)
			}
			row += n
		}
		return nil
	})
}

// show mixes the noise of the item's level into its samples.
func (it MatchItem) show() ([]flow.Sample, shown) {
	level := it.Levels[it.Level]
	see := shown{conditioning: &it.Conditioning, timestep: 1000 * level.Sigma, what: "group", number: it.number} // as schedulers have it
	samples := make([]flow.Sample, len(it.Rewards))
	for i, x0 := range it.Latents {
		noise, x := make([]float32, len(x0)), make([]float32, len(x0))
		level.Noise(i, noise)
		flow.Noised(x, x0, noise, float64(level.Sigma))
		samples[i] = flow.Sample{Latents: x0, Noise: noise, Sigma: float64(level.Sigma), Reward: it.Rewards[i], Advantage: it.Advantages[i]}
		if it.Masks != nil {
			samples[i].Mask = it.Masks[i]
		}
		see.latents = append(see.latents, x)
	}
	return samples, see
}

// tally is a mean under way.
type tally struct{ sum, n float64 }

func (t *tally) add(values ...float64) {
	for _, v := range values {
		t.sum, t.n = t.sum+v, t.n+1
	}
}

func (t tally) mean() float64 { return t.sum / math.Max(1, t.n) }

// summarise averages the outcomes: losses over items, the rest over what was measured.
func (r *MatchResult) summarise(groups []Group, share float64) {
	var winners, losers, distance, drift, closed, score tally
	for g, levels := range r.Outcomes {
		for _, o := range levels {
			r.Loss += o.Loss * share
			r.Graded += len(o.Error)
			if len(o.Error) == 0 {
				continue
			}
			score.add(o.Score)
			distance.add(o.Distance...)
			drift.add(o.Drift...)
			for _, c := range o.Closed {
				if closed.n++; c {
					closed.sum++
				}
			}
			if best, worst := flow.Extremes(groups[g].Rewards); best != worst && o.Rise != nil {
				winners.add(o.Rise[best])
				losers.add(o.Rise[worst])
			}
		}
	}
	r.Winners, r.Losers, r.Distance, r.Drift = winners.mean(), losers.mean(), distance.mean(), drift.mean()
	r.Closed, r.Score = closed.mean(), score.mean()
}

// checkGroups refuses rewards that cannot be compared, and groups whose parts do not belong together.
func checkGroups(groups []Group) error {
	for g, group := range groups {
		n := len(group.Rewards)
		if len(group.Latents) != n || len(group.Advantages) != n || group.Masks != nil && len(group.Masks) != n {
			return fmt.Errorf("group %d: %d pictures, %d rewards, %d advantages and %d masks do not belong together", g,
				len(group.Latents), n, len(group.Advantages), len(group.Masks))
		}
		for i, r := range group.Rewards {
			if math.IsNaN(r) || math.IsInf(r, 0) {
				return &RewardError{What: "group", Pair: g, Sample: i, Value: r}
			}
		}
	}
	return nil
}
