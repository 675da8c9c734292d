package engine_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/enginetest"
	"github.com/sciflux/sciflux/engine/reference"
)

func TestOutOfMemorySaysWhatIsWanted(t *testing.T) {
	cause := errors.New("cannot allocate memory")
	for says, o := range map[string]*engine.OutOfMemory{
		"3.5 GiB wanted beside 12.0 MiB in use, the limit is 4000 bytes; use a smaller batch":     {Want: 7 << 29, Live: 12 << 20, Limit: 4000},
		"1 bytes wanted beside 0 bytes in use, the system gives no more (cannot allocate memory)": {Want: 1, Cause: cause},
	} {
		if !strings.Contains(o.Error(), says) {
			t.Errorf("%q does not say %q", o, says)
		}
		if errors.Is(o, cause) != (o.Cause != nil) {
			t.Errorf("%q wraps %v", o, o.Cause)
		}
	}
}

// TestGuard: lack of memory becomes the error, also when it comes wrapped; other panics go on; without one the error stays.
func TestGuard(t *testing.T) {
	full := &engine.OutOfMemory{Want: 1}
	guarded := func(p any) (err error) {
		defer engine.Guard(&err)
		if p != nil {
			panic(p)
		}
		return errors.New("its own")
	}
	for _, p := range []any{full, fmt.Errorf("attend: %w", full)} {
		var found *engine.OutOfMemory
		if err := guarded(p); !errors.As(err, &found) || found != full {
			t.Errorf("panic %v became %v", p, err)
		}
	}
	if err := guarded(nil); err == nil || err.Error() != "its own" {
		t.Errorf("without a panic: %v", err)
	}
	for _, p := range []any{"a mistake", errors.New("another")} {
		func() {
			defer func() {
				if got := recover(); got != p {
					t.Errorf("panic %v went on as %v", p, got)
				}
			}()
			err := guarded(p)
			t.Errorf("panic %v became %v", p, err)
		}()
	}
	if err := engine.Recovered("a mistake"); err.Error() != "a mistake" {
		t.Error(err)
	}
	if err := engine.Recovered(full); err != error(full) {
		t.Error(err)
	}
}

func TestScopeFreesWhatIsLeft(t *testing.T) {
	be := reference.New()
	s := engine.NewScope(enginetest.Strict(be))
	before, _ := be.Memory()
	kept, freed := s.Alloc(3), s.Alloc(4)
	s.Alloc(5)
	s.Free(freed)
	s.Close(kept)
	if live, _ := be.Memory(); live == before || kept.Addr == nil {
		t.Error("what was to be kept is gone")
	}
	s.Close()
	be.Free(kept)
	if live, _ := be.Memory(); live != before {
		t.Errorf("%d bytes left over", live-before)
	}
}

// TestEagerLeaksNothing: whichever allocation fails, Release gives everything back.
func TestEagerLeaksNothing(t *testing.T) {
	layers := map[string]engine.Layer{
		"qkv": {Weight: &engine.Weight{Out: 24, In: 8, Stride: 8, F32: numbers(1, 192)}},
		"by":  {Weight: &engine.Weight{Out: 24, In: 8, Stride: 8, F32: numbers(2, 192)}},
	}
	low := &engine.LowRank{A: tensor(3, 2, 8), B: engine.Wrap(numbers(4, 48), 48), Ranks: []int{2}, Scales: []float32{1}}
	all := func(name string, rows int) []engine.Segment {
		return []engine.Segment{{Rows: rows, Layers: []string{name}}}
	}
	enginetest.Starve(t, reference.New(), func(be engine.Backend) (err error) {
		e := engine.NewEager(be)
		e.Bind(&engine.Binding{Layers: layers, Adapters: map[string]*engine.LowRank{"qkv": low}})
		defer engine.Guard(&err)
		defer e.Release()
		x, cond := tensor(5, 6, 8), tensor(6, 2, 8)
		by := e.Project(all("by", 2), cond)
		m := engine.Modulation[*engine.Tensor]{Rows: 6, PerSample: 3, By: by, Shift: 0, Scale: 1, Gate: 2}
		h := e.Attend(e.Project(all("qkv", 6), e.Modulate(x, m)), engine.Heads{Layout: engine.Layout{B: 2, N: 3}, Heads: 2, Dim: 4})
		e.Stack(e.Rows(e.GateAdd(x, e.Activate(h, engine.GELU), m), 0, 3), e.Rows(e.Add(x, h), 3, 3))
		return nil
	})
}
