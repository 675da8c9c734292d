package store

import (
	"context"
	"errors"

	"github.com/sciflux/sciflux/run"
)

// Loaded is a verified checkpoint in memory.
type Loaded struct {
	Checkpoint run.CheckpointRef
	Manifest   Manifest
	Parts      map[string][]byte // by name
}

// Load reads a checkpoint into memory and verifies the manifest's and every part's hash. Damage is ErrCorrupt
// or, for an object that is lost, ErrNotExist.
func (c Checkpoints) Load(ctx context.Context, ref run.CheckpointRef) (*Loaded, error) {
	m, err := c.manifest(ctx, ref)
	if err != nil {
		return nil, err
	}
	loaded := &Loaded{Checkpoint: ref, Manifest: m, Parts: map[string][]byte{}}
	for _, p := range m.Parts {
		if loaded.Parts[p.Name], err = Read(ctx, c.Objects, p.Object); err != nil {
			return nil, err
		}
	}
	return loaded, nil
}

// manifest reads and verifies the manifest of ref.
func (c Checkpoints) manifest(ctx context.Context, ref run.CheckpointRef) (Manifest, error) {
	if ref.IsZero() {
		return Manifest{}, Fail("read manifest", "initial adapter", ErrNotExist, errors.New("the state before the first step has no checkpoint"))
	}
	text, err := Read(ctx, c.Objects, ref.Manifest)
	if err != nil {
		return Manifest{}, err
	}
	return decodeManifest(text, c.prefix(ref.Stage), ref.Manifest.Key)
}

// Verify reads a whole checkpoint and compares every hash, holding nothing in memory.
func (c Checkpoints) Verify(ctx context.Context, ref run.CheckpointRef) error {
	m, err := c.manifest(ctx, ref)
	if err != nil {
		return err
	}
	return c.checkParts(ctx, m)
}

func (c Checkpoints) checkParts(ctx context.Context, m Manifest) error {
	for _, p := range m.Parts {
		if err := Check(ctx, c.Objects, p.Object); err != nil {
			return err
		}
	}
	return nil
}

// Latest returns the newest checkpoint of a stage that is whole, passing over damaged ones without deleting
// them. ErrNotExist if there is none. Trouble that passes is returned and not taken for damage.
func (c Checkpoints) Latest(ctx context.Context, stage run.Stage) (run.CheckpointRef, error) {
	return c.LatestUpTo(ctx, stage, 1<<62)
}

// LatestUpTo is Latest among the checkpoints of at most a step.
func (c Checkpoints) LatestUpTo(ctx context.Context, stage run.Stage, step int) (run.CheckpointRef, error) {
	entries, err := c.List(ctx, stage)
	if err != nil {
		return run.CheckpointRef{}, err
	}
	for i := len(entries) - 1; i >= 0; i-- {
		e := entries[i]
		if e.Checkpoint.Step > step {
			continue
		}
		err := e.Err
		if err == nil {
			err = c.Verify(ctx, e.Checkpoint)
		}
		if err == nil {
			return e.Checkpoint, nil
		}
		if !isDamage(err) {
			return run.CheckpointRef{}, err
		}
		c.warn("passing over a damaged checkpoint", e.Checkpoint.Manifest.Key, err)
	}
	return run.CheckpointRef{}, Fail("find checkpoint of", c.prefix(stage), ErrNotExist, nil)
}

// Find returns the committed checkpoint of a step with its manifest. ErrNotExist if there is none.
func (c Checkpoints) Find(ctx context.Context, stage run.Stage, step int) (run.CheckpointRef, Manifest, error) {
	key := c.manifestKey(stage, step)
	text, _, err := c.readManifest(ctx, key)
	if err != nil {
		return run.CheckpointRef{}, Manifest{}, err
	}
	m, err := decodeManifest(text, c.prefix(stage), key)
	if err != nil {
		return run.CheckpointRef{}, Manifest{}, err
	}
	return m.ref(key, text), m, nil
}
