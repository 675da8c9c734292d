package worker

import (
	"errors"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/trainer"
)

// classify gives the failures of trainer, networks and rewards their class; all others have theirs already.
func classify(op string, err error) error {
	var (
		step   *trainer.NonFiniteError
		sample *flux.NonFiniteError
		rated  *trainer.RewardError
		score  *reward.NonFiniteError
		full   *engine.OutOfMemory
	)
	switch {
	case errors.As(err, &step):
		return &run.Error{Class: run.ClassNonFinite, Op: op, Cause: err, Hint: "lower the learning rate"}
	case errors.As(err, &sample):
		return &run.Error{Class: run.ClassNonFinite, Op: op, Cause: err, Hint: "go back to an earlier checkpoint, or lower the learning rate"}
	case errors.As(err, &full):
		return &run.Error{Class: run.ClassOOM, Op: op, Cause: err, Hint: "lower model.batch_tokens or sft.batch (with more sft.accumulate), or set worker.memory to full"}
	case errors.As(err, &rated), errors.As(err, &score):
		return &run.Error{Class: run.ClassModel, Op: op, Cause: err, Hint: "check the scorer that reward.sciscore names"}
	}
	return err
}
