package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
)

// at runs f from n goroutines at once and returns the first error of each.
func at(n int, f func(i int) error) []error {
	errs, start := make([]error, n), make(chan struct{})
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			<-start
			errs[i] = f(i)
		})
	}
	close(start)
	wait.Wait()
	return errs
}

// bothStores runs a test on a store in memory and on one on disk.
func bothStores(t *testing.T, test func(t *testing.T, o store.Objects)) {
	t.Run("memory", func(t *testing.T) { test(t, &store.Mem{}) })
	t.Run("disk", func(t *testing.T) {
		d, err := store.OpenDisk(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		test(t, d)
	})
}

func part(step, by int) []store.Part {
	return []store.Part{store.BytesPart(store.AdapterPart, []byte(fmt.Sprint("weights of ", step))), store.BytesPart("who", []byte{byte(by)})}
}

// TestTwentySaveOneStep: all get one reference, whose parts are all of one attempt.
func TestTwentySaveOneStep(t *testing.T) {
	bothStores(t, func(t *testing.T, o store.Objects) {
		ctx, c := context.Background(), store.Checkpoints{Objects: o, Run: "r"}
		refs := make([]run.CheckpointRef, 20)
		for i, err := range at(20, func(i int) (err error) {
			refs[i], err = c.Save(ctx, store.Manifest{Stage: run.StageSFT, Step: 4, ConfigHash: "h"}, part(4, i))
			return err
		}) {
			if err != nil || refs[i] != refs[0] {
				t.Errorf("attempt %d: %v, %v; the first has %v", i, refs[i], err, refs[0])
			}
		}
		loaded, err := c.Load(ctx, refs[0])
		if err != nil {
			t.Fatal(err)
		}
		attempts := map[string]bool{}
		for _, p := range loaded.Manifest.Parts {
			attempts[p.Object.Key[:strings.LastIndex(p.Object.Key, "/")]] = true
		}
		if len(attempts) != 1 {
			t.Errorf("parts of %d attempts in one manifest", len(attempts))
		}
	})
}

// TestTwentySaveTwentySteps: however they overtake each other, all are there and latest.json ends at the last step.
func TestTwentySaveTwentySteps(t *testing.T) {
	bothStores(t, func(t *testing.T, o store.Objects) {
		ctx, c := context.Background(), store.Checkpoints{Objects: o, Run: "r"}
		if err := errors.Join(at(20, func(i int) error {
			_, err := c.Save(ctx, store.Manifest{Stage: run.StageOFT, Step: i + 1, ConfigHash: "h"}, part(i+1, i))
			return err
		})...); err != nil {
			t.Fatal(err)
		}
		latest, err := c.Latest(ctx, run.StageOFT)
		if err != nil || latest.Step != 20 {
			t.Errorf("latest %v, %v", latest, err)
		}
		text, _, err := store.ReadAll(ctx, o, "runs/r/checkpoints/oft/latest.json")
		if err != nil || !strings.Contains(string(text), `"step": 20`) {
			t.Errorf("the pointer says %s, %v", text, err)
		}
		entries, err := c.List(ctx, run.StageOFT)
		if err != nil || len(entries) != 20 {
			t.Errorf("%d checkpoints, %v", len(entries), err)
		}
	})
}

// TestDamageNamesThePart: of several parts the one whose bytes differ is named, with both hashes, and the error says what
// to do.
func TestDamageNamesThePart(t *testing.T) {
	bothStores(t, func(t *testing.T, o store.Objects) {
		ctx, c := context.Background(), store.Checkpoints{Objects: o, Run: "r"}
		for i, name := range []string{store.AdapterPart, "optimizer.safetensors", "state.json"} {
			var parts []store.Part
			for _, n := range []string{store.AdapterPart, "optimizer.safetensors", "state.json"} {
				parts = append(parts, store.BytesPart(n, []byte("contents of "+n)))
			}
			ref, err := c.Save(ctx, store.Manifest{Stage: run.StageSFT, Step: i, ConfigHash: "h"}, parts)
			if err != nil {
				t.Fatal(err)
			}
			loaded, err := c.Load(ctx, ref)
			if err != nil {
				t.Fatal(err)
			}
			info, _ := loaded.Manifest.Part(name)
			changed := []byte("contents of " + name)
			changed[3] ^= 1 // the same length
			if _, err := o.Put(ctx, info.Object.Key, bytes.NewReader(changed)); err != nil {
				t.Fatal(err)
			}
			_, loadErr := c.Load(ctx, ref)
			for what, err := range map[string]error{"load": loadErr, "verify": c.Verify(ctx, ref)} {
				if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "/"+name) || !strings.Contains(err.Error(), info.Object.SHA256[:12]) || !strings.Contains(err.Error(), "ckpt verify") {
					t.Errorf("%s with a damaged %s: %v", what, name, err)
				}
			}
		}
	})
}

// TestInterruptedStreamsLeaveNothing: a writer that fails or is cancelled after any number of bytes leaves no object under
// its key, no reference, and what was there before.
func TestInterruptedStreamsLeaveNothing(t *testing.T) {
	bothStores(t, func(t *testing.T, o store.Objects) {
		broken := errors.New("the encoder stopped")
		for _, before := range []string{"", "old contents"} {
			for _, n := range []int{0, 1, 1000, 70_000} {
				ctx, cancel := context.WithCancel(context.Background())
				key := fmt.Sprint("stream/", len(before), "/", n)
				if before != "" {
					if _, err := o.Put(ctx, key, strings.NewReader(before)); err != nil {
						t.Fatal(err)
					}
				}
				ref, err := store.Write(ctx, o, key, func(w io.Writer) error {
					if _, err := w.Write(make([]byte, n)); err != nil {
						return err
					}
					return broken
				})
				if !errors.Is(err, broken) || !ref.IsZero() {
					t.Errorf("%d bytes, then a failure: %+v, %v", n, ref, err)
				}
				ref, err = store.Write(ctx, o, key, func(w io.Writer) error {
					cancel()
					_, err := w.Write(make([]byte, n+1))
					return err
				})
				if err == nil || !ref.IsZero() {
					t.Errorf("%d bytes, then a cancellation: %+v, %v", n, ref, err)
				}
				got, _, err := store.ReadAll(context.Background(), o, key)
				if before == "" && !errors.Is(err, store.ErrNotExist) || before != "" && string(got) != before {
					t.Errorf("%d bytes: afterwards there is %q, %v", n, got, err)
				}
			}
		}
		objects, err := o.List(context.Background(), "")
		if err != nil || slices.ContainsFunc(objects, func(x store.Object) bool { return x.Size != int64(len("old contents")) }) {
			t.Errorf("left behind: %+v, %v", objects, err)
		}
	})
}
