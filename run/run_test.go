package run_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/run"
)

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"world": true, "a": true, "0x": true, "w-1.b_c": true, strings.Repeat("a", 64): true,
		"": false, "-a": false, ".a": false, "A": false, "a b": false, "a/b": false, "é": false, strings.Repeat("a", 65): false, "..": false,
	} {
		if err := run.CheckName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A name that passes can be one segment of an object key: it holds no separator and is not a step upwards.
func TestCheckedNamesAreKeySegments(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		name := rapid.String().Draw(r, "name")
		if run.CheckName(name) == nil && (strings.ContainsAny(name, "/\\ ") || name == "." || name == "..") {
			r.Fatalf("%q passed", name)
		}
	})
}

func TestNoKeyIsAPrefixDirectoryOfAnother(t *testing.T) {
	k := run.Keys("r")
	keys := []string{k.Config(), k.Summary(), k.Checkpoints(run.StageSFT) + "x", k.Checkpoints(run.StageOFT) + "x", k.Pairs(1, 0, "rollouts"),
		k.Pairs(1, 1, "rollouts"), k.Pairs(1, 0, "scores"), k.Pairs(11, 0, "scores"), k.Metrics() + "x", k.Eval() + "x", k.Export() + "x", k.Report() + "index.html"}
	for i, a := range keys {
		for j, b := range keys {
			if i != j && (a == b || strings.HasPrefix(b, a+"/")) {
				t.Errorf("%s is a directory of %s", a, b)
			}
		}
	}
}

func at(seconds float64) time.Time {
	return time.Unix(1000, 0).Add(time.Duration(seconds * float64(time.Second)))
}

func TestBusySeconds(t *testing.T) {
	span := func(a, b float64) run.Span { return run.Span{Start: at(a), End: at(b)} }
	for _, tc := range []struct {
		name  string
		spans []run.Span
		want  float64
	}{
		{"none", nil, 0},
		{"one", []run.Span{span(1, 3)}, 2},
		{"in parallel", []run.Span{span(1, 3), span(1, 4)}, 3},
		{"one after the other", []run.Span{span(3, 5), span(1, 3)}, 4},
		{"with a pause between", []run.Span{span(10, 11), span(1, 3)}, 3},
		{"chain of overlaps out of order", []run.Span{span(4, 6), span(1, 3), span(2, 5)}, 5},
		{"inside", []run.Span{span(1, 9), span(2, 3), span(4, 5)}, 8},
		{"empty span", []run.Span{span(2, 2), {}}, 0},
	} {
		if got := run.BusySeconds(tc.spans...); math.Abs(got-tc.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// The union is as long as the set of grid cells that any span covers, in whatever order spans come.
func TestBusySecondsCountsCells(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(0, 6).Draw(r, "n")
		covered := map[int]bool{}
		var spans []run.Span
		for range n {
			a, length := rapid.IntRange(0, 20).Draw(r, "a"), rapid.IntRange(0, 6).Draw(r, "length")
			for c := a; c < a+length; c++ {
				covered[c] = true
			}
			spans = append(spans, run.Span{Start: at(float64(a)), End: at(float64(a + length))})
		}
		if got := run.BusySeconds(spans...); math.Abs(got-float64(len(covered))) > 1e-9 {
			r.Fatalf("%v, want %d", got, len(covered))
		}
	})
}

func summaries(r *rapid.T, label string) run.PairSummary {
	n := rapid.IntRange(0, 9).Draw(r, label)
	return run.PairSummary{Pairs: n, Ties: n / 2, RewardMean: float64(rapid.IntRange(-5, 30).Draw(r, label)), RewardBest: 3, Masks: run.Masks{Total: 2 * n, Empty: n}}
}

// Merging shard by shard gives the totals and the weighted means, whichever shards are merged first.
func TestPairSummaryAdd(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		a, b, c := summaries(r, "a"), summaries(r, "b"), summaries(r, "c")
		left, right := a.Add(b).Add(c), a.Add(b.Add(c))
		if left.Pairs != a.Pairs+b.Pairs+c.Pairs || left.Masks != right.Masks || left.Ties != right.Ties {
			r.Fatalf("%+v and %+v", left, right)
		}
		if math.Abs(left.RewardMean-right.RewardMean) > 1e-9 {
			r.Fatalf("means %v and %v", left.RewardMean, right.RewardMean)
		}
		if n := left.Pairs; n > 0 {
			want := (a.RewardMean*float64(a.Pairs) + b.RewardMean*float64(b.Pairs) + c.RewardMean*float64(c.Pairs)) / float64(n)
			if math.Abs(left.RewardMean-want) > 1e-9 {
				r.Fatalf("mean %v, want %v", left.RewardMean, want)
			}
		}
	})
}

func TestDeadFraction(t *testing.T) {
	if f := (run.Masks{Total: 8, Empty: 2}).DeadFraction(); f != 0.25 {
		t.Error(f)
	}
	if f := (run.Masks{}).DeadFraction(); f != 0 {
		t.Error(f)
	}
}

func TestClassOf(t *testing.T) {
	cause := errors.New("x")
	for _, tc := range []struct {
		err  error
		want run.Class
		exit int
	}{
		{nil, run.ClassNone, 0},
		{cause, run.ClassInternal, 1},
		{&run.Error{Class: run.ClassData, Cause: cause}, run.ClassData, 3},
		{fmt.Errorf("outer: %w", &run.Error{Class: run.ClassModel}), run.ClassModel, 3},
		{&run.Error{Class: run.ClassStorage, Cause: &run.Error{Class: run.ClassData}}, run.ClassStorage, 1},
		{fmt.Errorf("load: %w", &configs.Error{}), run.ClassConfig, 2},
		{run.ErrPreempted, run.ClassPreempted, 4},
		{fmt.Errorf("x: %w", context.Canceled), run.ClassCancelled, 1},
		{context.DeadlineExceeded, run.ClassHang, 1},
	} {
		if got := run.ClassOf(tc.err); got != tc.want || got.ExitCode() != tc.exit {
			t.Errorf("%v: class %s exit %d, want %s %d", tc.err, got, got.ExitCode(), tc.want, tc.exit)
		}
	}
}

func TestClasses(t *testing.T) {
	for c, retryable := range map[run.Class]bool{
		run.ClassConfig: false, run.ClassData: false, run.ClassModel: false, run.ClassOOM: false, run.ClassNonFinite: false, run.ClassCancelled: false,
		run.ClassStorage: true, run.ClassPreempted: true, run.ClassHang: true, run.ClassInternal: true,
	} {
		if c.Retryable() != retryable || !c.Known() {
			t.Errorf("%s: retryable %v known %v", c, c.Retryable(), c.Known())
		}
	}
	if run.Class("other").Known() || run.ClassNone.Known() {
		t.Error("unknown classes are known")
	}
}

func TestErrorText(t *testing.T) {
	err := run.Errorf(run.ClassModel, "load weights", "a.safetensors", "download it again", "%d bytes are missing", 4)
	if got, want := err.Error(), "load weights a.safetensors: 4 bytes are missing; download it again"; got != want {
		t.Errorf("%q", got)
	}
	inner := errors.New("inner")
	if !errors.Is(run.Errorf(run.ClassData, "a", "", "", "b: %w", inner), inner) {
		t.Error("the cause is lost")
	}
}

func TestSpecOfConfig(t *testing.T) {
	c, err := configs.Load(configs.Sources{Name: "world"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := run.NewSpec(c, "v1")
	if err != nil {
		t.Fatal(err)
	}
	back, err := configs.Parse(s.Config)
	if err != nil || back.Hash() != s.ConfigHash {
		t.Errorf("the config in the spec does not hash to %s: %v", s.ConfigHash, err)
	}
	want := run.Job{Run: "world", ConfigKey: "runs/world/config.yaml", ConfigHash: s.ConfigHash, Seed: 1}
	if diff := cmp.Diff(want, s.Job()); diff != "" {
		t.Error(diff)
	}
	c.Name = "No Name"
	if _, err := run.NewSpec(c, ""); run.ClassOf(err) != run.ClassConfig {
		t.Errorf("bad name: %v", err)
	}
}

func TestPlanOfConfig(t *testing.T) {
	c, err := configs.Load(configs.Sources{Name: "world"})
	if err != nil {
		t.Fatal(err)
	}
	p := run.NewPlan(c)
	if p.StepsTotal(run.StageSFT) != c.SFT.Steps || p.StepsTotal(run.StageOFT) != c.OFT.Epochs*c.OFT.StepsPerEpoch() || p.StepsTotal(run.StageExport) != 0 {
		t.Errorf("%+v", p)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var back run.Plan
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, back); diff != "" {
		t.Errorf("the plan changes on its way through a history: %s", diff)
	}
}

func TestEventsRoundTripAndCutOff(t *testing.T) {
	events := []run.Event{
		{Stage: run.StageSFT, Step: 1, Kind: "step", Values: map[string]float64{"loss": 0.5, "grad_norm": 1}},
		{Stage: run.StageOFT, Step: 2, Epoch: 1, Kind: "pairs", Values: map[string]float64{"reward": 14}, Masks: run.Masks{Total: 4, Tiny: 1}},
	}
	var b bytes.Buffer
	if err := run.WriteEvents(&b, events); err != nil {
		t.Fatal(err)
	}
	got, err := run.ReadEvents(bytes.NewReader(b.Bytes()))
	if diff := cmp.Diff(events, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	got, err = run.ReadEvents(bytes.NewReader(b.Bytes()[:b.Len()-5]))
	if len(got) != 1 || err != nil {
		t.Errorf("cut off: %d events, %v", len(got), err)
	}
	older := `{"stage":"sft","step":1,"kind":"step","values":{"loss":0.5},"seconds":0.1,"at":"2026-01-02T03:04:05Z"}` + "\n"
	got, err = run.ReadEvents(strings.NewReader(older)) // has fields that no event has any more
	if diff := cmp.Diff([]run.Event{{Stage: run.StageSFT, Step: 1, Kind: "step", Values: map[string]float64{"loss": 0.5}}}, got); diff != "" || err != nil {
		t.Errorf("an older line: %v %s", err, diff)
	}
	if _, err = run.ReadEvents(strings.NewReader("{broken\n" + b.String())); err == nil {
		t.Error("a broken line in the middle was read")
	}
	for _, v := range []float64{math.NaN(), math.Inf(-1)} {
		err := run.WriteEvents(&b, []run.Event{{Values: map[string]float64{"loss": v}}})
		if run.ClassOf(err) != run.ClassNonFinite {
			t.Errorf("%v: %v", v, err)
		}
	}
}

func TestMetricsShape(t *testing.T) {
	text, err := json.Marshal(run.Metrics([]run.EvalResult{{Split: "test_S", Variant: run.VariantSFT, JudgeIP: 0.5}, {Split: "test_S", Variant: run.VariantOFT, RI: 0.6}}))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]map[string]map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	if m["test_S"]["sft"]["judge_ip"] != 0.5 || m["test_S"]["oft"]["ri"] != 0.6 {
		t.Errorf("%s", text)
	}
	for _, key := range []string{"sp", "ep", "ip", "nd", "ri", "judge_ip", "judge_ep"} {
		if _, ok := m["test_S"]["sft"][key]; !ok {
			t.Errorf("no %s in %s", key, text)
		}
	}
}

func TestCheckpointRefText(t *testing.T) {
	if s := (run.CheckpointRef{}).String(); s != "initial adapter" {
		t.Error(s)
	}
	c := run.CheckpointRef{Stage: run.StageSFT, Step: 40, Manifest: run.ObjectRef{SHA256: strings.Repeat("ab", 32)}}
	if s := c.String(); s != "sft step 40 (abababababab)" {
		t.Error(s)
	}
}
