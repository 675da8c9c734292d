package workflows

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
)

// Runs is the client side of the workflows.
type Runs struct {
	Client client.Client
}

// The memo of a run, readable without asking its workflow.
const (
	memoConfigHash  = "config_hash"
	memoConfigKey   = "config_key"
	memoCodeVersion = "code_version"
)

// Start starts a run, or attaches to the execution that is under way. A run that failed, was cancelled or whose history
// is lost gets a new execution, which goes on from the manifests in the store. A completed run is not started again.
// ErrOtherConfig is returned when the name is taken by a run with another config that is under way or complete; whether
// a failed or cancelled one has left anything, Prepare finds out.
func (r Runs) Start(ctx context.Context, spec run.Spec) (attached bool, err error) {
	state, found, err := r.existing(ctx, spec)
	if err != nil {
		return false, err
	}
	if found && !(state == run.StatusFailed || state == run.StatusCancelled) {
		return true, nil
	}
	_, err = r.Client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: ID(spec.Name), TaskQueue: spec.Queues.Control,
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		Memo: map[string]any{
			memoConfigHash: spec.ConfigHash, memoConfigKey: spec.Job().ConfigKey, memoCodeVersion: spec.CodeVersion,
		},
	}, FineTune, spec)
	if err != nil {
		return false, serviceError("start run", spec.Name, err)
	}
	return false, nil
}

// ErrOtherConfig says that a run of this name exists with other settings.
var ErrOtherConfig = errors.New("a run of this name exists with another config")

// existing describes the newest execution of the spec's run and compares its config.
func (r Runs) existing(ctx context.Context, spec run.Spec) (run.Status, bool, error) {
	d, err := r.Client.DescribeWorkflowExecution(ctx, ID(spec.Name), "")
	var none *serviceerror.NotFound
	if errors.As(err, &none) {
		return "", false, nil
	}
	if err != nil {
		return "", false, serviceError("find run", spec.Name, err)
	}
	info := d.WorkflowExecutionInfo
	var hash string
	if payload, ok := info.GetMemo().GetFields()[memoConfigHash]; ok {
		if err := converter.GetDefaultDataConverter().FromPayload(payload, &hash); err != nil {
			return "", false, serviceError("read memo of run", spec.Name, err)
		}
	}
	status := statusOf(info.Status)
	if over := status == run.StatusFailed || status == run.StatusCancelled; hash != "" && hash != spec.ConfigHash && !over {
		return "", false, &run.Error{Class: run.ClassConfig, Op: "start run", Subject: spec.Name,
			Cause: fmt.Errorf("%w (its hash is %.12s, this one's %.12s)", ErrOtherConfig, hash, spec.ConfigHash),
			Hint:  "choose another --name, or go on with the old one by `sciflux resume " + spec.Name + "`"}
	}
	return status, true, nil
}

// statusOf is what Temporal's status means for a run.
func statusOf(s enums.WorkflowExecutionStatus) run.Status {
	switch s {
	case enums.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		return run.StatusCompleted
	case enums.WORKFLOW_EXECUTION_STATUS_CANCELED, enums.WORKFLOW_EXECUTION_STATUS_TERMINATED:
		return run.StatusCancelled
	case enums.WORKFLOW_EXECUTION_STATUS_FAILED, enums.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		return run.StatusFailed
	}
	return run.StatusRunning
}

// Live is the state of a run together with what its activities are doing now.
type Live struct {
	run.State
	Progress *run.Progress `json:"progress,omitempty"` // newest report of a working activity
	// Trouble is the last failure of an activity that is being tried again.
	Trouble string `json:"trouble,omitempty"`
	Attempt int32  `json:"attempt,omitempty"` // of the activity in Trouble
}

// State asks a run how it stands: the parent for the whole, the stage at work for step, epoch and newest checkpoint, the
// server for progress within the chunk. It needs a worker to be polling, except for runs that are closed.
func (r Runs) State(ctx context.Context, name string) (Live, error) {
	var live Live
	if err := r.query(ctx, ID(name), &live.State); err != nil {
		return live, err
	}
	d, err := r.Client.DescribeWorkflowExecution(ctx, ID(name), "")
	if err != nil {
		return live, serviceError("describe run", name, err)
	}
	if s := statusOf(d.WorkflowExecutionInfo.Status); s.Final() && !live.Status.Final() {
		live.Status = s // terminated or timed out: the workflow itself had no chance to note it
	}
	busy := d
	if live.Child != "" && !live.Status.Final() {
		var stage run.State
		if err := r.query(ctx, live.Child, &stage); err == nil {
			live.merge(stage)
		}
		if c, err := r.Client.DescribeWorkflowExecution(ctx, live.Child, ""); err == nil {
			busy = c
		}
	}
	live.activities(busy)
	return live, nil
}

func (r Runs) query(ctx context.Context, id string, s *run.State) error {
	value, err := r.Client.QueryWorkflow(ctx, id, "", QueryState)
	if err != nil {
		return serviceError("ask", id, err)
	}
	return value.Get(s)
}

// merge lays the state of the stage at work over the parent's.
func (l *Live) merge(stage run.State) {
	l.Stage, l.Step, l.StepsTotal, l.Epoch, l.EpochsTotal = stage.Stage, stage.Step, stage.StepsTotal, stage.Epoch, stage.EpochsTotal
	if stage.Status == run.StatusPaused {
		l.Status, l.Reason = run.StatusPaused, stage.Reason
	}
	if !stage.Adapter.IsZero() && stage.Stage != run.StageCompare {
		l.Adapter = stage.Adapter
	}
	l.Checkpoints = append(l.Checkpoints, stage.Checkpoints...)
	l.Quick = append(l.Quick, stage.Quick...)
}

// activities takes progress and trouble from the pending activities.
func (l *Live) activities(d *workflowservice.DescribeWorkflowExecutionResponse) {
	working := 0
	for _, a := range d.GetPendingActivities() {
		if f := a.GetLastFailure(); f != nil && l.Trouble == "" {
			l.Trouble, l.Attempt = f.GetMessage(), a.GetAttempt()
		}
		var p run.Progress
		details := a.GetHeartbeatDetails()
		if details == nil || converter.GetDefaultDataConverter().FromPayloads(details, &p) != nil {
			continue
		}
		working += p.Step
		if l.Progress == nil || p.At.After(l.Progress.At) {
			l.Progress = &p
		}
	}
	if p := l.Progress; p != nil && p.Part != "" && l.StepsTotal > 0 {
		// Parts that are done tell nothing any more; the workflow counts them, and they are of one size.
		p.Part, p.Step = "", min(p.StepsTotal, working+p.StepsTotal*l.Step/l.StepsTotal)
	}
}

// Wait blocks until the run's execution ends and returns its final state, or its failure.
func (r Runs) Wait(ctx context.Context, name string) (run.State, error) {
	var s run.State
	err := r.Client.GetWorkflow(ctx, ID(name), "").Get(ctx, &s)
	if err != nil && ctx.Err() == nil {
		return s, &run.Error{Class: activities.ClassOf(err), Op: "run", Subject: name, Cause: errors.New(activities.Message(err))}
	}
	return s, err
}

// Pause stops a run at the next chunk edge, until Unpause.
func (r Runs) Pause(ctx context.Context, name, reason string) (run.State, error) {
	return r.update(ctx, name, UpdatePause, reason)
}

// Unpause lets a paused run go on, whether a person or a stop rule paused it.
func (r Runs) Unpause(ctx context.Context, name string) (run.State, error) {
	return r.update(ctx, name, UpdateResume)
}

func (r Runs) update(ctx context.Context, name, update string, args ...any) (run.State, error) {
	var s run.State
	h, err := r.Client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: ID(name), UpdateName: update, Args: args, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err == nil {
		err = h.Get(ctx, &s)
	}
	if err != nil {
		return s, serviceError(update, name, err)
	}
	return s, nil
}

// Cancel asks a run to stop for good after its last checkpoint.
func (r Runs) Cancel(ctx context.Context, name string) error {
	if err := r.Client.CancelWorkflow(ctx, ID(name), ""); err != nil {
		return serviceError("cancel run", name, err)
	}
	return nil
}

// Row is one run in a list.
type Row struct {
	Name    string     `json:"run"`
	Status  run.Status `json:"status"`
	Started time.Time  `json:"started"`
	Ended   time.Time  `json:"ended,omitzero"`
}

// List lists the newest executions of all runs, newest first.
func (r Runs) List(ctx context.Context) ([]Row, error) {
	var rows []Row
	var token []byte
	for {
		page, err := r.Client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
			Query: "WorkflowType = 'FineTune'", NextPageToken: token})
		if err != nil {
			return nil, serviceError("list", "runs", err)
		}
		for _, e := range page.Executions {
			row := Row{Name: nameOf(e.GetExecution().GetWorkflowId()), Status: statusOf(e.Status), Started: e.GetStartTime().AsTime()}
			if e.GetCloseTime() != nil {
				row.Ended = e.GetCloseTime().AsTime()
			}
			rows = append(rows, row)
		}
		if token = page.NextPageToken; len(token) == 0 {
			return newestOnly(rows), nil
		}
	}
}

// nameOf is the run name in a workflow id.
func nameOf(id string) string {
	if len(id) > len(ID("")) && id[:len(ID(""))] == ID("") {
		return id[len(ID("")):]
	}
	return id
}

// newestOnly keeps the first row of each name; the server lists newest first.
func newestOnly(rows []Row) []Row {
	seen := map[string]bool{}
	var kept []Row
	for _, row := range rows {
		if !seen[row.Name] {
			seen[row.Name] = true
			kept = append(kept, row)
		}
	}
	return kept
}

// serviceError classifies an error of the Temporal service itself.
func serviceError(op, subject string, err error) error {
	var none *serviceerror.NotFound
	var started *serviceerror.WorkflowExecutionAlreadyStarted
	switch {
	case errors.As(err, &none):
		return run.Errorf(run.ClassConfig, op, subject, "`sciflux ls` lists the runs", "no such run or namespace: %w", err)
	case errors.As(err, &started):
		return run.Errorf(run.ClassConfig, op, subject, "`sciflux show` shows it; choose another --name for a new one", "it is completed already")
	case activities.ClassOf(err) == run.ClassConfig:
		return &run.Error{Class: run.ClassConfig, Op: op, Subject: subject, Cause: errors.New(activities.Message(err))}
	}
	return run.Errorf(run.ClassStorage, op, subject, "check temporal.address and that the service runs", "%w", err)
}
