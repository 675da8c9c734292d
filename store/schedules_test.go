package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
)

const (
	schedules      = 100_000
	shortSchedules = 5_000
	simSteps       = 3
	// each is the number of schedules that share a bubble of virtual time: making one costs more than a schedule.
	each = 500
	// schedulesEnv is how many schedules are tried, scheduleEnv the number of the one to repeat.
	schedulesEnv = "SCIFLUX_SCHEDULES"
	scheduleEnv  = "SCIFLUX_SCHEDULE"
)

// schedule plays one life of a stage and returns what was violated.
func schedule(number uint64, w *world) error {
	r := rand.New(rand.NewPCG(number, 77))
	var actors, late sync.WaitGroup
	see := func(actor uint64) *view {
		return &view{world: w, seed: number*31 + actor, calls: map[string]uint64{}, late: &late}
	}
	for actor := range uint64(1 + r.IntN(2)) {
		v, begin := see(actor), time.Duration(r.Int64N(int64(5*time.Minute)))
		actors.Go(func() {
			time.Sleep(begin)
			v.attempt()
		})
	}
	for actor := range uint64(r.IntN(2)) {
		v, begin := see(100+actor), time.Duration(r.Int64N(int64(10*time.Minute)))
		prune := r.IntN(2) == 0
		actors.Go(func() {
			time.Sleep(begin)
			v.visit(prune)
		})
	}
	actors.Wait()
	late.Wait()
	last := &view{world: w, calm: true}
	return last.conclude()
}

// attempt trains the steps that are left, as an activity does, and tries again when the store fails.
func (v *view) attempt() {
	ctx, c := context.Background(), store.Checkpoints{Objects: v, Run: "r"}
	for range 3 {
		at, err := c.Latest(ctx, run.StageSFT)
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			continue
		}
		for step := at.Step + 1; step <= simSteps; step++ {
			if at, err = c.Save(ctx, store.Manifest{Stage: run.StageSFT, Step: step, ConfigHash: "h"}, simParts(step)); err != nil {
				break
			}
			v.reported(at, step)
		}
		if err == nil || v.dead {
			return
		}
	}
}

func simParts(step int) []store.Part {
	return []store.Part{store.BytesPart(store.AdapterPart, []byte{byte(step)}), store.BytesPart("state.json", []byte{byte(step), 1})}
}

// reported checks what a Save that succeeded promises.
func (v *view) reported(ref run.CheckpointRef, step int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.committed[step]; !ok || ref.Step != step {
		v.violate("step %d was reported as saved: %+v", step, ref)
	}
	if v.pointer < step {
		v.violate("step %d was reported as saved, the pointer is at %d", step, v.pointer)
	}
	if o, ok := v.objects[ref.Manifest.Key]; !v.pruned[step] && (!ok || int64(len(o.data)) != ref.Manifest.Bytes) {
		v.violate("step %d was reported as saved and is not there", step)
	}
}

// visit reads the newest checkpoint, or prunes.
func (v *view) visit(prune bool) {
	ctx, c := context.Background(), store.Checkpoints{Objects: v, Run: "r"}
	if prune {
		_, _ = c.Prune(ctx, run.StageSFT, store.Retention{Last: simKeepLast, Orphans: simOrphans}) // what it may remove is judged in the world
		return
	}
	ref, err := c.Latest(ctx, run.StageSFT)
	if err != nil {
		return
	}
	loaded, err := c.Load(ctx, ref)
	if errors.Is(err, store.ErrCorrupt) {
		v.mu.Lock()
		v.violate("a reader found step %d damaged: %v", ref.Step, err)
		v.mu.Unlock()
		return
	}
	if err == nil {
		v.whole(loaded)
	}
}

// whole checks that a checkpoint has the parts of its step, all of one attempt.
func (v *view) whole(l *store.Loaded) {
	step := l.Checkpoint.Step
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, p := range simParts(step) {
		var want strings.Builder
		_ = p.Write(&want)
		info, _ := l.Manifest.Part(p.Name)
		if string(l.Parts[p.Name]) != want.String() || !strings.Contains(info.Object.Key, "/"+l.Manifest.Attempt+"/") {
			v.violate("a reader got %q as %s of step %d", l.Parts[p.Name], p.Name, step)
		}
	}
}

// conclude looks at what is left when everything has come to rest.
func (v *view) conclude() error {
	ctx, c := context.Background(), store.Checkpoints{Objects: v, Run: "r"}
	newest := 0
	for step := simSteps; step > 0; step-- {
		if _, ok := v.committed[step]; !ok {
			continue
		}
		ref, _, err := c.Find(ctx, run.StageSFT, step)
		switch {
		case v.pruned[step]:
			continue
		case err != nil:
			v.violate("step %d vanished: %v", step, err)
			continue
		}
		newest = max(newest, step)
		if step < newest { // that of the newest is what Latest looks at
			if err := c.Verify(ctx, ref); err != nil {
				v.violate("step %d is not whole: %v", step, err)
			}
		}
	}
	ref, err := c.Latest(ctx, run.StageSFT)
	if newest > 0 && (err != nil || ref.Step != newest) || newest == 0 && !errors.Is(err, store.ErrNotExist) {
		v.violate("the newest is step %d, readers get %d, %v", newest, ref.Step, err)
	}
	return v.violation
}

// play runs schedules first … first+n-1 in one bubble and returns the first violation.
func play(t *testing.T, first, n uint64, make func() *world) (number uint64, err error) {
	synctest.Test(t, func(*testing.T) {
		for number = first; number < first+n && err == nil; number++ {
			err = schedule(number, make())
		}
	})
	return number - 1, err
}

// Whatever a store that keeps its word does to requests, and whenever processes die: what was committed stays, the pointer
// never goes back, and readers see whole checkpoints only.
func TestSchedules(t *testing.T) {
	if text := os.Getenv(scheduleEnv); text != "" {
		number, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := play(t, number, 1, newWorld); err != nil {
			t.Errorf("schedule %d: %v", number, err)
		}
		return
	}
	count := uint64(schedules)
	if testing.Short() {
		count = shortSchedules
	}
	if n, err := strconv.ParseUint(os.Getenv(schedulesEnv), 10, 64); err == nil {
		count = n
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // the worlds are small and many
	hands := uint64(runtime.GOMAXPROCS(0))
	t.Run("hands", func(t *testing.T) { // all of them have ended when it returns
		for hand := range hands {
			t.Run(fmt.Sprint(hand), func(t *testing.T) {
				t.Parallel()
				for first := hand * each; first < count; first += hands * each {
					if number, err := play(t, first, min(each, count-first), newWorld); err != nil {
						t.Fatalf("schedule %d: %v; %s=%d repeats it", number, err, scheduleEnv, number)
					}
				}
			})
		}
	})
}

// The simulation is worth something: a store that ignores conditions is caught, and a schedule repeats to the word.
func TestSchedulesCatchAStoreWithoutConditions(t *testing.T) {
	for name, careless := range map[string]func() *world{
		"all":      func() *world { w := newWorld(); w.careless = true; return w },
		"If-Match": func() *world { w := newWorld(); w.forgetsCAS = true; return w },
	} {
		number, err := play(t, 0, 20_000, careless)
		if err == nil {
			t.Errorf("%s: nothing was noticed in %d schedules", name, number+1)
			continue
		}
		for range 3 {
			if _, again := play(t, number, 1, careless); again == nil || again.Error() != err.Error() {
				t.Errorf("%s: schedule %d: %v, then %v", name, number, err, again)
			}
		}
		t.Logf("%s: schedule %d: %v", name, number, err)
	}
}
