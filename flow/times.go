package flow

import (
	"fmt"
	"math"
)

// TrainTimes chooses Count of the noise levels of a rollout of Steps steps to train at: of the first
// m = min(Steps, max(Count, ⌈Fraction·Steps⌉)) one in each of Count equal strata. A Fraction below 1 leaves out the cleanest
// levels, where rollouts of few steps have faults of their own.
type TrainTimes struct {
	Steps, Count int
	Fraction     float64
}

// Validate reports what leaves nothing to choose from.
func (t TrainTimes) Validate() error {
	if t.Steps < 1 || t.Count < 1 || t.Count > t.Steps || !(t.Fraction > 0 && t.Fraction <= 1) {
		return fmt.Errorf("%d noise levels of the first %v of %d: want at least one, and no more than there are", t.Count, t.Fraction, t.Steps)
	}
	return nil
}

// Index places one draw in [0, 1) for each stratum: stratum q is [⌊qm/Count⌋, ⌊(q+1)m/Count⌋).
func (t TrainTimes) Index(draws []float64) []int {
	m := min(t.Steps, max(t.Count, int(math.Ceil(t.Fraction*float64(t.Steps)-1e-9)))) // 0.7·10 is a little above 7
	index := make([]int, t.Count)
	for q := range index {
		low, high := q*m/t.Count, (q+1)*m/t.Count
		index[q] = min(low+int(draws[q]*float64(high-low)), high-1)
	}
	return index
}

// Window is where the noise of a stochastic rollout enters: Size steps in a row within [Low, High), at a place that changes
// from round to round. Elsewhere steps are Euler's.
type Window struct {
	Size, Low, High int
	Random          bool // any place, drawn for each round; else places follow each other
	Stride, Every   int  // a place is Stride steps after the one before it, for Every rounds
	Wrap            bool // after the last place comes the first one again, else it stays
}

// Validate reports a window that does not fit into a rollout of the given number of steps.
func (w Window) Validate(steps int) error {
	if w.Size < 1 || w.Low < 0 || w.High > steps || w.Low+w.Size > w.High {
		return fmt.Errorf("window of %d steps in [%d, %d) of a rollout of %d: it must lie inside", w.Size, w.Low, w.High, steps)
	}
	if !w.Random && (w.Stride < 1 || w.Every < 1) {
		return fmt.Errorf("window that moves by %d steps every %d rounds: both must be at least 1", w.Stride, w.Every)
	}
	return nil
}

// Start is the first noisy step of a round. draw, in [0, 1), counts for random windows. Places are Low, Low+Stride, … and
// always the last one, High−Size, itself.
func (w Window) Start(round int, draw float64) int {
	last := w.High - w.Size
	if w.Random {
		return min(w.Low+int(draw*float64(last-w.Low+1)), last)
	}
	places, place := (last-w.Low+w.Stride-1)/w.Stride+1, round/w.Every
	if w.Wrap {
		place %= places
	}
	return min(w.Low+min(place, places-1)*w.Stride, last)
}

// OldPolicy is the schedule by which the old policy follows the trained one: old ← η·old + (1−η)·policy with η(k) = 0 for
// k < Flat, else min(Cap, Ramp·(k−Flat)), k counted in updates.
type OldPolicy struct {
	Flat      int
	Ramp, Cap float64
}

// Decay is η(k).
func (o OldPolicy) Decay(k int) float64 {
	if k < o.Flat {
		return 0
	}
	return math.Min(o.Cap, o.Ramp*float64(k-o.Flat))
}

// Follow moves the old policy's weights after update k.
func (o OldPolicy) Follow(old, policy []float32, k int) {
	d := o.Decay(k)
	keep, take := float32(d), float32(1-d)
	for i, w := range policy {
		if keep == 0 {
			old[i] = w
			continue
		}
		old[i] = keep*old[i] + take*w
	}
}
