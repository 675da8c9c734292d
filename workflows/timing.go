package workflows

import (
	"context"
	"time"

	"go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
)

// Timing finds out from the histories of a run's newest execution, and of its stages, where the time went.
func (r Runs) Timing(ctx context.Context, name string) (run.Timing, error) {
	c := &clock{client: r.Client}
	life, err := c.read(ctx, ID(name), "")
	if err != nil {
		return run.Timing{}, serviceError("read history of run", name, err)
	}
	return run.NewTiming(life, c.spans, c.training, c.saved), nil
}

// clock collects the time of activities from histories.
type clock struct {
	client          client.Client
	spans, training []run.Span
	saved           float64 // seconds
}

// read goes through the history of an execution, those it was continued as and those of its children, and returns the
// time from its first event to its last one.
func (c *clock) read(ctx context.Context, id, execution string) (run.Span, error) {
	var life run.Span
	var children []*common.WorkflowExecution
	var next string
	begun := map[int64]*history.HistoryEvent{} // by the event that scheduled the activity
	kinds := map[int64]string{}
	events := c.client.GetWorkflowHistory(ctx, id, execution, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		e, err := events.Next()
		if err != nil {
			return life, err
		}
		if life.End = timeOf(e); life.Start.IsZero() {
			life.Start = life.End
		}
		switch e.GetEventType() {
		case enums.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
			kinds[e.GetEventId()] = e.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName()
		case enums.EVENT_TYPE_ACTIVITY_TASK_STARTED:
			begun[e.GetActivityTaskStartedEventAttributes().GetScheduledEventId()] = e
		case enums.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
			a := e.GetActivityTaskCompletedEventAttributes()
			at := a.GetScheduledEventId()
			c.activity(kinds[at], run.Span{Start: timeOf(begun[at]), End: life.End}, a.GetResult())
		case enums.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
			children = append(children, e.GetChildWorkflowExecutionStartedEventAttributes().GetWorkflowExecution())
		case enums.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
			next = e.GetWorkflowExecutionContinuedAsNewEventAttributes().GetNewExecutionRunId()
		}
	}
	for _, child := range children {
		if _, err := c.read(ctx, child.GetWorkflowId(), child.GetRunId()); err != nil {
			return life, err
		}
	}
	if next == "" {
		return life, nil
	}
	rest, err := c.read(ctx, id, next)
	life.End = rest.End
	return life, err
}

func timeOf(e *history.HistoryEvent) time.Time { return e.GetEventTime().AsTime() }

// training activities by the names under which workers register them.
var trainingKinds = map[string]bool{"TrainSFT": true, "TrainDPO": true}

func (c *clock) activity(kind string, s run.Span, result *common.Payloads) {
	c.spans = append(c.spans, s)
	if !trainingKinds[kind] {
		return
	}
	c.training = append(c.training, s)
	var r activities.ChunkResult
	if converter.GetDefaultDataConverter().FromPayloads(result, &r) == nil {
		c.saved += r.SaveSeconds
	}
}
