package training

import (
	"bytes"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/dataset/world"
	"github.com/sciflux/sciflux/engine/cpu"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/model/lora"
	builtin "github.com/sciflux/sciflux/models"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/trainer"
	"github.com/sciflux/sciflux/worker/checkpoint"
	"github.com/sciflux/sciflux/worker/data"
	"github.com/sciflux/sciflux/worker/latents"
	"github.com/sciflux/sciflux/worker/models"
	"github.com/sciflux/sciflux/worker/opened"
	"github.com/sciflux/sciflux/worker/recipe"
)

// The folders of unpacked models and of a small drawn data set, for all tests.
var modelDir, dataDir string

func TestMain(m *testing.M) {
	var err error
	if modelDir, err = os.MkdirTemp("", "training"); err != nil {
		panic(err)
	}
	dataDir = modelDir + "/data"
	code := m.Run()
	os.RemoveAll(modelDir)
	os.Exit(code)
}

// quiet is a monitor that stops the work after some reports; 0 never does.
type quiet struct {
	after int
	stop  chan struct{}
}

func stopping(after int) *quiet { return &quiet{after, make(chan struct{})} }

func (q *quiet) Report(run.Progress) {
	if q.after--; q.after == 0 {
		close(q.stop)
	}
}
func (q *quiet) Alive()                    {}
func (q *quiet) Stopping() <-chan struct{} { return q.stop }

// opening is an opened run of the world's models on six drawn rows, with unusual values wherever training takes one.
func opening(t *testing.T, set ...string) *opened.Run {
	t.Helper()
	if _, err := os.Stat(dataDir); err != nil {
		if err := world.Export(t.Context(), dataDir, world.ExportOptions{Train: 6, Side: 64, Seed: 1}); err != nil {
			t.Fatal(err)
		}
	}
	base := []string{"data.source=" + dataDir, "model.text_tokens=9", "lora.targets=[attn.to_q, attn.to_v]", "lora.rank=2",
		"oft.mask.policy=full",
		"sft.steps=3", "sft.batch=2", "sft.accumulate=2", "sft.lr=0.02", "sft.betas=[0.7, 0.9]", "sft.eps=1e-4", "sft.max_grad_norm=0.3",
		"sft.guidance=2.5", "sft.ema=0", "oft.epochs=2", "oft.prompts_per_epoch=4", "oft.accumulate_pairs=2", "oft.images_per_prompt=2",
		"oft.steps=2", "oft.lr=0.03", "oft.betas=[0.6, 0.8]", "oft.eps=1e-5", "oft.max_grad_norm=0.2", "oft.guidance=4", "oft.ema=0",
		"eval.guidance=0.5"}
	if !strings.Contains(strings.Join(set, " "), "oft.method=") {
		base = append(base, "oft.noisy_steps=0", "oft.s_churn=1.5", "oft.beta=3", "oft.eps_clamp=0.05", "oft.forms.step=corrected")
	}
	cfg, err := configs.Load(configs.Sources{Name: "world", Set: append(base, set...)})
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
	d, err := data.Open(t.Context(), cfg, modelDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	grid, err := m.Pipeline.Grid(64, 64)
	if err != nil {
		t.Fatal(err)
	}
	p := m.Pipeline
	facts := recipe.Facts{Scheduler: p.Scheduler, Grid: grid, Channels: p.Transformer.InChannels, TextLength: p.TextLength()}
	return &opened.Run{
		Job: run.Job{Run: "test", ConfigHash: "h"}, Recipe: recipe.Recipe{Config: cfg, Seed: 31, Facts: facts}, Models: m, Data: d,
		Latents: &latents.Encoder{VAE: m.Pipeline.VAE, Data: d}, Objects: &store.Mem{}, Log: slog.New(slog.DiscardHandler),
	}
}

// byHand is a learner made without package checkpoint.
func byHand(t *testing.T, r *opened.Run, start *lora.Adapter, guidance float64, o trainer.OptimizerConfig) *trainer.Learner {
	t.Helper()
	set := trainer.Setting{Grid: r.Recipe.Grid, Guidance: guidance, BatchTokens: r.Recipe.Config.Model.BatchTokens}
	l, err := trainer.NewLearner(r.Models.Backend, r.Models.Pipeline.Transformer, start, o, set, flux.SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// stage1 commits the end of a stage 1 whose trained adapter is far from its average, and from the initial one.
func stage1(t *testing.T, r *opened.Run) run.CheckpointRef {
	t.Helper()
	training, err := checkpoint.Begin(t.Context(), r, run.CheckpointRef{}, checkpoint.Start{Optim: configs.Optim{EMA: 0.7}, Setting: r.Recipe.SFTSetting()})
	if err != nil {
		t.Fatal(err)
	}
	defer training.Close()
	for step := range uint64(3) {
		w := training.Adapter.Weights.Floats()
		random.New(5 + step).Normal(w)
		for i := range w {
			w[i] *= 0.1
		}
		training.Stepped(trainer.StepResult{}, checkpoint.Measured{}, 0)
	}
	random.New(9).Normal(training.Optimizer.M.Floats())
	for i, v := range training.Optimizer.M.Floats() {
		training.Optimizer.V.Floats()[i] = v * v
	}
	training.Optimizer.Steps = 40
	ref, err := training.Save(t.Context(), r, store.Manifest{Stage: run.StageSFT, StageEnd: true}, checkpoint.Result{})
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// sameAdapter compares the trained adapter of a checkpoint with another to the bit.
func sameAdapter(t *testing.T, what string, r *opened.Run, at run.CheckpointRef, want *lora.Adapter) {
	t.Helper()
	got, err := checkpoint.Trained(t.Context(), r, at)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Weights.Floats(), want.Weights.Floats()) {
		t.Errorf("%s: another adapter than the trainer makes of the recipe's values", what)
	}
}

// manifest is that of a step.
func manifest(t *testing.T, r *opened.Run, stage run.Stage, step int) store.Manifest {
	t.Helper()
	_, m, err := r.Checkpoints().Find(t.Context(), stage, step)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// logged are the metrics of a chunk.
func logged(t *testing.T, r *opened.Run, name string) []run.Event {
	t.Helper()
	text, _, err := store.ReadAll(t.Context(), r.Objects, run.Keys("test").Metrics()+name)
	if err != nil {
		t.Fatal(err)
	}
	events, err := run.ReadEvents(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return events
}
