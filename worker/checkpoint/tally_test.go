package checkpoint

import (
	"testing"

	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/trainer"
)

// TestTallyIsMeanOverSteps: a chunk's summary is the mean over its steps, also when an interruption cut it in two.
func TestTallyIsMeanOverSteps(t *testing.T) {
	var a Tally
	a.add(trainer.StepResult{Loss: 1, Norm: 2, Rate: 0.1}, Measured{KL: 0.3, Distance: 1})
	resumed := a
	resumed.add(trainer.StepResult{Loss: 3, Norm: 4, Rate: 0.3}, Measured{KL: 0.5, Clamped: 1, Distance: 3})
	want := run.ChunkSummary{Steps: 2, Loss: 2, GradNorm: 3, KL: 0.4, Clamped: 0.5, Distance: 2, LearnRate: 0.2}
	if got := resumed.Summary(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := (Tally{}).Summary(); got != (run.ChunkSummary{}) {
		t.Errorf("of no step: %+v", got)
	}
}
