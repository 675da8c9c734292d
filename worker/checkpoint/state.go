package checkpoint

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/graph"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/store/safetensors"
	"github.com/sciflux/sciflux/trainer"
	"github.com/sciflux/sciflux/worker/opened"
	"github.com/sciflux/sciflux/worker/recipe"
)

// Training is a learner with the counters that a checkpoint keeps.
type Training struct {
	*trainer.Learner
	Average *trainer.Average // nil without EMA
	Old     *trainer.Average // the old policy of stage 2; nil where the method keeps none
	Tally   Tally            // of the chunk under way
	Seconds float64          // working time of the stage
	Step    int              // optimiser steps finished in this stage

	// Moved says that the checkpoint was computed by another machine, whose last bits may differ; empty where it was not.
	Moved string

	method string // of stage 2
	parent run.ObjectRef
	be     engine.Backend
}

// Start says how a stage trains.
type Start struct {
	Optim   configs.Optim
	Setting trainer.Setting
	// Fresh asks for the checkpoint's evaluated adapter with new moments and counters, as a stage starts from the end of
	// another.
	Fresh  bool
	Method string // of stage 2; empty in others
	Old    bool   // keep an old policy, which begins as the policy
}

// Measured is what stage 2 tells of a step beside its loss.
type Measured struct{ KL, Clamped, Distance float64 }

// Tally sums what a chunk's summary is made of. It is kept in checkpoints inside a chunk, so that an interrupted chunk
// reports what the unbroken one would have.
type Tally struct {
	Steps    int     `json:"steps"`
	Loss     float64 `json:"loss"`
	GradNorm float64 `json:"grad_norm"`
	KL       float64 `json:"kl"`
	Clamped  float64 `json:"clamped"`
	Distance float64 `json:"distance,omitempty"`
	Rate     float64 `json:"rate"`
}

func (t *Tally) add(r trainer.StepResult, m Measured) {
	t.Steps++
	t.Loss, t.GradNorm, t.Rate = t.Loss+r.Loss, t.GradNorm+r.Norm, t.Rate+r.Rate
	t.KL, t.Clamped, t.Distance = t.KL+m.KL, t.Clamped+m.Clamped, t.Distance+m.Distance
}

// Summary is the mean over the steps.
func (t Tally) Summary() run.ChunkSummary {
	n := float64(max(1, t.Steps))
	return run.ChunkSummary{Steps: t.Steps, Loss: t.Loss / n, GradNorm: t.GradNorm / n, KL: t.KL / n, Clamped: t.Clamped / n, Distance: t.Distance / n,
		LearnRate: t.Rate / n}
}

// counters is the state part.
type counters struct {
	Updates int   `json:"updates"` // of the optimiser since its moments were zero
	Tally   Tally `json:"tally"`   // zero at a chunk's end
	// Method is that of stage 2, whose old policy is another one for each; empty: dpo, or another stage.
	Method string `json:"method,omitempty"`
}

// Begin opens a learner in the state of a checkpoint; a zero reference is the initial adapter.
func Begin(ctx context.Context, r *opened.Run, from run.CheckpointRef, s Start) (*Training, error) {
	l, err := Load(ctx, r, from)
	if err != nil {
		return nil, err
	}
	start := trained
	if s.Fresh {
		start = func(r *opened.Run, l *store.Loaded) (*lora.Adapter, error) { return adapterOf(r, l, store.AdapterPart) }
	}
	adapter, err := start(r, l)
	if err != nil {
		return nil, err
	}
	memory, err := graph.ParseMemory(r.Recipe.Config.Worker.Memory)
	if err != nil {
		return nil, run.Errorf(run.ClassConfig, "use", "worker.memory", "", "%w", err)
	}
	be := r.Models.Backend
	learner, err := trainer.NewLearner(be, r.Models.Pipeline.Transformer, adapter, recipe.Optimizer(s.Optim), s.Setting, flux.SessionOptions{Memory: memory})
	if err != nil {
		return nil, fmt.Errorf("open learner: %w", err)
	}
	t := &Training{Learner: learner, method: s.Method, parent: from.Manifest, be: be}
	if err := t.sameRun(r, l.Manifest); err != nil {
		t.Close()
		return nil, err
	}
	if s.Optim.EMA > 0 {
		t.Average = trainer.NewAverage(be, adapter, s.Optim.EMA)
	}
	if s.Old {
		t.Old = trainer.NewAverage(be, adapter, 0)
	}
	if s.Fresh || from.IsZero() {
		return t, nil
	}
	if err := t.restore(r, l); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// sameRun compares what the checkpoint came from with what is here: another base, data set, scorer or initial adapter is an
// error, another machine is told.
func (t *Training) sameRun(r *opened.Run, m store.Manifest) error {
	if err := SameInputs(r, m); err != nil {
		return err
	}
	if m.Machine != "" && m.Machine != r.Machine {
		t.Moved = fmt.Sprintf("computed by %s until here, by %s from here: the adapter may differ in its last bits from an unbroken run's", m.Machine, r.Machine)
		r.Log.Warn("the run goes on on another kind of machine", "stage", m.Stage, "step", m.Step, "before", m.Machine, "now", r.Machine)
	}
	return nil
}

// restore sets moments, counters and average.
func (t *Training) restore(r *opened.Run, l *store.Loaded) error {
	var c counters
	if err := json.Unmarshal(l.Parts[StatePart], &c); err != nil {
		return run.Errorf(run.ClassStorage, "read counters of", l.Checkpoint.Manifest.Key, "", "%w", err)
	}
	moments, err := safetensors.Parse(OptimizerPart, l.Parts[OptimizerPart])
	if err != nil {
		return fmt.Errorf("read moments of %s: %w", l.Checkpoint.Manifest.Key, err)
	}
	for name, into := range map[string]*engine.Tensor{"exp_avg": t.Optimizer.M, "exp_avg_sq": t.Optimizer.V} {
		values, err := moments.Float32(name, into.Len())
		if err != nil {
			return fmt.Errorf("read moments of %s: %w", l.Checkpoint.Manifest.Key, err)
		}
		t.be.Upload(into, values)
	}
	t.Optimizer.Steps, t.Tally = c.Updates, c.Tally
	t.Step, t.Seconds = l.Manifest.Step, l.Manifest.Seconds
	if err := t.sameMethod(l, c.Method); err != nil {
		return err
	}
	if err := restoreMean(r, l, t.Average, store.AdapterPart); err != nil {
		return err
	}
	return restoreMean(r, l, t.Old, OldPart)
}

// restoreMean sets a mean that the training keeps from its part.
func restoreMean(r *opened.Run, l *store.Loaded, m *trainer.Average, part string) error {
	if m == nil {
		return nil
	}
	mean, err := adapterOf(r, l, part)
	if err == nil {
		m.Restore(mean)
	}
	return err
}

// sameMethod refuses to go on with another method of stage 2 than the checkpoint was made by: its moments and old policy are
// of other losses.
func (t *Training) sameMethod(l *store.Loaded, was string) error {
	if was = cmp.Or(was, configs.MethodDPO); t.method == "" || was == t.method {
		return nil
	}
	return run.Errorf(run.ClassConfig, "continue", fmt.Sprintf("%s step %d", l.Manifest.Stage, l.Manifest.Step),
		"put oft.method back, or start a new run under another name", "it was trained by oft.method %s, the config says %s", was, t.method)
}

// Stepped counts an optimiser step that took some seconds.
func (t *Training) Stepped(r trainer.StepResult, m Measured, seconds float64) {
	t.Step++
	t.Seconds += seconds
	t.Tally.add(r, m)
	if t.Average != nil {
		t.Average.Add(t.Adapter)
	}
}

// Save commits the training's state as the checkpoint of its stage and step, with the machine and the inputs it came from.
func (t *Training) Save(ctx context.Context, r *opened.Run, m store.Manifest, result Result) (run.CheckpointRef, error) {
	text, err := json.Marshal(result)
	if err != nil {
		return run.CheckpointRef{}, err
	}
	m.Step, m.Seconds, m.Parent, m.Result = t.Step, t.Seconds, t.parent, text
	m.ConfigHash, m.CodeVersion, m.Machine, m.Inputs = r.Job.ConfigHash, r.CodeVersion, r.Machine, r.Inputs
	m.Metrics = map[string]float64{"loss": result.Summary.Loss}
	parts, err := t.parts()
	if err != nil {
		return run.CheckpointRef{}, err
	}
	return r.Checkpoints().Save(ctx, m, parts)
}

// parts are what a checkpoint of the training holds.
func (t *Training) parts() ([]store.Part, error) {
	evaluated := t.Adapter
	var parts []store.Part
	if t.Average != nil {
		evaluated = t.Average.Adapter
		policy, err := adapterPart(PolicyPart, t.Adapter)
		if err != nil {
			return nil, err
		}
		parts = append(parts, policy)
	}
	if t.Old != nil {
		old, err := adapterPart(OldPart, t.Old.Adapter)
		if err != nil {
			return nil, err
		}
		parts = append(parts, old)
	}
	adapter, err := adapterPart(store.AdapterPart, evaluated)
	if err != nil {
		return nil, err
	}
	moments, err := t.moments()
	if err != nil {
		return nil, err
	}
	state, err := json.Marshal(counters{Updates: t.Optimizer.Steps, Tally: t.Tally, Method: t.method})
	if err != nil {
		return nil, err
	}
	return append(parts, adapter, store.BytesPart(OptimizerPart, moments), store.BytesPart(StatePart, state)), nil
}

// moments is the optimiser part.
func (t *Training) moments() ([]byte, error) {
	n := t.Adapter.Parameters()
	m, v := make([]float32, n), make([]float32, n)
	t.be.Download(m, t.Optimizer.M)
	t.be.Download(v, t.Optimizer.V)
	var b bytes.Buffer
	_, err := safetensors.Write(&b, []safetensors.Tensor{
		safetensors.Float32s("exp_avg", safetensors.F32, []int{n}, m), safetensors.Float32s("exp_avg_sq", safetensors.F32, []int{n}, v)}, nil)
	return b.Bytes(), err
}
