package training

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/worker/checkpoint"
	"github.com/sciflux/sciflux/worker/opened"
)

// chunk is the work on one chunk.
type chunk struct {
	run      *opened.Run
	monitor  activities.Monitor
	manifest store.Manifest // of the checkpoint at its end
	events   []run.Event    // metrics of the steps so far
	*checkpoint.Training
}

// finished returns the result of a chunk whose last checkpoint exists and is whole.
func finished(ctx context.Context, r *opened.Run, stage run.Stage, step int) (activities.ChunkResult, bool, error) {
	ref, _, err := r.Checkpoints().Find(ctx, stage, step)
	if err == nil {
		err = r.Checkpoints().Verify(ctx, ref)
	}
	switch {
	case errors.Is(err, store.ErrNotExist), errors.Is(err, store.ErrCorrupt):
		return activities.ChunkResult{}, false, nil
	case err != nil:
		return activities.ChunkResult{}, false, err
	}
	result, err := resultOf(ctx, r, ref)
	return result, err == nil, err
}

// newest is the newest whole checkpoint up to a step: from itself, what a stopped attempt left behind it, or, when from is
// damaged, one before it, the zero one if there is none.
func newest(ctx context.Context, r *opened.Run, stage run.Stage, from run.CheckpointRef, to int) (run.CheckpointRef, error) {
	c := r.Checkpoints()
	inside, err := c.LatestUpTo(ctx, stage, to)
	switch {
	case err != nil && !errors.Is(err, store.ErrNotExist):
		return from, err
	case from.Stage != stage && err != nil:
		return from, nil
	case from.Stage != stage || inside.Step >= from.Step:
		return inside, nil
	}
	err = c.Verify(ctx, from) // the list may be late
	if errors.Is(err, store.ErrNotExist) || errors.Is(err, store.ErrCorrupt) {
		return inside, nil
	}
	return from, err
}

// behind says whether a chunk has to go on from before what it was to begin with, which is damaged.
func behind(at, from run.CheckpointRef, stage run.Stage) bool {
	return from.Stage == stage && at.Step < from.Step
}

// leaving says whether the work has to stop here.
func (c *chunk) leaving() bool {
	select {
	case <-c.monitor.Stopping():
		return true
	default:
		return false
	}
}

// leave commits what was finished and says so.
func (c *chunk) leave(ctx context.Context) (activities.ChunkResult, error) {
	if c.Tally.Steps > 0 {
		if _, err := c.Save(context.WithoutCancel(ctx), c.run, c.manifest, checkpoint.Result{Summary: c.Tally.Summary()}); err != nil {
			return activities.ChunkResult{}, err
		}
	}
	return activities.ChunkResult{}, run.ErrPreempted
}

// end stores the chunk's metrics and commits its last checkpoint. The result is that of whoever came first.
func (c *chunk) end(ctx context.Context, result checkpoint.Result) (activities.ChunkResult, error) {
	result.Summary = c.Tally.Summary()
	c.Tally = checkpoint.Tally{}
	if err := c.putEvents(ctx); err != nil {
		return activities.ChunkResult{}, err
	}
	start := time.Now()
	ref, err := c.Save(ctx, c.run, c.manifest, result)
	if err != nil {
		return activities.ChunkResult{}, err
	}
	out, err := resultOf(ctx, c.run, ref)
	out.SaveSeconds = time.Since(start).Seconds()
	return out, err
}

// putEvents stores the metrics under the step that the chunk ends at.
func (c *chunk) putEvents(ctx context.Context) error {
	var b bytes.Buffer
	if err := run.WriteEvents(&b, c.events); err != nil {
		return err
	}
	key := fmt.Sprintf("%s%s-%06d.jsonl", run.Keys(c.run.Job.Run).Metrics(), c.manifest.Stage, c.Step)
	_, err := c.run.Objects.Put(ctx, key, &b)
	return err
}

// resultOf is what a checkpoint's manifest says about its chunk.
func resultOf(ctx context.Context, r *opened.Run, ref run.CheckpointRef) (activities.ChunkResult, error) {
	_, m, err := r.Checkpoints().Find(ctx, ref.Stage, ref.Step)
	if err != nil {
		return activities.ChunkResult{}, err
	}
	result, err := checkpoint.ReadResult(m)
	return activities.ChunkResult{Checkpoint: ref, Summary: result.Summary}, err
}
