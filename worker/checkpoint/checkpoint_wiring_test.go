package checkpoint

import (
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/engine/cpu"
	"github.com/sciflux/sciflux/model/lora"
	builtin "github.com/sciflux/sciflux/models"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/store/safetensors"
	"github.com/sciflux/sciflux/trainer"
	"github.com/sciflux/sciflux/worker/models"
	"github.com/sciflux/sciflux/worker/opened"
	"github.com/sciflux/sciflux/worker/recipe"
)

// modelDir holds the unpacked models for all tests.
var modelDir string

func TestMain(m *testing.M) {
	var err error
	if modelDir, err = os.MkdirTemp("", "checkpoint"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(modelDir)
	os.Exit(code)
}

// opening is an opened run of the world's models without data.
func opening(t *testing.T, set ...string) *opened.Run {
	t.Helper()
	cfg, err := configs.Load(configs.Sources{Name: "world", Set: append([]string{"lora.targets=[attn.to_q]", "lora.rank=2"}, set...)})
	if err != nil {
		t.Fatal(err)
	}
	be, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	m, err := models.NewKeeper(be, builtin.Files, modelDir, 0).Open(t.Context(), cfg, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Release)
	return &opened.Run{
		Job: run.Job{Run: "test", ConfigHash: "of the config"}, Recipe: recipe.Recipe{Config: cfg, Seed: 7}, Models: m, Objects: &store.Mem{},
		CodeVersion: "v9", Machine: "abacus", Inputs: map[string]string{"data.source": "d1"}, Log: slog.New(slog.DiscardHandler),
	}
}

// begin opens a training that the test closes.
func begin(t *testing.T, r *opened.Run, from run.CheckpointRef, fresh bool, o configs.Optim) *Training {
	t.Helper()
	training, err := Begin(t.Context(), r, from, Start{Fresh: fresh, Optim: o})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(training.Close)
	return training
}

func fill(values []float32, seed uint64) { random.New(seed).Normal(values) }

// values of an adapter, copied.
func values(a *lora.Adapter) []float32 { return slices.Clone(a.Weights.Floats()) }

// worked is a training after two steps with numbers of the test's own, and the average of its adapters.
func worked(t *testing.T, r *opened.Run, ema float64) (*Training, []float32) {
	t.Helper()
	training := begin(t, r, run.CheckpointRef{}, false, configs.Optim{EMA: ema})
	mean := values(training.Adapter)
	for step := range uint64(2) {
		w := training.Adapter.Weights.Floats()
		fill(w, 10+step)
		for i := range mean {
			mean[i] = float32(ema)*mean[i] + float32(1-ema)*w[i]
		}
		training.Stepped(trainer.StepResult{Loss: 1 + float64(step), Norm: 3, Rate: 0.5}, Measured{KL: 0.25, Clamped: 0.75}, 4)
	}
	fill(training.Optimizer.M.Floats(), 20)
	fill(training.Optimizer.V.Floats(), 21)
	training.Optimizer.Steps = 9
	return training, mean
}

func near(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Abs(float64(x-y)) < 1e-5 })
}

// TestCheckpointsHoldTheWholeTraining: the trained adapter, its average, moments, counters, sums and time come back as they
// were; what is evaluated is the average; the manifest names config, program, machine, inputs and the checkpoint before.
func TestCheckpointsHoldTheWholeTraining(t *testing.T) {
	r := opening(t)
	training, mean := worked(t, r, 0.75)
	policy, first, second := values(training.Adapter), slices.Clone(training.Optimizer.M.Floats()), slices.Clone(training.Optimizer.V.Floats())
	oft := store.Manifest{Stage: run.StageOFT, Epoch: 3, Reference: "sft"}
	ref, err := training.Save(t.Context(), r, oft, Result{Summary: run.ChunkSummary{Loss: 1.5}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		of   func() (*lora.Adapter, error)
		want []float32
	}{
		"trained":   {func() (*lora.Adapter, error) { return Trained(t.Context(), r, ref) }, policy},
		"evaluated": {func() (*lora.Adapter, error) { return Evaluated(t.Context(), r, ref) }, mean},
	} {
		a, err := c.of()
		if err != nil || !near(values(a), c.want) {
			t.Errorf("the %s adapter is another one (%v)", name, err)
		}
	}
	again := begin(t, r, ref, false, configs.Optim{EMA: 0.75})
	for what, same := range map[string]bool{
		"trained adapter": slices.Equal(values(again.Adapter), policy), "average": near(values(again.Average.Adapter), mean),
		"first moments": slices.Equal(again.Optimizer.M.Floats(), first), "second moments": slices.Equal(again.Optimizer.V.Floats(), second),
		"updates": again.Optimizer.Steps == 9, "step": again.Step == 2, "seconds": again.Seconds == 8,
		"sums": again.Tally == Tally{Steps: 2, Loss: 3, GradNorm: 6, KL: 0.5, Clamped: 1.5, Rate: 1},
	} {
		if !same {
			t.Errorf("another %s comes back", what)
		}
	}
	_, m, err := r.Checkpoints().Find(t.Context(), run.StageOFT, 2)
	if err != nil {
		t.Fatal(err)
	}
	if m.ConfigHash != "of the config" || m.CodeVersion != "v9" || m.Machine != "abacus" || m.Inputs["data.source"] != "d1" ||
		!m.Parent.IsZero() || m.Epoch != 3 || m.Reference != "sft" || m.Seconds != 8 || m.Metrics["loss"] != 1.5 {
		t.Errorf("manifest %+v", m)
	}
	again.Stepped(trainer.StepResult{}, Measured{}, 1)
	if _, err := again.Save(t.Context(), r, store.Manifest{Stage: run.StageOFT}, Result{}); err != nil {
		t.Fatal(err)
	}
	if _, m, err := r.Checkpoints().Find(t.Context(), run.StageOFT, 3); err != nil || m.Parent != ref.Manifest {
		t.Errorf("the next checkpoint continues %+v (%v), not %+v", m.Parent, err, ref.Manifest)
	}
}

// TestAStageBeginsFromWhatIsEvaluated: with the average of the stage before, and without moments, counters and time of it.
func TestAStageBeginsFromWhatIsEvaluated(t *testing.T) {
	r := opening(t)
	training, mean := worked(t, r, 0.75)
	ref, err := training.Save(t.Context(), r, store.Manifest{Stage: run.StageSFT}, Result{})
	if err != nil {
		t.Fatal(err)
	}
	next := begin(t, r, ref, true, configs.Optim{EMA: 0.5})
	if !near(values(next.Adapter), mean) || !near(values(next.Average.Adapter), mean) {
		t.Error("it begins from another adapter")
	}
	if next.Optimizer.Steps != 0 || next.Step != 0 || next.Seconds != 0 || next.Tally != (Tally{}) ||
		slices.Max(next.Optimizer.M.Floats()) != 0 || slices.Max(next.Optimizer.V.Floats()) != 0 {
		t.Error("it begins with moments or counters")
	}
}

// TestWithoutAnAverage: the trained adapter is what is evaluated, and the checkpoint holds it once.
func TestWithoutAnAverage(t *testing.T) {
	r := opening(t)
	training, _ := worked(t, r, 0)
	policy := values(training.Adapter)
	ref, err := training.Save(t.Context(), r, store.Manifest{Stage: run.StageSFT}, Result{})
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := Load(t.Context(), r, ref)
	if err != nil {
		t.Fatal(err)
	}
	a, err := Evaluated(t.Context(), r, ref)
	if err != nil || !slices.Equal(values(a), policy) || loaded.Parts[PolicyPart] != nil || training.Average != nil {
		t.Errorf("%v, policy part of %d bytes, average %v", err, len(loaded.Parts[PolicyPart]), training.Average)
	}
}

// TestAGivenAdapterIsTheStart: model.adapter's numbers, not fresh ones.
func TestAGivenAdapterIsTheStart(t *testing.T) {
	made, err := Initial(opening(t, "seed=3"))
	if err != nil {
		t.Fatal(err)
	}
	fill(made.Weights.Floats(), 1)
	path := filepath.Join(t.TempDir(), "given.safetensors")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = made.Write(f, safetensors.F32)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	start, err := Initial(opening(t, "model.adapter="+path))
	if err != nil || !slices.Equal(values(start), values(made)) {
		t.Errorf("the run starts from another adapter (%v)", err)
	}
}

// TestOtherInputsStopARun: a checkpoint that came from another data set is not continued, and the error names both.
func TestOtherInputsStopARun(t *testing.T) {
	r := opening(t)
	training, _ := worked(t, r, 0)
	ref, err := training.Save(t.Context(), r, store.Manifest{Stage: run.StageSFT}, Result{})
	if err != nil {
		t.Fatal(err)
	}
	r.Inputs = map[string]string{"data.source": "d2"}
	_, err = Begin(t.Context(), r, ref, Start{})
	if run.ClassOf(err) != run.ClassData || !strings.Contains(err.Error(), "d1") || !strings.Contains(err.Error(), "d2") {
		t.Errorf("%v", err)
	}
}
