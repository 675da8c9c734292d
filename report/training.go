package report

import (
	"github.com/sciflux/sciflux/run"
)

// Curves draws what training logged.
func Curves(events []run.Event, quick []run.QuickEval) []Curve {
	series := func(stage run.Stage, name, label string) Series {
		s := Series{Name: label}
		for _, e := range events {
			if v, ok := e.Values[name]; ok && e.Stage == stage && e.Kind == "step" {
				s.X, s.Y = append(s.X, float64(e.Step)), append(s.Y, v)
			}
		}
		return s
	}
	all := []Curve{
		{Title: "SFT loss", X: "optimiser step", Y: "velocity error", Series: []Series{smooth(series(run.StageSFT, "loss", "SFT")), smooth(series(run.StageCompare, "loss", "continued"))}},
		{Title: "OFT reward", X: "optimiser step", Y: "SciScore", Series: []Series{series(run.StageOFT, "reward_best", "best of a prompt"), series(run.StageOFT, "reward", "mean")}},
		{Title: "OFT loss", X: "optimiser step", Y: "loss", Series: []Series{series(run.StageOFT, "loss", "loss")}},
		{Title: "Distance to the reference", X: "optimiser step", Y: "KL, nats per element", Series: []Series{series(run.StageOFT, "kl", "KL")}},
		{Title: "Distance of velocities", X: "optimiser step", Y: "mean square",
			Series: []Series{series(run.StageOFT, "distance", "from the reference"), series(run.StageOFT, "distance_old", "from the old policy")}},
		// Both above 0 is unlearning: the preference grows by making every picture worse.
		{Title: "Errors above the reference's", X: "optimiser step", Y: "velocity error",
			Series: []Series{smooth(series(run.StageOFT, "rise_best", "best of a prompt")), smooth(series(run.StageOFT, "rise_worst", "worst of a prompt"))}},
		{Title: "Without gradient", X: "optimiser step", Y: "share",
			Series: []Series{series(run.StageOFT, "clamped", "samples beyond the clamp"), series(run.StageOFT, "flat_groups", "prompts of equal scores")}},
		{Title: "Spread of scores", X: "optimiser step", Y: "SciScore", Series: []Series{series(run.StageOFT, "reward_spread", "within a prompt")}},
		quickCurve(quick),
	}
	var out []Curve
	for _, c := range all {
		var kept []Series
		for _, s := range c.Series {
			if len(s.X) > 0 {
				kept = append(kept, s)
			}
		}
		if c.Series = kept; len(kept) > 0 {
			out = append(out, c)
		}
	}
	return out
}

// quickCurve is the evaluation during training: both stages on one axis of evaluations.
func quickCurve(quick []run.QuickEval) Curve {
	score, right := Series{Name: "SciScore"}, Series{Name: "judged right, %"}
	for i, q := range quick {
		score.X, score.Y = append(score.X, float64(i+1)), append(score.Y, q.IP)
		right.X, right.Y = append(right.X, float64(i+1)), append(right.Y, 100*q.JudgeIP)
	}
	return Curve{Title: "Evaluation during training", X: "evaluation", Y: "implicit prompts", Series: []Series{score, right}}
}

// smooth is a running mean over a fortieth of the points: single-step losses jump with their noise levels. The first
// points, which have no full window before them, take that of the first window, so that none of them sticks out.
func smooth(s Series) Series {
	window := max(1, len(s.Y)/40)
	out := Series{Name: s.Name, X: s.X}
	sum := 0.0
	for _, v := range s.Y[:min(window, len(s.Y))] {
		sum += v
	}
	for i := range s.Y {
		if i >= window {
			sum += s.Y[i] - s.Y[i-window]
		}
		out.Y = append(out.Y, sum/float64(window))
	}
	return out
}
