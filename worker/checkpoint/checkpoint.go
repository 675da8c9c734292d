// Package checkpoint is what the checkpoints of a run hold: adapters, the optimiser's moments, counters, and the result of
// the chunk that ended there. It reads and writes the parts; the commit protocol is package store's.
package checkpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/store/safetensors"
	"github.com/sciflux/sciflux/worker/opened"
)

// The parts beside store.AdapterPart, which holds what is evaluated and exported: the average where there is one, else the
// trained adapter itself.
const (
	PolicyPart    = "policy.safetensors"    // the trained adapter, where an average is kept beside it
	OldPart       = "old.safetensors"       // the old policy, where the method of stage 2 keeps one
	OptimizerPart = "optimizer.safetensors" // first and second moments, flat
	StatePart     = "state.json"            // counters
)

// Result is what a chunk's manifest keeps beside the weights.
type Result struct {
	Summary run.ChunkSummary `json:"summary"`
	Pairs   run.PairSummary  `json:"pairs,omitzero"`
	Guard   run.GuardState   `json:"guard,omitzero"`
}

// ReadResult is the result that a manifest keeps.
func ReadResult(m store.Manifest) (Result, error) {
	var r Result
	if err := json.Unmarshal(m.Result, &r); err != nil {
		return r, run.Errorf(run.ClassStorage, "read result of", fmt.Sprintf("%s step %d", m.Stage, m.Step), "", "%w", err)
	}
	return r, nil
}

// Load reads a checkpoint; the zero reference gives one without parts.
func Load(ctx context.Context, r *opened.Run, ref run.CheckpointRef) (*store.Loaded, error) {
	if ref.IsZero() {
		return &store.Loaded{Parts: map[string][]byte{}}, nil
	}
	return r.Checkpoints().Load(ctx, ref)
}

// Trained is the adapter that training goes on with, Evaluated the one that is measured and exported: its average where
// there is one. The zero reference stands for the initial adapter.
func Trained(ctx context.Context, r *opened.Run, ref run.CheckpointRef) (*lora.Adapter, error) {
	l, err := Load(ctx, r, ref)
	if err != nil {
		return nil, err
	}
	return trained(r, l)
}

// Sampler is the adapter that does the rollouts of stage 2: the old policy where the method keeps one for that, else the
// trained adapter. Before the first epoch it is what the stage starts from, the evaluated adapter of the stage before.
func Sampler(ctx context.Context, r *opened.Run, ref run.CheckpointRef) (*lora.Adapter, error) {
	if ref.Stage != run.StageOFT {
		return Evaluated(ctx, r, ref)
	}
	if _, rolls, _ := r.Recipe.Config.OFT.OldPolicy(); !rolls {
		return Trained(ctx, r, ref)
	}
	l, err := Load(ctx, r, ref)
	if err != nil {
		return nil, err
	}
	return adapterOf(r, l, OldPart)
}

func trained(r *opened.Run, l *store.Loaded) (*lora.Adapter, error) {
	if l.Parts[PolicyPart] != nil {
		return adapterOf(r, l, PolicyPart)
	}
	return adapterOf(r, l, store.AdapterPart)
}

// Evaluated is the adapter of a checkpoint that is measured and exported.
func Evaluated(ctx context.Context, r *opened.Run, ref run.CheckpointRef) (*lora.Adapter, error) {
	l, err := Load(ctx, r, ref)
	if err != nil {
		return nil, err
	}
	return adapterOf(r, l, store.AdapterPart)
}

// adapterOf reads an adapter part, or makes the initial adapter when the checkpoint is the zero one.
func adapterOf(r *opened.Run, l *store.Loaded, part string) (*lora.Adapter, error) {
	if l.Checkpoint.IsZero() {
		return Initial(r)
	}
	data, ok := l.Parts[part]
	if !ok {
		return nil, run.Errorf(run.ClassStorage, "load checkpoint", l.Checkpoint.Manifest.Key, "verify the store with sciflux ckpt verify", "it has no part %s", part)
	}
	file, err := safetensors.Parse(part, data)
	if err != nil {
		return nil, unreadable(part, err)
	}
	a, err := lora.Read(file, r.Models.Pipeline.Transformer.Layers())
	if err != nil {
		return nil, unreadable(part, err)
	}
	return a, nil
}

func unreadable(name string, err error) error {
	return run.Errorf(run.ClassModel, "read adapter", name, "", "%w", err)
}

// Initial is what a run starts from: the adapter of the config, or a fresh one.
func Initial(r *opened.Run) (*lora.Adapter, error) {
	layers := r.Models.Pipeline.Transformer.Layers()
	if path := r.Recipe.Config.Model.Adapter; path != "" {
		return given(r, path, layers)
	}
	a, err := r.Recipe.FreshAdapter(layers)
	if err != nil {
		return nil, run.Errorf(run.ClassConfig, "make adapter from", "lora.targets", "", "%w", err)
	}
	return a, nil
}

// given is the adapter that the config names, unless the config says otherwise of it than its file.
func given(r *opened.Run, path string, layers []lora.Layer) (*lora.Adapter, error) {
	a, err := lora.Load(path, layers)
	if err != nil {
		return nil, unreadable(path, err)
	}
	against, err := lora.Contradictions(a, layers, r.Recipe.AdapterSpec())
	if err == nil && len(against) > 0 {
		err = errors.New(strings.Join(against, "; "))
	}
	if err != nil {
		return nil, run.Errorf(run.ClassConfig, "start from", "model.adapter "+path, "leave the lora keys out, or start without model.adapter", "%w", err)
	}
	return a, nil
}

func adapterPart(name string, a *lora.Adapter) (store.Part, error) {
	var b bytes.Buffer
	if _, err := a.Write(&b, safetensors.F32); err != nil {
		return store.Part{}, fmt.Errorf("write adapter: %w", err)
	}
	return store.BytesPart(name, b.Bytes()), nil
}
