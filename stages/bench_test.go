package stages

import (
	"context"
	"testing"

	"github.com/sciflux/sciflux/dataset/world"
	"github.com/sciflux/sciflux/eval"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
)

// BenchmarkEvaluate says what the parts of evaluating eight tuples of the world cost: 32 pictures of implicit prompts.
func BenchmarkEvaluate(b *testing.B) {
	s, ctx := newStudio(b, &store.Mem{}), context.Background()
	spec := testSpec(b, "eval.pictures=4", "eval.steps=10")
	if _, err := s.Prepare(ctx, spec, newWatcher(0)); err != nil {
		b.Fatal(err)
	}
	d, err := s.desk(ctx, spec.Job())
	if err != nil {
		b.Fatal(err)
	}
	rows, err := d.testRows(ctx, world.TestS)
	if err != nil {
		b.Fatal(err)
	}
	rows = rows[:min(evalGroup, len(rows))]
	var images reward.Images
	part := func(name string, f func() error) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(rows)*4*b.N)/b.Elapsed().Seconds(), "pictures/s")
		})
	}
	part("draw", func() (err error) {
		images, err = d.draw(ctx, rows, 0, eval.Implicit, 4, nil)
		return err
	})
	part("assess", func() error {
		return d.assess(ctx, make([]eval.Tuple, len(rows)), rows, eval.Implicit, 4, images)
	})
	part("measure", func() error {
		out := measured{Shown: map[int][]byte{}, SP: map[int][]byte{}, EP: map[int][]byte{}}
		return d.measure(ctx, &out, rows, 0, run.VariantBase, nil)
	})
}
