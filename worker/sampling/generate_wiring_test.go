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

// committed is a checkpoint of a stage whose trained adapter is far from its average and from the base; both are returned.
func committed(t *testing.T, r *opened.Run, stage run.Stage) (at run.CheckpointRef, trained, average *lora.Adapter) {
	t.Helper()
	start := checkpoint.Start{Optim: configs.Optim{EMA: 0.5}, Setting: r.Recipe.OFTSetting()}
	training, err := checkpoint.Begin(t.Context(), r, run.CheckpointRef{}, start)
	if err != nil {
		t.Fatal(err)
	}
	defer training.Close()
	w := training.Adapter.Weights.Floats()
	random.New(5).Normal(w)
	for i := range w {
		w[i] *= 0.2
	}
	training.Stepped(trainer.StepResult{}, checkpoint.Measured{}, 0)
	trained = training.Adapter.Clone()
	at, err = training.Save(t.Context(), r, store.Manifest{Stage: stage}, checkpoint.Result{})
	if err != nil {
		t.Fatal(err)
	}
	return at, trained, training.Average.Adapter
}

// pathByHand is one picture's path by itself.
func pathByHand(t *testing.T, r *opened.Run, policy *lora.Adapter, prompt pairs.Prompt, sample int) *trainer.Trajectory {
	t.Helper()
	sigmas := r.Recipe.Scheduler.Sigmas(4, r.Recipe.Grid.Tokens())
	plan := trainer.Plan{Form: flow.Corrected, Sigmas: sigmas, Timesteps: r.Recipe.Scheduler.Timesteps(sigmas), Churn: 1.5, Noisy: 2}
	set := trainer.Setting{Grid: r.Recipe.Grid, Guidance: 4}
	key := func(purpose string, step int) random.Key {
		return random.New(77).Purpose(purpose).Index(uint64(prompt.Number), uint64(sample), uint64(step))
	}
	noise := func(step int, dst []float32) { key("oft noise", step).Normal(dst) }
	start := make([]float32, r.Recipe.LatentSize())
	key("oft start", 0).Normal(start)
	cond, err := r.Models.Conditioning(t.Context(), []string{prompt.Text}, 9)
	if err != nil {
		t.Fatal(err)
	}
	path, err := trainer.Rollout(t.Context(), r.Models.Backend, r.Models.Pipeline.Transformer, policy, set, plan, start, 1, cond, noise)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRolloutsAreThoseOfThePolicy: every path that the shards store is the one that the policy takes by itself, from its own
// start noise, with its own step noises, under its own prompt at the length, guidance, schedule and noise of stage 2, and the
// picture is that of the path's end. The policy is the trained adapter, in the first epoch what stage 1 is evaluated by.
func TestRolloutsAreThoseOfThePolicy(t *testing.T) {
	for epoch, stage := range []run.Stage{run.StageSFT, run.StageOFT} {
		r := opening(t, "model.text_tokens=9", "oft.prompts_per_epoch=3", "oft.accumulate_pairs=1", "oft.images_per_prompt=2", "oft.steps=4",
			"oft.noisy_steps=2", "oft.s_churn=1.5", "oft.guidance=4", "oft.forms.step=corrected",
			"sft.guidance=1", "eval.guidance=0.5", "eval.steps=3")
		at, trained, average := committed(t, r, stage)
		policy := map[run.Stage]*lora.Adapter{run.StageSFT: average, run.StageOFT: trained}[stage]
		numbers := []int{}
		for shard := range 2 {
			ref, err := Generate(t.Context(), r, activities.PairShard{Job: r.Job, Epoch: epoch, Shard: shard, Shards: 2, Policy: at}, quiet{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := pairs.ReadRollouts(t.Context(), r.Objects, ref)
			if err != nil {
				t.Fatal(err)
			}
			for p, prompt := range got.Prompts {
				numbers = append(numbers, prompt.Number)
				for k := range 2 {
					samePath(t, r, got, p, k, pathByHand(t, r, policy, prompt, k))
				}
			}
		}
		if slices.Sort(numbers); !slices.Equal(numbers, []int{3 * epoch, 3*epoch + 1, 3*epoch + 2}) {
			t.Errorf("the shards of epoch %d hold the prompts %v", epoch, numbers)
		}
	}
}

// samePath compares the states and the picture of sample k of prompt p with a path.
func samePath(t *testing.T, r *opened.Run, got *pairs.Rollouts, p, k int, want *trainer.Trajectory) {
	t.Helper()
	if n := len(got.Latents[p][k]); n != 3 {
		t.Fatalf("%d states are kept, want those around the two noisy steps", n)
	}
	for i, x := range want.Latents[:3] {
		if d := farthest(got.Latents[p][k][i], x); d > 1e-3 {
			t.Fatalf("prompt %d, picture %d: state %d is off by %g", got.Prompts[p].Number, k, i, d)
		}
	}
	image, err := r.Models.Decode(t.Context(), want.Latents[len(want.Latents)-1], 1, r.Recipe.Grid)
	if err != nil {
		t.Fatal(err)
	}
	if d := farthest(got.Images.Slice(2*p+k, 2*p+k+1).Data, image.Data); d > 1e-2 {
		t.Errorf("prompt %d, picture %d is another picture: off by %g", got.Prompts[p].Number, k, d)
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
