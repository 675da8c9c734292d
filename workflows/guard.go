package workflows

import (
	"fmt"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/run"
)

// The actions of a stop rule.
const (
	actionStop  = "stop"
	actionPause = "pause"
	actionOff   = "off"
)

// verdict is what the stop rules say about an epoch; its zero value says go on.
type verdict struct {
	action string
	reason string
}

// judge takes one epoch into the memory of the stop rules and says what to do. Of several rules that act at once the
// first one that stops counts, else the first one that pauses.
func judge(g *run.GuardState, rules configs.Stop, pairs run.PairSummary, chunk run.ChunkSummary) verdict {
	found := []verdict{
		judgeReward(g, rules.RewardCollapse, pairs.RewardMean),
		judgeLimit(&g.KLOver, rules.KLToReference, "KL to the reference", "nats per element", chunk.KL),
		judgeLimit(&g.DistanceOver, rules.DistanceToReference, "distance to the reference", "mean square of velocities", chunk.Distance),
		judgeLimit(&g.FlatOver, rules.FlatRewards, "equal rewards", "of the prompts have pictures of one score only, so there is nothing to learn,", pairs.FlatShare()),
		judgeLimit(&g.DeadOver, rules.DeadMasks, "dead masks", "of the samples", pairs.Masks.DeadFraction()),
		judgeLimit(&g.ClampOver, rules.ClampSaturation, "clamp saturation", "of the samples", chunk.Clamped),
	}
	var first verdict
	for _, v := range found {
		if v.action == actionStop {
			return v
		}
		if first.action == "" {
			first = v
		}
	}
	return first
}

// judgeReward compares the mean reward of the newest window with the best window so far.
func judgeReward(g *run.GuardState, rule configs.RewardCollapse, reward float64) verdict {
	if rule.Action == actionOff {
		return verdict{}
	}
	g.Rewards = append(g.Rewards, reward)
	if len(g.Rewards) < rule.Window {
		return verdict{}
	}
	g.Rewards = g.Rewards[len(g.Rewards)-rule.Window:]
	mean := 0.0
	for _, r := range g.Rewards {
		mean += r / float64(rule.Window)
	}
	if !g.HasBest || mean > g.BestReward {
		g.HasBest, g.BestReward = true, mean
	}
	if g.BestReward-mean <= rule.Drop {
		return verdict{}
	}
	return verdict{rule.Action, fmt.Sprintf("reward collapse: mean %.4g over %d epochs, %.4g below the best (limit %.4g); lower oft.lr or set stop.reward_collapse",
		mean, rule.Window, g.BestReward-mean, rule.Drop)}
}

// judgeLimit counts the epochs in a row in which a value is over its limit.
func judgeLimit(over *int, rule configs.Limit, name, unit string, value float64) verdict {
	if rule.Action == actionOff {
		return verdict{}
	}
	if value <= rule.Limit {
		*over = 0
		return verdict{}
	}
	if *over++; *over < rule.Patience {
		return verdict{}
	}
	return verdict{rule.Action, fmt.Sprintf("%s: %.4g %s for %d epochs (limit %.4g)", name, value, unit, *over, rule.Limit)}
}
