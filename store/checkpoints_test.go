package store_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/store/storetest"
)

var ctx = context.Background()

func newCheckpoints(o store.Objects) store.Checkpoints {
	return store.Checkpoints{Objects: o, Run: "apple"}
}

func adapterOf(step int) []byte { return bytes.Repeat([]byte{byte(step)}, 1000+step) }

func manifestOf(step int) store.Manifest {
	return store.Manifest{Stage: run.StageSFT, Step: step, Seconds: float64(step), ConfigHash: "c0ffee", CodeVersion: "v1", Result: json.RawMessage(`{"loss":0.5}`)}
}

func partsOf(step int) []store.Part {
	return []store.Part{store.BytesPart("moments.safetensors", []byte{9, byte(step)}), store.BytesPart(store.AdapterPart, adapterOf(step))}
}

func save(t *testing.T, c store.Checkpoints, step int) run.CheckpointRef {
	t.Helper()
	ref, err := c.Save(ctx, manifestOf(step), partsOf(step))
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func wantLatest(t *testing.T, c store.Checkpoints, step int) {
	t.Helper()
	ref, err := c.Latest(ctx, run.StageSFT)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := c.Load(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	if ref.Step != step || !bytes.Equal(loaded.Parts[store.AdapterPart], adapterOf(step)) {
		t.Fatalf("latest is step %d, expected %d", ref.Step, step)
	}
}

func TestSaveAndLoad(t *testing.T) {
	mem := &store.Mem{}
	c := newCheckpoints(mem)
	if _, err := c.Latest(ctx, run.StageSFT); !errors.Is(err, store.ErrNotExist) {
		t.Fatalf("latest of nothing: %v", err)
	}
	first := save(t, c, 10)
	second := save(t, c, 20)
	loaded, err := c.Load(ctx, second)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(loaded.Parts[store.AdapterPart], adapterOf(20)) || len(loaded.Parts) != 2 {
		t.Errorf("parts %v", loaded.Parts)
	}
	m := loaded.Manifest
	if m.Run != "apple" || m.Step != 20 || m.Seconds != 20 || string(m.Result) != `{"loss":0.5}` || m.Created.IsZero() || m.Attempt == "" {
		t.Errorf("manifest %+v", m)
	}
	if second.Adapter.Bytes != 1020 || second.Adapter != mustPart(t, m, store.AdapterPart) || second.Seconds != 20 {
		t.Errorf("reference %+v", second)
	}
	entries, err := c.List(ctx, run.StageSFT)
	if err != nil || len(entries) != 2 || entries[0].Checkpoint != first || entries[1].Checkpoint != second {
		t.Errorf("list %+v, %v", entries, err)
	}
	if ref, m, err := c.Find(ctx, run.StageSFT, 10); err != nil || ref != first || m.Step != 10 {
		t.Errorf("find %+v, %v", ref, err)
	}
	if _, _, err := c.Find(ctx, run.StageOFT, 10); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("other stage: %v", err)
	}
	if ref, err := c.LatestUpTo(ctx, run.StageSFT, 19); err != nil || ref != first {
		t.Errorf("latest up to 19: %+v, %v", ref, err)
	}
	var latest struct{ Checkpoint run.CheckpointRef }
	text, _, err := store.ReadAll(ctx, mem, "runs/apple/checkpoints/sft/latest.json")
	if err != nil || json.Unmarshal(text, &latest) != nil || latest.Checkpoint != second {
		t.Errorf("pointer %s, %v", text, err)
	}
	if names, err := store.Runs(ctx, mem); err != nil || !slices.Equal(names, []string{"apple"}) {
		t.Errorf("runs %v, %v", names, err)
	}
}

func mustPart(t *testing.T, m store.Manifest, name string) run.ObjectRef {
	t.Helper()
	p, ok := m.Part(name)
	if !ok {
		t.Fatalf("no part %s", name)
	}
	return p.Object
}

func TestSaveIsIdempotent(t *testing.T) {
	faulty := &storetest.Faulty{Objects: &store.Mem{}}
	c := newCheckpoints(faulty)
	first := save(t, c, 10)
	writes := faulty.Writes()
	again, err := c.Save(ctx, manifestOf(10), []store.Part{store.BytesPart("other", []byte("x"))})
	if err != nil || again != first {
		t.Errorf("second save gave %+v, %v", again, err)
	}
	if faulty.Writes() != writes {
		t.Errorf("second save wrote %d objects", faulty.Writes()-writes)
	}
	save(t, c, 20)
	if ref := save(t, c, 10); ref != first {
		t.Error("saving an old step again changed it")
	}
	wantLatest(t, c, 20)
	other := manifestOf(10)
	other.ConfigHash = "beef"
	if _, err := c.Save(ctx, other, partsOf(10)); !errors.Is(err, store.ErrConflict) || run.ClassOf(err) != run.ClassConfig {
		t.Errorf("another config: %v", err)
	}
}

// A save that fails at any of its writes, with the write done or not, leaves the older checkpoint in place, and
// succeeds when it is repeated.
func TestSaveFailsAtAnyWrite(t *testing.T) {
	down := store.Fail("write", "x", store.ErrUnavailable, errors.New("503"))
	for _, lost := range []bool{false, true} {
		for at := range 5 {
			mem := &store.Mem{}
			save(t, newCheckpoints(mem), 10)
			fail := func(n int, _ string) error {
				if n == at {
					return down
				}
				return nil
			}
			faulty := &storetest.Faulty{Objects: mem, FailWrite: fail}
			if lost {
				faulty.FailWrite, faulty.LoseAnswer = nil, fail
			}
			ref, err := newCheckpoints(faulty).Save(ctx, manifestOf(20), partsOf(20))
			// Writes 0 and 1 are parts, 2 is the manifest, 3 the pointer; 4 does not happen. A lost answer to the
			// manifest is found out by reading it.
			succeeds := at == 4 || lost && at == 2
			committed := succeeds || at == 3
			if succeeds != (err == nil) || err == nil && ref.Step != 20 || err != nil && !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("lost %v, write %d: %+v, %v", lost, at, ref, err)
			}
			if committed {
				wantLatest(t, newCheckpoints(mem), 20)
			} else {
				wantLatest(t, newCheckpoints(mem), 10)
			}
			save(t, newCheckpoints(mem), 20)
			wantLatest(t, newCheckpoints(mem), 20)
		}
	}
}

func TestRacingAttemptsAgree(t *testing.T) {
	mem := &store.Mem{}
	refs := make([]run.CheckpointRef, 8)
	errs := make([]error, len(refs))
	var wg sync.WaitGroup
	for i := range refs {
		wg.Go(func() { refs[i], errs[i] = newCheckpoints(mem).Save(ctx, manifestOf(10), partsOf(10)) })
	}
	wg.Wait()
	for i := range refs {
		if errs[i] != nil || refs[i] != refs[0] {
			t.Errorf("attempt %d: %+v, %v", i, refs[i], errs[i])
		}
	}
	if err := newCheckpoints(mem).Verify(ctx, refs[0]); err != nil {
		t.Error(err)
	}
}

// Whatever object of the newest checkpoint is damaged or lost, readers step back, nothing is deleted, and
// saving that step again repairs it.
func TestDamageStepsBack(t *testing.T) {
	for _, object := range []string{"manifest.json", store.AdapterPart, "moments.safetensors"} {
		for name, damage := range map[string]func(o store.Objects, key string, data []byte){
			"lost":    func(o store.Objects, key string, _ []byte) { o.Delete(ctx, key) },
			"cut":     func(o store.Objects, key string, data []byte) { o.Put(ctx, key, bytes.NewReader(data[:len(data)*2/3])) },
			"flipped": func(o store.Objects, key string, data []byte) { o.Put(ctx, key, bytes.NewReader(flip(data))) },
			"empty":   func(o store.Objects, key string, _ []byte) { o.Put(ctx, key, strings.NewReader("")) },
		} {
			if object == "manifest.json" && name == "flipped" {
				continue // see TestReferencesPinTheManifest: without a reference a manifest is known by its JSON alone
			}
			t.Run(object+" "+name, func(t *testing.T) {
				mem := &store.Mem{}
				c := newCheckpoints(mem)
				save(t, c, 10)
				ref := save(t, c, 20)
				key := ref.Manifest.Key
				if object != "manifest.json" {
					m, err := c.Load(ctx, ref)
					if err != nil {
						t.Fatal(err)
					}
					key = mustPart(t, m.Manifest, object).Key
				}
				data, _, _ := store.ReadAll(ctx, mem, key)
				damage(mem, key, data)
				before, _ := mem.List(ctx, "")
				wantLatest(t, c, 10)
				if err := c.Verify(ctx, ref); err == nil {
					t.Error("damage not seen")
				}
				if after, _ := mem.List(ctx, ""); len(after) != len(before) {
					t.Error("something was deleted")
				}
				again := save(t, c, 20)
				if err := c.Verify(ctx, again); err != nil {
					t.Error(err)
				}
				wantLatest(t, c, 20)
			})
		}
	}
}

func flip(data []byte) []byte {
	data = bytes.Clone(data)
	data[len(data)/2] ^= 1
	return data
}

func TestSteppingBackIsTold(t *testing.T) {
	mem := &store.Mem{}
	c := newCheckpoints(mem)
	save(t, c, 10)
	ref := save(t, c, 20)
	mem.Delete(ctx, ref.Adapter.Key)
	var log bytes.Buffer
	c.Log = slog.New(slog.NewTextHandler(&log, nil))
	wantLatest(t, c, 10)
	if !strings.Contains(log.String(), "step-000020") {
		t.Errorf("log %q", log.String())
	}
}

// A store that is away for a moment must not look like one whose checkpoints are damaged.
func TestTroubleIsNotDamage(t *testing.T) {
	mem := &store.Mem{}
	save(t, newCheckpoints(mem), 10)
	save(t, newCheckpoints(mem), 20)
	c := newCheckpoints(unreadable{mem})
	if ref, err := c.Latest(ctx, run.StageSFT); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("%+v, %v", ref, err)
	}
	if _, err := c.Save(ctx, manifestOf(20), partsOf(20)); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("save: %v", err)
	}
}

// unreadable cannot read parts.
type unreadable struct{ store.Objects }

func (u unreadable) Get(ctx context.Context, key string) (io.ReadCloser, store.Object, error) {
	if strings.Contains(key, "/parts/") {
		return nil, store.Object{}, store.Fail("read", key, store.ErrUnavailable, errors.New("503"))
	}
	return u.Objects.Get(ctx, key)
}

// A store that returns other bytes than were written, of the same length, is found out by the hash.
func TestLyingStore(t *testing.T) {
	mem := &store.Mem{}
	ref := save(t, newCheckpoints(mem), 10)
	c := newCheckpoints(&storetest.Faulty{Objects: mem, Damage: func(key string, data []byte) []byte {
		if strings.Contains(key, "/parts/") {
			data = flip(data)
		}
		return data
	}})
	if _, err := c.Load(ctx, ref); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

func TestReferencesPinTheManifest(t *testing.T) {
	mem := &store.Mem{}
	c := newCheckpoints(mem)
	ref := save(t, c, 10)
	text, _, err := store.ReadAll(ctx, mem, ref.Manifest.Key)
	if err != nil {
		t.Fatal(err)
	}
	mem.Put(ctx, ref.Manifest.Key, bytes.NewReader(bytes.Replace(text, []byte("v1"), []byte("v2"), 1)))
	if _, err := c.Load(ctx, ref); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("%v", err)
	}
	if _, err := c.Load(ctx, run.CheckpointRef{}); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("zero reference: %v", err)
	}
}

// A forged manifest must not make a reader read, or Prune delete, what is not the stage's own.
func TestForgedManifests(t *testing.T) {
	for name, forge := range map[string]func(m *store.Manifest){
		"other run's part": func(m *store.Manifest) {
			m.Parts[0].Object.Key = "runs/pear/checkpoints/sft/parts/x/adapter.safetensors"
		},
		"pointer as part": func(m *store.Manifest) { m.Parts[0].Object.Key = "runs/apple/checkpoints/sft/latest.json" },
		"other step":      func(m *store.Manifest) { m.Step = 11 },
		"no hash":         func(m *store.Manifest) { m.Parts[0].Object.SHA256 = "" },
		"negative size":   func(m *store.Manifest) { m.Parts[0].Object.Bytes = -1 },
		"part twice":      func(m *store.Manifest) { m.Parts = append(m.Parts, m.Parts[1]) },
		"no format":       func(m *store.Manifest) { m.Format = 0 },
	} {
		mem := &store.Mem{}
		c := newCheckpoints(mem)
		save(t, c, 5)
		ref := save(t, c, 10)
		loaded, err := c.Load(ctx, ref)
		if err != nil {
			t.Fatal(err)
		}
		forge(&loaded.Manifest)
		text, _ := json.Marshal(loaded.Manifest)
		mem.Put(ctx, ref.Manifest.Key, bytes.NewReader(text))
		entries, err := c.List(ctx, run.StageSFT)
		if err != nil || len(entries) != 2 || !errors.Is(entries[1].Err, store.ErrCorrupt) {
			t.Errorf("%s: %+v, %v", name, entries[1].Err, err)
		}
		wantLatest(t, c, 5)
		if _, err := c.Prune(ctx, run.StageSFT, store.Retention{}); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: prune: %v", name, err)
		}
	}
}

func TestNewerFormatIsNotDamage(t *testing.T) {
	mem := &store.Mem{}
	c := newCheckpoints(mem)
	ref := save(t, c, 10)
	mem.Put(ctx, ref.Manifest.Key, strings.NewReader(`{"format":2,"code_version":"v9","stage":"sft","step":10}`))
	if _, err := c.Latest(ctx, run.StageSFT); !errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), "v9") {
		t.Errorf("%v", err)
	}
}

func TestPrune(t *testing.T) {
	mem := &store.Mem{}
	c := newCheckpoints(mem)
	var refs []run.CheckpointRef
	for step := 1; step <= 8; step++ {
		m := manifestOf(step)
		m.StageEnd = step == 3
		ref, err := c.Save(ctx, m, partsOf(step))
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, ref)
	}
	removed, err := c.Prune(ctx, run.StageSFT, store.Retention{Last: 2, Keep: []run.CheckpointRef{refs[0]}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []run.CheckpointRef{refs[1], refs[3], refs[4], refs[5]}; !slices.Equal(removed, want) {
		t.Errorf("removed %v, expected %v", removed, want)
	}
	for i, ref := range refs {
		err := c.Verify(ctx, ref)
		if gone := slices.Contains(removed, ref); gone != errors.Is(err, store.ErrNotExist) || !gone && err != nil {
			t.Errorf("step %d: %v", i+1, err)
		}
	}
	objects, _ := mem.List(ctx, "runs/apple/checkpoints/sft/parts/")
	if len(objects) != 2*4 {
		t.Errorf("%d parts are left of 4 checkpoints", len(objects))
	}
	wantLatest(t, c, 8)
}

func TestPruneNeedsAWholeNewest(t *testing.T) {
	mem := &store.Mem{}
	c := newCheckpoints(mem)
	save(t, c, 10)
	ref := save(t, c, 20)
	mem.Delete(ctx, ref.Adapter.Key)
	before, _ := mem.List(ctx, "")
	if removed, err := c.Prune(ctx, run.StageSFT, store.Retention{Last: 1}); err == nil || removed != nil {
		t.Errorf("removed %v, %v", removed, err)
	}
	if after, _ := mem.List(ctx, ""); len(after) != len(before) {
		t.Error("something was deleted")
	}
}

func TestPruneRemovesOrphans(t *testing.T) {
	mem := &store.Mem{}
	c := newCheckpoints(mem)
	save(t, c, 10)
	orphan := "runs/apple/checkpoints/sft/parts/DEAD/adapter.safetensors"
	mem.Put(ctx, orphan, strings.NewReader("half"))
	for _, stage := range []struct {
		later time.Duration
		gone  bool
	}{{time.Hour, false}, {25 * time.Hour, true}} {
		c.Now = func() time.Time { return time.Now().Add(stage.later) }
		if _, err := c.Prune(ctx, run.StageSFT, store.Retention{Orphans: 24 * time.Hour}); err != nil {
			t.Fatal(err)
		}
		_, err := mem.Head(ctx, orphan)
		if errors.Is(err, store.ErrNotExist) != stage.gone {
			t.Errorf("after %v: %v", stage.later, err)
		}
	}
	wantLatest(t, c, 10)
}

func TestSaveRefuses(t *testing.T) {
	c := newCheckpoints(&store.Mem{})
	for name, check := range map[string]func() error{
		"part name": func() error {
			_, err := c.Save(ctx, manifestOf(1), []store.Part{store.BytesPart("../x", nil)})
			return err
		},
		"part twice": func() error {
			_, err := c.Save(ctx, manifestOf(1), []store.Part{store.BytesPart("x", nil), store.BytesPart("x", nil)})
			return err
		},
		"negative step": func() error { _, err := c.Save(ctx, manifestOf(-1), nil); return err },
		"stage":         func() error { _, err := c.Save(ctx, store.Manifest{Stage: "x/y"}, nil); return err },
		"run name": func() error {
			_, err := store.Checkpoints{Objects: &store.Mem{}, Run: "../x"}.Save(ctx, manifestOf(1), nil)
			return err
		},
		"part that fails": func() error {
			_, err := c.Save(ctx, manifestOf(1), []store.Part{{Name: "x", Write: func(io.Writer) error { return errors.New("broken") }}})
			return err
		},
	} {
		if check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if entries, err := c.List(ctx, run.StageSFT); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestStepsSortAsNumbers(t *testing.T) {
	c := newCheckpoints(&store.Mem{})
	for _, step := range []int{999_999, 1_000_000, 0, 5} {
		save(t, c, step)
	}
	entries, err := c.List(ctx, run.StageSFT)
	if err != nil {
		t.Fatal(err)
	}
	var steps []int
	for _, e := range entries {
		steps = append(steps, e.Checkpoint.Step)
	}
	if !slices.Equal(steps, []int{0, 5, 999_999, 1_000_000}) {
		t.Errorf("steps %v", steps)
	}
}

// A process that saves without end is killed at random moments. After each kill the newest checkpoint is whole
// and no step that was reported as saved is missing.
func TestKilledWhileSaving(t *testing.T) {
	if dir := os.Getenv("SCIFLUX_TEST_SAVE"); dir != "" {
		saveForever(t, dir)
		return
	}
	dir := t.TempDir()
	for round := range 6 {
		done := killWhileSaving(t, dir, time.Duration(5+17*round)*time.Millisecond)
		c := newCheckpoints(openDisk(t, dir))
		ref, err := c.Latest(ctx, run.StageSFT)
		if err != nil || ref.Step < done {
			t.Fatalf("round %d: step %d was saved, latest is %d, %v", round, done, ref.Step, err)
		}
		entries, err := c.List(ctx, run.StageSFT)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if err := errors.Join(e.Err, c.Verify(ctx, e.Checkpoint)); err != nil {
				t.Errorf("round %d, step %d: %v", round, e.Checkpoint.Step, err)
			}
		}
	}
}

// killWhileSaving runs a process that saves, kills it some time after its first save, and returns the last step
// that it reported.
func killWhileSaving(t *testing.T, dir string, after time.Duration) int {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWhileSaving$")
	cmd.Env = append(os.Environ(), "SCIFLUX_TEST_SAVE="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := 0
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, err := fmt.Sscanf(lines.Text(), "saved %d", &done); err != nil {
			t.Error(lines.Text())
		} else if after > 0 {
			time.AfterFunc(after, func() { cmd.Process.Kill() })
			after = 0
		}
	}
	cmd.Wait()
	if done == 0 {
		t.Fatal("nothing was saved")
	}
	return done
}

func saveForever(t *testing.T, dir string) {
	c := newCheckpoints(openDisk(t, dir))
	step := 0
	if ref, err := c.Latest(ctx, run.StageSFT); err == nil {
		step = ref.Step
	}
	for {
		step++
		if _, err := c.Save(ctx, manifestOf(step), partsOf(step)); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("saved %d\n", step)
		if _, err := c.Prune(ctx, run.StageSFT, store.Retention{Last: 3}); err != nil {
			t.Fatal(err)
		}
	}
}
