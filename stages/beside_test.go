package stages

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/store"
)

// TestAttemptsSideBySide: attempts at different epochs that work at the same time see the rows and latents that each would
// see alone.
func TestAttemptsSideBySide(t *testing.T) {
	s, ctx, spec := newStudio(t, &store.Mem{}), context.Background(), testSpec(t)
	if _, err := s.Prepare(ctx, spec, newWatcher(0)); err != nil {
		t.Fatal(err)
	}
	d, err := s.desk(ctx, spec.Job())
	if err != nil {
		t.Fatal(err)
	}
	const attempts = 6
	rowsOf := func(epoch int) (rows []int) {
		for i := range len(d.rows) {
			rows = append(rows, d.rowOf(epoch*len(d.rows)+i).Index)
		}
		return rows
	}
	latentsOf := func(epoch int) []float32 {
		var all []float32
		for i := range 4 {
			z, err := d.latents(ctx, d.rowOf(epoch*len(d.rows)+i), 0, random.New(uint64(i)))
			if err != nil {
				t.Error(err)
			}
			all = append(all, z...)
		}
		return all
	}
	var wantRows [attempts][]int
	for epoch := range attempts {
		wantRows[epoch] = rowsOf(epoch)
	}
	var got [attempts][]float32
	var all sync.WaitGroup
	for epoch := range attempts {
		all.Go(func() {
			for range 20 {
				if !slices.Equal(rowsOf(epoch), wantRows[epoch]) {
					t.Errorf("epoch %d got another one's rows", epoch)
					return
				}
			}
			got[epoch] = latentsOf(epoch)
		})
	}
	all.Wait()
	for epoch := range attempts {
		if !slices.Equal(got[epoch], latentsOf(epoch)) {
			t.Errorf("epoch %d drew other latents", epoch)
		}
	}
}
