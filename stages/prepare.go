package stages

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
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
	return out, nil
}

// putConfig stores the resolved config, or finds that the run's name stands for another one.
func (s *Studio) putConfig(ctx context.Context, spec run.Spec) error {
	key := spec.Job().ConfigKey
	_, err := s.options.Objects.PutIfAbsent(ctx, key, strings.NewReader(spec.Config))
	if !errors.Is(err, store.ErrPrecondition) {
		return err
	}
	text, _, err := store.ReadAll(ctx, s.options.Objects, key)
	if err != nil {
		return err
	}
	old, err := configs.Parse(string(text))
	if err != nil || old.Hash() != spec.ConfigHash {
		return run.Errorf(run.ClassConfig, "start run", spec.Name, "give this one another name with --name", "the store holds a run of that name with another config")
	}
	return nil
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
