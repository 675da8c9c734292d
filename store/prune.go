package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sciflux/sciflux/run"
)

// Retention says which checkpoints of a stage stay. Beside those it names, ends of stages always stay.
type Retention struct {
	Last int // the newest so many; less than 1 means 1
	Keep []run.CheckpointRef
	// Orphans is the age from which parts without manifest are removed: those of attempts that died. Parts
	// that an attempt writes at this moment have no manifest either, so it has to be longer than any attempt.
	// 0 leaves them all.
	Orphans time.Duration
}

// Prune removes the checkpoints of a stage that retention does not keep and returns them. It removes nothing
// unless the newest checkpoint verifies, and passes over manifests that it cannot read. A manifest goes
// before its parts, so nobody sees a checkpoint that is half there.
func (c Checkpoints) Prune(ctx context.Context, stage run.Stage, retention Retention) ([]run.CheckpointRef, error) {
	entries, err := c.List(ctx, stage)
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	newest := entries[len(entries)-1]
	if newest.Err == nil {
		newest.Err = c.Verify(ctx, newest.Checkpoint)
	}
	if newest.Err != nil {
		return nil, fmt.Errorf("prune checkpoints of %s: the newest one is not whole, so all stay: %w", stage, newest.Err)
	}
	keep := kept(entries, retention)
	var removed []run.CheckpointRef
	for _, e := range entries {
		if e.Err != nil || keep[e.Checkpoint.Manifest.Key] {
			continue
		}
		if err := c.remove(ctx, e, entries); err != nil {
			return removed, err
		}
		removed = append(removed, e.Checkpoint)
	}
	if retention.Orphans > 0 {
		return removed, c.removeOrphans(ctx, stage, retention.Orphans)
	}
	return removed, nil
}

// kept returns the keys of the manifests that stay.
func kept(entries []Entry, retention Retention) map[string]bool {
	keep := map[string]bool{}
	for _, ref := range retention.Keep {
		keep[ref.Manifest.Key] = true
	}
	last := max(retention.Last, 1)
	for i := len(entries) - 1; i >= 0; i-- {
		e := entries[i]
		if e.Err == nil && last > 0 {
			keep[e.Checkpoint.Manifest.Key] = true
			last--
		}
		if e.Manifest.StageEnd {
			keep[e.Checkpoint.Manifest.Key] = true
		}
	}
	return keep
}

func (c Checkpoints) remove(ctx context.Context, e Entry, all []Entry) error {
	if err := c.Objects.Delete(ctx, e.Checkpoint.Manifest.Key); err != nil {
		return err
	}
	for _, p := range e.Manifest.Parts {
		if sharedPart(p, e, all) {
			continue
		}
		if err := c.Objects.Delete(ctx, p.Object.Key); err != nil {
			return err
		}
	}
	return nil
}

// sharedPart tells whether another manifest points at a part too.
func sharedPart(p PartInfo, of Entry, all []Entry) bool {
	for _, e := range all {
		if e.Checkpoint.Manifest.Key == of.Checkpoint.Manifest.Key {
			continue
		}
		for _, other := range e.Manifest.Parts {
			if other.Object.Key == p.Object.Key {
				return true
			}
		}
	}
	return false
}

// removeOrphans removes parts older than age that no manifest points at. While a manifest cannot be read,
// nothing is an orphan.
func (c Checkpoints) removeOrphans(ctx context.Context, stage run.Stage, age time.Duration) error {
	prefix := c.prefix(stage) + "parts/"
	parts, err := c.Objects.List(ctx, prefix) // before the manifests, so that a commit in between is seen
	if err != nil {
		return err
	}
	entries, err := c.List(ctx, stage)
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, e := range entries {
		if e.Err != nil {
			return nil
		}
		for _, p := range e.Manifest.Parts {
			attempt, _, _ := strings.Cut(strings.TrimPrefix(p.Object.Key, prefix), "/")
			used[attempt] = true
		}
	}
	before := c.now().Add(-age)
	for _, part := range parts {
		attempt, _, _ := strings.Cut(strings.TrimPrefix(part.Key, prefix), "/")
		if used[attempt] || part.Modified.IsZero() || part.Modified.After(before) {
			continue
		}
		if err := c.Objects.Delete(ctx, part.Key); err != nil {
			return err
		}
	}
	return nil
}
