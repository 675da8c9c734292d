package run_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/run"
)

// finite draws numbers that JSON can hold.
func finite() *rapid.Generator[float64] { return rapid.Float64Range(-1e300, 1e300) }

func stages() *rapid.Generator[run.Stage] { return rapid.SampledFrom(run.Stages()) }

func object(t *rapid.T, label string) run.ObjectRef {
	if rapid.Bool().Draw(t, label+" none") {
		return run.ObjectRef{}
	}
	return run.ObjectRef{Key: rapid.String().Draw(t, label+" key"), SHA256: rapid.StringMatching("[0-9a-f]{64}").Draw(t, label+" hash"), Bytes: rapid.Int64Min(0).Draw(t, label+" bytes")}
}

func checkpoint(t *rapid.T) run.CheckpointRef {
	return run.CheckpointRef{Manifest: object(t, "manifest"), Stage: stages().Draw(t, "stage"), Step: rapid.IntRange(0, 1<<30).Draw(t, "step"), Epoch: rapid.IntRange(0, 99).Draw(t, "epoch"),
		Adapter: object(t, "adapter"), Seconds: finite().Draw(t, "seconds")}
}

func masks(t *rapid.T, label string) run.Masks {
	n := func(name string) int { return rapid.IntRange(0, 1000).Draw(t, label+" "+name) }
	return run.Masks{Total: n("total"), Missing: n("missing"), Empty: n("empty"), Tiny: n("tiny"), Full: n("full")}
}

func moment(t *rapid.T) time.Time {
	return time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "second"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanosecond")).UTC()
}

// travels fails unless a value is the same after its way through JSON, as through a workflow's history.
func travels[V any](t *rapid.T, v V) {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var back V
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(v, back); diff != "" {
		t.Fatalf("%T changes on its way: %s", v, diff)
	}
}

// TestNounsTravel: what activities and workflows hand each other comes back from JSON as it was, zero values included.
func TestNounsTravel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		travels(t, object(t, "object"))
		travels(t, checkpoint(t))
		travels(t, masks(t, "masks"))
		travels(t, run.Progress{Stage: stages().Draw(t, "stage"), Step: 3, StepsTotal: 9, Note: rapid.String().Draw(t, "note"), Loss: finite().Draw(t, "loss"), Masks: masks(t, "progress"), At: moment(t)})
		travels(t, run.PairSummary{Pairs: 3, Ties: 1, RewardMean: finite().Draw(t, "mean"), RewardBest: finite().Draw(t, "best"), RewardSpread: finite().Draw(t, "spread"), Masks: masks(t, "pairs")})
		travels(t, run.ChunkSummary{Steps: 7, Loss: finite().Draw(t, "loss"), GradNorm: finite().Draw(t, "norm"), KL: finite().Draw(t, "kl"), Clamped: 0.5, Distance: finite().Draw(t, "distance"), LearnRate: 1e-4})
		travels(t, run.EvalResult{Split: "test_C", Variant: run.VariantOFT, IP: finite().Draw(t, "ip"), RIGain: run.Interval{Mean: 0.1, Low: -0.2, High: finite().Draw(t, "high")}})
		travels(t, run.QuickEval{Stage: run.StageOFT, Step: 5, Epoch: 2, IP: finite().Draw(t, "ip")})
		travels(t, run.Span{Start: moment(t), End: moment(t)})
		travels(t, run.Timing{WallSeconds: finite().Draw(t, "wall"), OutsideShare: 0.25})
		travels(t, run.Job{Run: "a", ConfigKey: rapid.String().Draw(t, "key"), ConfigHash: "h", Seed: rapid.Uint64().Draw(t, "seed")})
		travels(t, run.Spec{Name: "a", Config: rapid.String().Draw(t, "config"), Seed: rapid.Uint64().Draw(t, "seed"), Queues: run.QueuesWithPrefix("p"), HeartbeatTimeout: time.Minute})
		travels(t, run.State{Run: "a", Status: run.StatusPaused, Stage: run.StageSFT, Adapter: object(t, "adapter"), Checkpoints: []run.CheckpointRef{checkpoint(t)}, Report: object(t, "report"), Seed: rapid.Uint64().Draw(t, "seed"),
			StageTimes: []run.StageTime{{Stage: run.StageSFT, WallSeconds: 2, BusySeconds: 1, Stopped: "kl"}}})
	})
}

// TestZeroReferences: a reference is zero only if nothing in it is set; any field makes it point somewhere.
func TestZeroReferences(t *testing.T) {
	if !(run.ObjectRef{}).IsZero() || !(run.CheckpointRef{}).IsZero() {
		t.Error("empty references are not zero")
	}
	for _, ref := range []run.ObjectRef{{Key: "k"}, {SHA256: "h"}, {Bytes: 1}} {
		if ref.IsZero() || (run.CheckpointRef{Manifest: ref}).IsZero() || (run.CheckpointRef{Adapter: ref}).IsZero() {
			t.Errorf("%+v counts as zero", ref)
		}
	}
	for _, ref := range []run.CheckpointRef{{Stage: run.StageSFT}, {Step: 1}, {Epoch: 1}, {Seconds: 0.5}} {
		if ref.IsZero() {
			t.Errorf("%+v counts as zero", ref)
		}
		if ref.String() == (run.CheckpointRef{}).String() {
			t.Errorf("%+v is called %s", ref, ref)
		}
	}
}

// TestKeysStayUnderTheRun: every object of a run lies below its own prefix, whatever the name and numbers, and different epochs,
// shards and kinds never share a key; keys of one kind sort in the order of epochs and shards.
func TestKeysStayUnderTheRun(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching("[a-z0-9][a-z0-9._-]{0,20}").Draw(t, "name")
		k := run.Keys(name)
		keys := []string{k.Config(), k.Summary(), k.Metrics(), k.Eval(), k.Export(), k.Report()}
		for _, s := range run.Stages() {
			keys = append(keys, k.Checkpoints(s))
		}
		var pairs []string
		for _, epoch := range []int{0, 1, 10, 99999} {
			for _, shard := range []int{0, 1, 10, 999} {
				for _, kind := range []string{"rollouts", "scores"} {
					keys = append(keys, k.Pairs(epoch, shard, kind))
				}
				pairs = append(pairs, k.Pairs(epoch, shard, "scores"))
			}
		}
		seen := map[string]bool{}
		for _, key := range keys {
			if !strings.HasPrefix(key, "runs/"+name+"/") || strings.Contains(key, "//") || strings.Contains(key, "/../") || seen[key] {
				t.Fatalf("key %q of run %q", key, name)
			}
			seen[key] = true
		}
		if !slices.IsSorted(pairs) {
			t.Fatalf("keys are not in order: %v", pairs)
		}
	})
}

// TestStagesAndVariants: each is listed once, in the order of a run, and final statuses are those that need a resume.
func TestStagesAndVariants(t *testing.T) {
	if diff := cmp.Diff([]run.Stage{"prepare", "sft", "oft", "compare", "evaluate", "export"}, run.Stages()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]run.Variant{"base", "sft", "oft", "sft_longer"}, run.Variants()); diff != "" {
		t.Error(diff)
	}
	run.Stages()[0] = "changed"
	run.Variants()[0] = "changed"
	if run.Stages()[0] != run.StagePrepare || run.Variants()[0] != run.VariantBase {
		t.Error("a caller can change the list of everybody")
	}
	for status, final := range map[run.Status]bool{run.StatusRunning: false, run.StatusPaused: false, run.StatusCompleted: true, run.StatusFailed: true, run.StatusCancelled: true, "": false} {
		if status.Final() != final {
			t.Errorf("%q: final %v", status, status.Final())
		}
	}
}

// TestNamesAreExplained: each refusal says which name, what is wrong with it, and what is allowed.
func TestNamesAreExplained(t *testing.T) {
	for name, want := range map[string]string{
		"":                        "run name: empty; give one with --name or the key name",
		strings.Repeat("x", 65):   "65 characters; at most 64",
		"Run":                     `character 'R' at 0; use a-z, 0-9`,
		"a/../b":                  `character '/' at 1`,
		"a\x00":                   `character '\x00' at 1`,
		"-a":                      `character '-' at 0`,
		"naïve":                   `character 'ï' at 2`,
		"a\xff":                   `at 1`,
		"a b":                     `character ' ' at 1`,
		strings.Repeat("é", 33):   "66 characters; at most 64",
		"a" + string(rune(0x661)): "at 1", // a digit of another script
	} {
		if err := run.CheckName(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
}

// TestErrorTexts: operation, subject, cause and hint in this order, each left out where there is none, and never a stray mark.
func TestErrorTexts(t *testing.T) {
	cause := errors.New("disk full")
	for want, err := range map[string]*run.Error{
		"save checkpoint":                                   {Op: "save checkpoint"},
		"save checkpoint a/b":                               {Op: "save checkpoint", Subject: "a/b"},
		"save checkpoint: disk full":                        {Op: "save checkpoint", Cause: cause},
		"save checkpoint a/b: disk full":                    {Op: "save checkpoint", Subject: "a/b", Cause: cause},
		"save checkpoint a/b: disk full; free some":         {Op: "save checkpoint", Subject: "a/b", Cause: cause, Hint: "free some"},
		"save checkpoint; free some":                        {Op: "save checkpoint", Hint: "free some"},
		"run: save checkpoint a/b: disk full; free; resume": {Op: "run", Cause: &run.Error{Op: "save checkpoint", Subject: "a/b", Cause: cause, Hint: "free"}, Hint: "resume"},
	} {
		if err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
		if err.Cause != nil && !errors.Is(err, cause) {
			t.Errorf("%q loses its cause", err)
		}
	}
	if text := run.ErrPreempted.Error(); !strings.Contains(text, "checkpoint") || !strings.Contains(text, "goes on") || run.ErrPreempted.Class != run.ClassPreempted {
		t.Errorf("%q of class %s", text, run.ErrPreempted.Class)
	}
}

// TestClassesThroughWrapping: however deep, the outermost class decides; without one, what the cause is.
func TestClassesThroughWrapping(t *testing.T) {
	classes := []run.Class{run.ClassConfig, run.ClassData, run.ClassModel, run.ClassStorage, run.ClassPreempted, run.ClassOOM, run.ClassNonFinite, run.ClassHang, run.ClassCancelled, run.ClassInternal}
	rapid.Check(t, func(t *rapid.T) {
		err := io.ErrUnexpectedEOF
		want := run.ClassInternal
		for range rapid.IntRange(0, 6).Draw(t, "layers") {
			switch rapid.IntRange(0, 2).Draw(t, "layer") {
			case 0:
				err = fmt.Errorf("layer: %w", err)
			case 1:
				err = errors.Join(errors.New("other"), err)
			case 2:
				want = rapid.SampledFrom(classes).Draw(t, "class")
				err = run.Errorf(want, "op", "", "", "%w", err)
			}
		}
		if got := run.ClassOf(err); got != want || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("%v: class %s, want %s", err, got, want)
		}
		if code := want.ExitCode(); code <= 0 || code > 4 {
			t.Fatalf("class %s exits with %d", want, code)
		}
	})
	if c := run.ClassOf(fmt.Errorf("%w", &run.Error{Op: "x", Cause: &configs.Error{}})); c != run.ClassConfig {
		t.Errorf("an error without a class hides its cause's: %s", c)
	}
	if run.ClassNone.Retryable() || run.Class("x").Retryable() {
		t.Error("success or an unknown class is tried again")
	}
}

// events draws a metric file.
func events(t *rapid.T) (out []run.Event) {
	for range rapid.IntRange(0, 6).Draw(t, "events") {
		e := run.Event{Stage: stages().Draw(t, "stage"), Step: rapid.IntRange(0, 1000).Draw(t, "step"), Kind: rapid.StringMatching("[a-z]{1,8}").Draw(t, "kind"), Values: map[string]float64{}}
		for range rapid.IntRange(0, 4).Draw(t, "values") {
			e.Values[rapid.String().Draw(t, "name")] = rapid.OneOf(finite(), rapid.Just(math.SmallestNonzeroFloat64), rapid.Just(math.MaxFloat64)).Draw(t, "value")
		}
		if rapid.Bool().Draw(t, "masked") {
			e.Masks = masks(t, "event")
		}
		out = append(out, e)
	}
	return out
}

// TestEventFilesTravel: what is written is read again, number for number; equal events make equal bytes; a file is the files of
// its parts put together; and cut anywhere it loses the events from there on and no other.
func TestEventFilesTravel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first, second := events(t), events(t)
		var a, b, again bytes.Buffer
		for _, w := range []struct {
			to     *bytes.Buffer
			events []run.Event
		}{{&a, first}, {&b, second}, {&again, slices.Concat(first, second)}} {
			if err := run.WriteEvents(w.to, w.events); err != nil {
				t.Fatal(err)
			}
		}
		if whole := a.String() + b.String(); whole != again.String() {
			t.Fatal("a file is not the sum of its parts")
		}
		text := again.Bytes()
		all := slices.Concat(first, second)
		got, err := run.ReadEvents(bytes.NewReader(text))
		if err != nil || len(got) != len(all) {
			t.Fatalf("%d events, want %d: %v", len(got), len(all), err)
		}
		for i := range all {
			if !reflect.DeepEqual(got[i].Values, all[i].Values) || got[i].Masks != all[i].Masks || got[i].Stage != all[i].Stage {
				t.Fatalf("event %d is %+v, was %+v", i, got[i], all[i])
			}
		}
		cut := rapid.IntRange(0, len(text)).Draw(t, "cut")
		part, err := run.ReadEvents(bytes.NewReader(text[:cut]))
		if want := bytes.Count(text[:cut], []byte("\n")); err != nil || len(part) != want {
			t.Fatalf("cut at %d: %d events, want %d: %v", cut, len(part), want, err)
		}
	})
}

// failing is a file that takes or gives some bytes and then fails.
type failing struct{ left int }

var errDisk = errors.New("disk gone")

func (f *failing) Write(p []byte) (int, error) {
	if len(p) > f.left {
		return f.left, errDisk
	}
	f.left -= len(p)
	return len(p), nil
}

func (f *failing) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, errDisk
	}
	n := min(len(p), f.left)
	for i := range p[:n] {
		p[i] = ' '
	}
	f.left -= n
	return n, nil
}

// TestEventFilesFail: errors of the disk are given on, of a broken line with its number, of a bad number with its name.
func TestEventFilesFail(t *testing.T) {
	many := make([]run.Event, 500)
	for _, room := range []int{0, 100, 5000} {
		if err := run.WriteEvents(&failing{room}, many); !errors.Is(err, errDisk) {
			t.Errorf("room for %d bytes: %v", room, err)
		}
	}
	if _, err := run.ReadEvents(&failing{10}); !errors.Is(err, errDisk) {
		t.Errorf("reading: %v", err)
	}
	events, err := run.ReadEvents(strings.NewReader("{\"step\":1}\n{\"step\":2}\n{\"step\":\"three\"}\n"))
	if err == nil || !strings.Contains(err.Error(), "line 3") || len(events) != 2 {
		t.Errorf("%d events, %v", len(events), err)
	}
	err = run.WriteEvents(io.Discard, []run.Event{{}, {Stage: run.StageOFT, Step: 7, Values: map[string]float64{"kl": math.Inf(1)}}})
	if err == nil || !strings.Contains(err.Error(), "write metric kl: event 1 of stage oft step 7 is +Inf") {
		t.Errorf("%v", err)
	}
}

// TestTimingAddsUp: shares follow from the seconds, stay in 0..1, and an execution without length divides by nothing.
func TestTimingAddsUp(t *testing.T) {
	span := func(a, b float64) run.Span { return run.Span{Start: at(a), End: at(b)} }
	got := run.NewTiming(span(0, 100), []run.Span{span(0, 40), span(30, 60), span(90, 95)}, []run.Span{span(0, 40)}, 4)
	want := run.Timing{WallSeconds: 100, ActivitySeconds: 65, OutsideShare: 0.35, TrainSeconds: 40, SaveSeconds: 4, SaveShare: 0.1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := run.NewTiming(span(5, 5), nil, nil, 3); got != (run.Timing{SaveSeconds: 3}) {
		t.Errorf("an empty execution: %+v", got)
	}
	// Activities can outlast the last event that is known of; nothing is then outside of them.
	if got := run.NewTiming(span(0, 10), []run.Span{span(0, 30)}, nil, 0); got.OutsideShare != 0 {
		t.Errorf("%+v", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		var spans []run.Span
		for range rapid.IntRange(0, 5).Draw(t, "spans") {
			a := rapid.Float64Range(0, 90).Draw(t, "start")
			spans = append(spans, span(a, a+rapid.Float64Range(0, 10).Draw(t, "length")))
		}
		got := run.NewTiming(span(0, 100), spans, spans, rapid.Float64Range(0, 1).Draw(t, "saved"))
		if got.OutsideShare < 0 || got.OutsideShare > 1 || math.Abs(got.OutsideShare+got.ActivitySeconds/100-1) > 1e-9 || got.TrainSeconds != got.ActivitySeconds {
			t.Fatalf("%+v", got)
		}
	})
}

// TestMasksAdd in any order and grouping.
func TestMasksAdd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := masks(t, "a"), masks(t, "b"), masks(t, "c")
		if a.Add(b) != b.Add(a) || a.Add(b).Add(c) != a.Add(b.Add(c)) || a.Add(run.Masks{}) != a {
			t.Fatalf("%+v %+v %+v", a, b, c)
		}
		if s := a.Add(b); s.Total != a.Total+b.Total || s.Missing != a.Missing+b.Missing || s.Tiny != a.Tiny+b.Tiny || s.Full != a.Full+b.Full || s.Empty != a.Empty+b.Empty {
			t.Fatalf("%+v", s)
		}
	})
	if s := (run.PairSummary{}).Add(run.PairSummary{Masks: run.Masks{Total: 3}}); s != (run.PairSummary{Masks: run.Masks{Total: 3}}) {
		t.Errorf("two summaries without pairs: %+v", s)
	}
}

// TestQueues: one for everything with the built-in service, three names of one prefix with an external one.
func TestQueues(t *testing.T) {
	c, err := configs.Load(configs.Sources{Name: "world"})
	if err != nil {
		t.Fatal(err)
	}
	c.Temporal.QueuePrefix, c.Temporal.Address = "lab", ""
	if got := run.QueuesOf(c); got != (run.Queues{Control: "lab", CPU: "lab", GPU: "lab"}) {
		t.Errorf("built in: %+v", got)
	}
	c.Temporal.Address = "temporal.example:7233"
	if got := run.QueuesOf(c); got != (run.Queues{Control: "lab-control", CPU: "lab-cpu", GPU: "lab-gpu"}) {
		t.Errorf("external: %+v", got)
	}
}

// TestMetricsKeepEveryResult: a number for each split and variant; the last one counts where two have the same place.
func TestMetricsKeepEveryResult(t *testing.T) {
	var results []run.EvalResult
	for i, v := range run.Variants() {
		for j, split := range []string{"test_S", "test_C"} {
			results = append(results, run.EvalResult{Split: split, Variant: v, IP: float64(10*i + j)})
		}
	}
	m := run.Metrics(append(results, run.EvalResult{Split: "test_C", Variant: run.VariantBase, IP: 99}))
	if len(m) != 2 || len(m["test_S"]) != 4 || len(m["test_C"]) != 4 || m["test_C"][run.VariantBase].IP != 99 || m["test_S"][run.VariantLonger].IP != 30 {
		t.Errorf("%v", m)
	}
	if len(run.Metrics(nil)) != 0 {
		t.Error("numbers of nothing")
	}
}
