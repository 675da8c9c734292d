package worker

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"testing"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/eval"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/worker/measure"
)

// TestResultsOfHandMadeShards: shards in any order become rows whose numbers follow by hand.
func TestResultsOfHandMadeShards(t *testing.T) {
	spec, objects := testSpec(t, "data.train_tuples=12"), &store.Mem{}
	s, job := newWorker(t, objects), spec.Job()
	must[activities.PrepareResult](t)(s.Prepare(t.Context(), spec, newWatcher(0)))
	part := func(v run.Variant, split string, shard int, tuples ...eval.Tuple) activities.EvalPart {
		ref, err := store.Finish(t.Context(), objects, fmt.Sprintf("hand/%s-%s-%d.json", v, split, shard), func(w io.Writer) error {
			return json.NewEncoder(w).Encode(measure.Part{Tuples: tuples})
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
	rows := must[[]run.EvalResult](t)(s.Summarise(t.Context(), activities.SummaryJob{Job: job, Parts: parts}, newWatcher(0)))
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
	if again := must[[]run.EvalResult](t)(s.Summarise(t.Context(), activities.SummaryJob{Job: job, Parts: append(slices.Clone(parts[1:]), parts[0])}, newWatcher(0))); fmt.Sprint(again[0]) != fmt.Sprint(rows[0]) {
		t.Error("the order of parts matters")
	}
}
