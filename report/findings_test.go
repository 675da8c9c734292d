package report

import (
	"strings"
	"testing"

	"github.com/sciflux/sciflux/run"
)

// TestFindingsAreHonest: a gain whose interval touches zero, a fall of explicit prompts and an SFT that was better with
// OFT's time are said, and not as successes.
func TestFindingsAreHonest(t *testing.T) {
	results := func(gain run.Interval, ep, longer float64) []run.EvalResult {
		return []run.EvalResult{
			{Split: "test_S", Variant: run.VariantBase, Tuples: 9, JudgeIP: 0.1, JudgeEP: 0.95},
			{Split: "test_S", Variant: run.VariantSFT, Tuples: 9, RI: 0.3, JudgeIP: 0.4},
			{Split: "test_S", Variant: run.VariantOFT, Tuples: 9, RI: 0.5, RIGain: gain, JudgeIP: 0.6, JudgeEP: ep},
			{Split: "test_S", Variant: run.VariantLonger, Tuples: 9, RI: longer, JudgeIP: 0.5},
		}
	}
	marks := func(r []run.EvalResult) (s string) {
		for _, f := range Findings(r) {
			s += map[bool]string{true: "+", false: "-"}[f.Good]
		}
		return s
	}
	if got := marks(results(run.Interval{Mean: 0.2, Low: 0.1, High: 0.3}, 0.92, 0.4)); got != "+++++" {
		t.Errorf("a success reads %s", got)
	}
	if got := marks(results(run.Interval{Mean: 0.2, Low: -0.01, High: 0.3}, 0.8, 0.6)); got != "+-+--" {
		t.Errorf("a failure reads %s", got)
	}
	text := Findings(results(run.Interval{Mean: 0.2, Low: 0.1, High: 0.3}, 0.92, 0.6))
	if last := text[len(text)-1].Text; !strings.Contains(last, "60 %") || !strings.Contains(last, "50 %") {
		t.Errorf("the comparison reads %q", last)
	}
	if f := Findings(results(run.Interval{}, 0, 0)[:1]); len(f) != 0 {
		t.Errorf("the base alone has findings: %v", f)
	}
}
