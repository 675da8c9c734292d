package recipe

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/eval"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/worker/data"
	"github.com/sciflux/sciflux/worker/data/datatest"
	"github.com/sciflux/sciflux/worker/pairs"
)

// bare is a recipe over rows and prompts of no data set: enough for what decides order and wording.
func bare(rows int, set ...string) (Recipe, []data.Row, []data.Prompt) {
	cfg, err := configs.Load(configs.Sources{Name: "world", Set: set})
	if err != nil {
		panic(err)
	}
	r := Recipe{Config: cfg, Seed: cfg.Seed, Facts: Facts{Scheduler: flow.DefaultScheduler(), Grid: flow.Grid{Rows: 2, Columns: 3}, Channels: 16, TextLength: 32}}
	all, prompts := datatest.Rows(rows)
	return r, all, prompts
}

// TestShardsPartitionAnEpoch: however many shards there are, together they hold the epoch's prompts once, the same ones.
func TestShardsPartitionAnEpoch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		per := rapid.IntRange(1, 20).Draw(t, "prompts per epoch")
		r, rows, prompts := bare(rapid.IntRange(1, 15).Draw(t, "rows"), fmt.Sprint("oft.prompts_per_epoch=", per), "oft.accumulate_pairs=1")
		epoch := rapid.IntRange(0, 30).Draw(t, "epoch")
		whole := r.EpochPrompts(epoch, 0, 1, prompts, rows)
		shards := rapid.IntRange(1, 7).Draw(t, "shards")
		var together []pairs.Prompt
		for k := range shards {
			together = append(together, r.EpochPrompts(epoch, k, shards, prompts, rows)...)
		}
		slices.SortFunc(together, func(a, b pairs.Prompt) int { return a.Number - b.Number })
		if !slices.Equal(together, whole) || len(whole) != per || whole[0].Number != epoch*per {
			t.Fatalf("%d shards hold %v, one holds %v", shards, together, whole)
		}
	})
}

// TestPromptsTakeTurns: in every round each prompt comes once, in another order than in the round before.
func TestPromptsTakeTurns(t *testing.T) {
	const rows = 12
	r, all, prompts := bare(rows, "oft.prompts_per_epoch=4", "oft.accumulate_pairs=1")
	var rounds [][]int
	for epoch := range 9 {
		for _, p := range r.EpochPrompts(epoch, 0, 1, prompts, all) {
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
	r, _, _ := bare(rows)
	inOrder, jumping := orders{recipe: r, rows: rows}, orders{recipe: r, rows: rows}
	var seen []int
	for sample := range 3 * rows {
		seen = append(seen, inOrder.row(sample))
	}
	for epoch := range 3 {
		once := slices.Clone(seen[epoch*rows : (epoch+1)*rows])
		slices.Sort(once)
		if !slices.Equal(once, []int{0, 1, 2, 3, 4, 5, 6}) {
			t.Errorf("epoch %d visits %v", epoch, seen[epoch*rows:(epoch+1)*rows])
		}
	}
	for _, sample := range []int{20, 0, 13, 7, 6, 14} {
		if got := jumping.row(sample); got != seen[sample] {
			t.Errorf("sample %d is row %d, in order it was %d", sample, got, seen[sample])
		}
	}
	r, _, _ = bare(rows, "seed=99")
	other := orders{recipe: r, rows: rows}
	if same := func() bool {
		for s := range rows {
			if other.row(s) != seen[s] {
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
		r, rows, _ := bare(4, "data.captions="+kind)
		wordings := map[string]bool{}
		for sample := range 40 {
			chooser, err := r.chooser(rows[2:3])
			if err != nil {
				t.Fatal(err)
			}
			c := chooser.caption(sample)
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

func TestSummaryCountsTiesAndMeans(t *testing.T) {
	rewards := [][]float64{{1, 3}, {2, 2}, {0, 0.05}}
	gap, _, _ := bare(1, "oft.min_gap=0.1")
	none, _, _ := bare(1)
	s := gap.Summary(rewards)
	if s.Pairs != 3 || s.Ties != 2 || math.Abs(s.RewardMean-8.05/6) > 1e-12 || math.Abs(s.RewardBest-(3+2+0.05)/3) > 1e-12 {
		t.Errorf("%+v", s)
	}
	if s := none.Summary(rewards); s.Ties != 1 {
		t.Errorf("%d ties without a gap, want the equal one", s.Ties)
	}
	if s := none.Summary(nil); s != (run.PairSummary{}) {
		t.Errorf("an empty shard: %+v", s)
	}
	// Shards add up to the whole epoch.
	whole, parts := gap.Summary(rewards), gap.Summary(rewards[:1]).Add(gap.Summary(rewards[1:]))
	if whole.Ties != parts.Ties || math.Abs(whole.RewardMean-parts.RewardMean) > 1e-12 || math.Abs(whole.RewardBest-parts.RewardBest) > 1e-12 {
		t.Errorf("shards %+v, whole %+v", parts, whole)
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

// TestTiesAndSkippedPairsTrainNothing: scores no further apart than min_gap are no pair to the loss, and a picture that is to
// be skipped makes equal rewards of all; the scores themselves stay as they were.
func TestTiesAndSkippedPairsTrainNothing(t *testing.T) {
	r, _, _ := bare(2, "oft.min_gap=0.5")
	latents := [][][]float32{{{1}}, {{2}}}
	subject := reward.Subject{Box: reward.WholePicture, Masked: true}
	skipped := subject
	skipped.Skip = true
	for name, c := range map[string]struct {
		rewards  []float64
		subjects []reward.Subject
		want     []float64
		trains   bool
	}{
		"apart":       {[]float64{1, 2}, []reward.Subject{subject, subject}, []float64{1, 2}, true},
		"at the gap":  {[]float64{1, 1.5}, []reward.Subject{subject, subject}, []float64{1, 1.5}, false},
		"too near":    {[]float64{1, 1.4}, []reward.Subject{subject, subject}, []float64{1, 1.4}, false},
		"one skipped": {[]float64{1, 9}, []reward.Subject{skipped, subject}, []float64{0, 0}, false},
		"last one":    {[]float64{1, 9}, []reward.Subject{subject, skipped}, []float64{0, 0}, false},
	} {
		stored := slices.Clone(c.rewards)
		p := r.Pair(0, latents, stored, c.subjects)
		if !slices.Equal(p.Rewards, c.want) || !slices.Equal(stored, c.rewards) {
			t.Errorf("%s: rewards %v, want %v; stored %v", name, p.Rewards, c.want, stored)
		}
		if _, pull, _ := r.DPO().PairLoss([]float64{0, 0}, []float64{0, 0}, p.Rewards); (pull[0] != 0) != c.trains {
			t.Errorf("%s: pull %v", name, pull)
		}
		if len(p.Masks) != 2 || p.Masks[0].Kept() != 1 || len(p.Latents) != 2 {
			t.Errorf("%s: masks %v", name, p.Masks)
		}
	}
}

// TestPicturesOfEachKind: implicit prompts get all, the others a part, never none.
func TestPicturesOfEachKind(t *testing.T) {
	for n, want := range map[int][3]int{1: {1, 1, 1}, 2: {2, 1, 1}, 4: {4, 2, 1}, 10: {10, 5, 2}} {
		r, _, _ := bare(1, fmt.Sprint("eval.pictures=", n))
		var got [3]int
		for i, k := range eval.Kinds() {
			got[i] = r.Pictures(k)
		}
		if got != want {
			t.Errorf("%d pictures: %v, want %v", n, got, want)
		}
	}
}
