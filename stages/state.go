package stages

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/graph"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/store/safetensors"
	"github.com/sciflux/sciflux/trainer"
)

// The parts of a checkpoint beside store.AdapterPart, which holds what is evaluated and exported: the average where there
// is one, else the trained adapter itself.
const (
	policyPart    = "policy.safetensors"    // the trained adapter, where an average is kept beside it
	optimizerPart = "optimizer.safetensors" // first and second moments, flat
	statePart     = "state.json"            // counters
)

// training is a learner with the counters that a checkpoint keeps.
type training struct {
	*trainer.Learner
	average *trainer.Average // nil without EMA
	tally   tally
	seconds float64
	parent  run.ObjectRef
	step    int // optimiser steps finished in this stage
}

// tally sums what a chunk's summary is made of. It is kept in checkpoints inside a chunk, so that an interrupted chunk
// reports what the unbroken one would have.
type tally struct {
	Steps    int     `json:"steps"`
	Loss     float64 `json:"loss"`
	GradNorm float64 `json:"grad_norm"`
	KL       float64 `json:"kl"`
	Clamped  float64 `json:"clamped"`
	Rate     float64 `json:"rate"`
}

func (t *tally) add(r trainer.StepResult, kl, clamped float64) {
	t.Steps++
	t.Loss, t.GradNorm, t.KL, t.Clamped, t.Rate = t.Loss+r.Loss, t.GradNorm+r.Norm, t.KL+kl, t.Clamped+clamped, t.Rate+r.Rate
}

func (t tally) summary() run.ChunkSummary {
	n := float64(max(1, t.Steps))
	return run.ChunkSummary{Steps: t.Steps, Loss: t.Loss / n, GradNorm: t.GradNorm / n, KL: t.KL / n, Clamped: t.Clamped / n, LearnRate: t.Rate / n}
}

// counters is state.json.
type counters struct {
	Updates int   `json:"updates"` // of the optimiser since its moments were zero
	Tally   tally `json:"tally"`   // of the chunk under way; zero at a chunk's end
}

// optimizerConfig is the optimiser of a stage.
func optimizerConfig(o configs.Optim) trainer.OptimizerConfig {
	return trainer.OptimizerConfig{LR: o.LR, Beta1: o.Betas[0], Beta2: o.Betas[1], Eps: o.Eps, WeightDecay: o.WeightDecay,
		MaxGradNorm: o.MaxGradNorm, WarmupSteps: o.WarmupSteps}
}

// begin opens a learner in the state of a checkpoint. fresh asks for the checkpoint's evaluated adapter with new moments
// and counters, as a stage starts from the end of another; a zero reference is the initial adapter.
func (d *desk) begin(ctx context.Context, from run.CheckpointRef, fresh bool, o configs.Optim, guidance float64) (*training, error) {
	loaded, err := d.load(ctx, from)
	if err != nil {
		return nil, err
	}
	name := policyPart
	if fresh || loaded.Parts[policyPart] == nil {
		name = store.AdapterPart
	}
	adapter, err := d.adapterOf(loaded, name)
	if err != nil {
		return nil, err
	}
	memory, err := graph.ParseMemory(d.cfg.Worker.Memory)
	if err != nil {
		return nil, run.Errorf(run.ClassConfig, "use", "worker.memory", "", "%w", err)
	}
	learner := trainer.NewLearner(d.be, d.pipe.Transformer, adapter, optimizerConfig(o), d.setting(guidance), memory)
	t := &training{Learner: learner, parent: from.Manifest}
	if o.EMA > 0 {
		t.average = trainer.NewAverage(adapter, o.EMA)
	}
	if fresh || from.IsZero() {
		return t, nil
	}
	return t, t.restore(d, loaded)
}

// load reads a checkpoint; the zero reference gives one without parts.
func (d *desk) load(ctx context.Context, ref run.CheckpointRef) (*store.Loaded, error) {
	if ref.IsZero() {
		return &store.Loaded{Parts: map[string][]byte{}}, nil
	}
	return d.checkpoints().Load(ctx, ref)
}

// adapterOf reads an adapter part, or makes the initial adapter when the checkpoint is the zero one.
func (d *desk) adapterOf(l *store.Loaded, part string) (*lora.Adapter, error) {
	if l.Checkpoint.IsZero() {
		return d.initialAdapter()
	}
	data, ok := l.Parts[part]
	if !ok {
		return nil, run.Errorf(run.ClassStorage, "load checkpoint", l.Checkpoint.Manifest.Key, "verify the store with sciflux ckpt verify", "it has no part %s", part)
	}
	return d.parseAdapter(data, part)
}

func (d *desk) parseAdapter(data []byte, name string) (*lora.Adapter, error) {
	var a *lora.Adapter
	file, err := safetensors.Parse(name, data)
	if err == nil {
		a, err = lora.Read(file, d.pipe.Transformer.Layers())
	}
	if err != nil {
		return nil, run.Errorf(run.ClassModel, "read adapter", name, "", "%w", err)
	}
	return a, nil
}

func (t *training) restore(d *desk, l *store.Loaded) error {
	var c counters
	if err := json.Unmarshal(l.Parts[statePart], &c); err != nil {
		return run.Errorf(run.ClassStorage, "read counters of", l.Checkpoint.Manifest.Key, "", "%w", err)
	}
	moments, err := safetensors.Parse(optimizerPart, l.Parts[optimizerPart])
	if err != nil {
		return fmt.Errorf("read moments of %s: %w", l.Checkpoint.Manifest.Key, err)
	}
	for name, into := range map[string]*engine.Tensor{"exp_avg": t.Optimizer.M, "exp_avg_sq": t.Optimizer.V} {
		values, err := moments.Float32(name, into.Len())
		if err != nil {
			return fmt.Errorf("read moments of %s: %w", l.Checkpoint.Manifest.Key, err)
		}
		d.be.Upload(into, values)
	}
	t.Optimizer.Steps, t.tally = c.Updates, c.Tally
	t.step, t.seconds = l.Manifest.Step, l.Manifest.Seconds
	if t.average != nil {
		mean, err := d.adapterOf(l, store.AdapterPart)
		if err != nil {
			return err
		}
		t.average.Restore(mean)
	}
	return nil
}

// parts are what a checkpoint of the training holds.
func (t *training) parts(d *desk) ([]store.Part, error) {
	evaluated := t.Adapter
	var parts []store.Part
	if t.average != nil {
		evaluated = t.average.Adapter
		policy, err := adapterPart(policyPart, t.Adapter)
		if err != nil {
			return nil, err
		}
		parts = append(parts, policy)
	}
	adapter, err := adapterPart(store.AdapterPart, evaluated)
	if err != nil {
		return nil, err
	}
	n := t.Adapter.Parameters()
	m, v := make([]float32, n), make([]float32, n)
	d.be.Download(m, t.Optimizer.M)
	d.be.Download(v, t.Optimizer.V)
	var moments bytes.Buffer
	if _, err := safetensors.Write(&moments, []safetensors.Tensor{
		safetensors.Float32s("exp_avg", safetensors.F32, []int{n}, m), safetensors.Float32s("exp_avg_sq", safetensors.F32, []int{n}, v)}, nil); err != nil {
		return nil, err
	}
	state, err := json.Marshal(counters{Updates: t.Optimizer.Steps, Tally: t.tally})
	if err != nil {
		return nil, err
	}
	return append(parts, adapter, store.BytesPart(optimizerPart, moments.Bytes()), store.BytesPart(statePart, state)), nil
}

func adapterPart(name string, a *lora.Adapter) (store.Part, error) {
	var b bytes.Buffer
	if _, err := a.Write(&b, safetensors.F32); err != nil {
		return store.Part{}, fmt.Errorf("write adapter: %w", err)
	}
	return store.BytesPart(name, b.Bytes()), nil
}

// result is what a chunk's manifest keeps beside the weights.
type result struct {
	Summary run.ChunkSummary `json:"summary"`
	Pairs   run.PairSummary  `json:"pairs,omitzero"`
	Guard   run.GuardState   `json:"guard,omitzero"`
}

// commit stores the training's state as the checkpoint of its stage and step. The result is that of whoever came first.
func (d *desk) commit(ctx context.Context, t *training, m store.Manifest, r result) (activities.ChunkResult, error) {
	start := time.Now()
	text, err := json.Marshal(r)
	if err != nil {
		return activities.ChunkResult{}, err
	}
	m.Step, m.Seconds, m.Parent = t.step, t.seconds, t.parent
	m.ConfigHash, m.CodeVersion, m.Result = d.job.ConfigHash, d.studio.options.CodeVersion, text
	m.Metrics = map[string]float64{"loss": r.Summary.Loss}
	parts, err := t.parts(d)
	if err != nil {
		return activities.ChunkResult{}, err
	}
	ref, err := d.checkpoints().Save(ctx, m, parts)
	if err != nil {
		return activities.ChunkResult{}, err
	}
	out, err := d.chunkResult(ctx, ref)
	out.SaveSeconds = time.Since(start).Seconds()
	return out, err
}

// chunkResult is what the checkpoint's manifest says about its chunk.
func (d *desk) chunkResult(ctx context.Context, ref run.CheckpointRef) (activities.ChunkResult, error) {
	_, m, err := d.checkpoints().Find(ctx, ref.Stage, ref.Step)
	if err != nil {
		return activities.ChunkResult{}, err
	}
	var r result
	if err := json.Unmarshal(m.Result, &r); err != nil {
		return activities.ChunkResult{}, fmt.Errorf("read result of %s: %w", ref.Manifest.Key, err)
	}
	return activities.ChunkResult{Checkpoint: ref, Summary: r.Summary}, nil
}
