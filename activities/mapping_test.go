package activities_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
)

// TestErrorsOfEveryLayer: what the store, the config and contexts fail with becomes a class that says whether another
// attempt makes sense, however deep it is wrapped; the text stays whole.
func TestErrorsOfEveryLayer(t *testing.T) {
	stored := func(kind error) error { return store.Fail("write", "runs/a/b", kind, errors.New("the cause")) }
	_, unknown := configs.Parse("sft: {stepz: 1}")
	for name, c := range map[string]struct {
		err   error
		class run.Class
		retry bool
	}{
		"store away":            {stored(store.ErrUnavailable), run.ClassStorage, true},
		"disk full":             {stored(store.ErrNoSpace), run.ClassStorage, true},
		"access denied":         {stored(store.ErrDenied), run.ClassConfig, false},
		"name taken":            {stored(store.ErrConflict), run.ClassConfig, false},
		"damaged object":        {stored(store.ErrCorrupt), run.ClassModel, false},
		"object missing":        {stored(store.ErrNotExist), run.ClassInternal, true},
		"config":                {unknown, run.ClassConfig, false},
		"deadline of a call":    {fmt.Errorf("get: %w", context.DeadlineExceeded), run.ClassHang, true},
		"cancelled inner call":  {fmt.Errorf("get: %w", context.Canceled), run.ClassPreempted, true}, // the run itself was not cancelled
		"joined with a cleanup": {errors.Join(stored(store.ErrNoSpace), errors.New("close failed")), run.ClassStorage, true},
		"class around a class":  {run.Errorf(run.ClassData, "read", "x.png", "", "%w", stored(store.ErrUnavailable)), run.ClassData, false},
	} {
		for depth := range 3 {
			err := c.err
			for i := range depth {
				err = fmt.Errorf("level %d: %w", i, err)
			}
			_, got := train(t, patient, nil, func(context.Context, activities.Monitor) (activities.ChunkResult, error) {
				return activities.ChunkResult{}, err
			})
			var app *temporal.ApplicationError
			if !errors.As(got, &app) {
				t.Fatalf("%s: %T", name, got)
			}
			if activities.ClassOf(got) != c.class || app.NonRetryable() == c.retry || activities.Message(got) != err.Error() {
				t.Errorf("%s, wrapped %d times: class %s, another attempt %v, text %q", name, depth, activities.ClassOf(got), !app.NonRetryable(), activities.Message(got))
			}
		}
	}
}

// TestPanicsOfEveryActivity are errors that name the operation and are tried again.
func TestPanicsOfEveryActivity(t *testing.T) {
	a := activities.New(&explosive{}, patient)
	for name, c := range calls(a) {
		var suite testsuite.WorkflowTestSuite
		env := suite.NewTestActivityEnvironment()
		env.RegisterActivity(a)
		_, err := env.ExecuteActivity(c.method, c.input...)
		var app *temporal.ApplicationError
		if !errors.As(err, &app) || app.NonRetryable() || activities.ClassOf(err) != run.ClassInternal || !strings.Contains(err.Error(), "panic: bang") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// explosive is a stage whose every method panics: the methods of a nil interface would too, but with another text.
type explosive struct{}

func (e *explosive) Prepare(context.Context, run.Spec, activities.Monitor) (activities.PrepareResult, error) {
	panic("bang")
}
func (e *explosive) Recover(context.Context, run.Job) (activities.Position, error) { panic("bang") }
func (e *explosive) TrainSFT(context.Context, activities.SFTChunk, activities.Monitor) (activities.ChunkResult, error) {
	panic("bang")
}
func (e *explosive) TrainDPO(context.Context, activities.DPOChunk, activities.Monitor) (activities.ChunkResult, error) {
	panic("bang")
}
func (e *explosive) GeneratePairs(context.Context, activities.PairShard, activities.Monitor) (run.ObjectRef, error) {
	panic("bang")
}
func (e *explosive) ScorePairs(context.Context, activities.ScoreShard, activities.Monitor) (activities.ScoreResult, error) {
	panic("bang")
}
func (e *explosive) Evaluate(context.Context, activities.EvalShard, activities.Monitor) (activities.EvalPart, error) {
	panic("bang")
}
func (e *explosive) Summarise(context.Context, activities.SummaryJob, activities.Monitor) ([]run.EvalResult, error) {
	panic("bang")
}
func (e *explosive) Export(context.Context, activities.ExportJob, activities.Monitor) (activities.ExportResult, error) {
	panic("bang")
}
func (e *explosive) Report(context.Context, activities.ReportJob, activities.Monitor) (run.ObjectRef, error) {
	panic("bang")
}
func (e *explosive) Prune(context.Context, activities.PruneJob) error { panic("bang") }
func (e *explosive) Record(context.Context, run.Job, run.State) error { panic("bang") }

// TestCancelledRunIsNoFailure: when the run is cancelled, a stage that leaves with ErrPreempted ends as cancelled, and is
// not tried again.
func TestCancelledRunIsNoFailure(t *testing.T) {
	for name, end := range map[string]error{"left at a checkpoint": run.ErrPreempted, "failed on the way": errors.New("odd")} {
		attempts := 0
		var suite testsuite.WorkflowTestSuite
		env := suite.NewTestWorkflowEnvironment()
		a := &activities.Activities{Limits: patient, Trainer: fakeTrainer{func(ctx context.Context, m activities.Monitor) (activities.ChunkResult, error) {
			attempts++
			env.CancelWorkflow()
			<-m.Stopping()
			if ctx.Err() != nil {
				t.Errorf("%s: the stage's context ended with the run's", name)
			}
			return activities.ChunkResult{Checkpoint: run.CheckpointRef{Step: 3}}, end
		}}}
		env.RegisterActivity(a)
		work := func(ctx workflow.Context) (activities.ChunkResult, error) {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 60e9, HeartbeatTimeout: 1e9, WaitForCancellation: true})
			var r activities.ChunkResult
			err := workflow.ExecuteActivity(ctx, a.TrainSFT, activities.SFTChunk{}).Get(ctx, &r)
			return r, err
		}
		env.ExecuteWorkflow(work)
		if got := activities.ClassOf(env.GetWorkflowError()); got != run.ClassCancelled || attempts != 1 {
			t.Errorf("%s: class %q after %d attempts: %v", name, got, attempts, env.GetWorkflowError())
		}
	}
}

// TestReportsFromManyGoroutines: the newest report is one of those that were made, whole.
func TestReportsFromManyGoroutines(t *testing.T) {
	var mu sync.Mutex
	count := 0
	a := &activities.Activities{Limits: patient, Sink: func(p run.Progress) {
		mu.Lock()
		defer mu.Unlock()
		if count++; p.Step != p.StepsTotal || p.At.IsZero() {
			t.Errorf("torn report %+v", p)
		}
	}, Trainer: fakeTrainer{func(_ context.Context, m activities.Monitor) (activities.ChunkResult, error) {
		var wait sync.WaitGroup
		for g := range 8 {
			wait.Go(func() {
				for i := range 50 {
					m.Report(run.Progress{Step: 100*g + i, StepsTotal: 100*g + i})
				}
			})
		}
		wait.Wait()
		return activities.ChunkResult{}, nil
	}}}
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(a)
	if _, err := env.ExecuteActivity(a.TrainSFT, activities.SFTChunk{}); err != nil || count != 400 {
		t.Errorf("%d reports, %v", count, err)
	}
}
