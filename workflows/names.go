package workflows

import (
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
)

// Names by which clients talk to a workflow. They are part of every recorded history: never change one.
const (
	QueryState   = "state"  // answers run.State
	UpdatePause  = "pause"  // argument: reason; answers run.State
	UpdateResume = "resume" // answers run.State
	signalPause  = "pause"  // parent to stage; argument: reason
	signalResume = "resume"
)

const (
	reuseAlways    = enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE
	closeTerminate = enums.PARENT_CLOSE_POLICY_TERMINATE
)

// ID is the workflow id of a run.
func ID(name string) string { return "run/" + name }

// StageID is the workflow id of a stage of a run.
func StageID(name string, s run.Stage) string { return ID(name) + "/" + string(s) }

// kindFineTune is the RunKind of FineTune workflows; stages have their stage's name.
const kindFineTune = "finetune"

// Search attributes, kept at chunk edges.
var (
	attrKind   = temporal.NewSearchAttributeKeyKeyword("RunKind")
	attrStage  = temporal.NewSearchAttributeKeyKeyword("RunStage")
	attrStatus = temporal.NewSearchAttributeKeyKeyword("RunStatus")
	attrHash   = temporal.NewSearchAttributeKeyKeyword("ConfigHash")
	attrStep   = temporal.NewSearchAttributeKeyInt64("RunStep")
	attrEpoch  = temporal.NewSearchAttributeKeyInt64("RunEpoch")
	attrBest   = temporal.NewSearchAttributeKeyFloat64("BestMetric")
)

// SearchAttribute is one attribute a namespace must have.
type SearchAttribute struct {
	Name string
	Type enums.IndexedValueType
}

// SearchAttributes lists what a namespace must have registered when temporal.search_attributes is on.
func SearchAttributes() []SearchAttribute {
	var list []SearchAttribute
	for _, k := range []temporal.SearchAttributeKey{attrKind, attrStage, attrStatus, attrHash, attrStep, attrEpoch, attrBest} {
		list = append(list, SearchAttribute{k.GetName(), k.GetValueType()})
	}
	return list
}

// act names activities: a method expression on it is a compile error when the activity is renamed. It is never called.
var act *activities.Activities

// Register registers every workflow.
func Register(r worker.WorkflowRegistry) {
	r.RegisterWorkflow(FineTune)
	r.RegisterWorkflow(SFT)
	r.RegisterWorkflow(OFT)
	r.RegisterWorkflow(Compare)
	r.RegisterWorkflow(Evaluate)
}
