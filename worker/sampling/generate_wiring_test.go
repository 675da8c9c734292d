package sampling

import (
	"log/slog"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/engine/cpu"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/lora"
	builtin "github.com/sciflux/sciflux/models"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/trainer"
	"github.com/sciflux/sciflux/worker/checkpoint"
	"github.com/sciflux/sciflux/worker/data"
	"github.com/sciflux/sciflux/worker/data/datatest"
	"github.com/sciflux/sciflux/worker/models"
	"github.com/sciflux/sciflux/worker/opened"
	"github.com/sciflux/sciflux/worker/pairs"
	"github.com/sciflux/sciflux/worker/recipe"
)

// modelDir holds the unpacked models for all tests.
var modelDir string

func TestMain(m *testing.M) {
	var err error
	if modelDir, err = os.MkdirTemp("", "sampling"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(modelDir)
	os.Exit(code)
}

// quiet is a monitor that nobody listens to.
type quiet struct{}

func (quiet) Report(run.Progress)       {}
func (quiet) Alive()                    {}
func (quiet) Stopping() <-chan struct{} { return nil }

// opening is an opened run of the world's models, computing in float32 on every machine, on rows of no pictures.
func opening(t *testing.T, set ...string) *opened.Run {
	t.Helper()
	cfg, err := configs.Load(configs.Sources{Name: "world", Set: append([]string{"model.compute=f32"}, set...)})
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
	grid, err := m.Pipeline.Grid(cfg.Data.Resolution, cfg.Data.Resolution)
	if err != nil {
		t.Fatal(err)
	}
	rows, prompts := datatest.Rows(5)
	p := m.Pipeline
	facts := recipe.Facts{Scheduler: p.Scheduler, Grid: grid, Channels: p.Transformer.InChannels, TextLength: p.TextLength()}
	return &opened.Run{
		Job: run.Job{Run: "test", ConfigHash: "h"}, Recipe: recipe.Recipe{Config: cfg, Seed: 77, Facts: facts}, Models: m,
		Data: &data.Set{Rows: rows, Prompts: prompts}, Objects: &store.Mem{}, Log: slog.New(slog.DiscardHandler),
	}
}

// trainedPolicy commits a checkpoint whose adapter is far from its average and from the base, and returns both.
func trainedPolicy(t *testing.T, r *opened.Run) (run.CheckpointRef, *lora.Adapter) {
	t.Helper()
	training, err := checkpoint.Begin(t.Context(), r, run.CheckpointRef{}, checkpoint.Start{Optim: configs.Optim{EMA: 0.9}, Setting: r.Recipe.OFTSetting()})
	if err != nil {
		t.Fatal(err)
	}
	w := training.Adapter.Weights.Floats()
	random.New(5).Normal(w)
	for i := range w {
		w[i] *= 0.2
	}
	training.Stepped(trainer.StepResult{}, checkpoint.Measured{}, 0)
	policy := training.Adapter.Clone()
	ref, err := training.Save(t.Context(), r, store.Manifest{Stage: run.StageOFT}, checkpoint.Result{})
	if err != nil {
		t.Fatal(err)
	}
	training.Close()
	return ref, policy
}

// TestRolloutsAreThoseOfThePolicy: every path that the shards store is the one that the trained adapter takes by itself, from
// its own start noise, with its own step noises, under its own prompt at the length, guidance, schedule and noise of stage
// 2, and the picture is that of the path's end.
func TestRolloutsAreThoseOfThePolicy(t *testing.T) {
	r := opening(t, "model.text_tokens=9", "oft.prompts_per_epoch=3", "oft.accumulate_pairs=1", "oft.images_per_prompt=2", "oft.steps=4",
		"oft.noisy_steps=2", "oft.s_churn=1.5", "oft.guidance=4", "oft.forms.step=corrected",
		"sft.guidance=1", "eval.guidance=0.5", "eval.steps=3")
	set := trainer.Setting{Grid: r.Recipe.Grid, Guidance: 4}
	ref, policy := trainedPolicy(t, r)
	scheduler, tokens := r.Recipe.Scheduler, r.Recipe.Grid.Tokens()
	sigmas := scheduler.Sigmas(4, tokens)
	plan := trainer.Plan{Form: flow.Corrected, Sigmas: sigmas, Timesteps: scheduler.Timesteps(sigmas), Churn: 1.5, Noisy: 2}
	numbers := []int{}
	for shard := range 2 {
		at, err := Generate(t.Context(), r, activities.PairShard{Job: r.Job, Epoch: 1, Shard: shard, Shards: 2, Policy: ref}, quiet{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := pairs.ReadRollouts(t.Context(), r.Objects, at)
		if err != nil {
			t.Fatal(err)
		}
		for p, prompt := range got.Prompts {
			numbers = append(numbers, prompt.Number)
			cond, err := r.Models.Conditioning(t.Context(), []string{prompt.Text}, 9)
			if err != nil {
				t.Fatal(err)
			}
			for k := range 2 {
				key := func(purpose string, step int) random.Key {
					return random.New(77).Purpose(purpose).Index(uint64(prompt.Number), uint64(k), uint64(step))
				}
				start := make([]float32, r.Recipe.LatentSize())
				key("oft start", 0).Normal(start)
				want, err := trainer.Rollout(t.Context(), r.Models.Backend, r.Models.Pipeline.Transformer, policy, set, plan, start, 1, cond,
					func(step int, dst []float32) { key("oft noise", step).Normal(dst) })
				if err != nil {
					t.Fatal(err)
				}
				for i, x := range want.Latents[:3] { // those around the two noisy steps
					if d := farthest(got.Latents[p][k][i], x); d > 1e-3 {
						t.Fatalf("prompt %d, picture %d: state %d is off by %g", prompt.Number, k, i, d)
					}
				}
				image, err := r.Models.Decode(t.Context(), want.Latents[4], 1, r.Recipe.Grid)
				if err != nil {
					t.Fatal(err)
				}
				if d := farthest(got.Images.Slice(2*p+k, 2*p+k+1).Data, image.Data); d > 1e-2 {
					t.Errorf("prompt %d, picture %d is another picture: off by %g", prompt.Number, k, d)
				}
			}
		}
	}
	if slices.Sort(numbers); !slices.Equal(numbers, []int{3, 4, 5}) {
		t.Errorf("the shards of the second epoch hold the prompts %v", numbers)
	}
}

// farthest is the largest difference of two lists, and infinite where they differ in length.
func farthest(a, b []float32) (d float64) {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	for i := range a {
		d = max(d, math.Abs(float64(a[i]-b[i])))
	}
	return d
}
