package stages

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/eval"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
)

// ruler is a scorer whose scores are the first pixel of each picture; it remembers the prompts.
type ruler struct {
	prompts []string
	err     error
}

func (r *ruler) Score(_ context.Context, prompts []string, images reward.Images) ([]float64, error) {
	r.prompts = append(r.prompts, prompts...)
	out := make([]float64, images.B)
	for b := range out {
		out[b] = float64(images.Data[b*3*images.H*images.W])
	}
	return out, r.err
}

// pixels are pictures of 4×4 whose first pixel is given.
func pixels(first ...float32) reward.Images {
	m := reward.Images{B: len(first), H: 4, W: 4, Data: make([]float32, len(first)*48)}
	for b, v := range first {
		m.Data[b*48] = v
	}
	return m
}

// TestPicturesAreScoredAgainstTheImplicitPrompt: whatever prompt drew them, and each goes to its own tuple.
func TestPicturesAreScoredAgainstTheImplicitPrompt(t *testing.T) {
	d, r := bare(3), &ruler{}
	d.scorer = r
	for _, kind := range eval.Kinds() {
		r.prompts = nil
		tuples := make([]eval.Tuple, 3)
		if err := d.assess(t.Context(), tuples, d.rows, kind, 2, pixels(1, 2, 3, 4, 5, 6)); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(r.prompts); got != "[implicit 0 implicit 0 implicit 1 implicit 1 implicit 2 implicit 2]" {
			t.Errorf("%s: scored against %s", kind, got)
		}
		for i, tuple := range tuples {
			pictures := map[eval.Kind][]eval.Picture{eval.Implicit: tuple.Implicit, eval.Explicit: tuple.Explicit, eval.Superficial: tuple.Superficial}
			for k, p := range pictures {
				if k == kind && (len(p) != 2 || p[0].Score != float64(2*i+1) || p[1].Score != float64(2*i+2)) || k != kind && len(p) > 0 {
					t.Errorf("%s: tuple %d has %s pictures %+v", kind, i, k, p)
				}
			}
		}
	}
	r.err = errors.New("out of order")
	if err := d.assess(t.Context(), make([]eval.Tuple, 3), d.rows, eval.Implicit, 1, pixels(1, 2, 3)); !errors.Is(err, r.err) {
		t.Errorf("%v", err)
	}
}

// TestPicturesOfEachKind: implicit prompts get all, the others a part, never none.
func TestPicturesOfEachKind(t *testing.T) {
	for n, want := range map[int][3]int{1: {1, 1, 1}, 2: {2, 1, 1}, 4: {4, 2, 1}, 10: {10, 5, 2}} {
		d := bare(1, fmt.Sprint("eval.pictures=", n))
		var got [3]int
		for i, k := range eval.Kinds() {
			got[i] = d.picturesOf(k)
		}
		if got != want {
			t.Errorf("%d pictures: %v, want %v", n, got, want)
		}
	}
}

// TestShownPictures: the first of each tuple, base alone for explicit and superficial ones, no more than the report shows.
func TestShownPictures(t *testing.T) {
	fresh := func() measured {
		return measured{Shown: map[int][]byte{}, SP: map[int][]byte{}, EP: map[int][]byte{}}
	}
	rows := bare(3).rows
	m := fresh()
	for _, k := range eval.Kinds() {
		if err := m.show(pixels(0, 1, 0, 1, 0, 1), rows, shownTuples-2, k, 2, run.VariantBase); err != nil {
			t.Fatal(err)
		}
	}
	for name, shown := range map[string]map[int][]byte{"implicit": m.Shown, "explicit": m.EP, "superficial": m.SP} {
		if len(shown) != 2 || !bytes.HasPrefix(shown[shownTuples-1], []byte("\x89PNG")) {
			t.Errorf("%s: %d pictures", name, len(shown))
		}
	}
	tuned := fresh()
	for _, k := range eval.Kinds() {
		if err := tuned.show(pixels(0, 1, 0), rows, 0, k, 1, run.VariantSFT); err != nil {
			t.Fatal(err)
		}
	}
	if len(tuned.Shown) != 3 || len(tuned.EP)+len(tuned.SP) != 0 {
		t.Errorf("of a tuned variant: %d, %d and %d pictures", len(tuned.Shown), len(tuned.EP), len(tuned.SP))
	}
}

// TestResultsOfHandMadeShards: shards in any order become rows whose numbers follow by hand.
func TestResultsOfHandMadeShards(t *testing.T) {
	spec, objects := testSpec(t, "data.train_tuples=12"), &store.Mem{}
	s, job := newStudio(t, objects), spec.Job()
	must[activities.PrepareResult](t)(s.Prepare(t.Context(), spec, newWatcher(0)))
	d := must[*desk](t)(s.desk(t.Context(), job))
	part := func(v run.Variant, split string, shard int, tuples ...eval.Tuple) activities.EvalPart {
		ref, err := d.keep(t.Context(), fmt.Sprintf("hand/%s-%s-%d.json", v, split, shard), func(w io.Writer) error {
			return json.NewEncoder(w).Encode(measured{Tuples: tuples})
		})
		if err != nil {
			t.Fatal(err)
		}
		return activities.EvalPart{Variant: v, Split: split, Data: ref}
	}
	tuple := func(i int, ip, ep, sp float64, verdict string) eval.Tuple {
		return eval.Tuple{Index: i, Implicit: []eval.Picture{{Score: ip, Verdict: verdict, Outside: 2}}, Explicit: []eval.Picture{{Score: ep, Verdict: "right"}}, Superficial: []eval.Picture{{Score: sp, Verdict: "superficial"}}}
	}
	parts := []activities.EvalPart{
		part(run.VariantOFT, "test_S", 0, tuple(0, 18, 20, 0, "right"), tuple(1, 18, 20, 0, "right")),
		part(run.VariantBase, "test_S", 1, tuple(1, 12, 20, 0, "superficial")), part(run.VariantBase, "test_S", 0, tuple(0, 8, 20, 0, "superficial")),
		part(run.VariantSFT, "test_S", 0, tuple(1, 15, 20, 0, "right"), tuple(0, 15, 20, 0, "neither")),
		part(run.VariantBase, "test_C", 0, tuple(0, 5, 10, 0, "neither")),
		{Variant: run.VariantSFT, Split: "test_C"}, // a quick evaluation leaves no data
	}
	rows := must[[]run.EvalResult](t)(s.Summarise(t.Context(), activities.SummaryJob{Job: job, Parts: parts}))
	if len(rows) != 4 || rows[0].Variant != run.VariantBase || rows[2].Variant != run.VariantOFT || rows[3].Split != "test_C" {
		t.Fatalf("%+v", rows)
	}
	for what, c := range map[string][2]float64{
		"base ND": {rows[0].ND, 0.5}, "SFT RI": {rows[1].RI, 0.5}, "OFT RI": {rows[2].RI, 0.8}, "gain": {rows[2].RIGain.Mean, 0.3},
		"base right": {rows[0].JudgeIP, 0}, "SFT right": {rows[1].JudgeIP, 0.5}, "OFT right": {rows[2].JudgeIP, 1}, "explicit": {rows[2].JudgeEP, 1},
		"outside": {rows[1].Outside, 2}, "other split": {rows[3].IP, 5},
	} {
		if math.Abs(c[0]-c[1]) > 1e-12 {
			t.Errorf("%s: %v, want %v", what, c[0], c[1])
		}
	}
	if again := must[[]run.EvalResult](t)(s.Summarise(t.Context(), activities.SummaryJob{Job: job, Parts: append(slices.Clone(parts[1:]), parts[0])})); fmt.Sprint(again[0]) != fmt.Sprint(rows[0]) {
		t.Error("the order of parts matters")
	}
}

// withMasks is a bare desk with a masker of a policy.
func withMasks(t *testing.T, policy, onEmpty string, set ...string) *desk {
	t.Helper()
	d := bare(2, set...)
	var err error
	if d.masker, err = reward.NewMasker(policy, onEmpty, flow.AllForms(flow.Corrected), nowhere{}); err != nil {
		t.Fatal(err)
	}
	return d
}

// nowhere is a detector that finds a subject in pictures whose first pixel is above 0.
type nowhere struct{}

func (nowhere) Detect(_ context.Context, images reward.Images, _ []string) ([][]flow.Box, error) {
	found := make([][]flow.Box, images.B)
	for b := range found {
		if images.Data[b*48] > 0 {
			found[b] = []flow.Box{{CX: 0.5, CY: 0.5, W: 0.4, H: 0.4}}
		}
	}
	return found, nil
}

// TestTiesAndSkippedPairsTrainNothing: scores nearer than min_gap, and pairs of a picture that is to be skipped, have
// equal rewards afterwards; the scores themselves stay as they were.
func TestTiesAndSkippedPairsTrainNothing(t *testing.T) {
	d := withMasks(t, reward.MaskFull, reward.EmptyFull, "oft.min_gap=0.5")
	latents := [][][]float32{{{1}}, {{2}}}
	subject := reward.Subject{Box: reward.WholePicture, Masked: true}
	skipped := subject
	skipped.Skip = true
	for name, c := range map[string]struct {
		rewards  []float64
		subjects []reward.Subject
		want     []float64
	}{
		"apart":       {[]float64{1, 2}, []reward.Subject{subject, subject}, []float64{1, 2}},
		"at the gap":  {[]float64{1, 1.5}, []reward.Subject{subject, subject}, []float64{1, 1.5}},
		"too near":    {[]float64{1, 1.4}, []reward.Subject{subject, subject}, []float64{0, 0}},
		"one skipped": {[]float64{1, 9}, []reward.Subject{skipped, subject}, []float64{0, 0}},
		"last one":    {[]float64{1, 9}, []reward.Subject{subject, skipped}, []float64{0, 0}},
	} {
		sc := scored{Rewards: [][]float64{nil, slices.Clone(c.rewards)}, Subjects: [][]reward.Subject{nil, c.subjects}}
		p := d.pair(latents, sc, 1)
		if !slices.Equal(p.Rewards, c.want) || !slices.Equal(sc.Rewards[1], c.rewards) {
			t.Errorf("%s: rewards %v, want %v; stored %v", name, p.Rewards, c.want, sc.Rewards[1])
		}
		if len(p.Masks) != 2 || p.Masks[0].Kept() != 1 || len(p.Latents) != 2 {
			t.Errorf("%s: masks %v", name, p.Masks)
		}
	}
}

// TestPicturesWithoutASubject: what the policies full, skip and stop make of pictures in which the detector finds
// nothing, from the scores of a shard to what training sees.
func TestPicturesWithoutASubject(t *testing.T) {
	r := &rollouts{Prompts: []prompt{{Text: "a", Object: "apple", Row: 0}, {Text: "b", Object: "stone", Row: 1}}, Images: pixels(0.5, 0.7, 0.6, -1)}
	set := []string{"oft.images_per_prompt=2"}
	for _, c := range []struct {
		onEmpty string
		masks   run.Masks
		rewards []float64 // of the second pair, as trained
		fails   string
	}{
		{reward.EmptyFull, run.Masks{Total: 4, Missing: 1, Full: 1}, []float64{0.6, -1}, ""},
		{reward.EmptySkip, run.Masks{Total: 4, Missing: 1, Full: 1}, []float64{0, 0}, ""},
		{reward.EmptyStop, run.Masks{}, nil, `no "stone" found`},
	} {
		d := withMasks(t, reward.MaskDetector, c.onEmpty, set...)
		d.scorer = &ruler{}
		sc, err := d.score(t.Context(), r)
		if c.fails != "" {
			if run.ClassOf(err) != run.ClassData || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: %v of class %s", c.onEmpty, err, run.ClassOf(err))
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if sc.Summary.Masks != c.masks || sc.Summary.Pairs != 2 {
			t.Errorf("%s: %+v, want masks %+v", c.onEmpty, sc.Summary, c.masks)
		}
		var back scored // as training reads it
		text := must[[]byte](t)(json.Marshal(sc))
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		first, second := d.pair([][][]float32{{{1}}, {{1}}}, back, 0), d.pair([][][]float32{{{1}}, {{1}}}, back, 1)
		near := func(a, b []float64) bool {
			return slices.EqualFunc(a, b, func(x, y float64) bool { return math.Abs(x-y) < 1e-6 })
		}
		if !near(second.Rewards, c.rewards) || !near(first.Rewards, []float64{0.5, 0.7}) {
			t.Errorf("%s: rewards %v and %v, want 0.5, 0.7 and %v", c.onEmpty, first.Rewards, second.Rewards, c.rewards)
		}
		if second.Masks[1].Kept() != 1 || second.Masks[0].Kept() == 1 {
			t.Errorf("%s: a picture without a subject keeps %v, one with %v", c.onEmpty, second.Masks[1].Kept(), second.Masks[0].Kept())
		}
	}
}

// TestMoreBadInputs: further things that Prepare finds, each with its class, the name of what is wrong and the cure.
func TestMoreBadInputs(t *testing.T) {
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name  string
		set   []string
		class run.Class
		says  []string
	}{
		{"no such test split", []string{"eval.splits=[test_Q]"}, run.ClassData, []string{"test_Q"}},
		{"no such second scorer", []string{"reward.sciscore=" + t.TempDir()}, run.ClassModel, nil},
		{"folder without a pipeline", []string{"model.pipeline=" + t.TempDir()}, run.ClassModel, []string{"model_index.json"}},
		{"adapter that is no file of tensors", []string{"model.adapter=" + file("a.safetensors", "hello")}, run.ClassModel, []string{"a.safetensors"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := newStudio(t, &store.Mem{}).Prepare(t.Context(), testSpec(t, c.set...), newWatcher(0))
			if run.ClassOf(err) != c.class || err == nil {
				t.Fatalf("class %q, error %v", run.ClassOf(err), err)
			}
			for _, say := range c.says {
				if !strings.Contains(err.Error(), say) {
					t.Errorf("error %q does not say %q", err, say)
				}
			}
		})
	}
	broken := testSpec(t)
	broken.Config = "sft: {stepz: 4}"
	if _, err := newStudio(t, &store.Mem{}).Prepare(t.Context(), broken, newWatcher(0)); run.ClassOf(err) != run.ClassConfig || !strings.Contains(err.Error(), "stepz") {
		t.Errorf("a config with an unknown key: %v", err)
	}
}

// TestPromptFiles: what is wrong with a file of prompts is said with its path and the cure; a good one replaces the rows'
// own prompts.
func TestPromptFiles(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		set  []string
		says []string
		want int
	}{
		"good":                {`[{"prompt": "an apple", "object": "apple"}, {"prompt": "rust", "object": "nail"}]`, nil, nil, 2},
		"no object":           {`[{"prompt": "an apple", "object": "apple"}, {"prompt": "rust"}]`, []string{"oft.mask.policy=detector"}, []string{"prompt 1", `"rust"`, "names no object", "oft.mask.policy"}, 0},
		"no object, no masks": {`[{"prompt": "rust"}]`, []string{"oft.mask.policy=none"}, nil, 1},
		"empty":               {`[]`, nil, []string{"there are none"}, 0},
		"no list":             {`{"prompt": "x"}`, nil, []string{"JSON list of"}, 0},
		"cut short":           {`[{"prompt": "x"`, nil, []string{"JSON list of"}, 0},
	} {
		d := bare(2, c.set...)
		d.cfg.Data.Prompts = filepath.Join(t.TempDir(), "prompts.json")
		if err := os.WriteFile(d.cfg.Data.Prompts, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		prompts, err := d.openPrompts("folder")
		if c.says == nil {
			if err != nil || len(prompts) != c.want || prompts[0].Row != -1 {
				t.Errorf("%s: %+v, %v", name, prompts, err)
			}
			continue
		}
		for _, say := range append(c.says, d.cfg.Data.Prompts) {
			if err == nil || run.ClassOf(err) != run.ClassData || !strings.Contains(err.Error(), say) {
				t.Errorf("%s: error %v does not say %q", name, err, say)
			}
		}
	}
}
