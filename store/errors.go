package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/sciflux/sciflux/run"
)

// What can go wrong with an object; use errors.Is.
var (
	ErrNotExist     = errors.New("no such object")
	ErrPrecondition = errors.New("somebody else wrote first")
	ErrRange        = errors.New("range outside the object")
	ErrKey          = errors.New("not a usable key or size")
	ErrCorrupt      = errors.New("contents differ from what was written")
	ErrDenied       = errors.New("access denied")
	ErrNoSpace      = errors.New("no space left")
	ErrUnavailable  = errors.New("storage not available")
	ErrConflict     = errors.New("belongs to something else")
)

// kinds says how a failure is classified and what to try.
var kinds = []struct {
	err   error
	class run.Class
	hint  string
}{
	{ErrNotExist, run.ClassInternal, ""},
	{ErrPrecondition, run.ClassInternal, "read the object again and decide anew"},
	{ErrRange, run.ClassInternal, ""},
	{ErrKey, run.ClassInternal, "use plain names with slashes between them"},
	{ErrCorrupt, run.ClassModel, "an older checkpoint may be whole: `sciflux ckpt verify` says which"},
	{ErrDenied, run.ClassConfig, "check the store's credentials, bucket name and permissions"},
	{ErrNoSpace, run.ClassStorage, "free some space and resume; nothing that was committed is lost"},
	{ErrUnavailable, run.ClassStorage, "check the endpoint and the network; the work goes on when the store answers"},
	{ErrConflict, run.ClassConfig, "use another run name"},
}

// Fail makes the error of an operation on a key. kind is one of the Err values above; cause, if any, says
// more. A cause that is the end of a context stays recognisable as that, and one that is already a failure
// of a store is returned as it is.
func Fail(op, key string, kind, cause error) error {
	var done *run.Error
	if errors.As(cause, &done) {
		return cause
	}
	for _, end := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(cause, end) {
			return fmt.Errorf("%s %s: %w", op, key, cause)
		}
	}
	failure := &run.Error{Class: run.ClassInternal, Op: op, Subject: key, Cause: kind}
	for _, k := range kinds {
		if k.err == kind {
			failure.Class, failure.Hint = k.class, k.hint
		}
	}
	if cause != nil {
		failure.Cause = fmt.Errorf("%w: %w", kind, cause)
	}
	return failure
}
