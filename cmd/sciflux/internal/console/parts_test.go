package console

import (
	"strings"
	"testing"
	"time"

	"github.com/sciflux/sciflux/run"
)

// TestPartsAddUp: parts of a stage that report in turns are shown as one count that never falls.
func TestPartsAddUp(t *testing.T) {
	p, out, now := clock(false)
	for _, r := range []struct {
		part string
		step int
	}{{"a", 8}, {"b", 8}, {"a", 16}, {"c", 5}, {"b", 16}} {
		*now = now.Add(10 * time.Second)
		p.Show(run.Progress{Stage: run.StageEvaluate, Part: r.part, Step: r.step, StepsTotal: 40, At: *now})
	}
	for _, want := range []string{"8/40", "16/40", "24/40", "29/40", "37/40"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	*now = now.Add(10 * time.Second)
	out.Reset()
	p.Show(run.Progress{Stage: run.StageExport, Part: "a", Step: 1, StepsTotal: 2, At: *now})
	if !strings.Contains(out.String(), "1/2") {
		t.Errorf("the next stage counts its own parts alone: %s", out)
	}
}
