package workflows

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sciflux/sciflux/activities"
)

// historian is a service that has nothing but histories, by "workflow/execution".
type historian struct {
	client.Client
	of map[string]*record
}

type record struct {
	events []*history.HistoryEvent
	next   int
	fails  error
}

func (h *historian) GetWorkflowHistory(_ context.Context, id, execution string, _ bool, _ enums.HistoryEventFilterType) client.HistoryEventIterator {
	if r := h.of[id+"/"+execution]; r != nil {
		r.next = 0
		return r
	}
	return &record{fails: errors.New("no history of " + id), events: make([]*history.HistoryEvent, 1)}
}

func (r *record) HasNext() bool { return r.next < len(r.events) }

func (r *record) Next() (*history.HistoryEvent, error) {
	r.next++
	return r.events[r.next-1], r.fails
}

// event adds an event at a second of the test's day.
func (r *record) event(second float64, kind enums.EventType) *history.HistoryEvent {
	e := &history.HistoryEvent{EventId: int64(len(r.events) + 1), EventType: kind, EventTime: timestamppb.New(time.Unix(0, int64(second*1e9)))}
	r.events = append(r.events, e)
	return e
}

// activity adds an activity that is scheduled, started and completed.
func (r *record) activity(t *testing.T, kind string, scheduled, started, completed float64, result any) {
	t.Helper()
	s := r.event(scheduled, enums.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
	s.Attributes = &history.HistoryEvent_ActivityTaskScheduledEventAttributes{ActivityTaskScheduledEventAttributes: &history.ActivityTaskScheduledEventAttributes{
		ActivityType: &common.ActivityType{Name: kind}}}
	r.event(started, enums.EVENT_TYPE_ACTIVITY_TASK_STARTED).Attributes = &history.HistoryEvent_ActivityTaskStartedEventAttributes{
		ActivityTaskStartedEventAttributes: &history.ActivityTaskStartedEventAttributes{ScheduledEventId: s.EventId}}
	payloads, err := converter.GetDefaultDataConverter().ToPayloads(result)
	if err != nil {
		t.Fatal(err)
	}
	r.event(completed, enums.EVENT_TYPE_ACTIVITY_TASK_COMPLETED).Attributes = &history.HistoryEvent_ActivityTaskCompletedEventAttributes{
		ActivityTaskCompletedEventAttributes: &history.ActivityTaskCompletedEventAttributes{ScheduledEventId: s.EventId, Result: payloads}}
}

func TestTimingAddsUpHistories(t *testing.T) {
	parent, stage, continued := &record{}, &record{}, &record{}
	parent.event(100, enums.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED)
	parent.activity(t, "Prepare", 100.5, 101, 111, nil)
	parent.event(112, enums.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED).Attributes = &history.HistoryEvent_ChildWorkflowExecutionStartedEventAttributes{
		ChildWorkflowExecutionStartedEventAttributes: &history.ChildWorkflowExecutionStartedEventAttributes{
			WorkflowExecution: &common.WorkflowExecution{WorkflowId: "stage", RunId: "a"}}}
	parent.event(200, enums.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED)
	stage.event(112, enums.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED)
	stage.activity(t, "TrainSFT", 112, 113, 143, activities.ChunkResult{SaveSeconds: 0.5})
	stage.event(144, enums.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW).Attributes = &history.HistoryEvent_WorkflowExecutionContinuedAsNewEventAttributes{
		WorkflowExecutionContinuedAsNewEventAttributes: &history.WorkflowExecutionContinuedAsNewEventAttributes{NewExecutionRunId: "b"}}
	continued.activity(t, "TrainDPO", 145, 150, 170, activities.ChunkResult{SaveSeconds: 0.25})
	continued.activity(t, "Evaluate", 160, 160, 190, nil) // overlaps: counts once
	r := Runs{Client: &historian{of: map[string]*record{ID("r") + "/": parent, "stage/a": stage, "stage/b": continued}}}
	got, err := r.Timing(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	for what, pair := range map[string][2]float64{
		"wall": {got.WallSeconds, 100}, "activities": {got.ActivitySeconds, 10 + 30 + 40}, "outside": {got.OutsideShare, 0.2},
		"training": {got.TrainSeconds, 50}, "saving": {got.SaveSeconds, 0.75}, "saving's share": {got.SaveShare, 0.015},
	} {
		if math.Abs(pair[0]-pair[1]) > 1e-6 {
			t.Errorf("%s: %v, want %v", what, pair[0], pair[1])
		}
	}
}

func TestTimingOfAnUnknownRunIsAnError(t *testing.T) {
	if got, err := (Runs{Client: &historian{}}).Timing(t.Context(), "r"); err == nil {
		t.Errorf("%+v", got)
	}
}
