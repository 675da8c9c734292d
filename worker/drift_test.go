package worker

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/store/safetensors"
)

// trained is a store with a run that has taken a step of SFT.
func trained(t *testing.T, spec run.Spec) (store.Objects, run.CheckpointRef) {
	t.Helper()
	objects := &store.Mem{}
	s := newWorker(t, objects)
	must[activities.PrepareResult](t)(s.Prepare(t.Context(), spec, newWatcher(0)))
	return objects, train(t, objects, spec.Job(), run.StageSFT, run.CheckpointRef{}, 1)
}

// TestOtherInputsStopAResume: data, base or adapter that were replaced under a run are named before anything is computed,
// by Prepare and by a training activity that meets them alone; what was put back goes on.
func TestOtherInputsStopAResume(t *testing.T) {
	dir := ownData(t, 6, func(int, *storedRow) {})
	other := ownData(t, 6, func(i int, r *storedRow) {
		if i == 4 {
			r.Explicit = "a yellow apple"
		}
	})
	adapter := filepath.Join(t.TempDir(), "lora.safetensors")
	writeAdapter(t, adapter, 0.5)
	spec := ownSpec(t, dir, "sft.batch=1", "model.adapter="+adapter)
	objects, at := trained(t, spec)
	file := filepath.Join(dir, "train-00000-of-00001.parquet")
	whole := must[[]byte](t)(os.ReadFile(file))
	replaced := must[[]byte](t)(os.ReadFile(filepath.Join(other, "train-00000-of-00001.parquet")))
	for key, c := range map[string]struct {
		change, back func()
		class        run.Class
	}{
		"data.source":   {func() { put(t, file, replaced) }, func() { put(t, file, whole) }, run.ClassData},
		"model.adapter": {func() { writeAdapter(t, adapter, 0.25) }, func() { writeAdapter(t, adapter, 0.5) }, run.ClassModel},
	} {
		c.change()
		_, err := newWorker(t, objects).Prepare(t.Context(), spec, newWatcher(0))
		_, trainErr := newWorker(t, objects).TrainSFT(t.Context(), activities.SFTChunk{Job: spec.Job(), Stage: run.StageSFT, From: at, To: 2}, newWatcher(0))
		for _, err := range []error{err, trainErr} {
			if run.ClassOf(err) != c.class || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "put back") {
				t.Errorf("%s: class %s, %v", key, run.ClassOf(err), err)
			}
		}
		c.back()
	}
	if _, err := newWorker(t, objects).Prepare(t.Context(), spec, newWatcher(0)); err != nil {
		t.Errorf("with what it began with: %v", err)
	}
}

func put(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// writeAdapter writes an adapter of the world whose A is a number throughout.
func writeAdapter(t *testing.T, path string, value float32) {
	t.Helper()
	s := newWorker(t, &store.Mem{})
	spec := testSpec(t, "data.train_tuples=2")
	must[activities.PrepareResult](t)(s.Prepare(t.Context(), spec, newWatcher(0)))
	r, done, err := s.open(t.Context(), spec.Job(), newWatcher(0))
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	a, err := lora.New(r.Models.Pipeline.Transformer.Layers(), lora.Spec{Targets: []string{"to_q"}, Rank: 2, Alpha: 2}, func(_ lora.Module, a []float32) {
		for i := range a {
			a[i] = value
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	f := must[*os.File](t)(os.Create(path))
	must[int64](t)(a.Write(f, safetensors.F32))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// elsewhere is a machine of another name.
type elsewhere struct{ engine.Backend }

func (elsewhere) Name() string { return "cpu of another kind" }

// TestAnotherMachineIsTold: a run that goes on on another kind of machine says so, and both stand in the manifests.
func TestAnotherMachineIsTold(t *testing.T) {
	spec := testSpec(t, "data.train_tuples=4", "sft.batch=1")
	objects, at := trained(t, spec)
	s := newWorker(t, objects)
	s.models.Backend = elsewhere{s.models.Backend}
	m := newWatcher(0)
	next := must[activities.ChunkResult](t)(s.TrainSFT(t.Context(), activities.SFTChunk{Job: spec.Job(), Stage: run.StageSFT, From: at, To: 2}, m))
	if !slices.ContainsFunc(m.reports, func(p run.Progress) bool {
		return strings.Contains(p.Note, "by cpu of another kind") && strings.Contains(p.Note, "last bits")
	}) {
		t.Errorf("nothing is said: %+v", m.reports)
	}
	c := store.Checkpoints{Objects: objects, Run: "test"}
	_, before, err := c.Find(t.Context(), run.StageSFT, 1)
	if err != nil {
		t.Fatal(err)
	}
	_, after, err := c.Find(t.Context(), run.StageSFT, 2)
	if err != nil {
		t.Fatal(err)
	}
	if before.Machine == after.Machine || !strings.HasPrefix(after.Machine, "cpu of another kind") || !strings.HasSuffix(before.Machine, "float32") {
		t.Errorf("machines %q and %q", before.Machine, after.Machine)
	}
	for _, key := range []string{"model.pipeline", "reward.sciscore", "data.source"} {
		if before.Inputs[key] == "" || before.Inputs[key] != after.Inputs[key] {
			t.Errorf("%s: %q and %q", key, before.Inputs[key], after.Inputs[key])
		}
	}
	must[activities.ExportResult](t)(s.Export(t.Context(), activities.ExportJob{Job: spec.Job(), Variant: run.VariantSFT, Checkpoint: next.Checkpoint}, m))
	text, _, err := store.ReadAll(t.Context(), objects, "runs/test/export/provenance.json")
	var from struct {
		Machine string
		Inputs  map[string]string
	}
	if err != nil || json.Unmarshal(text, &from) != nil || from.Machine != after.Machine || len(from.Inputs) != 4 {
		t.Errorf("provenance %s, %v", text, err)
	}
	for _, name := range []string{"kohya/kohya_lora.safetensors", "peft/adapter_model.safetensors", "peft/adapter_config.json"} {
		if _, err := objects.Head(t.Context(), "runs/test/export/"+name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
