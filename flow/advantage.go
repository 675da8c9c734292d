package flow

import (
	"fmt"
	"math"
)

// advantageTiny is added to the deviation that z-scores divide by.
const advantageTiny = 1e-4

// Advantages turns the rewards of a round's groups into what the forward-process methods weigh samples by.
//
//	centred   r − mean of the group
//	zscore    the same over (std + 1e-4), of the group or (ScopeRound) of all rewards of the round
//	winrate   w = (Σ over the others of [r_i−r_j > gap] + ½[|r_i−r_j| ≤ gap])/(G−1), then centred
//	winrate_zscore  then z-scored
//
// and all of it clamped to ±Clip. With two samples a group's z-score is ±1 whatever their distance.
type Advantages struct {
	Kind         string
	Sample       bool // deviation with n−1, else with n
	Round        bool // the deviation is that of the round's rewards
	Clip, MinGap float64
}

// Validate reports an unknown kind.
func (a Advantages) Validate() error {
	switch a.Kind {
	case "centred", "zscore", "winrate", "winrate_zscore":
		return nil
	}
	return fmt.Errorf("advantage: %q is unknown; use centred, zscore, winrate or winrate_zscore", a.Kind)
}

// Of gives each sample of each group its advantage. Groups may be of different sizes.
func (a Advantages) Of(groups [][]float64) [][]float64 {
	wins := a.Kind == "winrate" || a.Kind == "winrate_zscore"
	values := make([][]float64, len(groups))
	var all []float64
	for g, rewards := range groups {
		values[g] = rewards
		if wins {
			values[g] = winRates(rewards, a.MinGap)
		}
		all = append(all, values[g]...)
	}
	of := math.NaN() // deviation of the round
	if a.Round {
		of = a.deviation(all)
	}
	out := make([][]float64, len(groups))
	for g, x := range values {
		divisor := 1.0
		if a.Kind == "zscore" || a.Kind == "winrate_zscore" {
			divisor = advantageTiny + of
			if !a.Round {
				divisor = advantageTiny + a.deviation(x)
			}
		}
		out[g] = make([]float64, len(x))
		m := mean(x)
		for i, v := range x {
			out[g][i] = math.Min(math.Max((v-m)/divisor, -a.Clip), a.Clip)
		}
	}
	return out
}

// winRates is the share of the others that each sample beats, half of it for those within the gap.
func winRates(rewards []float64, gap float64) []float64 {
	w := make([]float64, len(rewards))
	for i, a := range rewards {
		for j, b := range rewards {
			switch d := a - b; {
			case i == j:
			case d > gap:
				w[i]++
			case math.Abs(d) <= gap:
				w[i] += 0.5
			}
		}
		w[i] /= float64(max(1, len(rewards)-1))
	}
	return w
}

func mean(x []float64) float64 {
	var sum float64
	for _, v := range x {
		sum += v
	}
	return sum / float64(max(1, len(x)))
}

// deviation is the standard deviation, 0 of fewer values than it has an estimate from.
func (a Advantages) deviation(x []float64) float64 {
	n := len(x)
	if a.Sample {
		n--
	}
	if n < 1 {
		return 0
	}
	var square float64
	m := mean(x)
	for _, v := range x {
		square += (v - m) * (v - m)
	}
	return math.Sqrt(square / float64(n))
}

// Flat tells whether a group's rewards lie no further apart than the gap, so that it says nothing about which is better.
func Flat(rewards []float64, gap float64) bool {
	if len(rewards) == 0 {
		return true
	}
	best, worst := Extremes(rewards)
	return rewards[best]-rewards[worst] <= gap
}

// Spread is the standard deviation of a group's rewards.
func Spread(rewards []float64) float64 { return Advantages{}.deviation(rewards) }
