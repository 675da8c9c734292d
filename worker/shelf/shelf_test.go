package shelf

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// TestNothingIsClosedInUse: in any order of taking and putting, what somebody has is open, each key is opened once at a
// time, and idle things stay within the bound.
func TestNothingIsClosedInUse(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		open, inUse := map[string]int{}, map[string]int{}
		s := &Shelf[string]{Bound: rapid.Int64Range(0, 5).Draw(rt, "bound"), Close: func(v string) error {
			if inUse[v] > 0 {
				rt.Fatalf("%s is closed in use", v)
			}
			open[v]--
			return nil
		}}
		var puts []func()
		rt.Repeat(map[string]func(*rapid.T){
			"take": func(rt *rapid.T) {
				key := fmt.Sprint(rapid.IntRange(0, 5).Draw(rt, "key"))
				v, put, err := s.Take(t.Context(), key, func() (string, int64, error) { open[key]++; return key, 1, nil })
				if err != nil || v != key || open[key] != 1 {
					rt.Fatalf("%q %v, opened %d times", v, err, open[key])
				}
				inUse[key]++
				puts = append(puts, func() { inUse[key]--; put(); put() })
			},
			"put": func(rt *rapid.T) {
				if len(puts) == 0 {
					return
				}
				i := rapid.IntRange(0, len(puts)-1).Draw(rt, "which")
				puts[i]()
				puts = append(puts[:i], puts[i+1:]...)
			},
			"": func(rt *rapid.T) {
				idle := int64(0)
				for key, n := range open {
					if n > 0 && inUse[key] == 0 {
						idle++
					}
				}
				if idle > s.Bound {
					rt.Fatalf("%d idle things, %d allowed", idle, s.Bound)
				}
			},
		})
		for _, put := range puts {
			put()
		}
		if err := s.Clear(); err != nil {
			rt.Fatal(err)
		}
		for key, n := range open {
			if n != 0 {
				rt.Fatalf("%s is left open", key)
			}
		}
	})
}

// TestOneOpensOthersWait: callers of one key share one opening, callers of other keys do not wait for it, and a caller
// whose context ends leaves.
func TestOneOpensOthersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var opened atomic.Int64
		s := &Shelf[int]{Bound: 10}
		slow := func() (int, int64, error) { opened.Add(1); time.Sleep(time.Minute); return 7, 1, nil }
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				if v, _, err := s.Take(t.Context(), "slow", slow); v != 7 || err != nil {
					t.Errorf("%d %v", v, err)
				}
			})
		}
		synctest.Wait()
		start := time.Now()
		if _, _, err := s.Take(t.Context(), "other", func() (int, int64, error) { return 1, 1, nil }); err != nil || time.Since(start) > 0 {
			t.Errorf("another key waited %v, %v", time.Since(start), err)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := s.Take(short, "slow", slow); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		all.Wait()
		if opened.Load() != 1 {
			t.Errorf("opened %d times", opened.Load())
		}
	})
}

// TestFailureIsForgotten: an opening that failed is told to everybody who waited, and tried again by the next.
func TestFailureIsForgotten(t *testing.T) {
	s, broken := &Shelf[int]{Bound: 10, Close: func(int) error { t.Error("closed what was never open"); return nil }}, errors.New("broken")
	if _, _, err := s.Take(t.Context(), "k", func() (int, int64, error) { return 0, 0, broken }); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	func() {
		defer func() { _ = recover() }()
		_, _, _ = s.Take(t.Context(), "k", func() (int, int64, error) { panic("worse") })
	}()
	s.Close = nil
	v, put, err := s.Take(t.Context(), "k", func() (int, int64, error) { return 3, 1, nil })
	if v != 3 || err != nil {
		t.Fatalf("%d %v", v, err)
	}
	put()
}
