package stages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/eval"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/report"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/trainer"
)

// bare is a desk with rows and prompts and nothing opened: enough for what decides order and wording.
func bare(rows int, set ...string) *desk {
	cfg, err := configs.Load(configs.Sources{Name: "world", Set: set})
	if err != nil {
		panic(err)
	}
	d := &desk{cfg: cfg, job: run.Job{Run: "bare", Seed: cfg.Seed}, grid: flow.Grid{Rows: 2, Columns: 3}}
	for i := range rows {
		r := row{Index: i, ID: fmt.Sprint(i), Law: fmt.Sprintf("law %d", i%3), Object: "apple",
			Implicit: []string{fmt.Sprintf("implicit %d", i), fmt.Sprintf("implied %d", i)}, Explicit: []string{fmt.Sprintf("explicit %d", i)}, Superficial: []string{"s"}}
		d.rows = append(d.rows, r)
		d.prompts = append(d.prompts, prompt{Text: r.Implicit[0], Object: r.Object, Row: i})
	}
	return d
}

// TestShardsPartitionAnEpoch: however many shards there are, together they hold the epoch's prompts once, the same ones.
func TestShardsPartitionAnEpoch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		per := rapid.IntRange(1, 20).Draw(t, "prompts per epoch")
		d := bare(rapid.IntRange(1, 15).Draw(t, "rows"), fmt.Sprint("oft.prompts_per_epoch=", per), "oft.accumulate_pairs=1")
		epoch := rapid.IntRange(0, 30).Draw(t, "epoch")
		whole := d.epochPrompts(epoch, 0, 1)
		shards := rapid.IntRange(1, 7).Draw(t, "shards")
		var together []prompt
		for k := range shards {
			together = append(together, d.epochPrompts(epoch, k, shards)...)
		}
		slices.SortFunc(together, func(a, b prompt) int { return a.Number - b.Number })
		if !slices.Equal(together, whole) || len(whole) != per || whole[0].Number != epoch*per {
			t.Fatalf("%d shards hold %v, one holds %v", shards, together, whole)
		}
	})
}

// TestPromptsTakeTurns: in every round each prompt comes once, in another order than in the round before.
func TestPromptsTakeTurns(t *testing.T) {
	const rows = 12
	d := bare(rows, "oft.prompts_per_epoch=4", "oft.accumulate_pairs=1")
	var rounds [][]int
	for epoch := range 9 {
		for _, p := range d.epochPrompts(epoch, 0, 1) {
			if p.Number%rows == 0 {
				rounds = append(rounds, nil)
			}
			last := len(rounds) - 1
			rounds[last] = append(rounds[last], p.Row)
		}
	}
	for i, round := range rounds {
		sorted := slices.Clone(round)
		slices.Sort(sorted)
		for row, got := range sorted {
			if row != got {
				t.Fatalf("round %d visits rows %v", i, round)
			}
		}
		if i > 0 && slices.Equal(round, rounds[i-1]) {
			t.Errorf("rounds %d and %d have one order", i-1, i)
		}
	}
}

// TestSamplesGoThroughAllRows: SFT sees each row once an epoch whatever was asked for before, so a resumed run finds its place.
func TestSamplesGoThroughAllRows(t *testing.T) {
	const rows = 7
	inOrder, jumping := bare(rows), bare(rows)
	var seen []int
	for sample := range 3 * rows {
		seen = append(seen, inOrder.rowOf(sample).Index)
	}
	for epoch := range 3 {
		once := slices.Clone(seen[epoch*rows : (epoch+1)*rows])
		slices.Sort(once)
		if !slices.Equal(once, []int{0, 1, 2, 3, 4, 5, 6}) {
			t.Errorf("epoch %d visits %v", epoch, seen[epoch*rows:(epoch+1)*rows])
		}
	}
	for _, sample := range []int{20, 0, 13, 7, 6, 14} {
		if got := jumping.rowOf(sample).Index; got != seen[sample] {
			t.Errorf("sample %d is row %d, in order it was %d", sample, got, seen[sample])
		}
	}
	other := bare(rows, "seed=99")
	if same := func() bool {
		for s := range rows {
			if other.rowOf(s).Index != seen[s] {
				return false
			}
		}
		return true
	}(); same {
		t.Error("another seed has the same order")
	}
}

func TestCaptionsOfTheAskedKind(t *testing.T) {
	for kind, want := range map[string][]string{"implicit": {"impli", "impli"}, "explicit": {"expli", "expli"}, "both": {"impli", "expli"}} {
		d := bare(4, "data.captions="+kind)
		wordings := map[string]bool{}
		for sample := range 40 {
			c := d.chooseCaption(d.rows[2], sample, random.New(1).Index(uint64(sample)))
			if !strings.HasPrefix(c, want[sample%2]) {
				t.Errorf("%s: sample %d gets %q", kind, sample, c)
			}
			wordings[c] = true
		}
		if kind == "implicit" && len(wordings) != 2 {
			t.Errorf("of two wordings %v are used", wordings)
		}
	}
}

// TestSpreadTakesEveryTaskInTurn: a part of a split has as many tuples of each task as there can be, in the split's order.
func TestSpreadTakesEveryTaskInTurn(t *testing.T) {
	rows := bare(11).rows // laws 0, 1, 2 with 4, 4, 3 rows
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 15).Draw(t, "n")
		got := spread(rows, n)
		if len(got) != min(n, len(rows)) {
			t.Fatalf("%d rows for %d", len(got), n)
		}
		counts := map[string]int{}
		for _, r := range got {
			counts[r.Law]++
		}
		for law, c := range counts {
			if c < n/3 && c < 3 || c > (n+2)/3+1 {
				t.Fatalf("%d rows of %s among %d", c, law, n)
			}
		}
		if n <= 9 && !slices.EqualFunc(got, spread(rows, 9)[:n], func(a, b row) bool { return a.Index == b.Index }) {
			t.Fatal("a smaller part is no beginning of a larger one")
		}
	})
}

// TestRolloutsSurviveTheirFile: what a shard stores is what training and scoring read, bit for bit.
func TestRolloutsSurviveTheirFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		grid := flow.Grid{Rows: 1, Columns: 2}
		r := &rollouts{}
		prompts, samples, states := rapid.IntRange(0, 3).Draw(t, "prompts"), rapid.IntRange(1, 3).Draw(t, "samples"), rapid.IntRange(2, 4).Draw(t, "states")
		value := rapid.Float32Range(-9, 9)
		for p := range prompts {
			r.Prompts = append(r.Prompts, prompt{Number: 40 + p, Text: rapid.String().Draw(t, "text"), Object: "a \"b\"", Row: p - 1})
			paths := make([][][]float32, samples)
			for k := range paths {
				for range states {
					paths[k] = append(paths[k], rapid.SliceOfN(value, 8, 8).Draw(t, "latents"))
				}
			}
			r.Latents = append(r.Latents, paths)
		}
		r.Images = reward.Images{B: prompts * samples, H: 2, W: 3, Data: rapid.SliceOfN(value, prompts*samples*18, prompts*samples*18).Draw(t, "pictures")}
		var b bytes.Buffer
		if err := r.write(&b, grid); err != nil {
			t.Fatal(err)
		}
		back, err := readRollouts(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(back.Prompts, r.Prompts) || fmt.Sprint(back.Latents) != fmt.Sprint(r.Latents) {
			t.Fatal("prompts or latents changed")
		}
		if prompts > 0 && (!slices.Equal(back.Images.Data, r.Images.Data) || back.Images.B != r.Images.B || back.Images.H != 2 || back.Images.W != 3) {
			t.Fatal("pictures changed")
		}
	})
}

func TestForeignRolloutsAreRefused(t *testing.T) {
	var whole bytes.Buffer
	r := &rollouts{Prompts: []prompt{{Text: "x"}}, Latents: [][][][]float32{{{{1, 2}, {3, 4}}}}, Images: reward.Images{B: 1, H: 1, W: 1, Data: []float32{1, 2, 3}}}
	if err := r.write(&whole, flow.Grid{Rows: 1, Columns: 1}); err != nil {
		t.Fatal(err)
	}
	more := strings.Replace(whole.String(), `[{\"number\":0`, `[{},{\"numb\":0`, 1)
	for name, data := range map[string]string{"empty": "", "cut": whole.String()[:whole.Len()-1], "no prompts": strings.Replace(whole.String(), "prompts", "promptz", 1), "two prompts, one path": more} {
		if back, err := readRollouts([]byte(data)); err == nil {
			t.Errorf("%s: read %d prompts", name, len(back.Prompts))
		}
	}
}

func TestSummaryCountsTiesAndMeans(t *testing.T) {
	rewards := [][]float64{{1, 3}, {2, 2}, {0, 0.05}}
	s := summarise(rewards, 0.1)
	if s.Pairs != 3 || s.Ties != 2 || math.Abs(s.RewardMean-8.05/6) > 1e-12 || math.Abs(s.RewardBest-(3+2+0.05)/3) > 1e-12 {
		t.Errorf("%+v", s)
	}
	if s := summarise(rewards, 0); s.Ties != 1 {
		t.Errorf("%d ties without a gap, want the equal one", s.Ties)
	}
	if s := summarise(nil, 0); s != (run.PairSummary{}) {
		t.Errorf("an empty shard: %+v", s)
	}
	// Shards add up to the whole epoch.
	whole, parts := summarise(rewards, 0.1), summarise(rewards[:1], 0.1).Add(summarise(rewards[1:], 0.1))
	if whole.Ties != parts.Ties || math.Abs(whole.RewardMean-parts.RewardMean) > 1e-12 || math.Abs(whole.RewardBest-parts.RewardBest) > 1e-12 {
		t.Errorf("shards %+v, whole %+v", parts, whole)
	}
}

// TestTallyIsMeanOverSteps: a chunk's summary is the mean over its steps, also when an interruption cut it in two.
func TestTallyIsMeanOverSteps(t *testing.T) {
	var a tally
	a.add(trainer.StepResult{Loss: 1, Norm: 2, Rate: 0.1}, 0.3, 0)
	resumed := a
	resumed.add(trainer.StepResult{Loss: 3, Norm: 4, Rate: 0.3}, 0.5, 1)
	want := run.ChunkSummary{Steps: 2, Loss: 2, GradNorm: 3, KL: 0.4, Clamped: 0.5, LearnRate: 0.2}
	if got := resumed.summary(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := (tally{}).summary(); got != (run.ChunkSummary{}) {
		t.Errorf("of no step: %+v", got)
	}
}

// TestInitialWeights: gaussian has standard deviation 1/rank, kaiming lies in ±1/√in and fills it; both depend on the key.
func TestInitialWeights(t *testing.T) {
	const n = 40_000
	m := lora.Module{Layer: lora.Layer{In: 25}, Rank: 8}
	gauss, uniform, again := make([]float32, n), make([]float32, n), make([]float32, n)
	initialA("gaussian", random.New(1), gauss, m)
	initialA("kaiming", random.New(1), uniform, m)
	initialA("kaiming", random.New(2), again, m)
	deviation := func(x []float32) float64 {
		var sum, square float64
		for _, v := range x {
			sum, square = sum+float64(v), square+float64(v)*float64(v)
		}
		return math.Sqrt(square/n - sum*sum/n/n)
	}
	if d := deviation(gauss); math.Abs(d-1./8) > 0.003 {
		t.Errorf("gaussian: standard deviation %v, want 1/8", d)
	}
	if low, high := slices.Min(uniform), slices.Max(uniform); low < -0.2 || high > 0.2 || low > -0.199 || high < 0.199 {
		t.Errorf("kaiming: from %v to %v, want ±1/√25", low, high)
	}
	if d := deviation(uniform); math.Abs(d-0.2/math.Sqrt(3)) > 0.002 {
		t.Errorf("kaiming: standard deviation %v", d)
	}
	if slices.Equal(uniform, again) {
		t.Error("two keys give the same weights")
	}
}

func TestDrawsFitTheirDensity(t *testing.T) {
	negative := false
	for i := range uint64(200) {
		if z := draw(random.New(3).Index(i), flow.Density{Kind: "logit_normal", Std: 1}); z < 0 {
			negative = true
		}
		if u := draw(random.New(3).Index(i), flow.Density{Kind: "uniform"}); u < 0 || u >= 1 {
			t.Fatalf("uniform draw %v", u)
		}
	}
	if !negative {
		t.Error("no normal draw is negative")
	}
}

func TestTrainerErrorsGetTheirClass(t *testing.T) {
	if c := run.ClassOf(classify(fmt.Errorf("step: %w", &trainer.NonFiniteError{What: "loss", Step: 3}))); c != run.ClassNonFinite {
		t.Errorf("class %s", c)
	}
	if err := classify(context.Canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestUnpackOnce: files come out whole under a name that changes with any of them; a second call writes nothing.
func TestUnpackOnce(t *testing.T) {
	files := fstest.MapFS{"m/a/config.json": {Data: []byte("{}")}, "m/w.bin": {Data: bytes.Repeat([]byte{7}, 3000)}, "other/x": {Data: []byte("x")}}
	dir := t.TempDir()
	first, err := Unpack(files, "m", dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(first, "w.bin"))
	if err != nil || !bytes.Equal(got, files["m/w.bin"].Data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if err := os.WriteFile(filepath.Join(first, "mark"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := Unpack(files, "m", dir)
	if err != nil || again != first {
		t.Fatalf("%s then %s, %v", first, again, err)
	}
	if _, err := os.Stat(filepath.Join(first, "mark")); err != nil {
		t.Error("the folder was written again")
	}
	for name, change := range map[string]fstest.MapFS{
		"contents": {"m/a/config.json": {Data: []byte("{ }")}, "m/w.bin": files["m/w.bin"]},
		"a name":   {"m/a/config.jsom": {Data: []byte("{}")}, "m/w.bin": files["m/w.bin"]},
		"a border": {"m/a/config.json": {Data: []byte("{}\x07")}, "m/w.bin": {Data: files["m/w.bin"].Data[1:]}},
	} {
		if other, err := Unpack(change, "m", dir); err != nil || other == first {
			t.Errorf("another %s: %s, %v", name, other, err)
		}
	}
	if _, err := Unpack(files, "absent", dir); err == nil {
		t.Error("an absent folder was unpacked")
	}
	left, _ := filepath.Glob(filepath.Join(dir, ".*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func hello(w io.Writer) error {
	_, err := io.WriteString(w, "hello")
	return err
}

// TestKeptObjectsAreFoundWhole: an object counts as made only with a reference that fits it.
func TestKeptObjectsAreFoundWhole(t *testing.T) {
	ctx, objects := context.Background(), &store.Mem{}
	d := &desk{studio: New(Options{Objects: objects})}
	if _, ok, err := d.made(ctx, "k"); ok || err != nil {
		t.Errorf("nothing stored: %v, %v", ok, err)
	}
	ref, err := d.keep(ctx, "k", hello)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok, err := d.made(ctx, "k"); !ok || err != nil || got != ref {
		t.Errorf("%+v %v %v, want %+v", got, ok, err, ref)
	}
	for what, spoil := range map[string]func() error{
		"damaged": func() error { _, err := objects.Put(ctx, "k", strings.NewReader("hellO")); return err },
		"gone":    func() error { return objects.Delete(ctx, "k") },
		"a reference of others": func() error {
			_, err := objects.Put(ctx, "k.ref.json", strings.NewReader(`{"key":"other"}`))
			return err
		},
		"no reference": func() error { _, err := objects.Put(ctx, "k.ref.json", strings.NewReader(`{`)); return err },
	} {
		if _, err := d.keep(ctx, "k", hello); err != nil {
			t.Fatal(err)
		}
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := d.made(ctx, "k"); ok || err != nil {
			t.Errorf("%s: found %v, %v", what, ok, err)
		}
	}
}

func TestSmoothingKeepsLevelsAndLength(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		y := rapid.SliceOfN(rapid.Float64Range(-5, 5), 0, 200).Draw(t, "y")
		s := smooth(report.Series{Name: "n", X: make([]float64, len(y)), Y: y})
		if len(s.Y) != len(y) || s.Name != "n" {
			t.Fatalf("%d points of %d", len(s.Y), len(y))
		}
		window := max(1, len(y)/40)
		for i, v := range s.Y {
			part := y[max(0, i-window+1):max(i+1, window)]
			sum := 0.0
			for _, p := range part {
				sum += p
			}
			if math.Abs(v-sum/float64(len(part))) > 1e-9 {
				t.Fatalf("point %d is %v, want the mean of %v", i, v, part)
			}
		}
	})
}

func TestCurvesShowWhatWasLogged(t *testing.T) {
	events := []run.Event{
		{Stage: run.StageSFT, Step: 1, Kind: "step", Values: map[string]float64{"loss": 0.5}},
		{Stage: run.StageSFT, Step: 2, Kind: "other", Values: map[string]float64{"loss": 9}},
		{Stage: run.StageOFT, Step: 1, Kind: "step", Values: map[string]float64{"loss": 0.7, "reward": 3, "reward_best": 4, "kl": 0.01}},
	}
	found := map[string][]string{}
	for _, c := range curves(events, []run.QuickEval{{IP: 3, JudgeIP: 0.5}}) {
		for _, s := range c.Series {
			found[c.Title] = append(found[c.Title], fmt.Sprintf("%s%v%v", s.Name, s.X, s.Y))
		}
	}
	want := map[string][]string{
		"SFT loss": {"SFT[1][0.5]"}, "OFT reward": {"better of a pair[1][4]", "mean[1][3]"}, "OFT loss": {"loss[1][0.7]"},
		"Distance to the reference": {"KL[1][0.01]"}, "Evaluation during training": {"SciScore[1][3]", "judged right, %[1][50]"},
	}
	if fmt.Sprint(found) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", found, want)
	}
	if c := curves(nil, nil); len(c) != 0 {
		t.Errorf("%d curves of nothing", len(c))
	}
}

// TestFindingsAreHonest: a gain whose interval touches zero, a fall of explicit prompts and an SFT that was better with
// OFT's time are said, and not as successes.
func TestFindingsAreHonest(t *testing.T) {
	results := func(gain run.Interval, ep, longer float64) []run.EvalResult {
		return []run.EvalResult{
			{Split: "test_S", Variant: run.VariantBase, Tuples: 9, JudgeIP: 0.1, JudgeEP: 0.95},
			{Split: "test_S", Variant: run.VariantSFT, Tuples: 9, RI: 0.3, JudgeIP: 0.4},
			{Split: "test_S", Variant: run.VariantOFT, Tuples: 9, RI: 0.5, RIGain: gain, JudgeIP: 0.6, JudgeEP: ep},
			{Split: "test_S", Variant: run.VariantLonger, Tuples: 9, RI: longer, JudgeIP: 0.5},
		}
	}
	marks := func(r []run.EvalResult) (s string) {
		for _, f := range findings(r) {
			s += map[bool]string{true: "+", false: "-"}[f.Good]
		}
		return s
	}
	if got := marks(results(run.Interval{Mean: 0.2, Low: 0.1, High: 0.3}, 0.92, 0.4)); got != "+++++" {
		t.Errorf("a success reads %s", got)
	}
	if got := marks(results(run.Interval{Mean: 0.2, Low: -0.01, High: 0.3}, 0.8, 0.6)); got != "+-+--" {
		t.Errorf("a failure reads %s", got)
	}
	text := findings(results(run.Interval{Mean: 0.2, Low: 0.1, High: 0.3}, 0.92, 0.6))
	if last := text[len(text)-1].Text; !strings.Contains(last, "60 %") || !strings.Contains(last, "50 %") {
		t.Errorf("the comparison reads %q", last)
	}
	if f := findings(results(run.Interval{}, 0, 0)[:1]); len(f) != 0 {
		t.Errorf("the base alone has findings: %v", f)
	}
}

func TestCellsCarryVerdictScoreAndBox(t *testing.T) {
	box := [4]float64{0.1, 0.2, 0.3, 0.4}
	measured := []eval.Picture{{Score: 3, Verdict: "right", Box: &box}, {Score: 9}}
	if c := cell([]byte("png"), measured, "alt", true); c.Score != 3 || !c.Scored || c.Verdict != "right" || c.Box == nil || c.Box.H != 0.4 || c.Alt != "alt" {
		t.Errorf("%+v", c)
	}
	if c := cell(nil, measured, "", false); c.Box != nil {
		t.Error("a box that was not asked for")
	}
	if c := cell(nil, nil, "", true); c.Scored || c.Box != nil {
		t.Errorf("of nothing measured: %+v", c)
	}
}
