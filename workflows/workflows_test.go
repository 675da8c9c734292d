package workflows

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/workflows/rehearsal"
)

// environment registers all workflows, and activities over the fake.
func environment(t *testing.T, f *rehearsal.Stages) *testsuite.TestWorkflowEnvironment {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(time.Minute)
	for _, w := range []any{FineTune, SFT, OFT, Compare, Evaluate} {
		env.RegisterWorkflow(w)
	}
	env.RegisterActivity(activities.New(f, activities.Limits{HangAfter: time.Minute, StopGrace: time.Minute}))
	return env
}

// complete runs FineTune to its end and returns the final state.
func complete(t *testing.T, f *rehearsal.Stages, setup ...func(*testsuite.TestWorkflowEnvironment)) run.State {
	t.Helper()
	env := environment(t, f)
	for _, s := range setup {
		s(env)
	}
	env.ExecuteWorkflow(FineTune, spec())
	if !env.IsWorkflowCompleted() || env.GetWorkflowError() != nil {
		t.Fatalf("run did not complete: %v", env.GetWorkflowError())
	}
	var s run.State
	if err := env.GetWorkflowResult(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWholeRunInOrder(t *testing.T) {
	f := rehearsal.New(smallPlan())
	s := complete(t, f)
	// Within an epoch and within an evaluated variant the shards may come in any order; their groups may not.
	var groups []string
	for _, c := range f.Calls {
		g := c
		switch name, rest, _ := strings.Cut(c, " "); name {
		case "generate", "score":
			epoch, _, _ := strings.Cut(rest, ".")
			g = "pairs " + epoch
		case "evaluate":
			g = "evaluate " + strings.Fields(rest)[0]
		}
		if len(groups) == 0 || groups[len(groups)-1] != g {
			groups = append(groups, g)
		}
	}
	want := []string{"prepare r", "recover", "sft sft 0-3", "sft sft 3-6", "sft sft 6-7", "pairs 0", "dpo 0", "pairs 1", "dpo 1", "pairs 2", "dpo 2"}
	i := slices.Index(groups, "evaluate base")
	if i < 0 {
		t.Fatalf("%v", groups)
	}
	var compare []string
	for _, g := range groups[:i] {
		if strings.HasPrefix(g, "sft compare") {
			compare = append(compare, g)
		} else if len(compare) > 0 {
			t.Errorf("%s after the comparison began", g)
		}
	}
	if diff := cmp.Diff(want, groups[:i-len(compare)]); diff != "" {
		t.Error(diff)
	}
	tail := []string{"evaluate base", "evaluate sft", "evaluate oft", "evaluate sft_longer", "summarise 16", "export oft", "report", "record completed"}
	if diff := cmp.Diff(tail, groups[i:]); diff != "" {
		t.Error(diff)
	}
	if s.Status != run.StatusCompleted || s.Report.Key != "report/index.html" || len(s.Results) != 8 || s.Child != "" {
		t.Errorf("%+v", s)
	}
	oft := f.Made["oft/000006"].Checkpoint
	if s.Adapter.SHA256 != oft.Adapter.SHA256 {
		t.Error("the exported adapter is not that of OFT's last epoch")
	}
	var ends []string
	for _, c := range s.Checkpoints {
		ends = append(ends, fmt.Sprintf("%s %d", c.Stage, c.Step))
	}
	if len(ends) != 3 || ends[0] != "sft 7" || ends[1] != "oft 6" || !strings.HasPrefix(ends[2], "compare ") {
		t.Errorf("checkpoints %v", ends)
	}
	var stages []run.Stage
	for _, st := range s.StageTimes {
		stages = append(stages, st.Stage)
	}
	if diff := cmp.Diff(run.Stages(), stages); diff != "" {
		t.Error(diff)
	}
	if r := f.Reports[0].State; r.Status != run.StatusCompleted || len(r.Results) != 8 {
		t.Errorf("the report shows %s with %d results", r.Status, len(r.Results))
	}
}

func TestCompareWorksAsLongAsOFT(t *testing.T) {
	f := rehearsal.New(smallPlan())
	complete(t, f)
	oft := f.Made["oft/000006"].Checkpoint.Seconds // 3 s of training an epoch, plus real milliseconds of the pairs
	var last run.CheckpointRef
	for _, r := range f.Made {
		if c := r.Checkpoint; c.Stage == run.StageCompare && c.Step > last.Step {
			last = c
		}
	}
	// The fake's SFT takes a second a step, so the comparison takes as many steps as OFT took seconds.
	if extra := float64(last.Step - 7); extra < oft-1 || extra > oft+1 || last.Seconds != extra {
		t.Errorf("%v extra steps in %v s for an OFT of %v s", extra, last.Seconds, oft)
	}
	if got := f.Count("sft compare 7-"); got != 1 {
		t.Errorf("%d chunks from the SFT checkpoint, want 1", got)
	}
}

func TestStagesThatAreOff(t *testing.T) {
	for _, tc := range []struct {
		name       string
		change     func(*run.Plan)
		candidates string
		export     string
	}{
		{"no SFT", func(p *run.Plan) { p.SFTSteps = 0 }, "base oft", "export oft"},
		{"no OFT", func(p *run.Plan) { p.OFTEpochs = 0 }, "base sft", "export sft"},
		{"no comparison", func(p *run.Plan) { p.Compare = false }, "base sft oft", "export oft"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			plan := smallPlan()
			tc.change(&plan)
			f := rehearsal.New(plan)
			complete(t, f)
			var variants []string
			for _, c := range f.Calls {
				if w := strings.Fields(c); w[0] == "evaluate" && !slices.Contains(variants, w[1]) {
					variants = append(variants, w[1])
				}
			}
			if got := strings.Join(variants, " "); got != tc.candidates || f.Count(tc.export) != 1 {
				t.Errorf("evaluated %s, calls %v", got, f.Calls)
			}
			if plan.SFTSteps == 0 && !f.DPO[0].Reference.IsZero() {
				t.Errorf("reference %v, want the initial adapter", f.DPO[0].Reference)
			}
		})
	}
}

func TestDPOChunksGetShardsInOrderAndTheFixedReference(t *testing.T) {
	plan := smallPlan()
	plan.Shards, plan.Compare = 3, false
	f := rehearsal.New(plan)
	f.PairWork = func(shard int) time.Duration { return time.Duration(3-shard) * 20 * time.Millisecond } // the last shard is ready first
	complete(t, f)
	sft := f.Made["sft/000007"].Checkpoint
	from := sft
	for e, c := range f.DPO {
		var keys []string
		for i := range c.Rollouts {
			keys = append(keys, c.Rollouts[i].Key, c.Scores[i].Key)
		}
		want := fmt.Sprintf("rollouts-%[1]d-0 scores-%[1]d-0 rollouts-%[1]d-1 scores-%[1]d-1 rollouts-%[1]d-2 scores-%[1]d-2", e)
		if got := strings.Join(keys, " "); got != want {
			t.Errorf("epoch %d: %s", e, got)
		}
		if c.Reference != sft || c.From != from || c.Epoch != e {
			t.Errorf("epoch %d: from %v, reference %v", e, c.From, c.Reference)
		}
		if c.Summary.Pairs != 6 || c.Summary.Masks.Total != 12 {
			t.Errorf("epoch %d: summary %+v", e, c.Summary)
		}
		from = f.Made[fmt.Sprintf("oft/%06d", 2*(e+1))].Checkpoint
	}
}

func TestRelayBetweenFullCheckpoints(t *testing.T) {
	plan := smallPlan()
	plan.OFTEpochs, plan.OFTChunk, plan.Compare = 7, 3, false
	f := rehearsal.New(plan)
	complete(t, f)
	var relay []bool
	for _, c := range f.DPO {
		relay = append(relay, c.Relay)
	}
	// Full after epochs 3 and 6, and at the end.
	if diff := cmp.Diff([]bool{true, true, false, true, true, false, false}, relay); diff != "" {
		t.Error(diff)
	}
}

// Shard count and chunk length are matters of scheduling: neither may reach the adapter.
func TestChunkLengthDoesNotReachTheAdapter(t *testing.T) {
	adapters := map[string]bool{}
	for _, chunk := range []int{1, 2, 3, 7, 50} {
		plan := smallPlan()
		plan.SFTChunk, plan.Compare = chunk, false
		adapters[complete(t, rehearsal.New(plan)).Adapter.SHA256] = true
	}
	if len(adapters) != 1 {
		t.Errorf("%d different adapters", len(adapters))
	}
}

func TestQuickEvaluations(t *testing.T) {
	plan := smallPlan()
	plan.EverySteps, plan.EveryEpochs, plan.Compare = 6, 2, false
	f := rehearsal.New(plan)
	s := complete(t, f)
	var quick []string
	for _, c := range f.Calls {
		if strings.HasPrefix(c, "quick") {
			quick = append(quick, c)
		}
	}
	if diff := cmp.Diff([]string{"quick base 0", "quick sft 6", "quick oft 4"}, quick); diff != "" {
		t.Error(diff)
	}
	want := []run.QuickEval{{Stage: run.StageSFT, IP: 20}, {Stage: run.StageSFT, Step: 6, IP: 20}, {Stage: run.StageOFT, Step: 4, Epoch: 2, IP: 20}}
	if diff := cmp.Diff(want, s.Quick); diff != "" {
		t.Error(diff)
	}
}

func TestPruningIsRareAndProtectsTheReference(t *testing.T) {
	plan := smallPlan()
	plan.OFTEpochs, plan.SFTSteps, plan.SFTChunk, plan.Compare = 25, 2, 2, false
	f := rehearsal.New(plan)
	complete(t, f)
	if len(f.Pruned) != 2 {
		t.Fatalf("%d prunings in 25 epochs, want 2", len(f.Pruned))
	}
	for i, p := range f.Pruned {
		if p.Stage != run.StageOFT || p.KeepLast != 2 || p.Epoch != 10*(i+1) || !slices.Contains(p.Protect, "sft/000002") {
			t.Errorf("%+v", p)
		}
	}
}

func TestStopRuleEndsTheStageAndTheRunStillReports(t *testing.T) {
	plan := smallPlan()
	plan.OFTEpochs = 20
	f := rehearsal.New(plan)
	f.Clamped = func(epoch int) float64 { return map[bool]float64{true: 1, false: 0.1}[epoch >= 4] }
	s := complete(t, f)
	if n := f.Count("dpo"); n != 7 { // epochs 4, 5 and 6 are over the limit
		t.Errorf("%d epochs, want 7", n)
	}
	if !strings.Contains(s.Reason, "oft ended early: clamp saturation") || s.Status != run.StatusCompleted {
		t.Errorf("%s: %q", s.Status, s.Reason)
	}
	if f.Count("evaluate oft") != 4 || f.Count("export oft") != 1 {
		t.Error("a stopped run must be evaluated and exported")
	}
}

func TestStopRulePausesUntilResume(t *testing.T) {
	plan := smallPlan()
	plan.OFTEpochs, plan.Compare, plan.Stop.RewardCollapse.Action, plan.Stop.RewardCollapse.Window = 6, false, "pause", 1
	f := rehearsal.New(plan)
	f.Reward = func(epoch int) float64 { return map[bool]float64{true: 1, false: 10}[epoch >= 2] }
	var seen run.State
	s := complete(t, f, func(env *testsuite.TestWorkflowEnvironment) {
		env.RegisterDelayedCallback(func() {
			v, err := env.QueryWorkflowByID(StageID("r", run.StageOFT), QueryState)
			if err != nil || v.Get(&seen) != nil {
				t.Errorf("query: %v", err)
			}
			env.UpdateWorkflow(UpdateResume, "u", &callbacks{t: t})
		}, time.Hour)
	})
	if seen.Status != run.StatusPaused || !strings.Contains(seen.Reason, "reward collapse") || seen.Epoch != 3 {
		t.Errorf("while paused: %+v", seen)
	}
	// The rule has forgotten the time before the pause, so it does not act on the lower level again.
	if s.Status != run.StatusCompleted || f.Count("dpo") != 6 {
		t.Errorf("%s after %d epochs", s.Status, f.Count("dpo"))
	}
}

// callbacks is the outcome of an update in the test environment.
type callbacks struct {
	t        *testing.T
	rejected error
	result   run.State
	done     bool
}

func (c *callbacks) Accept()          {}
func (c *callbacks) Reject(err error) { c.rejected = err }
func (c *callbacks) Complete(v any, err error) {
	if err != nil {
		c.t.Errorf("update: %v", err)
	}
	c.result, _ = v.(run.State)
	c.done = true
}

func TestPauseHoldsTheNextChunkUntilResume(t *testing.T) {
	plan := smallPlan()
	plan.SFTSteps, plan.SFTChunk, plan.Compare = 400, 1, false
	f := rehearsal.New(plan)
	f.Step = 2 * time.Millisecond
	pause, again, resume := &callbacks{t: t}, &callbacks{t: t}, &callbacks{t: t}
	var atPause, later int
	s := complete(t, f, func(env *testsuite.TestWorkflowEnvironment) {
		env.RegisterDelayedCallback(func() { env.UpdateWorkflow(UpdatePause, "p", pause, "lunch") }, 200*time.Millisecond)
		env.RegisterDelayedCallback(func() {
			atPause = f.Count("sft")
			env.UpdateWorkflow(UpdatePause, "p2", again, "again")
		}, time.Hour)
		env.RegisterDelayedCallback(func() {
			later = f.Count("sft")
			env.UpdateWorkflow(UpdateResume, "r", resume)
		}, 2*time.Hour)
	})
	if !pause.done || pause.result.Status != run.StatusPaused || pause.result.Reason != "lunch" {
		t.Errorf("pause: %+v", pause)
	}
	if again.rejected == nil {
		t.Error("a second pause was accepted")
	}
	if atPause == 0 || atPause == 400 || atPause != later {
		t.Errorf("%d chunks when paused, %d an hour later, of 400", atPause, later)
	}
	if !resume.done || s.Status != run.StatusCompleted || f.Count("sft") != 400 {
		t.Errorf("after resume: %s, %d chunks", s.Status, f.Count("sft"))
	}
}

func TestFailureIsClassifiedAndRecorded(t *testing.T) {
	for _, at := range []string{"prepare", "recover", "sft sft 3", "score 1", "dpo 1", "evaluate oft", "summarise", "export", "report"} {
		t.Run(at, func(t *testing.T) {
			f := rehearsal.New(smallPlan())
			f.Fail = func(call string, _ int) error {
				if strings.HasPrefix(call, at) {
					return run.Errorf(run.ClassData, "read", "x.png", "replace it", "truncated")
				}
				return nil
			}
			env := environment(t, f)
			env.ExecuteWorkflow(FineTune, spec())
			err := env.GetWorkflowError()
			if activities.ClassOf(err) != run.ClassData || activities.Message(err) != "read x.png: truncated; replace it" {
				t.Errorf("class %s, message %q", activities.ClassOf(err), activities.Message(err))
			}
			if len(f.Recorded) != 1 || f.Recorded[0].Status != run.StatusFailed || !strings.Contains(f.Recorded[0].Reason, "x.png") {
				t.Errorf("recorded %+v", f.Recorded)
			}
		})
	}
}

func TestPassingTroubleIsRetriedWithoutATrace(t *testing.T) {
	plain := complete(t, rehearsal.New(smallPlan())).Adapter.SHA256
	for _, at := range []string{"prepare", "recover", "sft", "generate", "score", "dpo", "evaluate", "summarise", "export", "report", "record"} {
		f := rehearsal.New(smallPlan())
		f.Fail = func(call string, n int) error {
			if strings.HasPrefix(call, at) && n <= 2 {
				return run.Errorf(run.ClassStorage, "put", "k", "", "503")
			}
			return nil
		}
		if s := complete(t, f); s.Adapter.SHA256 != plain || s.Status != run.StatusCompleted {
			t.Errorf("%s: another adapter or status %s", at, s.Status)
		}
	}
}

func TestInternalErrorsEndARunAfterAFewAttempts(t *testing.T) {
	f := rehearsal.New(smallPlan())
	f.Fail = func(call string, _ int) error {
		if strings.HasPrefix(call, "dpo") {
			return errors.New("odd")
		}
		return nil
	}
	env := environment(t, f)
	env.ExecuteWorkflow(FineTune, spec())
	if c := activities.ClassOf(env.GetWorkflowError()); c != run.ClassInternal || f.Count("dpo") != 3 {
		t.Errorf("class %s after %d attempts, want internal after 3", c, f.Count("dpo"))
	}
}

func TestCancelKeepsTheLastCheckpointAndRecords(t *testing.T) {
	plan := smallPlan()
	plan.SFTSteps, plan.SFTChunk = 1000, 1000
	f := rehearsal.New(plan)
	f.Step = 2 * time.Millisecond
	env := environment(t, f)
	env.RegisterDelayedCallback(env.CancelWorkflow, 100*time.Millisecond)
	env.ExecuteWorkflow(FineTune, spec())
	if c := activities.ClassOf(env.GetWorkflowError()); c != run.ClassCancelled {
		t.Errorf("class %s: %v", c, env.GetWorkflowError())
	}
	if len(f.Recorded) != 1 || f.Recorded[0].Status != run.StatusCancelled {
		t.Errorf("recorded %+v", f.Recorded)
	}
	if f.Count("generate") != 0 {
		t.Error("the next stage started")
	}
}

// A run whose history is lost goes on from what the store holds and ends with the same adapter.
func TestRecoveredRunEndsWithTheSameAdapter(t *testing.T) {
	whole := rehearsal.New(smallPlan())
	want := complete(t, whole).Adapter.SHA256
	for _, tc := range []struct {
		name     string
		position activities.Position
		sft, dpo int // chunks still to do
	}{
		{"in SFT", activities.Position{SFT: whole.Made["sft/000003"].Checkpoint}, 2, 3},
		{"after SFT", activities.Position{SFT: whole.Made["sft/000007"].Checkpoint}, 0, 3},
		{"in OFT", activities.Position{SFT: whole.Made["sft/000007"].Checkpoint, OFT: whole.Made["oft/000004"].Checkpoint}, 0, 1},
		{"after OFT", activities.Position{SFT: whole.Made["sft/000007"].Checkpoint, OFT: whole.Made["oft/000006"].Checkpoint}, 0, 0},
	} {
		f := rehearsal.New(smallPlan())
		f.Position = tc.position
		if got := complete(t, f).Adapter.SHA256; got != want {
			t.Errorf("%s: another adapter", tc.name)
		}
		if f.Count("sft sft") != tc.sft || f.Count("dpo") != tc.dpo {
			t.Errorf("%s: %d SFT chunks and %d epochs", tc.name, f.Count("sft sft"), f.Count("dpo"))
		}
	}
}

// A stop rule whose epoch was committed just before the history was lost still acts.
func TestRecoveredRunAsksTheStopRulesFirst(t *testing.T) {
	f := rehearsal.New(smallPlan())
	f.Plan.OFTEpochs = 10
	oft := run.CheckpointRef{Stage: run.StageOFT, Epoch: 4, Step: 8, Manifest: run.ObjectRef{Key: "oft/000008"}}
	sft := run.CheckpointRef{Stage: run.StageSFT, Step: 7, Manifest: run.ObjectRef{Key: "sft/000007"}}
	f.Position = activities.Position{SFT: sft, OFT: oft, Guard: run.GuardState{ClampOver: 2}, OFTSummary: run.ChunkSummary{Clamped: 1}}
	s := complete(t, f)
	if f.Count("dpo") != 0 || !strings.Contains(s.Reason, "clamp saturation") {
		t.Errorf("%d epochs, reason %q", f.Count("dpo"), s.Reason)
	}
}

// Over many continue-as-news the stage takes the same steps and asks the same rules.
func TestContinueAsNewCarriesEverything(t *testing.T) {
	plan := smallPlan()
	plan.OFTEpochs, plan.EveryEpochs = 5, 2
	plan.Stop.ClampSaturation.Patience = 4
	in := StageInput{Job: spec().Job(), Queues: spec().Queues, Plan: plan}
	oft := func(f *rehearsal.Stages, suggest bool) (StageResult, int) {
		in, executions := in, 0
		for {
			executions++
			env := environment(t, f)
			env.SetContinueAsNewSuggested(suggest)
			env.ExecuteWorkflow(OFT, in)
			err := env.GetWorkflowError()
			var next *workflow.ContinueAsNewError
			if errors.As(err, &next) {
				if err := converterOf(next, &in); err != nil {
					t.Fatal(err)
				}
				continue
			}
			var r StageResult
			if err != nil || env.GetWorkflowResult(&r) != nil {
				t.Fatal(err)
			}
			return r, executions
		}
	}
	rising := func(e int) float64 { return map[bool]float64{true: 0.95, false: 0}[e > 0] }
	plainFake, cutFake := rehearsal.New(plan), rehearsal.New(plan)
	plainFake.Clamped, cutFake.Clamped = rising, rising
	plain, one := oft(plainFake, false)
	cut, many := oft(cutFake, true)
	if one != 1 || many != 5 {
		t.Errorf("%d and %d executions", one, many)
	}
	if plain.Checkpoint.Adapter != cut.Checkpoint.Adapter || plain.Stopped != cut.Stopped || plain.Stopped == "" {
		t.Errorf("%+v\n%+v", plain, cut)
	}
	if diff := cmp.Diff(plain.Quick, cut.Quick); diff != "" {
		t.Error(diff)
	}
}

// converterOf reads the input of the next execution.
func converterOf(next *workflow.ContinueAsNewError, in *StageInput) error {
	return converter.GetDefaultDataConverter().FromPayloads(next.Input, in)
}
