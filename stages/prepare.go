package stages

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/store/safetensors"
)

// Prepare implements activities.Preparer: it opens everything the config names, so that whatever is wrong with it is
// said before a step is taken.
func (s *Studio) Prepare(ctx context.Context, spec run.Spec, m activities.Monitor) (activities.PrepareResult, error) {
	var out activities.PrepareResult
	cfg, err := configs.Parse(spec.Config)
	if err != nil {
		return out, run.Errorf(run.ClassConfig, "read config of run", spec.Name, "", "%w", err)
	}
	if err := s.putConfig(ctx, spec); err != nil {
		return out, err
	}
	if err := checkPaths(cfg); err != nil {
		return out, err
	}
	m.Report(run.Progress{Stage: run.StagePrepare, Note: "opening model and data", At: time.Now()})
	d, err := s.desk(ctx, spec.Job())
	if err != nil {
		return out, err
	}
	if _, err := d.initialAdapter(); err != nil {
		return out, err
	}
	out.Plan, out.Tuples = run.NewPlan(cfg), map[string]int{cfg.Data.TrainSplit: len(d.rows)}
	for _, split := range cfg.Eval.Splits {
		rows, err := d.testRows(ctx, split)
		if err != nil {
			return out, err
		}
		out.Tuples[split] = len(rows)
	}
	return out, d.checkPictures(ctx, m)
}

// checkPaths looks whether what the config names is there, before anything is loaded or drawn: a wrong path at the end of
// a config is told as soon as one at its beginning.
func checkPaths(c configs.Config) error {
	detector := ""
	if c.OFT.Epochs > 0 && c.OFT.Mask.Policy == reward.MaskDetector {
		detector = c.OFT.Mask.Detector
	}
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
		{"reward.sciscore", c.Reward.SciScore, run.ClassModel, []string{"config.json", "preprocessor_config.json", "*.safetensors"}, "name a CLIP model folder in the Hugging Face layout"},
	} {
		if p.path == "" || p.path == "world" {
			continue
		}
		if err := readable(p.path, p.holds); err != nil {
			return run.Errorf(p.class, "open", p.key+" "+p.path, p.hint, "%w", err)
		}
	}
	return nil
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

// checked is how many pictures are decoded between two reports.
const checked = 64

// checkPictures decodes the pictures that SFT will read, so that a broken one is told before training and not in the
// middle of it. The world's own were drawn by this program.
func (d *desk) checkPictures(ctx context.Context, m activities.Monitor) error {
	if d.cfg.Data.Source == "world" || d.cfg.SFT.Steps == 0 {
		return nil
	}
	var all []pictureKey
	for i, r := range d.rows {
		for k := range r.Pictures() {
			all = append(all, pictureKey{i, k})
		}
	}
	for from := 0; from < len(all); from += checked {
		part := all[from:min(len(all), from+checked)]
		if err := d.checkPart(part); err != nil {
			return err
		}
		m.Report(run.Progress{Stage: run.StagePrepare, Step: from + len(part), StepsTotal: len(all), Note: "checking pictures", At: time.Now()})
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.Stopping():
			return run.ErrPreempted
		default:
		}
	}
	return nil
}

// checkPart decodes some pictures at once and returns the error of the first broken one.
func (d *desk) checkPart(part []pictureKey) error {
	errs := make([]error, len(part))
	var wg sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), len(part))
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(part); i += workers {
				_, errs[i] = d.rows[part[i].row].right[part[i].picture].Decode(context.Background())
			}
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			r := d.rows[part[i].row]
			return run.Errorf(run.ClassData, "read data set", d.cfg.Data.Source, "write the picture again or remove the row; `sciflux data inspect` lists all such rows",
				"row %d of %s: explicit picture %d: %w", r.Index, d.cfg.Data.TrainSplit, part[i].picture, err)
		}
	}
	return nil
}

// putConfig stores the resolved config, or finds that the run's name stands for another one. A config that nothing has come
// of yet, such as one that Prepare refused, gives way.
func (s *Studio) putConfig(ctx context.Context, spec run.Spec) error {
	key := spec.Job().ConfigKey
	_, err := s.options.Objects.PutIfAbsent(ctx, key, strings.NewReader(spec.Config))
	if !errors.Is(err, store.ErrPrecondition) {
		return err
	}
	text, there, err := store.ReadAll(ctx, s.options.Objects, key)
	if err != nil {
		return err
	}
	if old, err := configs.Parse(string(text)); err == nil && old.Hash() == spec.ConfigHash {
		return nil
	}
	begun, err := store.Begun(ctx, s.options.Objects, spec.Name)
	if err != nil {
		return err
	}
	if begun {
		return run.Errorf(run.ClassConfig, "start run", spec.Name, "give this one another name with --name", "the store holds a run of that name with another config")
	}
	_, err = s.options.Objects.PutIfMatch(ctx, key, strings.NewReader(spec.Config), there.ETag)
	return err
}

// Recover implements activities.Preparer.
func (s *Studio) Recover(ctx context.Context, job run.Job) (activities.Position, error) {
	var p activities.Position
	c := store.Checkpoints{Objects: s.options.Objects, Run: job.Run, Log: s.options.Log}
	for stage, into := range map[run.Stage]*run.CheckpointRef{run.StageSFT: &p.SFT, run.StageOFT: &p.OFT, run.StageCompare: &p.Compare} {
		ref, err := c.Latest(ctx, stage)
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			return p, err
		}
		if err == nil {
			*into = ref
		}
	}
	if !p.OFT.IsZero() {
		_, m, err := c.Find(ctx, run.StageOFT, p.OFT.Step)
		if err != nil {
			return p, err
		}
		var r result
		if err := json.Unmarshal(m.Result, &r); err != nil {
			return p, run.Errorf(run.ClassStorage, "read result of", p.OFT.Manifest.Key, "", "%w", err)
		}
		p.Guard, p.OFTScores, p.OFTSummary = r.Guard, r.Pairs, r.Summary
	}
	text, _, err := store.ReadAll(ctx, s.options.Objects, run.Keys(job.Run).Summary())
	if errors.Is(err, store.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &p.State)
	}
	return p, err
}

// orphanAge is longer than any attempt: parts of that age without a manifest belong to nobody.
const orphanAge = 24 * time.Hour

// Prune implements activities.Keeper.
func (s *Studio) Prune(ctx context.Context, p activities.PruneJob) error {
	c := store.Checkpoints{Objects: s.options.Objects, Run: p.Job.Run, Log: s.options.Log}
	entries, err := c.List(ctx, p.Stage)
	if err != nil {
		return err
	}
	keep := store.Retention{Last: p.KeepLast, Orphans: orphanAge}
	for _, e := range entries {
		if slices.Contains(p.Protect, e.Checkpoint.Manifest.Key) {
			keep.Keep = append(keep.Keep, e.Checkpoint)
		}
	}
	if _, err := c.Prune(ctx, p.Stage, keep); err != nil {
		return err
	}
	return s.prunePairs(ctx, p)
}

// prunePairs removes the trajectories of epochs that are trained. Scores are small and stay for the report.
func (s *Studio) prunePairs(ctx context.Context, p activities.PruneJob) error {
	for epoch := p.Epoch - 1; epoch >= 0; epoch-- {
		prefix := strings.TrimSuffix(run.Keys(p.Job.Run).Pairs(epoch, 0, ""), "-000")
		objects, err := s.options.Objects.List(ctx, prefix)
		if err != nil {
			return err
		}
		removed := 0
		for _, o := range objects {
			if strings.Contains(o.Key, "/rollouts-") {
				if err := s.options.Objects.Delete(ctx, o.Key); err != nil {
					return err
				}
				removed++
			}
		}
		if removed == 0 {
			return nil // earlier ones went before
		}
	}
	return nil
}

// Record implements activities.Keeper.
func (s *Studio) Record(ctx context.Context, job run.Job, state run.State) error {
	text, err := json.MarshalIndent(state, "", " ")
	if err != nil {
		return err
	}
	_, err = s.options.Objects.Put(ctx, run.Keys(job.Run).Summary(), bytes.NewReader(text))
	return err
}
