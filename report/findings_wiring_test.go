package report

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sciflux/sciflux/run"
)

// TestFindingsSayTheirNumbers: every sentence with the number that belongs in each place, reached or missed; a number of its
// own in each.
func TestFindingsSayTheirNumbers(t *testing.T) {
	gain := run.Interval{Mean: 0.28, Low: 0.191, High: 0.402}
	results := []run.EvalResult{
		{Split: "S", Variant: run.VariantBase, Tuples: 9, RI: 0.01, JudgeIP: 0.12, JudgeEP: 0.93},
		{Split: "S", Variant: run.VariantSFT, Tuples: 9, RI: -0.14, JudgeIP: 0.25, JudgeEP: 0.06},
		{Split: "S", Variant: run.VariantOFT, Tuples: 9, RI: 0.37, RIGain: gain, JudgeIP: 0.49, JudgeEP: 0.81},
		{Split: "S", Variant: run.VariantLonger, Tuples: 9, RI: 0.33, JudgeIP: 0.57, JudgeEP: 0.08},
	}
	want := []Finding{
		{"S: SFT closes -14 % of the gap between implicit and explicit prompts (RI).", false},
		{"S: OFT brings RI to 37 %, +28.0 points over SFT (95 % interval +19.1 to +40.2).", true},
		{"S: the judge finds 49 % of pictures from implicit prompts right after OFT, 12 % before, 25 % after SFT.", true},
		{"S: explicit prompts stay at 81 % right (93 % before).", false},
		{"S: SFT given OFT's time instead reaches RI 33 % and 57 % right; OFT 37 % and 49 %.", true},
	}
	if diff := cmp.Diff(want, Findings(results)); diff != "" {
		t.Error(diff)
	}
	results[2].JudgeEP, results[2].JudgeIP, results[2].RI, results[2].RIGain.Low, results[1].RI = 0.89, 0.11, 0.32, 0, 0.02
	for i, good := range []bool{true, false, false, true, false} {
		if f := Findings(results)[i]; f.Good != good {
			t.Errorf("%q is called reached: %v", f.Text, f.Good)
		}
	}
}
