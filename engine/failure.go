package engine

import (
	"errors"
	"fmt"
)

// OutOfMemory is what Alloc panics with when a backend has no memory for a tensor, and what kernels panic with that find
// none for their working space. Functions that return errors pass it on as one, for errors.As to find (Guard, Recovered).
type OutOfMemory struct {
	Want  int64 // bytes asked for
	Live  int64 // bytes in use beside them
	Limit int64 // the most that may be in use; 0 for no limit
	Cause error // what the system said, nil when the limit was met
}

// Error says what was asked for, what there is and what can be done.
func (o *OutOfMemory) Error() string {
	const cure = "use a smaller batch or picture, keep less of the forward pass (memory full), or a machine with more memory"
	why := fmt.Sprintf("the limit is %s", size(o.Limit))
	if o.Cause != nil {
		why = fmt.Sprintf("the system gives no more (%v)", o.Cause)
	}
	return fmt.Sprintf("out of memory: %s wanted beside %s in use, %s; %s", size(o.Want), size(o.Live), why, cure)
}

// Unwrap is what the system said.
func (o *OutOfMemory) Unwrap() error { return o.Cause }

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d bytes", n)
}

// Recovered is the error that a recovered panic stands for: the value itself where it is an error.
func Recovered(p any) error {
	if err, ok := p.(error); ok {
		return err
	}
	return fmt.Errorf("%v", p)
}

// Guard, deferred by a function that returns an error, makes the function's error of a panic for lack of memory. Other
// panics are mistakes of the program and go on.
func Guard(err *error) {
	p := recover()
	if p == nil {
		return
	}
	var full *OutOfMemory
	cause, ok := p.(error)
	if !ok || !errors.As(cause, &full) {
		panic(p)
	}
	*err = cause
}

// Scope is a backend whose tensors go back at Close, unless they went before: what a pass has made is freed however the
// pass ends, also when a later allocation fails. It serves one goroutine.
type Scope struct {
	Backend
	made map[*Tensor]struct{}
}

// NewScope makes a scope over b.
func NewScope(b Backend) *Scope { return &Scope{Backend: b, made: map[*Tensor]struct{}{}} }

// Alloc implements Backend.
func (s *Scope) Alloc(shape ...int) *Tensor {
	t := s.Backend.Alloc(shape...)
	s.made[t] = struct{}{}
	return t
}

// Free implements Backend.
func (s *Scope) Free(t *Tensor) {
	delete(s.made, t)
	s.Backend.Free(t)
}

// Close frees what is left, but keep, which the caller owns from then on.
func (s *Scope) Close(keep ...*Tensor) {
	for _, t := range keep {
		delete(s.made, t)
	}
	for t := range s.made {
		s.Free(t)
	}
}
