package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/worker/checkpoint"
)

// Recover implements activities.Preparer.
func (w *Worker) Recover(ctx context.Context, job run.Job) (activities.Position, error) {
	var p activities.Position
	c := store.Checkpoints{Objects: w.options.Objects, Run: job.Run, Log: w.options.Log}
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
		r, err := checkpoint.ReadResult(m)
		if err != nil {
			return p, err
		}
		p.Guard, p.OFTScores, p.OFTSummary = r.Guard, r.Pairs, r.Summary
	}
	text, _, err := store.ReadAll(ctx, w.options.Objects, run.Keys(job.Run).Summary())
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
func (w *Worker) Prune(ctx context.Context, p activities.PruneJob) error {
	c := store.Checkpoints{Objects: w.options.Objects, Run: p.Job.Run, Log: w.options.Log}
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
	return w.prunePairs(ctx, p)
}

// prunePairs removes the trajectories of epochs that are trained. Scores are small and stay for the report.
func (w *Worker) prunePairs(ctx context.Context, p activities.PruneJob) error {
	for epoch := p.Epoch - 1; epoch >= 0; epoch-- {
		prefix := strings.TrimSuffix(run.Keys(p.Job.Run).Pairs(epoch, 0, ""), "-000")
		objects, err := w.options.Objects.List(ctx, prefix)
		if err != nil {
			return err
		}
		removed := 0
		for _, o := range objects {
			if strings.Contains(o.Key, "/rollouts-") {
				if err := w.options.Objects.Delete(ctx, o.Key); err != nil {
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
func (w *Worker) Record(ctx context.Context, job run.Job, state run.State) error {
	text, err := json.MarshalIndent(state, "", " ")
	if err != nil {
		return err
	}
	_, err = w.options.Objects.Put(ctx, run.Keys(job.Run).Summary(), bytes.NewReader(text))
	return err
}
