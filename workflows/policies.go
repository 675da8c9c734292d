package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/sciflux/sciflux/run"
)

// Every timeout and retry of the project stands here, with its reason.
const (
	// retryFirst and retryLongest space the attempts of an activity. Network trouble is already retried inside the store,
	// so an attempt that fails has seen an outage of seconds; half a minute then is soon enough.
	retryFirst   = time.Second
	retryLongest = 30 * time.Second

	// longestChunk bounds one attempt of training, generation or evaluation. Dead workers are found by their heartbeats
	// and hung ones by their reports, so this only catches what both miss.
	longestChunk = 24 * time.Hour

	// longestTiny bounds an activity that only touches a few objects.
	longestTiny = 10 * time.Minute

	// cleanupTime is what a cancelled or failed run may still spend on recording its state.
	cleanupTime = 2 * time.Minute

	// defaultHeartbeat is used where neither spec nor plan say anything.
	defaultHeartbeat = 10 * time.Second
)

// retry tries for ever: which errors end a run is decided where they are classified, by marking them non-retryable.
var retry = &temporal.RetryPolicy{InitialInterval: retryFirst, BackoffCoefficient: 2, MaximumInterval: retryLongest}

// work is the context of an activity that computes. A cancelled run waits for its last checkpoint.
func work(ctx workflow.Context, queue string, heartbeat time.Duration) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue: queue, StartToCloseTimeout: longestChunk, HeartbeatTimeout: heartbeatOr(heartbeat),
		WaitForCancellation: true, RetryPolicy: retry,
	})
}

// tiny is the context of an activity that only moves a few objects.
func tiny(ctx workflow.Context, queue string, heartbeat time.Duration) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue: queue, StartToCloseTimeout: longestTiny, HeartbeatTimeout: heartbeatOr(heartbeat), RetryPolicy: retry,
	})
}

// cleanup is the context of the last activities of a run that was cancelled or failed. It ignores the cancellation and
// gives up after a while: a summary is worth something, but not an endless wait for a store that is down.
func cleanup(ctx workflow.Context, queue string, heartbeat time.Duration) workflow.Context {
	detached, _ := workflow.NewDisconnectedContext(ctx)
	return workflow.WithActivityOptions(detached, workflow.ActivityOptions{
		TaskQueue: queue, ScheduleToCloseTimeout: cleanupTime, HeartbeatTimeout: heartbeatOr(heartbeat), RetryPolicy: retry,
	})
}

func heartbeatOr(d time.Duration) time.Duration {
	if d <= 0 {
		return defaultHeartbeat
	}
	return d
}

// child is the context of a stage's workflow. Its id follows from the run's; an earlier execution of the same stage that
// has ended does not stand in the way, because the store says what is still to do.
func child(ctx workflow.Context, name string, stage run.Stage, queue string) workflow.Context {
	return workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID: StageID(name, stage), TaskQueue: queue, WaitForCancellation: true,
		WorkflowIDReusePolicy: reuseAlways, ParentClosePolicy: closeTerminate,
	})
}
