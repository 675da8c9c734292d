package activities

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	"github.com/sciflux/sciflux/run"
)

// internalAttempts is how often a fault of the program is tried again, in case the machine was at fault.
const internalAttempts = 3

// preemptedDelay is the wait before an activity that was asked to leave is offered again: short, as another worker, or
// this one after a restart, can go on at once.
const preemptedDelay = 200 * time.Millisecond

// toTemporal turns a stage's error into what the server should record: a cancellation when the run was cancelled, else an
// application error whose type is the failure class and whose retryability follows from it.
func toTemporal(ctx, stageCtx context.Context, op string, err error) error {
	if ended := context.Cause(ctx); ended != nil && wasCancelled(ended) {
		return temporal.NewCanceledError(err.Error())
	}
	class := run.ClassOf(err)
	switch {
	case errors.Is(context.Cause(stageCtx), errHang):
		class, err = run.ClassHang, run.Errorf(run.ClassHang, op, "", "another attempt follows", "%w: %w", errHang, err)
	case class == run.ClassCancelled:
		// The stage's own context only ends when it took too long to leave, so the run was not cancelled.
		class = run.ClassPreempted
	}
	options := temporal.ApplicationErrorOptions{NonRetryable: !class.Retryable()}
	switch class {
	case run.ClassPreempted:
		options.NextRetryDelay = preemptedDelay
	case run.ClassInternal:
		options.NonRetryable = activity.GetInfo(ctx).Attempt >= internalAttempts
	}
	return temporal.NewApplicationErrorWithOptions(err.Error(), string(class), options)
}

// wasCancelled tells a cancelled run from a context that ended for the worker's sake.
func wasCancelled(cause error) bool {
	for _, other := range []error{worker.ErrWorkerShutdown, activity.ErrActivityPaused, activity.ErrActivityReset} {
		if errors.Is(cause, other) {
			return false
		}
	}
	return true
}

// ClassOf finds the failure class of an error that came through Temporal: from a workflow, an activity or a client.
func ClassOf(err error) run.Class {
	var application *temporal.ApplicationError
	var canceled *temporal.CanceledError
	var timeout *temporal.TimeoutError
	switch {
	case err == nil:
		return run.ClassNone
	case errors.As(err, &application):
		if c := run.Class(application.Type()); c.Known() {
			return c
		}
		return run.ClassInternal
	case errors.As(err, &canceled):
		return run.ClassCancelled
	case errors.As(err, &timeout):
		if timeout.TimeoutType() == enums.TIMEOUT_TYPE_SCHEDULE_TO_START {
			return run.ClassPreempted // nobody took it
		}
		return run.ClassHang
	}
	return run.ClassOf(err)
}

// Message is the message of the stage itself, without the wrapping of workflows and activities around it.
func Message(err error) string {
	var application *temporal.ApplicationError
	if errors.As(err, &application) {
		return application.Message()
	}
	if err == nil {
		return ""
	}
	return err.Error()
}
