package run

import (
	"time"

	"github.com/sciflux/sciflux/configs"
)

// Plan holds every number that the workflows decide by. Prepare derives it from the config once and it is recorded in
// the run's history, so that neither a changed default nor a changed preset can alter a run under way.
type Plan struct {
	SFTSteps    int // 0: no stage 1
	SFTChunk    int // steps between checkpoints
	OFTEpochs   int // 0: no stage 2
	OFTChunk    int // epochs between full checkpoints
	OFTSteps    int // optimiser steps of an epoch
	Compare     bool
	Shards      int // parts of generation, scoring and evaluation
	Splits      []string
	EverySteps  int // SFT steps between quick evaluations; 0: none
	EveryEpochs int // OFT epochs between quick evaluations; 0: none
	KeepLast    int
	Stop        configs.Stop
	Attributes  bool // keep search attributes

	HeartbeatTimeout time.Duration // silence after which a worker is taken for dead
}

// NewPlan derives the plan of a config.
func NewPlan(c configs.Config) Plan {
	return Plan{
		SFTSteps: c.SFT.Steps, SFTChunk: c.SFT.ChunkSteps,
		OFTEpochs: c.OFT.Epochs, OFTChunk: c.OFT.ChunkEpochs, OFTSteps: c.OFT.StepsPerEpoch(),
		Compare: c.Compare.SameTimeSFT, Shards: c.Worker.Shards, Splits: c.Eval.Splits,
		EverySteps: c.Eval.During.EverySteps, EveryEpochs: c.Eval.During.EveryEpochs,
		KeepLast: c.Checkpoint.KeepLast, Stop: c.Stop, Attributes: c.Temporal.SearchAttributes,
		HeartbeatTimeout: c.Worker.HeartbeatTimeout,
	}
}

// StepsTotal is the number of optimiser steps of a stage, as far as the plan fixes it.
func (p Plan) StepsTotal(s Stage) int {
	switch s {
	case StageSFT:
		return p.SFTSteps
	case StageOFT:
		return p.OFTEpochs * p.OFTSteps
	}
	return 0
}
