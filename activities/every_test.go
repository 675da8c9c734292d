package activities_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
)

// recorder is every stage at once: it keeps what it was asked for, and fails when told so.
type recorder struct {
	asked any
	err   error
}

func (r *recorder) note(asked any, m activities.Monitor) error {
	r.asked = asked
	if m != nil {
		m.Report(run.Progress{})
	}
	time.Sleep(2 * time.Millisecond)
	return r.err
}

func (r *recorder) Prepare(_ context.Context, s run.Spec, m activities.Monitor) (activities.PrepareResult, error) {
	return activities.PrepareResult{Tuples: map[string]int{"train": 3}}, r.note(s, m)
}
func (r *recorder) Recover(_ context.Context, j run.Job) (activities.Position, error) {
	return activities.Position{SFT: run.CheckpointRef{Step: 7}}, r.note(j, nil)
}
func (r *recorder) TrainSFT(_ context.Context, c activities.SFTChunk, m activities.Monitor) (activities.ChunkResult, error) {
	return activities.ChunkResult{Summary: run.ChunkSummary{Steps: 5}}, r.note(c, m)
}
func (r *recorder) TrainDPO(_ context.Context, c activities.DPOChunk, m activities.Monitor) (activities.ChunkResult, error) {
	return activities.ChunkResult{Summary: run.ChunkSummary{Steps: 6}}, r.note(c, m)
}
func (r *recorder) GeneratePairs(_ context.Context, s activities.PairShard, m activities.Monitor) (run.ObjectRef, error) {
	return run.ObjectRef{Key: "pairs"}, r.note(s, m)
}
func (r *recorder) ScorePairs(_ context.Context, s activities.ScoreShard, m activities.Monitor) (activities.ScoreResult, error) {
	return activities.ScoreResult{Scores: run.ObjectRef{Key: "scores"}}, r.note(s, m)
}
func (r *recorder) Evaluate(_ context.Context, s activities.EvalShard, m activities.Monitor) (activities.EvalPart, error) {
	return activities.EvalPart{Split: s.Split}, r.note(s, m)
}
func (r *recorder) Summarise(_ context.Context, s activities.SummaryJob, _ activities.Monitor) ([]run.EvalResult, error) {
	return []run.EvalResult{{Split: "test_S"}}, r.note(s, nil)
}
func (r *recorder) Export(_ context.Context, e activities.ExportJob, m activities.Monitor) (activities.ExportResult, error) {
	return activities.ExportResult{Files: 3}, r.note(e, m)
}
func (r *recorder) Report(_ context.Context, j activities.ReportJob, m activities.Monitor) (run.ObjectRef, error) {
	return run.ObjectRef{Key: "report"}, r.note(j, m)
}
func (r *recorder) Prune(_ context.Context, p activities.PruneJob) error { return r.note(p, nil) }
func (r *recorder) Record(_ context.Context, j run.Job, s run.State) error {
	return r.note([2]any{j, s}, nil)
}

var _ activities.Stages = (*recorder)(nil)

// call is one activity with an input and what the stage should be asked for.
type call struct {
	method any
	input  []any
	asked  any
}

func calls(a *activities.Activities) map[string]call {
	job := run.Job{Run: "r", Seed: 3, ConfigHash: "h"}
	one := func(method, input any) call { return call{method, []any{input}, input} }
	state := run.State{Run: "r", Status: run.StatusCompleted}
	return map[string]call{
		"Prepare":       one(a.Prepare, run.Spec{Name: "r", Seed: 3}),
		"Recover":       one(a.Recover, job),
		"TrainSFT":      one(a.TrainSFT, activities.SFTChunk{Job: job, To: 4, Spent: 1.5}),
		"TrainDPO":      one(a.TrainDPO, activities.DPOChunk{Job: job, Epoch: 2, Rollouts: []run.ObjectRef{{Key: "a"}}}),
		"GeneratePairs": one(a.GeneratePairs, activities.PairShard{Job: job, Shard: 1, Shards: 2}),
		"ScorePairs":    one(a.ScorePairs, activities.ScoreShard{Job: job, Rollouts: run.ObjectRef{Key: "a"}}),
		"Evaluate":      one(a.Evaluate, activities.EvalShard{Job: job, Split: "test_C", Quick: true}),
		"Summarise":     one(a.Summarise, activities.SummaryJob{Job: job}),
		"Export":        one(a.Export, activities.ExportJob{Job: job, Variant: run.VariantOFT}),
		"Report":        one(a.Report, activities.ReportJob{Job: job, State: state}),
		"Prune":         one(a.Prune, activities.PruneJob{Job: job, KeepLast: 3, Protect: []string{"k"}}),
		"Record":        {a.Record, []any{job, state}, [2]any{job, state}},
	}
}

// TestEveryActivityAsksItsStage: what a workflow sends, through the wire format, is what the stage is asked for; the
// stage's failure class and message come back from all of them alike; and no activity is without a case here.
func TestEveryActivityAsksItsStage(t *testing.T) {
	r := &recorder{}
	a := activities.New(r, patient)
	exported := reflect.TypeOf(a)
	if len(calls(a)) != exported.NumMethod() {
		t.Errorf("%d cases for %d activities", len(calls(a)), exported.NumMethod())
	}
	for name, c := range calls(a) {
		t.Run(name, func(t *testing.T) {
			var suite testsuite.WorkflowTestSuite
			env := suite.NewTestActivityEnvironment()
			env.RegisterActivity(a)
			r.err = nil
			if _, err := env.ExecuteActivity(c.method, c.input...); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(r.asked, c.asked) {
				t.Errorf("asked for %+v, want %+v", r.asked, c.asked)
			}
			r.err = &run.Error{Class: run.ClassData, Op: "read", Subject: "x", Cause: errors.New("cut short"), Hint: "write it again"}
			_, err := env.ExecuteActivity(c.method, c.input...)
			if activities.ClassOf(err) != run.ClassData || activities.Message(err) != r.err.Error() {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestWorkIsTimed: results of working activities carry the span of their work.
func TestWorkIsTimed(t *testing.T) {
	a := activities.New(&recorder{}, patient)
	for _, name := range []string{"Prepare", "TrainSFT", "TrainDPO", "GeneratePairs", "ScorePairs", "Evaluate"} {
		var suite testsuite.WorkflowTestSuite
		env := suite.NewTestActivityEnvironment()
		env.RegisterActivity(a)
		c := calls(a)[name]
		value, err := env.ExecuteActivity(c.method, c.input...)
		if err != nil {
			t.Fatal(err)
		}
		var timed struct{ Span run.Span }
		if err := value.Get(&timed); err != nil {
			t.Fatal(err)
		}
		if s := run.BusySeconds(timed.Span); s < 0.002 || s > 60 {
			t.Errorf("%s: span of %v s", name, s)
		}
	}
}
