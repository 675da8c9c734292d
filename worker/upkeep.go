package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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

// Prune implements activities.Keeper. What cannot be removed stays, and the run goes on: it is told and tried again next
// time.
func (w *Worker) Prune(ctx context.Context, p activities.PruneJob) error {
	err := errors.Join(w.pruneCheckpoints(ctx, p), w.prunePairs(ctx, p), w.abortStale(ctx, p.Job))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		w.options.Log.Warn("housekeeping", "stage", p.Stage, "error", err)
		if w.options.Tell != nil {
			w.options.Tell(fmt.Sprintf("warning: old objects of %s stay: %v", p.Job.Run, err))
		}
	}
	return nil
}

func (w *Worker) pruneCheckpoints(ctx context.Context, p activities.PruneJob) error {
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
	_, err = c.Prune(ctx, p.Stage, keep)
	return err
}

// prunePairs removes the trajectories of epochs that are trained. Scores are small and stay for the report.
func (w *Worker) prunePairs(ctx context.Context, p activities.PruneJob) error {
	if p.Epoch == 0 {
		return nil
	}
	keys := run.Keys(p.Job.Run)
	objects, err := w.options.Objects.List(ctx, keys.AllPairs())
	if err != nil {
		return err
	}
	for _, o := range objects {
		if epoch, ok := keys.EpochOf(o.Key, "rollouts"); ok && epoch < p.Epoch {
			if err := w.options.Objects.Delete(ctx, o.Key); err != nil {
				return err
			}
		}
	}
	return nil
}

// abortStale gives up what died in the middle of an upload of the run, in stores that keep such things.
func (w *Worker) abortStale(ctx context.Context, job run.Job) error {
	uploads, ok := w.options.Objects.(interface {
		AbortStale(ctx context.Context, prefix string, before time.Time) (int, error)
	})
	if !ok {
		return nil
	}
	_, err := uploads.AbortStale(ctx, run.Keys(job.Run).All(), time.Now().Add(-orphanAge))
	return err
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
