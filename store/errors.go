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
	ErrUnsupported  = errors.New("the service cannot do this")
	ErrExpired      = errors.New("the credentials have run out")
	ErrRegion       = errors.New("wrong region or endpoint")
	ErrClock        = errors.New("this machine's clock is wrong")
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
	{ErrUnsupported, run.ClassConfig, "use an S3 service with conditional writes (If-None-Match and If-Match), or store.kind=disk on a shared folder"},
	{ErrExpired, run.ClassStorage, "renew the token where store.session_token, store.access_key and store.secret_key name it: it is read again"},
	{ErrRegion, run.ClassConfig, "set store.region to the bucket's region, and store.endpoint to its address"},
	{ErrClock, run.ClassStorage, "set the clock, such as by NTP; the work goes on when it is right"},
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
