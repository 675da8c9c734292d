package worker

import (
	"fmt"
	"testing"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
)

// BenchmarkEvaluate says what evaluating eight tuples of the world costs: 32 pictures of implicit prompts, 16 of explicit
// and 8 of superficial ones, drawn, scored and judged.
func BenchmarkEvaluate(b *testing.B) {
	spec := testSpec(b, "eval.pictures=4", "eval.steps=10", "eval.tuples=8")
	s := newWorker(b, &store.Mem{})
	if _, err := s.Prepare(b.Context(), spec, newWatcher(0)); err != nil {
		b.Fatal(err)
	}
	n := 0
	for b.Loop() {
		// A name of its own keeps the result of one round from serving the next; without a checkpoint it is the initial adapter.
		shard := activities.EvalShard{Job: spec.Job(), Variant: run.Variant(fmt.Sprint("base", n)), Split: "test_S", Shards: 1}
		if _, err := s.Evaluate(b.Context(), shard, newWatcher(0)); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(56*b.N)/b.Elapsed().Seconds(), "pictures/s")
}
