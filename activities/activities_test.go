package activities_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
)

// fakeTrainer does what the test says.
type fakeTrainer struct {
	work func(context.Context, activities.Monitor) (activities.ChunkResult, error)
}

func (f fakeTrainer) TrainSFT(ctx context.Context, _ activities.SFTChunk, m activities.Monitor) (activities.ChunkResult, error) {
	return f.work(ctx, m)
}

func (f fakeTrainer) TrainDPO(ctx context.Context, _ activities.DPOChunk, m activities.Monitor) (activities.ChunkResult, error) {
	return f.work(ctx, m)
}

var _ activities.Trainer = fakeTrainer{}

// train runs one attempt of TrainSFT.
func train(t *testing.T, limits activities.Limits, setup func(*testsuite.TestActivityEnvironment), work func(context.Context, activities.Monitor) (activities.ChunkResult, error)) (activities.ChunkResult, error) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.SetTestTimeout(20 * time.Second)
	a := &activities.Activities{Trainer: fakeTrainer{work}, Limits: limits}
	env.RegisterActivity(a)
	if setup != nil {
		setup(env)
	}
	value, err := env.ExecuteActivity(a.TrainSFT, activities.SFTChunk{To: 4})
	var r activities.ChunkResult
	if err == nil {
		if err := value.Get(&r); err != nil {
			t.Fatal(err)
		}
	}
	return r, err
}

// patient are limits that do not matter to a test.
var patient = activities.Limits{HangAfter: time.Minute, StopGrace: time.Minute}

func TestResultComesBackWithItsSpan(t *testing.T) {
	r, err := train(t, patient, nil, func(context.Context, activities.Monitor) (activities.ChunkResult, error) {
		time.Sleep(20 * time.Millisecond)
		return activities.ChunkResult{Checkpoint: run.CheckpointRef{Stage: run.StageSFT, Step: 4}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Checkpoint.Step != 4 {
		t.Errorf("checkpoint %+v", r.Checkpoint)
	}
	if s := run.BusySeconds(r.Span); s < 0.02 || s > 10 {
		t.Errorf("span of %v s", s)
	}
}

func TestFailureClassesDecideRetries(t *testing.T) {
	for _, tc := range []struct {
		err   error
		class run.Class
		retry bool
	}{
		{&run.Error{Class: run.ClassConfig, Op: "check", Cause: errors.New("bad rank")}, run.ClassConfig, false},
		{&run.Error{Class: run.ClassData, Op: "read"}, run.ClassData, false},
		{&run.Error{Class: run.ClassModel, Op: "load"}, run.ClassModel, false},
		{&run.Error{Class: run.ClassNonFinite, Op: "step"}, run.ClassNonFinite, false},
		{&run.Error{Class: run.ClassOOM, Op: "step"}, run.ClassOOM, false},
		{&run.Error{Class: run.ClassStorage, Op: "put"}, run.ClassStorage, true},
		{run.ErrPreempted, run.ClassPreempted, true},
		{errors.New("odd"), run.ClassInternal, true},
	} {
		_, err := train(t, patient, nil, func(context.Context, activities.Monitor) (activities.ChunkResult, error) {
			return activities.ChunkResult{}, tc.err
		})
		var app *temporal.ApplicationError
		if !errors.As(err, &app) {
			t.Fatalf("%v: %T", tc.err, err)
		}
		if app.NonRetryable() == tc.retry || app.Type() != string(tc.class) || activities.ClassOf(err) != tc.class {
			t.Errorf("%v: type %s non-retryable %v", tc.err, app.Type(), app.NonRetryable())
		}
		if activities.Message(err) != tc.err.Error() {
			t.Errorf("message %q, want the stage's own %q", activities.Message(err), tc.err)
		}
	}
}

func TestPanicBecomesAnInternalError(t *testing.T) {
	_, err := train(t, patient, nil, func(context.Context, activities.Monitor) (activities.ChunkResult, error) {
		panic("index out of range")
	})
	if activities.ClassOf(err) != run.ClassInternal || !strings.Contains(err.Error(), "index out of range") {
		t.Errorf("%v", err)
	}
}

// A leaving worker asks the stage to go; the stage commits and returns; its context stays alive for that.
func TestWorkerStopAsksForACheckpoint(t *testing.T) {
	stop := make(chan struct{})
	_, err := train(t, patient, func(env *testsuite.TestActivityEnvironment) { env.SetWorkerStopChannel(stop) },
		func(ctx context.Context, m activities.Monitor) (activities.ChunkResult, error) {
			select {
			case <-m.Stopping():
				t.Error("asked to leave before the worker stops")
			default:
			}
			close(stop)
			<-m.Stopping()
			if ctx.Err() != nil {
				t.Error("the context ended before the checkpoint could be written")
			}
			return activities.ChunkResult{}, run.ErrPreempted
		})
	var app *temporal.ApplicationError
	if !errors.As(err, &app) || app.NonRetryable() || app.Type() != string(run.ClassPreempted) {
		t.Fatalf("%v", err)
	}
	if d := app.NextRetryDelay(); d <= 0 || d > time.Second {
		t.Errorf("next attempt after %v", d)
	}
}

// A stage that does not leave within the grace loses its context, which counts as preemption and not as a cancelled run.
func TestGraceEnds(t *testing.T) {
	stop := make(chan struct{})
	close(stop)
	begin := time.Now()
	_, err := train(t, activities.Limits{StopGrace: 50 * time.Millisecond}, func(env *testsuite.TestActivityEnvironment) { env.SetWorkerStopChannel(stop) },
		func(ctx context.Context, _ activities.Monitor) (activities.ChunkResult, error) {
			<-ctx.Done()
			return activities.ChunkResult{}, ctx.Err()
		})
	if activities.ClassOf(err) != run.ClassPreempted {
		t.Errorf("%v", err)
	}
	if d := time.Since(begin); d < 50*time.Millisecond {
		t.Errorf("left after %v, before the grace was over", d)
	}
}

func TestHungStageIsCancelledAndRetried(t *testing.T) {
	_, err := train(t, activities.Limits{HangAfter: 60 * time.Millisecond, StopGrace: time.Minute}, nil,
		func(ctx context.Context, _ activities.Monitor) (activities.ChunkResult, error) {
			<-ctx.Done()
			return activities.ChunkResult{}, ctx.Err()
		})
	var app *temporal.ApplicationError
	if !errors.As(err, &app) || app.Type() != string(run.ClassHang) || app.NonRetryable() {
		t.Errorf("%v", err)
	}
}

// Reports keep an attempt alive beyond the hang time, and travel as heartbeat details.
func TestReportsKeepAliveAndAreHeartbeats(t *testing.T) {
	var mu sync.Mutex
	var seen []run.Progress
	setup := func(env *testsuite.TestActivityEnvironment) {
		env.SetOnActivityHeartbeatListener(func(_ *activity.Info, details converter.EncodedValues) {
			var p run.Progress
			if details.HasValues() && details.Get(&p) == nil {
				mu.Lock()
				seen = append(seen, p)
				mu.Unlock()
			}
		})
	}
	_, err := train(t, activities.Limits{HangAfter: 1500 * time.Millisecond, StopGrace: time.Minute}, setup,
		func(ctx context.Context, m activities.Monitor) (activities.ChunkResult, error) {
			for i := range 12 {
				m.Report(run.Progress{Stage: run.StageSFT, Step: i + 1})
				select {
				case <-ctx.Done():
					return activities.ChunkResult{}, ctx.Err()
				case <-time.After(200 * time.Millisecond):
				}
			}
			return activities.ChunkResult{}, nil
		})
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) == 0 || seen[len(seen)-1].Step < 2 || seen[len(seen)-1].At.IsZero() {
		t.Errorf("heartbeats %+v", seen)
	}
}

func TestSinkGetsEveryReport(t *testing.T) {
	var steps []int
	a := &activities.Activities{Limits: patient, Sink: func(p run.Progress) { steps = append(steps, p.Step) },
		Trainer: fakeTrainer{func(_ context.Context, m activities.Monitor) (activities.ChunkResult, error) {
			for i := range 3 {
				m.Report(run.Progress{Step: i})
			}
			return activities.ChunkResult{}, nil
		}}}
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(a)
	if _, err := env.ExecuteActivity(a.TrainDPO, activities.DPOChunk{}); err != nil || len(steps) != 3 {
		t.Errorf("%v %v", steps, err)
	}
}

func TestClassOfOtherErrors(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want run.Class
	}{
		{nil, run.ClassNone},
		{temporal.NewCanceledError(), run.ClassCancelled},
		{temporal.NewHeartbeatTimeoutError(), run.ClassHang},
		{temporal.NewApplicationError("x", "SomethingElse"), run.ClassInternal},
		{temporal.NewApplicationError("x", "data"), run.ClassData},
		{&run.Error{Class: run.ClassModel}, run.ClassModel},
		{worker.ErrWorkerShutdown, run.ClassInternal},
	} {
		if got := activities.ClassOf(tc.err); got != tc.want {
			t.Errorf("%v: %s, want %s", tc.err, got, tc.want)
		}
	}
	if activities.Message(nil) != "" || activities.Message(errors.New("plain")) != "plain" {
		t.Error("messages of other errors")
	}
}
