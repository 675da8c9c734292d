// Package worker implements activities.Stages. Each activity opens its run here, once, and calls the package that does the
// work:
//
//	models      opens, keeps and closes models            data      rows, prompts and pictures
//	recipe      config → the trainer's values, pure        latents   pictures → latents, cached
//	training    the steps of a chunk, with checkpoint      sampling  rollouts, scores and masks of stage 2 (pairs)
//	measure     evaluation                                 publish   adapter, card, report
//
// A Worker holds nothing that a run depends on: kill it at any moment and another one, anywhere, continues from the store
// to the same bits.
package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/worker/cache"
	"github.com/sciflux/sciflux/worker/data"
	"github.com/sciflux/sciflux/worker/latents"
	"github.com/sciflux/sciflux/worker/measure"
	"github.com/sciflux/sciflux/worker/models"
	"github.com/sciflux/sciflux/worker/opened"
	"github.com/sciflux/sciflux/worker/publish"
	"github.com/sciflux/sciflux/worker/recipe"
	"github.com/sciflux/sciflux/worker/sampling"
	"github.com/sciflux/sciflux/worker/shelf"
	"github.com/sciflux/sciflux/worker/training"
)

// Options are what a Worker works with.
type Options struct {
	Objects     store.Objects
	Backend     engine.Backend
	Dir         string // folder for what can be made again: drawn data, unpacked models, encoded prompts and pictures
	Models      fs.FS  // the tiny models inside the binary: folders world and world-sciscore
	CacheBytes  int64  // bound of the encoded prompts and pictures in Dir
	ModelBytes  int64  // bound of models that stay open though no run uses them
	CodeVersion string
	Log         *slog.Logger
	Tell        func(string) // told what people should know and no run fails of; may be nil
}

// Worker implements activities.Stages.
type Worker struct {
	options Options
	models  *models.Keeper
	cache   *cache.Cache
	runs    shelf.Shelf[*opened.Run]
}

var _ activities.Stages = (*Worker)(nil)

const (
	// keptRuns is the number of runs that stay open though no activity of theirs is under way: the one worked on last.
	keptRuns = 1
	// cacheMemory bounds what of the encoded prompts and pictures is kept in memory.
	cacheMemory = 256 << 20
)

// New makes a worker. Nothing is opened before an activity asks.
func New(o Options) *Worker {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	w := &Worker{
		options: o, models: models.NewKeeper(o.Backend, o.Models, o.Dir, o.ModelBytes),
		cache: cache.New(cache.Options{Dir: filepath.Join(o.Dir, "encoded"), Disk: o.CacheBytes, Memory: cacheMemory}),
	}
	w.runs.Bound = keptRuns
	w.models.Texts = w.cache
	w.runs.Close = func(r *opened.Run) error { r.Models.Release(); return r.Data.Close() }
	return w
}

// Close releases what was opened; no activity may be under way.
func (w *Worker) Close() error { return errors.Join(w.runs.Clear(), w.models.Close()) }

// open lends the run of a job, opening what its config names where it is not open.
func (w *Worker) open(ctx context.Context, job run.Job, m activities.Monitor) (*opened.Run, func(), error) {
	cfg, err := w.config(ctx, job)
	if err != nil {
		return nil, nil, err
	}
	defer living(m)() // while another activity opens the same run
	return w.runs.Take(ctx, job.Run+" "+cfg.Resolved(), func() (*opened.Run, int64, error) {
		r, err := w.openRun(ctx, job, cfg, func(note string) {
			m.Report(run.Progress{Stage: run.StagePrepare, Note: note, At: time.Now()})
		})
		return r, 1, err
	})
}

// living gives signs of life every second until the returned function is called.
func living(m activities.Monitor) (stop func()) {
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				m.Alive()
			}
		}
	}()
	return func() { close(done) }
}

// config reads the job's config from the store.
func (w *Worker) config(ctx context.Context, job run.Job) (configs.Config, error) {
	text, _, err := store.ReadAll(ctx, w.options.Objects, job.ConfigKey)
	if err != nil {
		return configs.Config{}, err
	}
	cfg, err := configs.Parse(string(text))
	if err != nil {
		return cfg, run.Errorf(run.ClassConfig, "read config of run", job.Run, "", "%w", err)
	}
	if got := cfg.Hash(); got != job.ConfigHash {
		return cfg, run.Errorf(run.ClassConfig, "read config of run", job.Run, "start the run again under another name", "its hash is %.12s, the run's is %.12s", got, job.ConfigHash)
	}
	return cfg, nil
}

// openRun opens models and data.
func (w *Worker) openRun(ctx context.Context, job run.Job, cfg configs.Config, tell func(string)) (*opened.Run, error) {
	r := &opened.Run{Job: job, Objects: w.options.Objects, CodeVersion: w.options.CodeVersion, Log: w.options.Log}
	var err error
	if r.Models, err = w.models.Open(ctx, cfg, tell); err != nil {
		return nil, err
	}
	if err = w.openData(ctx, r, cfg, tell); err != nil {
		r.Models.Release()
		return nil, err
	}
	return r, nil
}

func (w *Worker) openData(ctx context.Context, r *opened.Run, cfg configs.Config, tell func(string)) error {
	p := r.Models.Pipeline
	r.Machine, r.Inputs = r.Models.Machine(), r.Models.Inputs
	grid, err := p.Grid(cfg.Data.Resolution, cfg.Data.Resolution)
	if err != nil {
		return run.Errorf(run.ClassConfig, "use", "data.resolution", "", "%w", err)
	}
	r.Recipe = recipe.Recipe{Config: cfg, Seed: r.Job.Seed, Facts: recipe.Facts{
		Scheduler: p.Scheduler, Grid: grid, Channels: p.Transformer.InChannels, TextLength: p.TextLength()}}
	tell("opening " + cfg.Data.Source)
	if r.Data, err = data.Open(ctx, cfg, w.options.Dir); err != nil {
		return err
	}
	if err := w.identify(ctx, r, tell); err != nil {
		return errors.Join(err, r.Data.Close())
	}
	r.Latents = &latents.Encoder{VAE: p.VAE, Data: r.Data, Name: w.options.CodeVersion + " " + r.Machine + " " + r.Inputs["model.pipeline"] + " " + cfg.Model.DType}
	if cfg.Data.CacheLatents {
		r.Latents.Cache = w.cache
	}
	return nil
}

// identify adds the identities of data and initial adapter to those of the models.
func (w *Worker) identify(ctx context.Context, r *opened.Run, tell func(string)) (err error) {
	told := 0
	r.Inputs = maps.Clone(r.Inputs)
	r.Inputs["data.source"], err = r.Data.Identity(ctx, filepath.Join(w.options.Dir, "identities"), func(done, total int) {
		if part := 10 * done / total; part != told {
			told = part
			tell(fmt.Sprintf("reading the data set: %d of %d rows", done, total))
		}
	})
	if err != nil {
		return err
	}
	if r.Recipe.Config.Data.Prompts != "" {
		r.Inputs["data.prompts"] = r.Data.PromptsIdentity()
	}
	if r.Inputs["eval.splits"], err = r.Data.TestIdentity(ctx); err != nil {
		return err
	}
	if path := r.Recipe.Config.Model.Adapter; path != "" {
		r.Inputs["model.adapter"], err = w.models.AdapterIdentity(ctx, path)
	}
	return err
}

// TrainSFT implements activities.Trainer.
func (w *Worker) TrainSFT(ctx context.Context, c activities.SFTChunk, m activities.Monitor) (activities.ChunkResult, error) {
	return do(ctx, w, "train SFT", c.Job, m, func(r *opened.Run) (activities.ChunkResult, error) { return training.SFT(ctx, r, c, m) })
}

// TrainDPO implements activities.Trainer.
func (w *Worker) TrainDPO(ctx context.Context, c activities.DPOChunk, m activities.Monitor) (activities.ChunkResult, error) {
	return do(ctx, w, "train DPO", c.Job, m, func(r *opened.Run) (activities.ChunkResult, error) { return training.OFT(ctx, r, c, m) })
}

// GeneratePairs implements activities.Sampler.
func (w *Worker) GeneratePairs(ctx context.Context, c activities.PairShard, m activities.Monitor) (run.ObjectRef, error) {
	return do(ctx, w, "generate pairs", c.Job, m, func(r *opened.Run) (run.ObjectRef, error) { return sampling.Generate(ctx, r, c, m) })
}

// ScorePairs implements activities.Sampler.
func (w *Worker) ScorePairs(ctx context.Context, c activities.ScoreShard, m activities.Monitor) (activities.ScoreResult, error) {
	return do(ctx, w, "score pairs", c.Job, m, func(r *opened.Run) (activities.ScoreResult, error) { return sampling.Score(ctx, r, c, m) })
}

// Evaluate implements activities.Evaluator.
func (w *Worker) Evaluate(ctx context.Context, c activities.EvalShard, m activities.Monitor) (activities.EvalPart, error) {
	return do(ctx, w, "evaluate", c.Job, m, func(r *opened.Run) (activities.EvalPart, error) { return measure.Evaluate(ctx, r, c, m) })
}

// Summarise implements activities.Evaluator.
func (w *Worker) Summarise(ctx context.Context, c activities.SummaryJob, m activities.Monitor) ([]run.EvalResult, error) {
	return do(ctx, w, "summarise", c.Job, m, func(r *opened.Run) ([]run.EvalResult, error) { return measure.Summarise(ctx, r, c) })
}

// Export implements activities.Publisher.
func (w *Worker) Export(ctx context.Context, c activities.ExportJob, m activities.Monitor) (activities.ExportResult, error) {
	return do(ctx, w, "export", c.Job, m, func(r *opened.Run) (activities.ExportResult, error) { return publish.Export(ctx, r, c, m) })
}

// Report implements activities.Publisher.
func (w *Worker) Report(ctx context.Context, c activities.ReportJob, m activities.Monitor) (run.ObjectRef, error) {
	return do(ctx, w, "write report", c.Job, m, func(r *opened.Run) (run.ObjectRef, error) { return publish.Report(ctx, r, c, m) })
}

// do opens a job's run, does an activity's work on it, and gives what fails there its class.
func do[T any](ctx context.Context, w *Worker, op string, job run.Job, m activities.Monitor, work func(*opened.Run) (T, error)) (out T, err error) {
	r, done, err := w.open(ctx, job, m)
	if err != nil {
		return out, err
	}
	defer done()
	out, err = guarded(r, work)
	return out, classify(op, err)
}

// guarded makes an error of a lack of memory, wherever the work met it.
func guarded[T any](r *opened.Run, work func(*opened.Run) (T, error)) (out T, err error) {
	defer engine.Guard(&err)
	return work(r)
}
