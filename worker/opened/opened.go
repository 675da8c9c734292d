// Package opened is one run's config with everything it names opened: the value that goes down once from package
// worker to whichever package does an activity's work. It has fields and next to no behaviour.
package opened

import (
	"log/slog"

	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/worker/data"
	"github.com/sciflux/sciflux/worker/latents"
	"github.com/sciflux/sciflux/worker/models"
	"github.com/sciflux/sciflux/worker/recipe"
)

// Run is an opened run. What it holds can be computed again from the store and the config: kill it at any moment, and
// another one continues to the same bits.
type Run struct {
	Job         run.Job
	Recipe      recipe.Recipe
	Models      *models.Set
	Data        *data.Set
	Latents     *latents.Encoder
	Objects     store.Objects
	CodeVersion string // of this program
	Machine     string // what computes: kernels and the type of products
	// Inputs are the identities of what the config names, by key: base model, data set, scorer, initial adapter.
	Inputs map[string]string
	Log    *slog.Logger
}

// Checkpoints are the run's.
func (r *Run) Checkpoints() store.Checkpoints {
	return store.Checkpoints{Objects: r.Objects, Run: r.Job.Run, Log: r.Log}
}
