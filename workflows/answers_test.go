package workflows

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/workflows/rehearsal"
)

// ask is the state that a workflow answers, or nothing when it is not there.
func ask(t *testing.T, env *testsuite.TestWorkflowEnvironment, id string) (s run.State) {
	t.Helper()
	value, err := env.QueryWorkflow(QueryState)
	if id != "" {
		value, err = env.QueryWorkflowByID(id, QueryState)
	}
	if err == nil {
		err = value.Get(&s)
	}
	if err != nil {
		t.Errorf("ask %q: %v", id, err)
	}
	return s
}

// TestAnswersAtEachStage: while each activity works, the run names the stage and the workflow that works on it, and that
// workflow answers for itself how far it is.
func TestAnswersAtEachStage(t *testing.T) {
	plan := smallPlan()
	plan.Shards, plan.Splits = 1, []string{"test_S"}
	f := rehearsal.New(plan)
	var seen []string
	note := func(format string, args ...any) {
		if line := fmt.Sprintf(format, args...); len(seen) == 0 || seen[len(seen)-1] != line {
			seen = append(seen, line)
		}
	}
	s := complete(t, f, func(env *testsuite.TestWorkflowEnvironment) {
		env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
			parent := ask(t, env, "")
			if parent.Run != "r" || parent.Status != run.StatusRunning || parent.ConfigHash != "h" || parent.Seed != 3 {
				t.Errorf("during %s: %+v", info.ActivityType.Name, parent)
			}
			if parent.Child == "" {
				note("%s %s", info.ActivityType.Name, parent.Stage)
				return
			}
			if parent.Child != StageID("r", parent.Stage) {
				t.Errorf("during %s: child %s of stage %s", info.ActivityType.Name, parent.Child, parent.Stage)
			}
			stage := ask(t, env, parent.Child)
			if stage.Stage != parent.Stage || stage.Run != "r" {
				t.Errorf("during %s: the stage answers %+v", info.ActivityType.Name, stage)
			}
			if parent.Stage != run.StageCompare {
				note("%s %s %d/%d epoch %d/%d, %d ends", info.ActivityType.Name, stage.Stage, stage.Step, stage.StepsTotal, stage.Epoch, stage.EpochsTotal, len(parent.Checkpoints))
			}
		})
	})
	want := []string{
		"Prepare prepare", "Recover prepare",
		"TrainSFT sft 0/7 epoch 0/0, 0 ends", "TrainSFT sft 3/7 epoch 0/0, 0 ends", "TrainSFT sft 6/7 epoch 0/0, 0 ends",
		"GeneratePairs oft 0/6 epoch 0/3, 1 ends", "ScorePairs oft 0/6 epoch 0/3, 1 ends", "TrainDPO oft 0/6 epoch 0/3, 1 ends",
		"GeneratePairs oft 2/6 epoch 1/3, 1 ends", "ScorePairs oft 2/6 epoch 1/3, 1 ends", "TrainDPO oft 2/6 epoch 1/3, 1 ends",
		"GeneratePairs oft 4/6 epoch 2/3, 1 ends", "ScorePairs oft 4/6 epoch 2/3, 1 ends", "TrainDPO oft 4/6 epoch 2/3, 1 ends",
		"Evaluate evaluate 0/4 epoch 0/0, 3 ends", "Evaluate evaluate 1/4 epoch 0/0, 3 ends", "Evaluate evaluate 2/4 epoch 0/0, 3 ends", "Evaluate evaluate 3/4 epoch 0/0, 3 ends",
		"Summarise evaluate 4/4 epoch 0/0, 3 ends", "Export export", "Report export", "Record export",
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
	if s.Stage != run.StageExport || s.Child != "" || s.Status != run.StatusCompleted {
		t.Errorf("at the end: %+v", s)
	}
}

// TestPauseInEachStage: a pause that comes while any activity works lets that one end, holds everything after it, and a
// resume goes on to the same adapter. Resuming what is not paused changes nothing.
func TestPauseInEachStage(t *testing.T) {
	plan := smallPlan()
	plan.Shards, plan.Splits, plan.Compare = 1, []string{"test_S"}, false
	want := complete(t, rehearsal.New(plan)).Adapter.SHA256
	for _, at := range []string{"Prepare", "Recover", "TrainSFT", "GeneratePairs", "TrainDPO", "Evaluate", "Summarise"} {
		f := rehearsal.New(plan)
		pause, resume, again := &callbacks{t: t}, &callbacks{t: t}, &callbacks{t: t}
		var before, after int
		s := complete(t, f, func(env *testsuite.TestWorkflowEnvironment) {
			done := false
			env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
				if done || info.ActivityType.Name != at {
					return
				}
				done = true
				env.UpdateWorkflow(UpdateResume, "early "+at, again)
				env.UpdateWorkflow(UpdatePause, "pause "+at, pause, "at "+at)
				env.RegisterDelayedCallback(func() { before = len(f.Calls) }, time.Minute)
				env.RegisterDelayedCallback(func() {
					after = len(f.Calls)
					if s := ask(t, env, ""); s.Status != run.StatusPaused || s.Reason != "at "+at {
						t.Errorf("%s: an hour later the run is %s: %q", at, s.Status, s.Reason)
					}
					env.UpdateWorkflow(UpdateResume, "resume "+at, resume)
				}, time.Hour)
			})
		})
		if !pause.done || pause.result.Status != run.StatusPaused || !resume.done || resume.result.Status != run.StatusRunning || resume.result.Reason != "" {
			t.Errorf("%s: pause %+v, resume %+v", at, pause, resume)
		}
		if !again.done || again.result.Status != run.StatusRunning {
			t.Errorf("%s: resuming a running run answers %+v", at, again)
		}
		if before != after || before == 0 {
			t.Errorf("%s: %d calls a minute after the pause, %d an hour later", at, before, after)
		}
		if s.Adapter.SHA256 != want || s.Status != run.StatusCompleted || s.Reason != "" {
			t.Errorf("%s: ends %s %q with another adapter", at, s.Status, s.Reason)
		}
	}
}

// TestClassesDecideAttempts: troubles that pass are tried again until they have passed, also many times; those that a
// person has to cure end the run at the first attempt.
func TestClassesDecideAttempts(t *testing.T) {
	plan := smallPlan()
	plan.Compare = false
	want := complete(t, rehearsal.New(plan)).Adapter.SHA256
	for _, class := range []run.Class{run.ClassStorage, run.ClassPreempted, run.ClassHang} {
		f := rehearsal.New(plan)
		const failures = 6
		f.Fail = func(call string, n int) error {
			if strings.HasPrefix(call, "dpo") && n <= failures {
				return run.Errorf(class, "train", "", "", "trouble %d", n)
			}
			return nil
		}
		if s := complete(t, f); s.Adapter.SHA256 != want || f.Count("dpo") != 3+failures {
			t.Errorf("%s: %d attempts, want 3 epochs and %d failures", class, f.Count("dpo"), failures)
		}
	}
	for _, class := range []run.Class{run.ClassConfig, run.ClassData, run.ClassModel, run.ClassOOM, run.ClassNonFinite} {
		f := rehearsal.New(plan)
		f.Fail = func(call string, _ int) error {
			if strings.HasPrefix(call, "dpo") {
				return run.Errorf(class, "train", "", "", "for good")
			}
			return nil
		}
		env := environment(t, f)
		env.ExecuteWorkflow(FineTune, spec())
		if got := activities.ClassOf(env.GetWorkflowError()); got != class || f.Count("dpo") != 1 {
			t.Errorf("%s: class %s after %d attempts", class, got, f.Count("dpo"))
		}
		if len(f.Recorded) != 1 || f.Recorded[0].Status != run.StatusFailed || !strings.Contains(f.Recorded[0].Reason, "for good") {
			t.Errorf("%s: recorded %+v", class, f.Recorded)
		}
	}
}

// TestEveryStopRuleEndsARun with its own reason in the state, after the epochs that its patience allows; evaluation,
// export and report follow.
func TestEveryStopRuleEndsARun(t *testing.T) {
	from := func(epoch int, before, after float64) func(int) float64 {
		return func(e int) float64 {
			if e < epoch {
				return before
			}
			return after
		}
	}
	for name, c := range map[string]struct {
		set    func(p *run.Plan, f *rehearsal.Stages)
		says   string
		epochs int
	}{
		"reward": {func(p *run.Plan, f *rehearsal.Stages) {
			p.Stop.RewardCollapse.Action, p.Stop.RewardCollapse.Window, p.Stop.RewardCollapse.Drop = actionStop, 2, 3
			f.Reward = from(4, 10, 5)
		}, "oft ended early: reward collapse", 6},
		"KL": {func(p *run.Plan, f *rehearsal.Stages) {
			p.Stop.KLToReference.Action, p.Stop.KLToReference.Limit, p.Stop.KLToReference.Patience = actionStop, 0.5, 3
			f.KL = from(2, 0.1, 0.7)
		}, "oft ended early: KL to the reference: 0.7", 5},
		"dead masks": {func(p *run.Plan, f *rehearsal.Stages) {
			p.Stop.DeadMasks.Action, p.Stop.DeadMasks.Limit, p.Stop.DeadMasks.Patience = actionStop, 0.5, 1
			f.Dead = from(3, 0.25, 0.75)
		}, "oft ended early: dead masks: 0.75", 4},
		"clamp": {func(p *run.Plan, f *rehearsal.Stages) {
			p.Stop.ClampSaturation.Action, p.Stop.ClampSaturation.Limit, p.Stop.ClampSaturation.Patience = actionStop, 0.9, 2
			f.Clamped = from(1, 0.2, 0.95)
		}, "oft ended early: clamp saturation: 0.95", 3},
	} {
		plan := smallPlan()
		plan.OFTEpochs, plan.Compare, plan.Stop = 12, false, rulesOff()
		f := rehearsal.New(plan)
		c.set(&f.Plan, f)
		s := complete(t, f)
		if f.Count("dpo") != c.epochs || !strings.Contains(s.Reason, c.says) || s.Status != run.StatusCompleted {
			t.Errorf("%s: %s after %d epochs: %q; want %d epochs and %q", name, s.Status, f.Count("dpo"), s.Reason, c.epochs, c.says)
		}
		if f.Count("export oft") != 1 || f.Count("report") != 1 || f.Reports[0].State.Reason != s.Reason {
			t.Errorf("%s: no export, or a report without the reason", name)
		}
	}
}
