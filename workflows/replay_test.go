package workflows

import (
	"path/filepath"
	"testing"

	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// Recorded histories are golden files: real runs, one of them paused, resumed and with a killed worker, one cancelled, one
// that failed and the execution that went on from its manifests.
// When this fails, the change would break every run that is under way: put it behind workflow.GetVersion, so that old
// histories take the old path. Only when no such run can exist, record new ones with
//
//	go test ./workflows/durability -run TestRecord -record
func TestRecordedHistoriesReplay(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "histories", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("%d recorded histories, want at least 10", len(files))
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			r := worker.NewWorkflowReplayer()
			Register(r)
			if err := r.ReplayWorkflowHistoryFromJSONFile(nil, f); err != nil {
				t.Error(err)
			}
		})
	}
}

// A history of another workflow must not replay: the test above can fail.
func TestReplayNoticesADifferentWorkflow(t *testing.T) {
	f := filepath.Join("testdata", "histories", "oft-killed.json")
	r := worker.NewWorkflowReplayer()
	r.RegisterWorkflowWithOptions(SFT, workflow.RegisterOptions{Name: "OFT"})
	if err := r.ReplayWorkflowHistoryFromJSONFile(nil, f); err == nil {
		t.Error("the SFT workflow replayed the history of OFT")
	}
}
