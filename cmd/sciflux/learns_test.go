package main

import "testing"

// TestSmokePresetLearns: the preset world-smoke as it is shipped ends with pictures that the scorer likes far better than
// the base's, and that the judge finds right more often. Whatever breaks on the way from a picture to a gradient without an
// error shows here.
func TestSmokePresetLearns(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a pipeline")
	}
	state := t.TempDir()
	want(t, 0, state, "run", "world-smoke")
	s := show(t, state, "world-smoke")
	for split, least := range map[string]float64{"test_S": 0.25, "test_C": 0.2} {
		number := func(variant, key string) float64 { v, _ := s.Metrics[split][variant][key].(float64); return v }
		for _, variant := range []string{"sft", "oft"} {
			if ri := number(variant, "ri"); ri < least {
				t.Errorf("%s %s: RI %.3f, at least %.2f is learned in 120 steps", split, variant, ri, least)
			}
			if right, before := number(variant, "judge_ip"), number("base", "judge_ip"); right <= before {
				t.Errorf("%s %s: %.1f %% of implicit prompts right, %.1f %% before", split, variant, 100*right, 100*before)
			}
		}
	}
}
