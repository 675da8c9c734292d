package run

import (
	"context"
	"errors"
	"fmt"

	"github.com/sciflux/sciflux/configs"
)

// Class sorts failures by what cures them.
type Class string

// The failure classes.
const (
	ClassNone      Class = ""          // no error
	ClassConfig    Class = "config"    // the user's settings: fix them
	ClassData      Class = "data"      // the data set or a prompt file: fix it
	ClassModel     Class = "model"     // model, tokenizer or adapter files: fix them
	ClassStorage   Class = "storage"   // the object store or disk: wait and try again, nothing is lost
	ClassPreempted Class = "preempted" // the worker was asked to leave: go on elsewhere, not counted as a failure
	ClassOOM       Class = "oom"       // out of memory: smaller batch or more recomputation
	ClassNonFinite Class = "nonfinite" // loss or gradient is NaN or infinite: lower the learning rate
	ClassHang      Class = "hang"      // no step finished in time: try on another worker
	ClassCancelled Class = "cancelled" // somebody cancelled the run
	ClassInternal  Class = "internal"  // everything else: a fault of the program
)

// Known reports whether c is one of the classes of failure.
func (c Class) Known() bool {
	switch c {
	case ClassConfig, ClassData, ClassModel, ClassStorage, ClassPreempted, ClassOOM, ClassNonFinite, ClassHang, ClassCancelled, ClassInternal:
		return true
	}
	return false
}

// Retryable reports whether doing the same again can succeed. Internal errors may be retried a few times, in case the
// machine was at fault; who retries counts them.
func (c Class) Retryable() bool {
	switch c {
	case ClassStorage, ClassPreempted, ClassHang, ClassInternal:
		return true
	}
	return false
}

// The exit codes of the command line.
const (
	ExitOK          = 0
	ExitOther       = 1
	ExitConfig      = 2 // usage or config
	ExitData        = 3 // data or model
	ExitInterrupted = 4 // interrupted but resumable
)

// ExitCode is the process exit code for a failure of this class.
func (c Class) ExitCode() int {
	switch c {
	case ClassNone:
		return ExitOK
	case ClassConfig:
		return ExitConfig
	case ClassData, ClassModel:
		return ExitData
	case ClassPreempted:
		return ExitInterrupted
	}
	return ExitOther
}

// Error is a classified failure: what was attempted, on what, why it failed and what to try.
type Error struct {
	Class   Class
	Op      string // such as "load weights"
	Subject string // such as a path, key or option
	Cause   error
	Hint    string // what to try; may be empty
}

// Error formats "operation subject: cause; hint".
func (e *Error) Error() string {
	s := e.Op
	if e.Subject != "" {
		s += " " + e.Subject
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Errorf makes a classified error whose cause is formatted like fmt.Errorf.
func Errorf(class Class, op, subject, hint, format string, args ...any) *Error {
	return &Error{Class: class, Op: op, Subject: subject, Cause: fmt.Errorf(format, args...), Hint: hint}
}

// ErrPreempted is returned by a stage that stopped early because it was asked to, after committing a checkpoint of what
// it had finished.
var ErrPreempted = &Error{Class: ClassPreempted, Op: "stage", Cause: errors.New("stopped early at a checkpoint"),
	Hint: "it goes on from there when a worker is available"}

// ClassOf finds the class of err: that of the outermost *Error in its chain, ClassConfig for a
// *configs.Error, ClassCancelled for a cancelled context,
// ClassHang for a passed deadline, else ClassInternal. A nil error has ClassNone.
func ClassOf(err error) Class {
	var e *Error
	var settings *configs.Error
	switch {
	case err == nil:
		return ClassNone
	case errors.As(err, &e) && e.Class != "":
		return e.Class
	case errors.As(err, &settings):
		return ClassConfig
	case errors.Is(err, context.Canceled):
		return ClassCancelled
	case errors.Is(err, context.DeadlineExceeded):
		return ClassHang
	}
	return ClassInternal
}
