package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
)

// FineTune is a whole run.
//
//  1. Prepare: check everything that can be checked, store the config, make the data set ready.
//  2. Recover: find what an earlier, lost execution has already committed.
//  3. SFT from the initial adapter, OFT from SFT, Compare as long as OFT worked.
//  4. Evaluate base and all variants on the held-out splits.
//  5. Export the adapter, write the report, record the final state.
//
// A stage that a stop rule ended early does not fail the run: evaluation and report follow and say why it ended. When the
// run fails or is cancelled its last state is recorded all the same.
func FineTune(ctx workflow.Context, spec run.Spec) (run.State, error) {
	r := &fineTune{spec: spec, job: spec.Job(), state: run.State{
		Run: spec.Name, Status: run.StatusRunning, Stage: run.StagePrepare, ConfigHash: spec.ConfigHash, Seed: spec.Seed,
	}}
	r.gate = gate{state: &r.state}
	if err := r.handlers(ctx); err != nil {
		return r.state, err
	}
	err := r.stages(ctx)
	if err == nil {
		return r.state, nil
	}
	r.state.Status, r.state.Reason, r.state.Child = run.StatusFailed, activities.Message(err), ""
	if activities.ClassOf(err) == run.ClassCancelled {
		r.state.Status, r.state.Reason = run.StatusCancelled, "cancelled; the last checkpoint is kept"
	}
	last := cleanup(ctx, spec.Queues.Control, r.heartbeat())
	if e := workflow.ExecuteActivity(last, act.Record, r.job, r.state).Get(last, nil); e != nil {
		workflow.GetLogger(ctx).Warn("the final state could not be stored", "run", spec.Name, "error", e)
	}
	return r.state, err
}

// fineTune is the state of the parent workflow.
type fineTune struct {
	spec  run.Spec
	job   run.Job
	plan  run.Plan
	state run.State
	gate  gate
	child workflow.ChildWorkflowFuture // the stage at work; nil between stages
	found activities.Position
}

func (r *fineTune) heartbeat() time.Duration {
	if r.plan.HeartbeatTimeout > 0 {
		return r.plan.HeartbeatTimeout
	}
	return r.spec.HeartbeatTimeout
}

// handlers answers queries and updates. Pause and resume act on the parent, which holds back the next stage, and are
// passed on to the stage at work, which holds back its next chunk.
func (r *fineTune) handlers(ctx workflow.Context) error {
	if err := workflow.SetQueryHandler(ctx, QueryState, func() (run.State, error) { return r.state, nil }); err != nil {
		return err
	}
	pause := func(ctx workflow.Context, reason string) (run.State, error) {
		r.gate.pause(reason)
		return r.state, r.tell(ctx, signalPause, reason)
	}
	running := workflow.UpdateHandlerOptions{Validator: func(string) error {
		if r.gate.held {
			return temporal.NewApplicationError("the run is paused already", string(run.ClassConfig))
		}
		return nil
	}}
	if err := workflow.SetUpdateHandlerWithOptions(ctx, UpdatePause, pause, running); err != nil {
		return err
	}
	return workflow.SetUpdateHandler(ctx, UpdateResume, func(ctx workflow.Context) (run.State, error) {
		r.gate.resume()
		return r.state, r.tell(ctx, signalResume, nil)
	})
}

// tell signals the stage at work. A stage that ends at this moment need not hear it: the parent's own gate holds.
func (r *fineTune) tell(ctx workflow.Context, signal string, arg any) error {
	if r.child == nil {
		return nil
	}
	err := r.child.SignalChildWorkflow(ctx, signal, arg).Get(ctx, nil)
	if err != nil && ctx.Err() == nil {
		workflow.GetLogger(ctx).Info("the stage did not take the signal", "signal", signal, "error", err)
		return nil
	}
	return err
}

func (r *fineTune) stages(ctx workflow.Context) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	sft, oft, longer, err := r.train(ctx)
	if err != nil {
		return err
	}
	candidates := []Candidate{{Variant: run.VariantBase}}
	for _, c := range []Candidate{{run.VariantSFT, sft}, {run.VariantOFT, oft}, {run.VariantLonger, longer}} {
		if !c.Checkpoint.IsZero() {
			candidates = append(candidates, c)
		}
	}
	evaluation, err := r.evaluate(ctx, candidates)
	if err != nil {
		return err
	}
	final := Candidate{run.VariantOFT, oft}
	if oft.IsZero() {
		final = Candidate{run.VariantSFT, sft}
	}
	return r.publish(ctx, final, evaluation)
}

// prepare checks the run and finds out where it stands.
func (r *fineTune) prepare(ctx workflow.Context) error {
	start := workflow.Now(ctx)
	if err := r.gate.wait(ctx); err != nil {
		return err
	}
	prepare := work(ctx, r.spec.Queues.CPU, r.spec.HeartbeatTimeout)
	var p activities.PrepareResult
	if err := workflow.ExecuteActivity(prepare, act.Prepare, r.spec).Get(ctx, &p); err != nil {
		return err
	}
	r.plan = p.Plan
	if err := workflow.ExecuteActivity(tiny(ctx, r.spec.Queues.Control, r.plan.HeartbeatTimeout), act.Recover, r.job).Get(ctx, &r.found); err != nil {
		return err
	}
	r.state.StageTimes = append(r.state.StageTimes, run.StageTime{
		Stage: run.StagePrepare, WallSeconds: workflow.Now(ctx).Sub(start).Seconds(), BusySeconds: run.BusySeconds(p.Span)})
	return nil
}

// train goes through the training stages and returns the checkpoints they ended with; zero for stages that are off.
func (r *fineTune) train(ctx workflow.Context) (sft, oft, longer run.CheckpointRef, err error) {
	in := StageInput{Job: r.job, Queues: r.spec.Queues, Plan: r.plan}
	if r.plan.SFTSteps > 0 {
		in.From = r.found.SFT
		if sft, err = r.stage(ctx, run.StageSFT, SFT, in); err != nil {
			return sft, oft, longer, err
		}
	}
	if r.plan.OFTEpochs > 0 {
		in.From, in.Reference, in.Guard = r.found.OFT, sft, r.found.Guard
		in.Unjudged = unjudged(r.found)
		if oft, err = r.stage(ctx, run.StageOFT, OFT, in); err != nil {
			return sft, oft, longer, err
		}
	}
	if r.plan.Compare && !sft.IsZero() && !oft.IsZero() {
		in = StageInput{Job: r.job, Queues: r.spec.Queues, Plan: r.plan, From: r.found.Compare, Reference: sft, Budget: oft.Seconds}
		longer, err = r.stage(ctx, run.StageCompare, Compare, in)
	}
	return sft, oft, longer, err
}

// stage runs one training stage as a child and takes its end into the state.
func (r *fineTune) stage(ctx workflow.Context, s run.Stage, workflowFunc any, in StageInput) (run.CheckpointRef, error) {
	var result StageResult
	wall, err := r.runChild(ctx, s, workflowFunc, in, &result)
	if err != nil {
		return run.CheckpointRef{}, err
	}
	c := result.Checkpoint
	r.state.Checkpoints = append(r.state.Checkpoints, c)
	r.state.Quick = append(r.state.Quick, result.Quick...)
	r.state.StageTimes = append(r.state.StageTimes, run.StageTime{Stage: s, WallSeconds: wall, BusySeconds: c.Seconds, Stopped: result.Stopped})
	if s != run.StageCompare { // the comparison never becomes the run's adapter
		r.state.Adapter = c.Adapter
		r.state.Step, r.state.StepsTotal = c.Step, r.plan.StepsTotal(s)
		r.state.Epoch, r.state.EpochsTotal = c.Epoch, 0
	}
	return c, nil
}

// runChild runs a stage's workflow, with the parent's gate before it.
func (r *fineTune) runChild(ctx workflow.Context, s run.Stage, workflowFunc, in, result any) (wall float64, err error) {
	if err := r.gate.wait(ctx); err != nil {
		return 0, err
	}
	start := workflow.Now(ctx)
	r.state.Stage, r.state.Child = s, StageID(r.spec.Name, s)
	if err := r.attributes(ctx); err != nil {
		return 0, err
	}
	ctx = child(ctx, r.spec.Name, s, r.spec.Queues.Control)
	r.child = workflow.ExecuteChildWorkflow(ctx, workflowFunc, in)
	err = r.child.Get(ctx, result)
	r.child, r.state.Child = nil, ""
	return workflow.Now(ctx).Sub(start).Seconds(), err
}

func (r *fineTune) attributes(ctx workflow.Context) error {
	if !r.plan.Attributes {
		return nil
	}
	updates := []temporal.SearchAttributeUpdate{
		attrKind.ValueSet(kindFineTune), attrStage.ValueSet(string(r.state.Stage)), attrStatus.ValueSet(string(r.state.Status)),
		attrHash.ValueSet(r.state.ConfigHash), attrStep.ValueSet(int64(r.state.Step)), attrEpoch.ValueSet(int64(r.state.Epoch)),
	}
	if best, ok := bestMetric(r.state.Results); ok {
		updates = append(updates, attrBest.ValueSet(best))
	}
	return workflow.UpsertTypedSearchAttributes(ctx, updates...)
}

// bestMetric is the highest RI on the first split that was evaluated.
func bestMetric(results []run.EvalResult) (best float64, ok bool) {
	for _, e := range results {
		if e.Split == results[0].Split && (!ok || e.RI > best) {
			best, ok = e.RI, true
		}
	}
	return best, ok
}

func (r *fineTune) evaluate(ctx workflow.Context, candidates []Candidate) (Evaluation, error) {
	in := EvaluateInput{Job: r.job, Queues: r.spec.Queues, Plan: r.plan, Candidates: candidates}
	var e Evaluation
	wall, err := r.runChild(ctx, run.StageEvaluate, Evaluate, in, &e)
	if err != nil {
		return e, err
	}
	spans := make([]run.Span, len(e.Parts))
	for i, p := range e.Parts {
		spans[i] = p.Span
	}
	r.state.Results = e.Results
	r.state.StageTimes = append(r.state.StageTimes, run.StageTime{Stage: run.StageEvaluate, WallSeconds: wall, BusySeconds: run.BusySeconds(spans...)})
	return e, nil
}

// publish exports the final adapter, writes the report and records the completed run.
func (r *fineTune) publish(ctx workflow.Context, final Candidate, e Evaluation) error {
	if err := r.gate.wait(ctx); err != nil {
		return err
	}
	start := workflow.Now(ctx)
	r.state.Stage = run.StageExport
	job := activities.ExportJob{Job: r.job, Variant: final.Variant, Checkpoint: final.Checkpoint, Results: e.Results}
	heavy := work(ctx, r.spec.Queues.CPU, r.plan.HeartbeatTimeout)
	var exported activities.ExportResult
	if err := workflow.ExecuteActivity(heavy, act.Export, job).Get(ctx, &exported); err != nil {
		return err
	}
	r.state.Adapter = exported.Adapter
	r.state.StageTimes = append(r.state.StageTimes, run.StageTime{Stage: run.StageExport, WallSeconds: workflow.Now(ctx).Sub(start).Seconds()})
	// The report and the stored summary show the run as it is once they are written.
	finished := r.state
	finished.Status, finished.Reason = run.StatusCompleted, r.stopReason()
	if err := workflow.ExecuteActivity(heavy, act.Report, activities.ReportJob{Job: r.job, State: finished, Parts: e.Parts}).Get(ctx, &finished.Report); err != nil {
		return err
	}
	if err := workflow.ExecuteActivity(tiny(ctx, r.spec.Queues.Control, r.plan.HeartbeatTimeout), act.Record, r.job, finished).Get(ctx, nil); err != nil {
		return err
	}
	r.state = finished
	return r.attributes(ctx)
}

// stopReason says which stop rule ended a stage early, if one did.
func (r *fineTune) stopReason() string {
	for _, t := range r.state.StageTimes {
		if t.Stopped != "" {
			return string(t.Stage) + " ended early: " + t.Stopped
		}
	}
	return ""
}
