//go:build cgo

package cpu

import (
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// TestEvenRuns: a size is cut into as few runs as the limit allows, all but the last of one length, a multiple of the
// step, and together they cover it.
func TestEvenRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, step := rapid.IntRange(1, 20_000).Draw(t, "n"), rapid.SampledFrom([]int{1, 8, 16, 32}).Draw(t, "step")
		limit := step * rapid.IntRange(1, 200).Draw(t, "limit in steps")
		run := even(n, limit, step)
		if run%step != 0 || run < 1 || run > limit {
			t.Fatalf("runs of %d for %d, limit %d, step %d", run, n, limit, step)
		}
		if runs := ceil(n, run); runs > ceil(n, limit) || runs*run < n {
			t.Fatalf("%d runs of %d for %d, limit %d", runs, run, n, limit)
		}
	})
}

// TestScratchIsReused: working space comes back, grows to the largest need and is never lent twice at once.
func TestScratchIsReused(t *testing.T) {
	e := &Backend{}
	e.scratch = scratch{alloc: e.pool.Alloc, release: e.pool.Free}
	a := e.take(100)
	b := e.take(100)
	if a.at == b.at || a.at == nil {
		t.Fatal("two tasks got one space")
	}
	e.give(a)
	if again := e.take(60); again.at != a.at || again.floats != 100 {
		t.Errorf("a smaller need got %+v, not the space that was given back", again)
	} else {
		e.give(again)
	}
	big := e.take(5000)
	if big.floats < 5000 {
		t.Errorf("%d values for a need of 5000", big.floats)
	}
	e.give(big)
	e.give(b)
	if n := len(e.scratch.free); n != 2 {
		t.Errorf("%d spaces for two tasks: the smaller one was kept beside the larger", n)
	}
	var wait sync.WaitGroup
	var mu sync.Mutex
	held := map[any]bool{}
	for range 8 {
		wait.Go(func() {
			for i := range 200 {
				s := e.take(1 + i*37%900)
				mu.Lock()
				if held[s.at] {
					t.Error("a space was lent twice")
				}
				held[s.at] = true
				mu.Unlock()
				mu.Lock()
				delete(held, s.at)
				mu.Unlock()
				e.give(s)
			}
		})
	}
	wait.Wait()
}

// TestWhoMultiplies: own kernels on AVX2 and below, oneDNN on AVX-512 where it is found, and what was asked for if that
// can be.
func TestWhoMultiplies(t *testing.T) {
	found := library() != ""
	for _, c := range []struct {
		wanted, isa string
		onednn, ok  bool
	}{
		{"own", "avx512", false, true}, {"own", "sse2", false, true}, {"onednn", "avx2", found, found}, {"", "avx2", false, true},
		{"", "sse2", false, true}, {"", "avx512", found, true}, {"mkl", "avx2", false, false},
	} {
		on, err := chooseGEMM(c.wanted, c.isa)
		if on != c.onednn || (err == nil) != c.ok {
			t.Errorf("asked for %q on %s: %v, %v; want %v", c.wanted, c.isa, on, err, c.onednn)
		}
	}
}

// TestKernelsThatAreAskedFor: base is always there; what the processor lacks is refused with what it has.
func TestKernelsThatAreAskedFor(t *testing.T) {
	_, best, err := chooseKernels("")
	if err != nil {
		t.Fatal(err)
	}
	if _, isa, err := chooseKernels(best); err != nil || isa != best {
		t.Errorf("asked for the best, %s: %s, %v", best, isa, err)
	}
	if k, isa, err := chooseKernels("base"); err != nil || k == nil || isa == "avx512" || isa == "avx2" {
		t.Errorf("asked for base: %s, %v", isa, err)
	}
	if _, _, err := chooseKernels("neon9"); err == nil {
		t.Error("unknown instructions are accepted")
	}
}
