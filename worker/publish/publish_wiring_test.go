package publish

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/dataset/world"
	"github.com/sciflux/sciflux/engine/cpu"
	"github.com/sciflux/sciflux/eval"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/lora"
	builtin "github.com/sciflux/sciflux/models"
	"github.com/sciflux/sciflux/picture"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/report"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/store/safetensors"
	"github.com/sciflux/sciflux/trainer"
	"github.com/sciflux/sciflux/worker/checkpoint"
	"github.com/sciflux/sciflux/worker/data"
	"github.com/sciflux/sciflux/worker/measure"
	"github.com/sciflux/sciflux/worker/models"
	"github.com/sciflux/sciflux/worker/opened"
	"github.com/sciflux/sciflux/worker/pairs"
	"github.com/sciflux/sciflux/worker/recipe"
	"github.com/sciflux/sciflux/worker/sampling"
)

// The folders of unpacked models and of a small drawn data set, for all tests.
var modelDir, dataDir string

func TestMain(m *testing.M) {
	var err error
	if modelDir, err = os.MkdirTemp("", "publish"); err != nil {
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

// opening is an opened run of the world's models and drawn rows.
func opening(t *testing.T) *opened.Run {
	t.Helper()
	if _, err := os.Stat(dataDir); err != nil {
		if err := world.Export(t.Context(), dataDir, world.ExportOptions{Train: 2, Side: 16, Seed: 1}); err != nil {
			t.Fatal(err)
		}
	}
	set := []string{"name=config-name", "data.source=" + dataDir, "oft.mask.policy=full", "lora.targets=[attn.to_q, attn.to_v]", "lora.rank=2",
		"lora.rank_pattern=[attn.to_v=5]", "worker.price_per_hour=3", "worker.currency=EUR"}
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
	return &opened.Run{
		Job: run.Job{Run: "apples", ConfigHash: "c0ffee", Seed: 12}, Recipe: recipe.Recipe{Config: cfg}, Models: m, Data: d,
		Objects: &store.Mem{}, Log: slog.New(slog.DiscardHandler),
		CodeVersion: "v9", Machine: "abacus", Inputs: map[string]string{"data.source": "d1"},
	}
}

// results are those of two variants, with a number of its own in every place.
func results() []run.EvalResult {
	return []run.EvalResult{
		{Split: "test_S", Variant: run.VariantBase, Tuples: 9, IP: 1.25, EP: 2.5, SP: 3.75, JudgeIP: 0.125, JudgeEP: 0.25, JudgeSP: 0.375},
		{Split: "test_S", Variant: run.VariantOFT, Tuples: 9, IP: 4.25, EP: 5.5, SP: 6.75, RI: 0.4, ND: 0.5,
			JudgeIP: 0.625, JudgeEP: 0.75, JudgeSP: 0.875, RIGain: run.Interval{Mean: 0.2, Low: 0.1, High: 0.3}},
	}
}

func read(t *testing.T, r *opened.Run, key string) []byte {
	t.Helper()
	text, _, err := store.ReadAll(t.Context(), r.Objects, key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestWhatIsExportedSaysWhereItCameFrom: the average to the last bit in every format, a card and a provenance that name
// checkpoint, config, seed, rank and results.
func TestWhatIsExportedSaysWhereItCameFrom(t *testing.T) {
	r := opening(t)
	training, err := checkpoint.Begin(t.Context(), r, run.CheckpointRef{}, checkpoint.Start{Optim: configs.Optim{EMA: 0.5}})
	if err != nil {
		t.Fatal(err)
	}
	defer training.Close()
	random.New(5).Normal(training.Adapter.Weights.Floats())
	training.Stepped(trainer.StepResult{}, checkpoint.Measured{}, 0)
	ref, err := training.Save(t.Context(), r, store.Manifest{Stage: run.StageOFT}, checkpoint.Result{})
	if err != nil {
		t.Fatal(err)
	}
	job := activities.ExportJob{Job: r.Job, Variant: run.VariantOFT, Checkpoint: ref, Results: results()}
	out, err := Export(t.Context(), r, job, quiet{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{lora.DiffusersFile, "kohya", "peft"} {
		exported(t, r, name, training.Average.Adapter)
	}
	all, err := r.Objects.List(t.Context(), "runs/apples/export/")
	if err != nil || len(all) != out.Files || !bytes.Contains(read(t, r, out.Adapter.Key), []byte("lora_A")) {
		t.Errorf("%d files (%v), told are %+v", len(all), err, out)
	}
	card := string(read(t, r, "runs/apples/export/README.md"))
	for _, say := range []string{"# apples\n", "LoRA adapter, rank 2 to 5, for world, fine-tuned by sciflux (SFT + OFT).",
		"- checkpoint: " + ref.String() + "\n", "- config hash: `c0ffee`\n", "- seed: 12\n",
		"| test_S | base | 1.25 | 2.50 | 0.000 | 0.125 |\n", "| test_S | SFT + OFT | 4.25 | 5.50 | 0.400 | 0.625 |\n", lora.DiffusersFile} {
		if !strings.Contains(card, say) {
			t.Errorf("the card lacks %q:\n%s", say, card)
		}
	}
	var from struct {
		Adapter    run.ObjectRef     `json:"adapter"`
		Checkpoint run.CheckpointRef `json:"checkpoint"`
		ConfigHash string            `json:"config_hash"`
		Variant    run.Variant       `json:"variant"`
		Machine    string            `json:"machine"`
		Inputs     map[string]string `json:"inputs"`
	}
	if err := json.Unmarshal(read(t, r, "runs/apples/export/provenance.json"), &from); err != nil {
		t.Fatal(err)
	}
	if from.Adapter != out.Adapter || from.Checkpoint != ref || from.ConfigHash != "c0ffee" || from.Variant != run.VariantOFT ||
		from.Machine != "abacus" || from.Inputs["data.source"] != "d1" {
		t.Errorf("provenance %+v", from)
	}
}

// exported reads an exported file, or the file of tensors in an exported folder, and compares it with an adapter.
func exported(t *testing.T, r *opened.Run, name string, want *lora.Adapter) {
	t.Helper()
	objects, err := r.Objects.List(t.Context(), "runs/apples/export/"+name)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, o := range objects {
		if err := os.WriteFile(dir+o.Key[strings.LastIndex(o.Key, "/"):], read(t, r, o.Key), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := lora.Load(dir, r.Models.Pipeline.Transformer.Layers())
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if name == lora.DiffusersFile {
		var b bytes.Buffer
		if _, err := want.Write(&b, safetensors.F32); err != nil || !bytes.Equal(b.Bytes(), read(t, r, objects[0].Key)) {
			t.Errorf("%s: other bytes than the average's (%v)", name, err)
		}
	}
	for _, m := range want.Modules {
		there, ok := got.Module(m.Name)
		if !ok || !slices.EqualFunc(got.Delta(there), want.Delta(m), func(a, b float32) bool { return a-b < 1e-4 && b-a < 1e-4 }) {
			t.Errorf("%s: %s changes its layer in another way", name, m.Name)
		}
	}
}

// named is a cell of a grid in words.
func named(c report.Picture) string {
	box := ""
	if c.Box != nil {
		box = fmt.Sprintf(" in %.2f %.2f %.2f %.2f", c.Box.CX, c.Box.CY, c.Box.W, c.Box.H)
	}
	return fmt.Sprintf("%s %g %s%s", c.PNG, c.Score, c.Verdict, box)
}

// TestGridsShowEachVariantsPicture: the base's superficial and explicit pictures, then each variant's of the implicit prompt,
// with their own scores, verdicts and boxes.
func TestGridsShowEachVariantsPicture(t *testing.T) {
	r := opening(t)
	tuple := func(i int, v string, score float64) eval.Tuple {
		one := func(kind string, s float64) []eval.Picture {
			return []eval.Picture{{Score: s, Verdict: v + kind, Box: &[4]float64{s / 100, 0.25, 0.5, 0.75}}, {Score: 99}}
		}
		return eval.Tuple{Index: i, Law: fmt.Sprint("law ", i),
			Implicit: one("i", score), Explicit: one("e", score+1), Superficial: one("s", score+2)}
	}
	pictures := func(name string) map[int][]byte { return map[int][]byte{1: []byte(name + "1"), 3: []byte(name + "3")} }
	base := &measure.Part{Tuples: []eval.Tuple{tuple(1, "b", 10), tuple(2, "b", 20), tuple(3, "b", 30)},
		Implicit: pictures("bi"), Explicit: pictures("be"), Superficial: pictures("bs")}
	oft := &measure.Part{Tuples: []eval.Tuple{tuple(1, "o", 40), tuple(2, "o", 50), tuple(3, "o", 60)}, Implicit: pictures("oi")}
	parts := map[run.Variant]*measure.Part{run.VariantBase: base, run.VariantOFT: oft}
	g, err := gridOf(t.Context(), r, measure.Split{Name: "test_S", Parts: parts})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%s: %s", g.Title, strings.Join(g.Columns, "; "))
	if !strings.HasSuffix(got, "test_S: base, superficial prompt; base, explicit prompt; base; SFT + OFT") {
		t.Error(got)
	}
	rows, err := r.Data.Test(t.Context(), "test_S")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, row := range g.Rows {
		line := row.Prompt + " (" + row.Note + ")"
		for _, p := range row.Pictures {
			line += " | " + named(p)
		}
		lines = append(lines, line)
	}
	want := []string{
		rows[1].Implicit[0] + " (law 1) | bs1 12 bs | be1 11 be | bi1 10 bi in 0.10 0.25 0.50 0.75 | oi1 40 oi in 0.40 0.25 0.50 0.75",
		rows[3].Implicit[0] + " (law 3) | bs3 32 bs | be3 31 be | bi3 30 bi in 0.30 0.25 0.50 0.75 | oi3 60 oi in 0.60 0.25 0.50 0.75",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
}

// storedPairs stores two prompts' pairs as those of an epoch. A picture is of one level, its prompt's and sample's own.
func storedPairs(t *testing.T, r *opened.Run, epoch int) {
	t.Helper()
	made := &pairs.Rollouts{Tokens: 1, Images: reward.Images{B: 4, H: 1, W: 1}}
	sc := pairs.Scores{}
	for p := range 2 {
		made.Prompts = append(made.Prompts, pairs.Prompt{Text: fmt.Sprintf("epoch %d, prompt %d", epoch, p)})
		made.Latents = append(made.Latents, [][][]float32{{{0}}, {{0}}})
		for k := range 2 {
			level := float32(50*epoch+20*p+10*k) / 255
			made.Images.Data = append(made.Images.Data, level, level, level)
		}
		sc.Rewards = append(sc.Rewards, []float64{float64(10*epoch + 2*p), float64(10*epoch + 2*p + 1)})
		masked := reward.Subject{Box: flow.Box{CX: 0.125, CY: 0.25, W: 0.5, H: 0.75}, Masked: true}
		sc.Subjects = append(sc.Subjects, []reward.Subject{masked, {Box: flow.Box{CX: 1}}})
	}
	keys := run.Keys("apples")
	if _, err := store.Finish(t.Context(), r.Objects, keys.Pairs(epoch, 0, sampling.Rollouts(r.Recipe.Config.Worker.Shards)), made.Write); err != nil {
		t.Fatal(err)
	}
	write := func(w io.Writer) error { return json.NewEncoder(w).Encode(sc) }
	if _, err := store.Finish(t.Context(), r.Objects, keys.Pairs(epoch, 0, sampling.Scores(r.Recipe.Config.Worker.Shards)), write); err != nil {
		t.Fatal(err)
	}
}

// TestPairsOfTheLastEpochAreShown: with their own pictures and scores, and a box where there is a mask.
func TestPairsOfTheLastEpochAreShown(t *testing.T) {
	r := opening(t)
	for epoch := range 3 {
		storedPairs(t, r, epoch)
	}
	ends := []run.CheckpointRef{{Stage: run.StageSFT, Step: 9}, {Stage: run.StageOFT, Epoch: 3}, {Stage: run.StageOFT, Epoch: 2}}
	g, err := maskGrid(t.Context(), r, run.State{Checkpoints: ends})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, row := range g.Rows {
		line := row.Prompt
		for _, p := range row.Pictures {
			p.PNG = fmt.Append(nil, levelOf(t, p.PNG))
			line += " | " + named(p)
		}
		got = append(got, line)
	}
	want := []string{
		"epoch 2, prompt 0 | 100 20  in 0.12 0.25 0.50 0.75 | 110 21 ",
		"epoch 2, prompt 1 | 120 22  in 0.12 0.25 0.50 0.75 | 130 23 ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestTheReportIsOfItsRun: page, findings, curves in the order of steps, evaluations during training.
func TestTheReportIsOfItsRun(t *testing.T) {
	r := opening(t)
	for name, steps := range map[string][]int{"sft-000009.jsonl": {9}, "sft-000010.jsonl": {2, 3}} { // not in the order of steps
		var b bytes.Buffer
		var events []run.Event
		for _, s := range steps {
			events = append(events, run.Event{Stage: run.StageSFT, Step: s, Kind: "step", Values: map[string]float64{"loss": float64(s)}})
		}
		if err := run.WriteEvents(&b, events); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Objects.Put(t.Context(), run.Keys("apples").Metrics()+name, &b); err != nil {
			t.Fatal(err)
		}
	}
	state := run.State{Reason: "enough", Results: results(), Adapter: run.ObjectRef{SHA256: "feed"}, Quick: []run.QuickEval{{IP: 4}, {IP: 5}},
		Checkpoints: []run.CheckpointRef{{Stage: run.StageSFT, Step: 9}}, StageTimes: []run.StageTime{{Stage: run.StageSFT, WallSeconds: 5}}}
	p, err := pageOf(t.Context(), r, activities.ReportJob{Job: r.Job, State: state})
	if err != nil {
		t.Fatal(err)
	}
	if p.Run != "apples" || p.ConfigHash != "c0ffee" || p.Seed != 12 || p.CodeVersion != "v9" || p.Reason != "enough" ||
		p.Adapter.SHA256 != "feed" || p.CostPerHour != 3 || p.Currency != "EUR" ||
		!strings.Contains(p.Config, "config-name") || !strings.HasPrefix(p.Machine, "cpu") {
		t.Errorf("page %+v", p)
	}
	if len(p.Results) != 2 || len(p.Checkpoints) != 1 || len(p.Times) != 1 || !cmp.Equal(p.Findings, report.Findings(results())) {
		t.Errorf("findings %+v of %d results", p.Findings, len(p.Results))
	}
	curves := map[string][]report.Series{}
	for _, c := range p.Curves {
		curves[c.Title] = c.Series
	}
	if s := curves["SFT loss"]; len(s) != 1 || !slices.Equal(s[0].X, []float64{2, 3, 9}) || !slices.Equal(s[0].Y, []float64{2, 3, 9}) {
		t.Errorf("SFT loss %+v", s)
	}
	if s := curves["Evaluation during training"]; len(s) != 2 || !slices.Equal(s[0].Y, []float64{4, 5}) {
		t.Errorf("evaluation during training %+v", s)
	}
}

// levelOf is the first level of a picture.
func levelOf(t *testing.T, png []byte) byte {
	t.Helper()
	p, err := picture.Decode(png)
	if err != nil {
		t.Fatal(err)
	}
	return p.Pix[0]
}
