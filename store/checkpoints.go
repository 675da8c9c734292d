package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sciflux/sciflux/run"
)

// Checkpoints are the checkpoints of one run. The layout below runs/<run>/checkpoints/<stage>/ is
//
//	step-000120/manifest.json   commits the checkpoint of step 120
//	parts/<attempt>/<name>      what manifests point at
//	latest.json                 a pointer for people and tools; readers here trust manifests alone
//	damaged/<hash>.json         manifests that were replaced because their parts were lost
type Checkpoints struct {
	Objects Objects
	Run     string
	Log     *slog.Logger     // told when a damaged checkpoint is passed over; may be nil
	Now     func() time.Time // nil means time.Now
}

func (c Checkpoints) prefix(stage run.Stage) string { return run.Keys(c.Run).Checkpoints(stage) }

func (c Checkpoints) manifestKey(stage run.Stage, step int) string {
	return c.prefix(stage) + stepName(step) + "/manifest.json"
}

func (c Checkpoints) now() time.Time {
	if c.Now != nil {
		return c.Now().UTC()
	}
	return time.Now().UTC()
}

// Save commits a checkpoint of m's stage and step and returns its reference when it is durable.
//
// It may be repeated and may race with itself on other machines: the first manifest of a step counts, and
// whoever comes later gets its reference. A manifest whose parts are damaged is replaced (and kept under
// damaged/). A manifest of another config is ErrConflict.
func (c Checkpoints) Save(ctx context.Context, m Manifest, parts []Part) (run.CheckpointRef, error) {
	if err := c.checkSave(m, parts); err != nil {
		return run.CheckpointRef{}, err
	}
	key := c.manifestKey(m.Stage, m.Step)
	existing, found, err := c.existing(ctx, m, key)
	if err != nil {
		return run.CheckpointRef{}, err
	}
	if !found {
		m.Format, m.Run, m.Attempt, m.Created = manifestFormat, c.Run, rand.Text(), c.now()
		if m.Parts, err = c.writeParts(ctx, m, parts); err != nil {
			return run.CheckpointRef{}, err
		}
		if existing.ref, err = c.commit(ctx, m, key, existing.damagedTag); err != nil {
			return run.CheckpointRef{}, err
		}
	}
	return existing.ref, c.advance(ctx, existing.ref)
}

func (c Checkpoints) checkSave(m Manifest, parts []Part) error {
	subject := fmt.Sprintf("%s step %d", m.Stage, m.Step)
	if err := run.CheckName(c.Run); err != nil {
		return err
	}
	if !slices.Contains(run.Stages(), m.Stage) || m.Step < 0 {
		return Fail("save checkpoint", subject, ErrKey, errors.New("no such stage or step"))
	}
	seen := map[string]bool{}
	for _, p := range parts {
		if !partName.MatchString(p.Name) || seen[p.Name] {
			return Fail("save checkpoint", subject, ErrKey, fmt.Errorf("part name %q is unusable or given twice", p.Name))
		}
		seen[p.Name] = true
	}
	return nil
}

// found is what Save finds under the key of a manifest.
type found struct {
	ref        run.CheckpointRef
	damagedTag string // ETag of a manifest that has to be replaced
}

// existing looks for a whole checkpoint under key. If it is damaged, found says what to replace.
func (c Checkpoints) existing(ctx context.Context, m Manifest, key string) (found, bool, error) {
	text, object, err := c.readManifest(ctx, key)
	if errors.Is(err, ErrNotExist) {
		return found{}, false, nil
	}
	if err != nil {
		return found{}, false, err
	}
	old, err := decodeManifest(text, c.prefix(m.Stage), key)
	if err == nil && old.ConfigHash != m.ConfigHash {
		return found{}, false, Fail("save checkpoint", key, ErrConflict,
			fmt.Errorf("it was made with another config (%.12s, now %.12s)", old.ConfigHash, m.ConfigHash))
	}
	if err == nil {
		err = c.checkParts(ctx, old)
	}
	if err == nil {
		return found{ref: old.ref(key, text)}, true, nil
	}
	if !isDamage(err) {
		return found{}, false, err
	}
	c.warn("replacing a damaged checkpoint", key, err)
	kept := c.prefix(m.Stage) + "damaged/" + hashOf(text)[:16] + ".json"
	if _, err := c.Objects.Put(ctx, kept, bytes.NewReader(text)); err != nil {
		return found{}, false, err
	}
	return found{damagedTag: object.ETag}, false, nil
}

// isDamage tells damage, for which there is no cure but an older checkpoint, from trouble that passes.
func isDamage(err error) bool { return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNotExist) }

func (c Checkpoints) warn(what, key string, err error) {
	if c.Log != nil {
		c.Log.Warn(what, "key", key, "error", err)
	}
}

func (c Checkpoints) readManifest(ctx context.Context, key string) ([]byte, Object, error) {
	object, err := c.Objects.Head(ctx, key)
	if err == nil && object.Size > maxManifest {
		return nil, object, Fail("read manifest", key, ErrCorrupt, fmt.Errorf("%d bytes", object.Size))
	}
	if err != nil {
		return nil, object, err
	}
	return ReadAll(ctx, c.Objects, key)
}

// writeParts stores the parts side by side, under a prefix that no other attempt uses: training waits for the slowest one.
func (c Checkpoints) writeParts(ctx context.Context, m Manifest, parts []Part) ([]PartInfo, error) {
	infos, errs := make([]PartInfo, len(parts)), make([]error, len(parts))
	var all sync.WaitGroup
	for i, p := range parts {
		all.Go(func() {
			ref, err := Write(ctx, c.Objects, c.prefix(m.Stage)+"parts/"+m.Attempt+"/"+p.Name, p.Write)
			infos[i], errs[i] = PartInfo{Name: p.Name, Object: ref}, err
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("save checkpoint %s step %d: %w", m.Stage, m.Step, err)
		}
	}
	slices.SortFunc(infos, func(a, b PartInfo) int { return cmp.Compare(a.Name, b.Name) })
	return infos, nil
}

// commit writes the manifest, over the damaged one of that tag if there is any. When another attempt was
// first, the result is the other's reference.
func (c Checkpoints) commit(ctx context.Context, m Manifest, key, damagedTag string) (run.CheckpointRef, error) {
	text, err := m.encode()
	if err != nil {
		return run.CheckpointRef{}, err
	}
	if damagedTag == "" {
		_, err = c.Objects.PutIfAbsent(ctx, key, bytes.NewReader(text))
	} else {
		_, err = c.Objects.PutIfMatch(ctx, key, bytes.NewReader(text), damagedTag)
	}
	if err == nil {
		return m.ref(key, text), nil
	}
	// Refused, or the answer was lost. What is there now decides.
	there, _, readErr := c.readManifest(ctx, key)
	if readErr != nil {
		return run.CheckpointRef{}, err
	}
	winner, decodeErr := decodeManifest(there, c.prefix(m.Stage), key)
	if decodeErr != nil || winner.ConfigHash != m.ConfigHash || (winner.Attempt != m.Attempt && !errors.Is(err, ErrPrecondition)) {
		return run.CheckpointRef{}, err
	}
	return winner.ref(key, there), nil
}

// pointer is the contents of latest.json.
type pointer struct {
	Checkpoint run.CheckpointRef `json:"checkpoint"`
}

// advance moves latest.json to ref by compare and swap, unless it is there or further already.
func (c Checkpoints) advance(ctx context.Context, ref run.CheckpointRef) error {
	key := c.prefix(ref.Stage) + "latest.json"
	text, err := json.MarshalIndent(pointer{Checkpoint: ref}, "", " ")
	if err != nil {
		return fmt.Errorf("encode pointer %s: %w", key, err)
	}
	const tries = 20
	for range tries {
		old, object, err := c.readPointer(ctx, key)
		switch {
		case errors.Is(err, ErrNotExist):
			_, err = c.Objects.PutIfAbsent(ctx, key, bytes.NewReader(text))
		case errors.Is(err, ErrCorrupt), err == nil && behind(old.Checkpoint, ref):
			_, err = c.Objects.PutIfMatch(ctx, key, bytes.NewReader(text), object.ETag)
		case err == nil:
			return nil
		}
		if !errors.Is(err, ErrPrecondition) {
			return err
		}
	}
	return Fail("move pointer", key, ErrUnavailable, fmt.Errorf("%d others were faster", tries))
}

// behind tells whether a pointer at old has to move to ref: a later step, or another manifest of the same one.
func behind(old, ref run.CheckpointRef) bool {
	return old.Step < ref.Step || old.Step == ref.Step && old.Manifest != ref.Manifest
}

func (c Checkpoints) readPointer(ctx context.Context, key string) (pointer, Object, error) {
	text, object, err := ReadAll(ctx, c.Objects, key)
	if err != nil {
		return pointer{}, object, err
	}
	var p pointer
	if err := json.Unmarshal(text, &p); err != nil {
		return pointer{}, object, Fail("read pointer", key, ErrCorrupt, err)
	}
	return p, object, nil
}

// Entry is a checkpoint in a list. Err says why its manifest cannot be used; then Checkpoint has stage, step
// and key alone.
type Entry struct {
	Checkpoint run.CheckpointRef
	Manifest   Manifest
	Err        error
}

// List returns the checkpoints of a stage in the order of their steps. It reads the manifests, not the parts.
func (c Checkpoints) List(ctx context.Context, stage run.Stage) ([]Entry, error) {
	prefix := c.prefix(stage)
	objects, err := c.Objects.List(ctx, prefix+"step-")
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, object := range objects {
		step, ok := stepOf(prefix, object.Key)
		if !ok {
			continue
		}
		entry := Entry{Checkpoint: run.CheckpointRef{Stage: stage, Step: step, Manifest: run.ObjectRef{Key: object.Key, Bytes: object.Size}}}
		text, _, err := c.readManifest(ctx, object.Key)
		if errors.Is(err, ErrNotExist) {
			continue // pruned meanwhile
		}
		if err == nil {
			entry.Manifest, err = decodeManifest(text, prefix, object.Key)
		}
		switch {
		case err == nil:
			entry.Checkpoint = entry.Manifest.ref(object.Key, text)
		case errors.Is(err, ErrCorrupt), errors.Is(err, ErrConflict):
			entry.Err = err
		default:
			return nil, err
		}
		entries = append(entries, entry)
	}
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Checkpoint.Step, b.Checkpoint.Step) })
	return entries, nil
}

// Begun says whether a run has left anything that depends on its config: more than the config itself and how it stands.
func Begun(ctx context.Context, o Objects, name string) (bool, error) {
	keys := run.Keys(name)
	objects, err := o.List(ctx, keys.All())
	return slices.ContainsFunc(objects, func(o Object) bool { return o.Key != keys.Config() && o.Key != keys.Summary() }), err
}

// Runs lists the names of all runs that have a checkpoint or any other object in the store.
func Runs(ctx context.Context, o Objects) ([]string, error) {
	objects, err := o.List(ctx, "runs/")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, object := range objects {
		name, _, ok := strings.Cut(strings.TrimPrefix(object.Key, "runs/"), "/")
		if ok && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}
