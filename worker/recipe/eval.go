package recipe

import (
	"github.com/sciflux/sciflux/eval"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/trainer"
)

// EvalSetting surrounds the network in evaluations.
func (r Recipe) EvalSetting() trainer.Setting { return r.setting(r.Config.Eval.Guidance) }

// EvalPlan is the plan of an evaluation's rollouts.
func (r Recipe) EvalPlan() trainer.Plan {
	return r.plan(flow.Form(r.Config.OFT.Forms.Step), r.Config.Eval.Steps, r.Config.Eval.SChurn)
}

// EvalNoise keys the noises of one picture: they depend on the evaluation's own seed, the kind of prompt, the tuple and
// the picture's number alone, so every variant and every run draws from the same ones.
func (r Recipe) EvalNoise(kind eval.Kind, tuple, picture int) Noises {
	return Noises{random.New(r.Config.Eval.Seed).Purpose("eval "+string(kind)).Index(uint64(tuple), uint64(picture))}
}

// Noises are the random numbers of one picture's rollout.
type Noises struct{ key random.Key }

// Start keys the noise that the rollout starts from.
func (n Noises) Start() random.Key { return n.key.Purpose("start") }

// Step keys the noise that a step adds.
func (n Noises) Step(step int) random.Key { return n.key.Purpose("noise").Index(uint64(step)) }

// Pictures is the number of pictures of a kind of prompt: implicit prompts, whose gain is the question, get all.
func (r Recipe) Pictures(kind eval.Kind) int {
	n := r.Config.Eval.Pictures
	switch kind {
	case eval.Explicit:
		return max(1, n/2)
	case eval.Superficial:
		return max(1, n/4)
	}
	return n
}

// Bootstrap says how the intervals of an evaluation are made.
func (r Recipe) Bootstrap() eval.Bootstrap {
	return eval.Bootstrap{Resamples: r.Config.Eval.Bootstrap, Seed: r.Config.Eval.Seed}
}
