package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/store/storetest"
)

// history is a random life of one stage: saves that may fail at any write, damage, pruning. What it knows is
// which steps must be readable.
type history struct {
	mem    *store.Mem
	faulty *storetest.Faulty
	c      store.Checkpoints
	random *rand.Rand
	step   int
	whole  map[int]bool // committed and not damaged
}

func (h *history) save(step int) error {
	failAt, lose := -1, h.random.IntN(2) == 0
	if h.random.IntN(3) == 0 {
		failAt = h.faulty.Writes() + h.random.IntN(4)
	}
	fail := func(n int, key string) error {
		if n == failAt {
			return store.Fail("write", key, store.ErrUnavailable, errors.New("503"))
		}
		return nil
	}
	h.faulty.FailWrite, h.faulty.LoseAnswer = fail, nil
	if lose {
		h.faulty.FailWrite, h.faulty.LoseAnswer = nil, fail
	}
	ref, err := h.c.Save(ctx, manifestOf(step), partsOf(step))
	h.faulty.FailWrite, h.faulty.LoseAnswer = nil, nil
	if err != nil && (failAt < 0 || !errors.Is(err, store.ErrUnavailable)) {
		return err
	}
	if err == nil && ref.Step != step {
		return fmt.Errorf("saved step %d, got %d", step, ref.Step)
	}
	// An error may come after the commit, from the pointer or a lost answer; the manifest tells.
	if _, _, findErr := h.c.Find(ctx, run.StageSFT, step); findErr == nil && (err == nil || !h.whole[step]) {
		if h.c.Verify(ctx, mustFind(h.c, step)) == nil {
			h.whole[step] = true
		}
	}
	if err == nil && !h.whole[step] {
		return fmt.Errorf("step %d was reported as saved and is not whole", step)
	}
	return nil
}

func mustFind(c store.Checkpoints, step int) run.CheckpointRef {
	ref, _, err := c.Find(ctx, run.StageSFT, step)
	if err != nil {
		panic(err)
	}
	return ref
}

// damage flips, cuts or loses one object of a checkpoint.
func (h *history) damage(step int) {
	ref, m, err := h.c.Find(ctx, run.StageSFT, step)
	if err != nil || !h.whole[step] { // a second flip would mend the first
		return
	}
	keys := []string{ref.Manifest.Key, m.Parts[0].Object.Key, m.Parts[1].Object.Key}
	which := h.random.IntN(len(keys))
	data, _, err := store.ReadAll(ctx, h.mem, keys[which])
	if err != nil || len(data) == 0 {
		return
	}
	switch kind := h.random.IntN(3); {
	case kind == 0:
		h.mem.Delete(ctx, keys[which])
	case kind == 1 || which == 0: // one bit of a manifest may be a harmless one
		h.mem.Put(ctx, keys[which], bytes.NewReader(data[:len(data)/2]))
	default:
		h.mem.Put(ctx, keys[which], bytes.NewReader(flip(data)))
	}
	delete(h.whole, step)
}

func (h *history) prune() error {
	removed, err := h.c.Prune(ctx, run.StageSFT, store.Retention{Last: 2})
	if err != nil {
		newest := 0
		for step := range h.whole {
			newest = max(newest, step)
		}
		entries, listErr := h.c.List(ctx, run.StageSFT)
		if listErr != nil || len(entries) > 0 && entries[len(entries)-1].Checkpoint.Step == newest {
			return fmt.Errorf("the newest is whole, yet: %w, %v", err, listErr)
		}
		return nil
	}
	for _, ref := range removed {
		delete(h.whole, ref.Step)
	}
	return nil
}

// check says whether the newest whole checkpoint is what readers get.
func (h *history) check() error {
	newest := -1
	for step := range h.whole {
		newest = max(newest, step)
	}
	ref, err := h.c.Latest(ctx, run.StageSFT)
	if newest < 0 {
		if !errors.Is(err, store.ErrNotExist) {
			return fmt.Errorf("nothing is whole, got step %d, %v", ref.Step, err)
		}
		return nil
	}
	if err != nil || ref.Step != newest {
		return fmt.Errorf("step %d is the newest that is whole, got %d, %v", newest, ref.Step, err)
	}
	loaded, err := h.c.Load(ctx, ref)
	if err != nil || !bytes.Equal(loaded.Parts[store.AdapterPart], adapterOf(newest)) {
		return fmt.Errorf("step %d holds other weights, %v", newest, err)
	}
	return nil
}

// Through any sequence of saves, failures, damage and pruning, readers get the newest checkpoint that is whole,
// and saving a damaged step again repairs it.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(60) {
		mem := &store.Mem{}
		faulty := &storetest.Faulty{Objects: mem}
		h := &history{mem: mem, faulty: faulty, c: newCheckpoints(faulty), random: rand.New(rand.NewPCG(seed, 1)), whole: map[int]bool{}}
		for turn := range 40 {
			var err error
			what := h.random.IntN(10)
			switch {
			case what < 5:
				h.step++
				err = h.save(h.step)
			case what < 7 && h.step > 0:
				err = h.save(1 + h.random.IntN(h.step))
			case what < 9 && h.step > 0:
				h.damage(1 + h.random.IntN(h.step))
			default:
				err = h.prune()
			}
			if err = errors.Join(err, h.check()); err != nil {
				t.Fatalf("seed %d, turn %d: %v", seed, turn, err)
			}
		}
	}
}
