// Package recipe turns a run's config into the values that training, sampling and measuring are handed: which picture and
// caption a sample takes, its noises and noise level, the optimiser's constants, the plan of a rollout, the loss, the
// pairs. Everything is a pure function of the config, the run's seed and a few facts about the model: nothing is opened,
// computed by a network or kept, so that a table of values can hold every line of it.
package recipe

import (
	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/trainer"
)

// Facts are what a recipe must know of the model.
type Facts struct {
	Scheduler  flow.SchedulerConfig
	Grid       flow.Grid // of packed tokens at the config's resolution
	Channels   int       // values of one packed token, 4Z
	TextLength int       // tokens that the T5 tokenizer pads to by its own config
}

// Recipe is one run's config beside the facts of its model.
type Recipe struct {
	Config configs.Config
	Seed   uint64
	Facts
}

// TextTokens is T, the length that prompts are encoded to.
func (r Recipe) TextTokens() int {
	if n := r.Config.Model.TextTokens; n > 0 {
		return n
	}
	return r.TextLength
}

// LatentSize is the number of values of one picture's packed latents, N·4Z.
func (r Recipe) LatentSize() int { return r.Grid.Tokens() * r.Channels }

// Batch is how many samples one network call takes at most: as many as model.batch_tokens allows, and at least one.
func (r Recipe) Batch() int {
	return r.setting(0).Samples(r.TextTokens())
}

// Forms are the places where the authors' arithmetic or the corrected one is taken.
func (r Recipe) Forms() flow.Forms {
	f := r.Config.OFT.Forms
	return flow.Forms{Step: flow.Form(f.Step), Corners: flow.Form(f.Corners), Mean: flow.Form(f.Mean), Pairs: flow.Form(f.Pairs)}
}

func (r Recipe) setting(guidance float64) trainer.Setting {
	return trainer.Setting{Grid: r.Grid, Guidance: guidance, BatchTokens: r.Config.Model.BatchTokens}
}

// plan is a rollout on the model's own schedule.
func (r Recipe) plan(form flow.Form, steps int, churn float64) trainer.Plan {
	sigmas := r.Scheduler.Sigmas(steps, r.Grid.Tokens())
	return trainer.Plan{Form: form, Sigmas: sigmas, Timesteps: r.Scheduler.Timesteps(sigmas), Churn: churn}
}

// key is the root of the random numbers of a purpose.
func (r Recipe) key(purpose string) random.Key { return random.New(r.Seed).Purpose(purpose) }
