package workflows

import (
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"github.com/sciflux/sciflux/run"
)

func heartbeat(t *testing.T, p run.Progress) *commonpb.Payloads {
	payloads, err := converter.GetDefaultDataConverter().ToPayloads(p)
	if err != nil {
		t.Fatal(err)
	}
	return payloads
}

// TestProgressOfPartsIsOfTheWholeStage: what is done (3 of 8 parts) and what each working part has done is one count.
func TestProgressOfPartsIsOfTheWholeStage(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	describe := func(reports ...run.Progress) *workflowservice.DescribeWorkflowExecutionResponse {
		d := &workflowservice.DescribeWorkflowExecutionResponse{PendingActivities: []*workflowpb.PendingActivityInfo{{}}} // one that waits
		for _, p := range reports {
			d.PendingActivities = append(d.PendingActivities, &workflowpb.PendingActivityInfo{HeartbeatDetails: heartbeat(t, p)})
		}
		return d
	}
	l := Live{State: run.State{Step: 3, StepsTotal: 8}}
	l.activities(describe(
		run.Progress{Part: "x", Step: 20, StepsTotal: 800, Note: "newest", At: at.Add(time.Second)},
		run.Progress{Part: "y", Step: 7, StepsTotal: 800, Note: "older", At: at}))
	if p := l.Progress; p == nil || p.Step != 327 || p.StepsTotal != 800 || p.Note != "newest" || p.Part != "" {
		t.Errorf("progress %+v, want step 327 of 800", p)
	}
	l = Live{State: run.State{Step: 3, StepsTotal: 8}}
	l.activities(describe(run.Progress{Step: 130, StepsTotal: 800, At: at}))
	if p := l.Progress; p == nil || p.Step != 130 {
		t.Errorf("progress %+v of a stage without parts, want its own step 130", p)
	}
	l = Live{}
	l.activities(describe())
	if l.Progress != nil {
		t.Errorf("progress %+v though nothing has been reported", l.Progress)
	}
}
