// Package shelf keeps what is expensive to open: each thing is opened once, outside of any lock, lent to whoever asks for
// the same key, and closed when nobody has it any more and the shelf holds more than its bound. It knows nothing of what
// it keeps.
package shelf

import (
	"context"
	"errors"
	"sync"
)

// Shelf lends opened things by key. The zero value, with Close set where things must be closed, is ready; it must not be
// copied.
type Shelf[V any] struct {
	Bound int64         // sizes of things that nobody has, together; older ones are closed. 0 keeps none
	Close func(V) error // nil where there is nothing to close

	mu      sync.Mutex
	entries map[string]*entry[V]
	clock   int64 // counts returns; orders idle entries by age
}

type entry[V any] struct {
	ready chan struct{} // closed when value and err stand
	users int
	used  int64 // clock at the last return
	// Set once, under the lock, when the opening is over.
	value V
	err   error
	size  int64
}

// Take lends the thing of a key, opening it where it is not there; size is what it counts for against the bound. While one
// caller opens, others of the same key wait for it or for their context. Every successful Take needs one call of put.
func (s *Shelf[V]) Take(ctx context.Context, key string, open func() (v V, size int64, err error)) (v V, put func(), err error) {
	for {
		v, put, err = s.take(ctx, key, open)
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			return v, put, err
		} // whoever opened it was called off, and this caller was not
	}
}

func (s *Shelf[V]) take(ctx context.Context, key string, open func() (V, int64, error)) (v V, put func(), err error) {
	s.mu.Lock()
	if s.entries == nil {
		s.entries = map[string]*entry[V]{}
	}
	e, there := s.entries[key]
	if !there {
		e = &entry[V]{ready: make(chan struct{})}
		s.entries[key] = e
	}
	e.users++
	s.mu.Unlock()
	if !there {
		s.open(key, e, open)
	}
	select {
	case <-e.ready:
	case <-ctx.Done():
		_ = s.put(e)
		return v, nil, ctx.Err()
	}
	if e.err != nil {
		_ = s.put(e)
		return v, nil, e.err
	}
	var once sync.Once
	return e.value, func() { once.Do(func() { _ = s.put(e) }) }, nil
}

// open fills an entry. A panic in open leaves an error for those who wait, and goes on.
func (s *Shelf[V]) open(key string, e *entry[V], open func() (V, int64, error)) {
	var v V
	size, err, returned := int64(0), errors.New("opening it panicked"), false
	defer func() {
		s.mu.Lock()
		e.value, e.size, e.err = v, size, err
		if err != nil && s.entries[key] == e {
			delete(s.entries, key) // the next Take tries again
		}
		s.mu.Unlock()
		close(e.ready)
		if !returned {
			_ = s.put(e)
		}
	}()
	v, size, err = open()
	returned = true
}

// put takes one use back and closes what is over the bound.
func (s *Shelf[V]) put(e *entry[V]) error {
	s.mu.Lock()
	s.clock++
	e.users--
	e.used = s.clock
	surplus := s.surplus()
	s.mu.Unlock()
	return s.closeAll(surplus)
}

// surplus removes the idle entries that were used longest ago, until the rest is within the bound.
func (s *Shelf[V]) surplus() (out []V) {
	for {
		var idle int64
		oldest := ""
		for key, e := range s.entries {
			if e.users > 0 {
				continue
			}
			idle += e.size
			if oldest == "" || e.used < s.entries[oldest].used {
				oldest = key
			}
		}
		if oldest == "" || idle <= s.Bound && s.Bound > 0 {
			return out
		}
		out = append(out, s.entries[oldest].value)
		delete(s.entries, oldest)
	}
}

func (s *Shelf[V]) closeAll(values []V) error {
	var errs []error
	for _, v := range values {
		if s.Close != nil {
			errs = append(errs, s.Close(v))
		}
	}
	return errors.Join(errs...)
}

// Clear closes everything that nobody has.
func (s *Shelf[V]) Clear() error {
	s.mu.Lock()
	var idle []V
	for key, e := range s.entries {
		if e.users == 0 {
			idle = append(idle, e.value)
			delete(s.entries, key)
		}
	}
	s.mu.Unlock()
	return s.closeAll(idle)
}
