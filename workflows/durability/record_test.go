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

// TestRecordFailure makes the histories of a run that failed for good in its second epoch, and of the execution that goes
// on from the manifests after the cause was mended. Its adapter is that of a run that never failed.
func TestRecordFailure(t *testing.T) {
	if !*record {
		t.Skip("only with -record")
	}
	s := services(t, t.TempDir())
	r := runs(t, s)
	want := unbroken(t, s, r)
	store := t.TempDir()
	broken := worker(t, s, store, failEnv+"=dpo 1")
	start(t, r, "mended")
	if _, err := r.Wait(t.Context(), "mended"); run.ClassOf(err) != run.ClassData {
		t.Fatal(err)
	}
	save(t, r, workflows.ID("mended"), "finetune-failed")
	save(t, r, workflows.StageID("mended", run.StageOFT), "oft-failed")
	kill(t, broken)
	worker(t, s, store)
	start(t, r, "mended")
	if got := wait(t, r, "mended").Adapter.SHA256; got != want {
		t.Error("the mended run ends with another adapter")
	}
	save(t, r, workflows.ID("mended"), "finetune-resumed")
	save(t, r, workflows.StageID("mended", run.StageOFT), "oft-resumed")
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
