package workflows

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/run"
)

// rules are all off but those the test sets.
func rules(set func(*configs.Stop)) configs.Stop {
	s := configs.Default().Stop
	s.RewardCollapse.Action, s.KLToReference.Action, s.DeadMasks.Action, s.ClampSaturation.Action = actionOff, actionOff, actionOff, actionOff
	s.DistanceToReference.Action, s.FlatRewards.Action = actionOff, actionOff
	set(&s)
	return s
}

func TestStopRules(t *testing.T) {
	type epoch struct {
		pairs run.PairSummary
		chunk run.ChunkSummary
	}
	rewards := func(values ...float64) (es []epoch) {
		for _, v := range values {
			es = append(es, epoch{pairs: run.PairSummary{RewardMean: v}})
		}
		return es
	}
	chunks := func(set func(*run.ChunkSummary, float64), values ...float64) (es []epoch) {
		for _, v := range values {
			var c run.ChunkSummary
			set(&c, v)
			es = append(es, epoch{chunk: c})
		}
		return es
	}
	kl := func(c *run.ChunkSummary, v float64) { c.KL = v }
	clamp := func(c *run.ChunkSummary, v float64) { c.Clamped = v }
	collapse := rules(func(s *configs.Stop) {
		s.RewardCollapse = configs.RewardCollapse{Action: actionStop, Drop: 2, Window: 2}
	})
	limit := configs.Limit{Action: actionPause, Limit: 0.5, Patience: 2}
	for _, tc := range []struct {
		name   string
		rules  configs.Stop
		epochs []epoch
		acts   int // index of the epoch at which a rule acts; -1 never
		says   string
	}{
		{"steady reward", collapse, rewards(10, 10, 10, 9, 10), -1, ""},
		{"slow fall within the drop", collapse, rewards(10, 10, 9, 8, 8), -1, ""},
		{"collapse", collapse, rewards(10, 12, 8, 8), 3, "reward collapse: mean 8 over 2 epochs, 3 below"},
		{"low from the start", collapse, rewards(1, 1, 1, 1), -1, ""},
		{"one bad epoch is averaged", collapse, rewards(10, 10, 7, 10), -1, ""},
		{"negative rewards", collapse, rewards(-1, -1, -4, -4), 3, "reward collapse"},
		{"KL in a row", rules(func(s *configs.Stop) { s.KLToReference = limit }), chunks(kl, 0.6, 0.4, 0.6, 0.6), 3, "KL to the reference: 0.6"},
		{"KL at the limit", rules(func(s *configs.Stop) { s.KLToReference = limit }), chunks(kl, 0.5, 0.5, 0.5), -1, ""},
		{"clamp", rules(func(s *configs.Stop) { s.ClampSaturation = limit }), chunks(clamp, 0.9, 0.9), 1, "clamp saturation: 0.9"},
		{"dead masks", rules(func(s *configs.Stop) { s.DeadMasks = limit }),
			[]epoch{{pairs: run.PairSummary{Masks: run.Masks{Total: 4, Empty: 3}}}, {pairs: run.PairSummary{Masks: run.Masks{Total: 4, Empty: 4}}}}, 1, "dead masks: 1 of the samples"},
		{"distance in a row", rules(func(s *configs.Stop) { s.DistanceToReference = limit }),
			chunks(func(c *run.ChunkSummary, v float64) { c.Distance = v }, 0.6, 0.4, 0.6, 0.7), 3, "distance to the reference: 0.7 mean square of velocities"},
		{"equal rewards", rules(func(s *configs.Stop) { s.FlatRewards = limit }),
			[]epoch{{pairs: run.PairSummary{Pairs: 8, Ties: 8}}, {pairs: run.PairSummary{Pairs: 8, Ties: 4}}, {pairs: run.PairSummary{Pairs: 8, Ties: 8}},
				{pairs: run.PairSummary{Pairs: 8, Ties: 8}}}, 3, "equal rewards: 1 of the prompts"},
		{"all off", rules(func(*configs.Stop) {}), append(rewards(100, -100, -100), chunks(kl, 9, 9, 9)...), -1, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var g run.GuardState
			acted := -1
			var got verdict
			for i, e := range tc.epochs {
				if v := judge(&g, tc.rules, e.pairs, e.chunk); v.action != "" {
					acted, got = i, v
					break
				}
			}
			if acted != tc.acts || !strings.Contains(got.reason, tc.says) {
				t.Errorf("acted at %d with %q, want %d %q", acted, got.reason, tc.acts, tc.says)
			}
		})
	}
}

func TestStoppingRuleGoesBeforePausingRule(t *testing.T) {
	s := rules(func(s *configs.Stop) {
		s.KLToReference = configs.Limit{Action: actionPause, Limit: 0.1, Patience: 1}
		s.ClampSaturation = configs.Limit{Action: actionStop, Limit: 0.1, Patience: 1}
	})
	v := judge(&run.GuardState{}, s, run.PairSummary{}, run.ChunkSummary{KL: 1, Clamped: 1})
	if v.action != actionStop || !strings.Contains(v.reason, "clamp") {
		t.Errorf("%+v", v)
	}
}

// The memory stays as small as the window, however long a run is, and a reward that never falls never stops it.
func TestRewardMemoryIsBounded(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		window := rapid.IntRange(1, 6).Draw(r, "window")
		s := rules(func(s *configs.Stop) {
			s.RewardCollapse = configs.RewardCollapse{Action: actionStop, Drop: 1e-9, Window: window}
		})
		var g run.GuardState
		reward := rapid.Float64Range(-100, 100).Draw(r, "start")
		for range rapid.IntRange(0, 30).Draw(r, "epochs") {
			reward += rapid.Float64Range(0.001, 3).Draw(r, "rise")
			if v := judge(&g, s, run.PairSummary{RewardMean: reward}, run.ChunkSummary{}); v.action != "" {
				r.Fatalf("stopped while rising: %s", v.reason)
			}
			if len(g.Rewards) > window {
				r.Fatalf("%d rewards kept for a window of %d", len(g.Rewards), window)
			}
		}
	})
}

func TestCrossed(t *testing.T) {
	for _, tc := range []struct {
		before, now, every int
		want               bool
	}{{0, 3, 3, true}, {0, 2, 3, false}, {2, 4, 3, true}, {3, 5, 3, false}, {5, 12, 3, true}, {0, 9, 0, false}} {
		if crossed(tc.before, tc.now, tc.every) != tc.want {
			t.Errorf("%+v", tc)
		}
	}
}

func TestStepsForCompare(t *testing.T) {
	in := StageInput{Budget: 100, Reference: run.CheckpointRef{Step: 50, Seconds: 25}, Plan: run.Plan{SFTChunk: 60}}
	for _, tc := range []struct {
		step  int
		spent float64
		want  int
	}{
		{50, 0, 60},   // 200 steps fit, a chunk is 60
		{150, 50, 60}, // 100 fit
		{230, 90, 20}, // 180 steps in 90 s so far: 20 more in 10 s
		{250, 99.9, 1},
	} {
		if got := stepsFor(in, run.CheckpointRef{Step: tc.step}, tc.spent); got != tc.want {
			t.Errorf("at step %d after %v s: %d, want %d", tc.step, tc.spent, got, tc.want)
		}
	}
	in.Reference.Seconds = 0
	if got := stepsFor(in, run.CheckpointRef{Step: 50}, 0); got != 60 {
		t.Errorf("without a known pace: %d, want a chunk", got)
	}
}
