package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
)

// undeletable is a store whose objects cannot be removed, after some that can.
type undeletable struct {
	store.Objects
	deletable int
	aborted   []string
}

func (u *undeletable) Delete(ctx context.Context, key string) error {
	if u.deletable--; u.deletable < 0 {
		return store.Fail("delete", key, store.ErrDenied, errors.New("answer 403 AccessDenied"))
	}
	return u.Objects.Delete(ctx, key)
}

func (u *undeletable) AbortStale(_ context.Context, prefix string, _ time.Time) (int, error) {
	u.aborted = append(u.aborted, prefix)
	return 0, nil
}

// Whatever cannot be removed, and wherever removing breaks off, the run goes on, people are told, and the next time removes
// the rest.
func TestHousekeepingFailsNoRun(t *testing.T) {
	for deletable := range 12 {
		ctx, mem := t.Context(), &store.Mem{}
		objects := &undeletable{Objects: mem, deletable: deletable}
		var log bytes.Buffer
		var told []string
		w := New(Options{Objects: objects, Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(&log, nil)), Tell: func(s string) { told = append(told, s) }})
		c := store.Checkpoints{Objects: mem, Run: "r"}
		for step := range 4 {
			must[run.CheckpointRef](t)(c.Save(ctx, store.Manifest{Stage: run.StageOFT, Step: step, ConfigHash: "h"}, []store.Part{store.BytesPart(store.AdapterPart, []byte{byte(step)})}))
		}
		keys := run.Keys("r")
		for epoch := range 3 {
			for shard := range 2 {
				must[store.Object](t)(mem.Put(ctx, keys.Pairs(epoch, shard, "rollouts-of-2"), strings.NewReader("x")))
			}
		}
		job := activities.PruneJob{Job: run.Job{Run: "r"}, Stage: run.StageOFT, KeepLast: 2, Epoch: 2}
		if err := w.Prune(ctx, job); err != nil {
			t.Fatalf("%d can be removed: %v", deletable, err)
		}
		const removed = 2*2 + 2*2 // manifests and parts of two checkpoints, rollouts of two epochs
		if quiet := len(told) == 0; quiet != (deletable >= removed) || !quiet && (!strings.Contains(told[0], "403") || !strings.Contains(log.String(), "housekeeping")) {
			t.Errorf("%d can be removed: told %q, logged %s", deletable, told, &log)
		}
		if fmt.Sprint(objects.aborted) != "[runs/r/]" {
			t.Errorf("uploads of %q were aborted", objects.aborted)
		}
		objects.deletable = 1 << 30
		if err := w.Prune(ctx, job); err != nil {
			t.Fatal(err)
		}
		rollouts := must[[]store.Object](t)(mem.List(ctx, keys.AllPairs()))
		entries := must[[]store.Entry](t)(c.List(ctx, run.StageOFT))
		if len(rollouts) != 2 || len(entries) != 2 || entries[0].Checkpoint.Step != 2 {
			t.Errorf("%d could be removed at first: then %d rollouts, checkpoints %+v", deletable, len(rollouts), entries)
		}
	}
}

// A run that is cancelled is no trouble of housekeeping.
func TestHousekeepingEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := New(Options{Objects: &store.Mem{}, Dir: t.TempDir(), Tell: func(s string) { t.Errorf("told %q", s) }})
	if err := w.Prune(ctx, activities.PruneJob{Job: run.Job{Run: "r"}, Stage: run.StageSFT, KeepLast: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
