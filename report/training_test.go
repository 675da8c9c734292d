package report

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/run"
)

func TestSmoothingKeepsLevelsAndLength(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		y := rapid.SliceOfN(rapid.Float64Range(-5, 5), 0, 200).Draw(t, "y")
		s := smooth(Series{Name: "n", X: make([]float64, len(y)), Y: y})
		if len(s.Y) != len(y) || s.Name != "n" {
			t.Fatalf("%d points of %d", len(s.Y), len(y))
		}
		window := max(1, len(y)/40)
		for i, v := range s.Y {
			part := y[max(0, i-window+1):max(i+1, window)]
			sum := 0.0
			for _, p := range part {
				sum += p
			}
			if math.Abs(v-sum/float64(len(part))) > 1e-9 {
				t.Fatalf("point %d is %v, want the mean of %v", i, v, part)
			}
		}
	})
}

func TestCurvesShowWhatWasLogged(t *testing.T) {
	events := []run.Event{
		{Stage: run.StageSFT, Step: 1, Kind: "step", Values: map[string]float64{"loss": 0.5}},
		{Stage: run.StageSFT, Step: 2, Kind: "other", Values: map[string]float64{"loss": 9}},
		{Stage: run.StageOFT, Step: 1, Kind: "step", Values: map[string]float64{"loss": 0.7, "reward": 3, "reward_best": 4, "kl": 0.01, "clamped": 0.1, "flat_groups": 0.2,
			"distance": 0.3, "distance_old": 0.4, "rise_best": -1, "rise_worst": 2, "reward_spread": 5}},
	}
	found := map[string][]string{}
	for _, c := range Curves(events, []run.QuickEval{{IP: 3, JudgeIP: 0.5}}) {
		for _, s := range c.Series {
			found[c.Title] = append(found[c.Title], fmt.Sprintf("%s%v%v", s.Name, s.X, s.Y))
		}
	}
	want := map[string][]string{
		"SFT loss": {"SFT[1][0.5]"}, "OFT reward": {"best of a prompt[1][4]", "mean[1][3]"}, "OFT loss": {"loss[1][0.7]"},
		"Distance to the reference":    {"KL[1][0.01]"},
		"Distance of velocities":       {"from the reference[1][0.3]", "from the old policy[1][0.4]"},
		"Errors above the reference's": {"best of a prompt[1][-1]", "worst of a prompt[1][2]"},
		"Without gradient":             {"samples beyond the clamp[1][0.1]", "prompts of equal scores[1][0.2]"},
		"Spread of scores":             {"within a prompt[1][5]"},
		"Evaluation during training":   {"SciScore[1][3]", "judged right, %[1][50]"},
	}
	if fmt.Sprint(found) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", found, want)
	}
	if c := Curves(nil, nil); len(c) != 0 {
		t.Errorf("%d curves of nothing", len(c))
	}
}
