package durability

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/workflows"
)

var record = flag.Bool("record", false, "record new histories into workflows/testdata/histories, for the replay test there")

// TestRecordHistories makes the histories that package workflows replays: a run that was paused, resumed and whose worker
// was killed, and one that was cancelled. Record again only on purpose: a history that no longer replays means that runs
// under way would break, see the replay test.
func TestRecordHistories(t *testing.T) {
	if !*record {
		t.Skip("only with -record")
	}
	s := services(t, t.TempDir())
	r := runs(t, s)
	store := t.TempDir()
	w := worker(t, s, store, epochsEnv+"=4", compareEnv+"=1")
	start(t, r, "kept")
	waitFor(t, store, "sft/000020.json")
	if _, err := r.Pause(t.Context(), "kept", "to be recorded"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	if _, err := r.Unpause(t.Context(), "kept"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, store, "oft/000001.json")
	kill(t, w)
	worker(t, s, store, epochsEnv+"=4", compareEnv+"=1")
	wait(t, r, "kept")
	save(t, r, workflows.ID("kept"), "finetune-paused")
	for _, stage := range []run.Stage{run.StageSFT, run.StageOFT, run.StageCompare, run.StageEvaluate} {
		save(t, r, workflows.StageID("kept", stage), string(stage)+"-killed")
	}
	start(t, r, "gone")
	time.Sleep(time.Second)
	if err := r.Cancel(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Wait(t.Context(), "gone"); run.ClassOf(err) != run.ClassCancelled {
		t.Fatal(err)
	}
	save(t, r, workflows.ID("gone"), "finetune-cancelled")
}

// save writes the newest history of a workflow.
func save(t *testing.T, r workflows.Runs, id, name string) {
	t.Helper()
	var h history.History
	events := r.Client.GetWorkflowHistory(t.Context(), id, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		e, err := events.Next()
		if err != nil {
			t.Fatal(err)
		}
		h.Events = append(h.Events, e)
	}
	text, err := protojson.Marshal(&h)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join("..", "testdata", "histories")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".json"), append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
