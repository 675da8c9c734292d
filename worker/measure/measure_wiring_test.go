package measure

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/dataset/world"
	"github.com/sciflux/sciflux/engine/cpu"
	"github.com/sciflux/sciflux/eval"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/lora"
	builtin "github.com/sciflux/sciflux/models"
	pixmaps "github.com/sciflux/sciflux/picture"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/trainer"
	"github.com/sciflux/sciflux/worker/checkpoint"
	"github.com/sciflux/sciflux/worker/data"
	"github.com/sciflux/sciflux/worker/models"
	"github.com/sciflux/sciflux/worker/opened"
	"github.com/sciflux/sciflux/worker/recipe"
)

// The folders of unpacked models and of a small drawn data set, for all tests.
var modelDir, dataDir string

func TestMain(m *testing.M) {
	var err error
	if modelDir, err = os.MkdirTemp("", "measure"); err != nil {
		panic(err)
	}
	dataDir = modelDir + "/data"
	code := m.Run()
	os.RemoveAll(modelDir)
	os.Exit(code)
}

// quiet is a monitor that nobody listens to.
type quiet struct{}

func (quiet) Report(run.Progress)       {}
func (quiet) Alive()                    {}
func (quiet) Stopping() <-chan struct{} { return nil }

// opening is an opened run of the world's models and drawn rows, with unusual values wherever an evaluation takes one.
func opening(t *testing.T) *opened.Run {
	t.Helper()
	if _, err := os.Stat(dataDir); err != nil {
		if err := world.Export(t.Context(), dataDir, world.ExportOptions{Train: 2, Side: 16, Seed: 1}); err != nil {
			t.Fatal(err)
		}
	}
	set := []string{"data.source=" + dataDir, "oft.mask.policy=full", "model.compute=f32", "model.text_tokens=9",
		"lora.targets=[attn.to_q, attn.to_v]", "lora.rank=2", "oft.guidance=1", "oft.steps=5",
		"eval.guidance=3.5", "eval.s_churn=0.8", "eval.steps=2", "eval.seed=404", "eval.tuples=10", "eval.pictures=4", "eval.bootstrap=10",
		"eval.during.tuples=3", "eval.during.pictures=2"}
	cfg, err := configs.Load(configs.Sources{Name: "world", Set: set})
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
		Objects: &store.Mem{}, Log: slog.New(slog.DiscardHandler),
	}
}

// tuned commits a checkpoint whose trained adapter is far from its average, and returns the average.
func tuned(t *testing.T, r *opened.Run) (run.CheckpointRef, *lora.Adapter) {
	t.Helper()
	training, err := checkpoint.Begin(t.Context(), r, run.CheckpointRef{}, checkpoint.Start{Optim: configs.Optim{EMA: 0.5}, Setting: r.Recipe.OFTSetting()})
	if err != nil {
		t.Fatal(err)
	}
	defer training.Close()
	for step := range uint64(2) {
		w := training.Adapter.Weights.Floats()
		random.New(5 + step).Normal(w)
		for i := range w {
			w[i] *= 0.2
		}
		training.Stepped(trainer.StepResult{}, checkpoint.Measured{}, 0)
	}
	ref, err := training.Save(t.Context(), r, store.Manifest{Stage: run.StageOFT, Epoch: 5}, checkpoint.Result{})
	if err != nil {
		t.Fatal(err)
	}
	return ref, training.Average.Adapter
}

// byHand draws one picture of a tuple.
func byHand(t *testing.T, r *opened.Run, adapter *lora.Adapter, prompt string, kind eval.Kind, tuple, k int) reward.Images {
	t.Helper()
	sigmas := r.Recipe.Scheduler.Sigmas(2, r.Recipe.Grid.Tokens())
	plan := trainer.Plan{Form: flow.Exact, Sigmas: sigmas, Timesteps: r.Recipe.Scheduler.Timesteps(sigmas), Churn: 0.8}
	key := random.New(404).Purpose("eval "+string(kind)).Index(uint64(tuple), uint64(k))
	start := make([]float32, r.Recipe.LatentSize())
	key.Purpose("start").Normal(start)
	cond, err := r.Models.Conditioning(t.Context(), []string{prompt}, 9)
	if err != nil {
		t.Fatal(err)
	}
	set := trainer.Setting{Grid: r.Recipe.Grid, Guidance: 3.5}
	noise := func(step int, dst []float32) { key.Purpose("noise").Index(uint64(step)).Normal(dst) }
	path, err := trainer.Rollout(t.Context(), r.Models.Backend, r.Models.Pipeline.Transformer, adapter, set, plan, start, 1, cond, noise)
	if err != nil {
		t.Fatal(err)
	}
	image, err := r.Models.Decode(t.Context(), path.Latents[2], 1, r.Recipe.Grid)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// slack is what a few levels that round the other way, in a picture drawn beside others, do to its score.
const slack = 0.03

// compare looks at a picture's measures: score against the implicit prompt, verdict and box of the tuple's judge.
func compare(t *testing.T, r *opened.Run, what string, row data.Row, got eval.Picture, image reward.Images) {
	t.Helper()
	scores, err := r.Models.Scorer.Score(t.Context(), []string{row.Implicit[0]}, image)
	if err != nil {
		t.Fatal(err)
	}
	j, err := r.Data.Judge.Judge(world.FromPlanes(image.Data, image.W), row.Tuple)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(got.Score-scores[0]) > slack || math.Abs(got.Outside-j.Outside) > 0.1 ||
		got.Verdict != j.Verdict.String() || (got.Box != nil) != j.Found {
		t.Errorf("%s is measured as %+v, by itself as %v, %+v", what, got, scores[0], j)
	}
	if got.Box != nil && *got.Box != [4]float64{j.Box.CX, j.Box.CY, j.Box.W, j.Box.H} {
		t.Errorf("%s has its subject in %v, by itself in %+v", what, *got.Box, j.Box)
	}
}

// part evaluates a shard.
func part(t *testing.T, r *opened.Run, v run.Variant, at run.CheckpointRef, shard, shards int) Part {
	t.Helper()
	c := activities.EvalShard{Job: r.Job, Variant: v, Checkpoint: at, Split: "test_S", Shard: shard, Shards: shards}
	p, err := Evaluate(t.Context(), r, c, quiet{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := store.Read(t.Context(), r.Objects, p.Data)
	if err != nil {
		t.Fatal(err)
	}
	var out Part
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestEvaluationsMeasureEachPictureAsByItself: the second shard of a split, whose tuples are numbered from 8, holds for each
// kind of prompt as many pictures as it should, each drawn from its own noises under its own prompt with the settings of
// evaluations; the base without an adapter whatever checkpoint it is asked for, a tuned variant with the average.
func TestEvaluationsMeasureEachPictureAsByItself(t *testing.T) {
	r := opening(t)
	ref, average := tuned(t, r)
	rows, err := r.Data.Test(t.Context(), "test_S")
	if err != nil {
		t.Fatal(err)
	}
	for v, adapter := range map[run.Variant]*lora.Adapter{run.VariantBase: nil, run.VariantOFT: average} {
		got := part(t, r, v, ref, 1, 2)
		if len(got.Tuples) != 2 {
			t.Fatalf("%s: %d tuples in the second shard of 10 in groups of 8", v, len(got.Tuples))
		}
		for i, tuple := range got.Tuples {
			row := rows[8+i]
			if tuple.Index != 8+i || tuple.ID != row.ID || tuple.Law != row.Law || tuple.Category != row.Category {
				t.Errorf("%s: tuple %+v", v, tuple)
			}
			for kind, pictures := range map[eval.Kind][]eval.Picture{
				eval.Implicit: tuple.Implicit, eval.Explicit: tuple.Explicit, eval.Superficial: tuple.Superficial,
			} {
				what := fmt.Sprintf("%s: %s pictures of tuple %d", v, kind, 8+i)
				if n := map[eval.Kind]int{eval.Implicit: 4, eval.Explicit: 2, eval.Superficial: 1}[kind]; len(pictures) != n {
					t.Fatalf("%s: there are %d, want %d", what, len(pictures), n)
				}
				for k, p := range pictures {
					image := byHand(t, r, adapter, row.Prompt(kind), kind, 8+i, k)
					compare(t, r, fmt.Sprintf("%s: number %d", what, k), row, p, image)
					if k == 0 {
						shown(t, what, got, kind, v, 8+i, image)
					}
				}
			}
		}
	}
}

// shown compares the picture that is kept for the report: the first of each tuple, of the base alone for explicit and
// superficial prompts.
func shown(t *testing.T, what string, p Part, kind eval.Kind, v run.Variant, tuple int, image reward.Images) {
	t.Helper()
	kept := map[eval.Kind]map[int][]byte{eval.Implicit: p.Implicit, eval.Explicit: p.Explicit, eval.Superficial: p.Superficial}[kind]
	if kind == eval.Implicit || v == run.VariantBase {
		samePicture(t, what, kept[tuple], image)
	} else if len(kept) > 0 {
		t.Errorf("%s: %d are kept", what, len(kept))
	}
}

// samePicture compares a stored picture with a drawn one, level by level.
func samePicture(t *testing.T, what string, png []byte, image reward.Images) {
	t.Helper()
	got, err := pixmaps.Decode(png)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	want, err := image.Picture(0)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range want.Pix {
		if d := int(v) - int(got.Pix[i]); d > 1 || d < -1 {
			t.Fatalf("%s: level %d at %d, want %d", what, got.Pix[i], i, v)
		}
	}
}

// TestShardsHoldEachTupleOnce: groups of tuples take turns among the shards.
func TestShardsHoldEachTupleOnce(t *testing.T) {
	r := opening(t)
	for shard, want := range [][]int{{0, 1, 2, 3, 4, 5, 6, 7}, {8, 9}} {
		var got []int
		for _, tuple := range part(t, r, run.VariantBase, run.CheckpointRef{}, shard, 2).Tuples {
			got = append(got, tuple.Index)
		}
		if !slices.Equal(got, want) {
			t.Errorf("shard %d holds the tuples %v, want %v", shard, got, want)
		}
	}
}

// TestTheEvaluationDuringTrainingIsABeginning: of the first tuples and pictures of the whole one, named by its checkpoint.
func TestTheEvaluationDuringTrainingIsABeginning(t *testing.T) {
	r := opening(t)
	ref, _ := tuned(t, r)
	whole := part(t, r, run.VariantOFT, ref, 0, 1)
	var ip, right float64
	for _, tuple := range whole.Tuples[:3] {
		for _, p := range tuple.Implicit[:2] {
			ip += p.Score / 6
			if p.Verdict == "right" {
				right += 1. / 6
			}
		}
	}
	c := activities.EvalShard{Job: r.Job, Variant: run.VariantOFT, Checkpoint: ref, Split: "test_S", Shards: 1, Quick: true}
	got, err := Evaluate(t.Context(), r, c, quiet{})
	if err != nil {
		t.Fatal(err)
	}
	q := got.Quick
	if math.Abs(q.IP-ip) > slack || math.Abs(q.JudgeIP-right) > 1e-9 ||
		q.Stage != run.StageOFT || q.Step != 2 || q.Epoch != 5 || !got.Data.IsZero() {
		t.Errorf("%+v, want IP %v and %v right of %+v", got, ip, right, ref)
	}
}

// longTuples are two tuples of different tasks whose boxes are no squares, so that their sides can be told apart.
func longTuples() (out []world.Tuple) {
	for _, drawn := range world.Tuples(world.Train, 3, 60) {
		b := drawn.Box()
		if math.Abs(b.W-b.H) > 0.1 && len(out) < 2 && (len(out) == 0 || out[0].Task != drawn.Task) {
			out = append(out, drawn)
		}
	}
	return out
}

// TestJudgedAsTheirTuple: a picture of each outcome and an empty one, for tuples of two tasks.
func TestJudgedAsTheirTuple(t *testing.T) {
	r := bare(2, &ruler{})
	r.Data.Judge = world.NewJudge()
	const side = 64
	images := reward.Images{H: side, W: side}
	tuples := longTuples()
	for i := range r.Data.Rows {
		r.Data.Rows[i].World, r.Data.Rows[i].Tuple = true, tuples[i]
		for _, right := range []bool{true, false} {
			p := tuples[i].Draw(right, side)
			plane := make([]float32, 3*side*side)
			for k, v := range p.Pix {
				plane[k%3*side*side+k/3] = float32(v) / 255
			}
			images.Data, images.B = append(images.Data, plane...), images.B+1
		}
		images.Data, images.B = append(images.Data, make([]float32, 3*side*side)...), images.B+1
	}
	got := make([]eval.Tuple, 2)
	if err := assess(t.Context(), r, got, r.Data.Rows, eval.Explicit, 3, images); err != nil {
		t.Fatal(err)
	}
	for i, tuple := range got {
		want := tuples[i].Box()
		for k, verdict := range []string{"right", "superficial", "neither"} {
			p := tuple.Explicit[k]
			if p.Verdict != verdict || (p.Box == nil) != (verdict == "neither") || (p.Outside > 20) != (verdict == "neither") {
				t.Errorf("tuple %d: a %s picture is measured as %+v", i, verdict, p)
				continue
			}
			for side, w := range [4]float64{want.CX, want.CY, want.W, want.H} {
				if p.Box != nil && math.Abs(p.Box[side]-w) > 0.06 {
					t.Errorf("tuple %d: the subject is found in %v, drawn in %+v", i, *p.Box, want)
				}
			}
		}
	}
}

// TestShardsBecomeSplits: what shards hold goes to its split, variant and kind, tuples in the order of the split; results say
// how many pictures were drawn of an implicit prompt.
func TestShardsBecomeSplits(t *testing.T) {
	r := bare(1, &ruler{})
	r.Objects, r.Recipe.Config.Eval.Pictures = &store.Mem{}, 7
	tuple := func(i int) eval.Tuple { return eval.Tuple{Index: i, Implicit: []eval.Picture{{Score: float64(i)}}} }
	var parts []activities.EvalPart
	for i, c := range []struct {
		split string
		first int
	}{{"test_S", 4}, {"test_C", 0}, {"test_S", 0}} {
		p := Part{Tuples: []eval.Tuple{tuple(c.first + 1), tuple(c.first)}, Implicit: map[int][]byte{c.first: []byte("i" + c.split)},
			Superficial: map[int][]byte{c.first: []byte("s" + c.split)}, Explicit: map[int][]byte{c.first: []byte("e" + c.split)}}
		ref, err := store.Finish(t.Context(), r.Objects, fmt.Sprint("part", i), func(w io.Writer) error { return json.NewEncoder(w).Encode(p) })
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, activities.EvalPart{Variant: run.VariantBase, Split: c.split, Data: ref})
	}
	splits, err := ReadSplits(t.Context(), r.Objects, parts)
	if err != nil {
		t.Fatal(err)
	}
	if len(splits) != 2 || splits[0].Name != "test_S" || splits[1].Name != "test_C" {
		t.Fatalf("%+v", splits)
	}
	for _, s := range splits {
		p := s.Parts[run.VariantBase]
		var order []int
		for _, tuple := range p.Tuples {
			order = append(order, tuple.Index)
		}
		if want := map[string][]int{"test_S": {0, 1, 4, 5}, "test_C": {0, 1}}[s.Name]; !slices.Equal(order, want) {
			t.Errorf("%s: tuples %v, want %v", s.Name, order, want)
		}
		if got := fmt.Sprintf("%s %s %s", p.Implicit[0], p.Superficial[0], p.Explicit[0]); got != fmt.Sprintf("i%[1]s s%[1]s e%[1]s", s.Name) {
			t.Errorf("%s: shown are %s", s.Name, got)
		}
	}
	rows, err := Summarise(t.Context(), r, activities.SummaryJob{Parts: parts})
	if err != nil || len(rows) != 2 || rows[0].Pictures != 7 || rows[0].Tuples != 4 || rows[0].IP != 2.5 || rows[1].IP != 0.5 {
		t.Errorf("%+v, %v", rows, err)
	}
}
