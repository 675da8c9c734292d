package workflows

import (
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
)

const (
	// deadlockTimeout replaces the SDK's one second: the kernels of the same process may hold every core for longer.
	deadlockTimeout = 30 * time.Second

	// stickyTimeout is how long a workflow task waits for the worker that has the workflow in memory. After a crash the
	// first task of a run waits this long; the SDK's default is 5 s.
	stickyTimeout = time.Second

	// stopMargin lets an activity report its end after its grace has passed.
	stopMargin = 10 * time.Second

	// tinySlots is the number of activities on the control queue at once; they only touch a few objects.
	tinySlots = 4
)

// Workers polls the queues of a run kind with one process.
type Workers struct {
	list []worker.Worker
}

// NewWorkers makes, but does not start, a worker for each queue. concurrency is the number of computing activities at
// once on a queue that takes them.
func NewWorkers(c client.Client, queues run.Queues, a *activities.Activities, concurrency int) *Workers {
	concurrency = max(1, concurrency)
	options := worker.Options{
		WorkerStopTimeout:                a.Limits.StopGrace + stopMargin,
		DeadlockDetectionTimeout:         deadlockTimeout,
		StickyScheduleToStartTimeout:     stickyTimeout,
		MaxConcurrentWorkflowTaskPollers: 2,
		MaxConcurrentActivityTaskPollers: min(2, concurrency),
	}
	control, compute := options, options
	control.MaxConcurrentActivityExecutionSize, compute.MaxConcurrentActivityExecutionSize = tinySlots, concurrency
	compute.DisableWorkflowWorker = true
	if queues.Control == queues.CPU || queues.Control == queues.GPU {
		control.MaxConcurrentActivityExecutionSize = concurrency
	}
	w := &Workers{list: []worker.Worker{worker.New(c, queues.Control, control)}}
	Register(w.list[0])
	if queues.CPU != queues.Control {
		w.list = append(w.list, worker.New(c, queues.CPU, compute))
	}
	if queues.GPU != queues.Control && queues.GPU != queues.CPU {
		w.list = append(w.list, worker.New(c, queues.GPU, compute))
	}
	for _, one := range w.list {
		one.RegisterActivity(a)
	}
	return w
}

// Start begins to poll. When one worker does not start, those before it are stopped.
func (w *Workers) Start() error {
	for i, one := range w.list {
		if err := one.Start(); err != nil {
			for _, started := range w.list[:i] {
				started.Stop()
			}
			return run.Errorf(run.ClassStorage, "start worker", "", "check the Temporal address and namespace", "%w", err)
		}
	}
	return nil
}

// Stop asks every activity to leave and waits for their checkpoints: all queues at once, so that the grace is spent once.
func (w *Workers) Stop() {
	done := make(chan struct{})
	for _, one := range w.list {
		go func() {
			one.Stop()
			done <- struct{}{}
		}()
	}
	for range w.list {
		<-done
	}
}
