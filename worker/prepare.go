package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/store/safetensors"
	"github.com/sciflux/sciflux/worker/checkpoint"
	"github.com/sciflux/sciflux/worker/opened"
)

// Prepare implements activities.Preparer: it opens everything the config names, so that whatever is wrong with it is
// said before a step is taken.
func (w *Worker) Prepare(ctx context.Context, spec run.Spec, m activities.Monitor) (activities.PrepareResult, error) {
	var out activities.PrepareResult
	cfg, err := configs.Parse(spec.Config)
	if err != nil {
		return out, run.Errorf(run.ClassConfig, "read config of run", spec.Name, "", "%w", err)
	}
	if err := w.putConfig(ctx, spec); err != nil {
		return out, err
	}
	if err := checkPaths(cfg); err != nil {
		return out, err
	}
	return do(ctx, w, "prepare", spec.Job(), m, func(r *opened.Run) (activities.PrepareResult, error) { return ready(ctx, r, m) })
}

// ready looks through everything that the run will use.
func ready(ctx context.Context, r *opened.Run, m activities.Monitor) (activities.PrepareResult, error) {
	cfg := r.Recipe.Config
	out := activities.PrepareResult{Plan: run.NewPlan(cfg), Tuples: map[string]int{cfg.Data.TrainSplit: len(r.Data.Rows)}}
	if err := sameInputs(ctx, r); err != nil {
		return out, err
	}
	initial, err := checkpoint.Initial(r)
	if err != nil {
		return out, err
	}
	for _, split := range cfg.Eval.Splits {
		rows, err := r.Data.Test(ctx, split)
		if err != nil {
			return out, err
		}
		out.Tuples[split] = len(rows)
	}
	if err := r.Data.CheckPictures(ctx, progress(m, "checking pictures")); err != nil {
		return out, err
	}
	told, err := encodeTexts(ctx, r, m)
	if err != nil {
		return out, err
	}
	for _, note := range slices.Concat(notes(cfg.Model.Adapter, initial.Notes), told, stageNotes(r)) {
		r.Log.Info(note, "run", r.Job.Run)
		m.Report(run.Progress{Stage: run.StagePrepare, Note: note, At: time.Now()})
	}
	return out, nil
}

// progress reports how much of a long look is done, and ends it when the worker has to leave.
func progress(m activities.Monitor, note string) func(done, total int) error {
	return func(done, total int) error {
		m.Report(run.Progress{Stage: run.StagePrepare, Step: done, StepsTotal: total, Note: note, At: time.Now()})
		select {
		case <-m.Stopping():
			return run.ErrPreempted
		default:
			return nil
		}
	}
}

// encodeTexts opens the text encoders, has them encode every prompt of the run where the results can be kept, and gives
// them up. It returns what a person should know of the models' files, and of prompts that are longer than what the encoders
// are given.
func encodeTexts(ctx context.Context, r *opened.Run, m activities.Monitor) ([]string, error) {
	p, tokens := r.Models.Pipeline, r.Recipe.TextTokens()
	if err := p.Check(); err != nil {
		return nil, err
	}
	texts, err := r.Recipe.Texts(r.Data.Rows, r.Data.Prompts)
	if err != nil {
		return nil, err
	}
	held, err := r.Data.TestTexts(ctx)
	if err != nil {
		return nil, err
	}
	texts = append(texts, held...)
	cut, err := p.Truncated(texts, tokens)
	if err != nil {
		return nil, err
	}
	told := notes(r.Recipe.Config.Model.Pipeline, p.Notes()) // before the encoders leave with theirs
	if cut.Any() {
		told = append(told, cut.String())
	}
	if !r.Recipe.Config.Data.CacheText {
		return told, nil
	}
	need := 4 * float64(len(texts)) * float64(tokens*p.Transformer.TextWidth+p.Transformer.PooledWidth)
	if most := 1e9 * r.Recipe.Config.Worker.CacheGB; need > most {
		return append(told, fmt.Sprintf("the encoded prompts need up to %.0f GB and worker.cache_gb allows %.0f: the text encoders stay in memory", need/1e9, most/1e9)), nil
	}
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	tell := progress(m, "encoding prompts")
	err = p.PrepareText(ctx, texts, tokens, func(done, total int) {
		if done == 1 && total > 1 {
			return // most of its time went into loading the encoders: no rate to tell
		}
		if err := tell(done, total); err != nil {
			leave(err)
		}
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return told, err
}

// notes puts what a sentence is about before it.
func notes(about string, sentences []string) (out []string) {
	for _, s := range sentences {
		out = append(out, about+": "+s)
	}
	return out
}

// stageNotes are warnings about stage 2 that need more than the config to be known, or are no faults.
func stageNotes(r *opened.Run) (notes []string) {
	o, p := r.Recipe.Config.OFT, r.Models.Pipeline
	if o.Epochs == 0 || !o.Forward() {
		return nil
	}
	if s := p.Scheduler; !p.Transformer.GuidanceEmbed && !s.UseDynamicShifting && s.Shift == 1 {
		notes = append(notes, fmt.Sprintf("the base looks distilled to few steps, as FLUX.1 schnell is: oft.method %s blurs the pictures of such models; "+
			"watch the evaluation during training, or use a base that is not", o.Method))
	}
	a := o.Advantage
	if scored := o.Method != "dpo_flow"; scored && o.ImagesPerPrompt == 2 && a.Kind == "zscore" && a.Scope == "group" && o.MinGap == 0 {
		notes = append(notes, "z-scores of a group of 2 are ±1 however near its scores are: raise oft.images_per_prompt, or set oft.min_gap, "+
			"oft.advantage.kind to centred or oft.advantage.scope to round")
	}
	return notes
}

// sameInputs compares what the run's newest checkpoints came from with what is there now, so that a resume with other data
// or weights stops before anything is computed.
func sameInputs(ctx context.Context, r *opened.Run) error {
	for _, stage := range []run.Stage{run.StageSFT, run.StageOFT, run.StageCompare} {
		ref, err := r.Checkpoints().Latest(ctx, stage)
		if errors.Is(err, store.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		_, m, err := r.Checkpoints().Find(ctx, stage, ref.Step)
		if err != nil {
			return err
		}
		if err := checkpoint.SameInputs(r, m); err != nil {
			return err
		}
	}
	return nil
}

// checkPaths looks whether what the config names is there, before anything is loaded or drawn, and tells everything that is
// missing at once. The class is that of the first.
func checkPaths(c configs.Config) error {
	detector := ""
	if c.OFT.Epochs > 0 && c.OFT.Mask.Policy == reward.MaskDetector {
		detector = c.OFT.Mask.Detector
	}
	var missing []error
	for _, p := range []struct {
		key, path string
		class     run.Class
		holds     []string // patterns of files that the folder must have
		hint      string
	}{
		{"model.pipeline", c.Model.Pipeline, run.ClassModel, []string{"model_index.json"}, "name a pipeline folder in the Hugging Face layout"},
		{"model.adapter", c.Model.Adapter, run.ClassModel, nil, "name a LoRA file or folder, or leave it empty for a fresh adapter"},
		{"data.source", c.Data.Source, run.ClassData, nil, "name a folder of Science-T2I parquet files"},
		{"data.prompts", c.Data.Prompts, run.ClassData, nil, `name a JSON list of {"prompt", "object"}, or leave it empty`},
		{"oft.mask.detector", detector, run.ClassModel, nil, "name a detector folder, or set oft.mask.policy to full or none"},
		{"reward.sciscore", c.Reward.SciScore, run.ClassModel, []string{"config.json", "*processor_config.json", "*.safetensors"},
			"name a CLIP model folder in the Hugging Face layout, with preprocessor_config.json or processor_config.json"},
	} {
		if p.path == "" || p.path == "world" {
			continue
		}
		if err := readable(p.path, p.holds); err != nil {
			missing = append(missing, run.Errorf(p.class, "open", p.key+" "+p.path, p.hint, "%w", err))
		}
	}
	return errors.Join(missing...)
}

// readable reports why a file or folder cannot be read, which of the files it must hold is missing, or which of its
// weights are cut off.
func readable(path string, holds []string) error {
	f, err := os.Open(path)
	if err != nil {
		var cause *fs.PathError
		if errors.As(err, &cause) { // the path is named already
			return cause.Err
		}
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	for _, pattern := range holds {
		found, err := fs.Glob(os.DirFS(path), pattern)
		if err != nil || len(found) == 0 {
			return fmt.Errorf("there is no %s in it", pattern)
		}
		for _, name := range found {
			if filepath.Ext(name) != ".safetensors" {
				continue
			}
			weights, err := safetensors.Open(filepath.Join(path, name)) // reads the header alone
			if err != nil {
				return err
			}
			weights.Close()
		}
	}
	return nil
}

// putConfig stores the resolved config, or finds that the run's name stands for another one. A config that nothing has come
// of yet, such as one that Prepare refused, gives way.
func (w *Worker) putConfig(ctx context.Context, spec run.Spec) error {
	key := spec.Job().ConfigKey
	_, err := w.options.Objects.PutIfAbsent(ctx, key, strings.NewReader(spec.Config))
	if !errors.Is(err, store.ErrPrecondition) {
		return err
	}
	text, there, err := store.ReadAll(ctx, w.options.Objects, key)
	if err != nil {
		return err
	}
	if string(text) == spec.Config {
		return nil
	}
	if old, err := configs.Parse(string(text)); err == nil && old.Hash() == spec.ConfigHash {
		// The same results by other means: a resume may change what only costs time, room or a place.
		_, err = w.options.Objects.PutIfMatch(ctx, key, strings.NewReader(spec.Config), there.ETag)
		return err
	}
	begun, err := store.Begun(ctx, w.options.Objects, spec.Name)
	if err != nil {
		return err
	}
	if begun {
		return run.Errorf(run.ClassConfig, "start run", spec.Name, "give this one another name with --name", "the store holds a run of that name with another config")
	}
	_, err = w.options.Objects.PutIfMatch(ctx, key, strings.NewReader(spec.Config), there.ETag)
	return err
}
