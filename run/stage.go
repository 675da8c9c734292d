package run

import "github.com/sciflux/sciflux/configs"

// Stage is one part of a run, in the order in which Stages lists them.
type Stage string

// The stages of a fine-tuning run.
const (
	StagePrepare  Stage = "prepare"  // data set drawn or checked, model files verified, caches filled
	StageSFT      Stage = "sft"      // supervised fine-tuning with the rectified-flow loss
	StageOFT      Stage = "oft"      // online fine-tuning: rollouts, scores, masked DPO
	StageCompare  Stage = "compare"  // more SFT for as long as OFT took, from the same checkpoint
	StageEvaluate Stage = "evaluate" // held-out prompts, every variant, same noises
	StageExport   Stage = "export"   // adapter files and the report
)

// Stages lists every stage in the order a run goes through them.
func Stages() []Stage {
	return []Stage{StagePrepare, StageSFT, StageOFT, StageCompare, StageEvaluate, StageExport}
}

// Status says what a run is doing as a whole.
type Status string

// The statuses a run can have. StatusPaused and StatusRunning are the only ones that can change again by themselves or
// by a command; the other three are final for one execution, and `resume` starts the next one from the store.
const (
	StatusRunning   Status = "running"
	StatusPaused    Status = "paused"
	StatusCompleted Status = "completed"
	StatusFailed    Status = "failed"
	StatusCancelled Status = "cancelled"
)

// Final reports whether no further progress can come from this execution.
func (s Status) Final() bool {
	return s == StatusCompleted || s == StatusFailed || s == StatusCancelled
}

// Variant names one of the models a run compares: the base, or the base with the adapter of a stage.
type Variant string

// The variants that are evaluated, in report order.
const (
	VariantBase   Variant = "base"
	VariantSFT    Variant = "sft"
	VariantOFT    Variant = "oft"
	VariantLonger Variant = "sft_longer" // SFT continued for as long as OFT took
)

// Variants lists every variant in report order.
func Variants() []Variant { return []Variant{VariantBase, VariantSFT, VariantOFT, VariantLonger} }

// CheckName reports whether name can name a run, by the rule that configs are validated by.
func CheckName(name string) error { return configs.CheckName(name) }
