package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/run"
)

func printer(json bool) (p *Printer, out, errs *bytes.Buffer) {
	out, errs = &bytes.Buffer{}, &bytes.Buffer{}
	return &Printer{Out: out, Err: errs, JSON: json}, out, errs
}

func TestTableAlignsNumbersRight(t *testing.T) {
	var b bytes.Buffer
	Table(&b, []string{"name", "n", "note"}, [][]string{{"äpfel", "5", ""}, {"x", "1234", "−2 s"}})
	want := "name      n  note\näpfel     5\nx      1234  −2 s\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestTableColumnsStandUnderEachOther(t *testing.T) {
	cell := rapid.StringMatching(`[a-zé]{1,8}`)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(t, "columns")
		rows := rapid.SliceOfN(rapid.SliceOfN(cell, n, n), 1, 5).Draw(t, "rows")
		var b bytes.Buffer
		Table(&b, rows[0], rows[1:])
		lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		if len(lines) != len(rows) {
			t.Fatalf("%d lines of %d rows", len(lines), len(rows))
		}
		at := 0
		for c := range n {
			widest := 0
			for i, row := range rows {
				if got := string([]rune(lines[i])[at:][:utf8.RuneCountInString(row[c])]); got != row[c] {
					t.Fatalf("column %d of line %q begins with %q, want %q", c, lines[i], got, row[c])
				}
				widest = max(widest, utf8.RuneCountInString(row[c]))
			}
			at += widest + 2
		}
	})
}

func TestValueIsTextOrJSON(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		p, out, _ := printer(asJSON)
		if err := p.Value(map[string]int{"a": 1}, func(w io.Writer) { fmt.Fprint(w, "one") }); err != nil {
			t.Fatal(err)
		}
		if want := map[bool]string{false: "one", true: "{\n  \"a\": 1\n}\n"}[asJSON]; out.String() != want {
			t.Errorf("JSON %v: %q", asJSON, out)
		}
	}
}

func TestNotesStayOutOfJSON(t *testing.T) {
	p, out, errs := printer(true)
	p.Note("hello %d", 1)
	p.Event(map[string]string{"event": "x"}, "text")
	if errs.String() != "hello 1\n" || out.String() != "{\"event\":\"x\"}\n" {
		t.Errorf("%q %q", out, errs)
	}
	p, out, errs = printer(false)
	p.Note("hello")
	p.Event(nil, "text")
	if out.String() != "hello\ntext\n" || errs.Len() > 0 {
		t.Errorf("%q %q", out, errs)
	}
}

func TestFailuresCarryClassHintAndCode(t *testing.T) {
	cause := fmt.Errorf("outer: %w", run.Errorf(run.ClassModel, "load", "x.safetensors", "fetch it again", "%w", errors.New("too short")))
	p, _, errs := printer(true)
	p.Fail(cause, run.ClassOf(cause))
	var f struct {
		Error, Class, Hint string
		ExitCode           int `json:"exit_code"`
	}
	if err := json.Unmarshal(errs.Bytes(), &f); err != nil || f.Class != "model" || f.Hint != "fetch it again" || f.ExitCode != run.ExitData || !strings.Contains(f.Error, "too short") {
		t.Errorf("%v %+v", err, f)
	}
	p, _, errs = printer(false)
	p.Fail(cause, run.ClassModel)
	if errs.String() != "sciflux: outer: load x.safetensors: too short; fetch it again\n" {
		t.Errorf("%q", errs)
	}
}

func TestUpdatedLinesAreLeftBehind(t *testing.T) {
	p, out, _ := printer(false)
	p.Update("1/2")
	p.Update("2/2")
	p.Note("done")
	p.Note("really")
	if out.String() != "\r\x1b[K1/2\r\x1b[K2/2\ndone\nreally\n" {
		t.Errorf("%q", out)
	}
}

// clock is a Progress on a printer, and the time it reads.
func clock(asJSON bool) (p *Progress, out *bytes.Buffer, now *time.Time) {
	printer, out, _ := printer(asJSON)
	at := time.Unix(1000, 0)
	return &Progress{Printer: printer, Every: 3 * time.Second, now: func() time.Time { return at }}, out, &at
}

func TestProgressIsThrottledButShowsChangesAndTheEnd(t *testing.T) {
	p, out, now := clock(false)
	show := func(step int, note string) string {
		out.Reset()
		p.Show(run.Progress{Stage: run.StageSFT, Step: step, StepsTotal: 10, Note: note, At: *now})
		*now = now.Add(time.Second)
		return out.String()
	}
	var shown []int
	for step := 1; step <= 9; step++ {
		if show(step, "training") != "" {
			shown = append(shown, step)
		}
	}
	if fmt.Sprint(shown) != "[1 4 7]" {
		t.Errorf("shown at %v", shown)
	}
	if show(10, "saving") == "" {
		t.Error("a new note at the end is not shown")
	}
}

func TestRateCountsFromTheStagesFirstReport(t *testing.T) {
	p, out, now := clock(true)
	start := *now
	report := func(stage run.Stage, step int, after time.Duration) map[string]any {
		out.Reset()
		*now = start.Add(after)
		p.Show(run.Progress{Stage: stage, Step: step, StepsTotal: 100, Loss: 0.5, At: *now})
		var e map[string]any
		if err := json.Unmarshal(out.Bytes(), &e); err != nil {
			t.Fatalf("%v in %q", err, out)
		}
		return e
	}
	if e := report(run.StageSFT, 10, 0); e["steps_per_second"] != nil || e["event"] != "progress" || e["step"] != 10.0 || e["loss"] != 0.5 {
		t.Errorf("%v", e)
	}
	if e := report(run.StageSFT, 30, 10*time.Second); e["steps_per_second"] != 2.0 || e["eta_seconds"] != 35.0 {
		t.Errorf("%v", e)
	}
	if e := report(run.StageOFT, 40, 20*time.Second); e["steps_per_second"] != nil {
		t.Errorf("the rate of another stage: %v", e)
	}
	if e := report(run.StageOFT, 100, 80*time.Second); e["steps_per_second"] != 1.0 || e["eta_seconds"] != nil {
		t.Errorf("%v", e)
	}
	// A run that goes back to a checkpoint counts anew.
	if e := report(run.StageOFT, 20, 90*time.Second); e["steps_per_second"] != nil {
		t.Errorf("%v", e)
	}
}

func TestLine(t *testing.T) {
	for _, c := range []struct {
		p         run.Progress
		rate, eta float64
		want      string
	}{
		{run.Progress{Stage: run.StageOFT, Step: 120, StepsTotal: 960, Epoch: 7, Loss: 0.641, Reward: 18.2, Note: "scoring", Masks: run.Masks{Total: 32, Full: 1}}, 2.1, 400,
			"oft       120/960  epoch 7  2.1 step/s  ETA 6 min 40 s  loss 0.641  reward 18.20  masks 32 (1 full)  scoring"},
		{run.Progress{Stage: run.StageCompare, Step: 3, Note: "training"}, 0, 0, "compare   step 3  training"},
		{run.Progress{Stage: run.StagePrepare}, 0, 0, "prepare "},
		{run.Progress{Stage: run.StageOFT, Masks: run.Masks{Total: 8, Missing: 1, Empty: 2, Tiny: 3}}, 0, 0, "oft       masks 8 (1 missing, 2 empty, 3 tiny)"},
	} {
		if got := line(c.p, c.rate, c.eta); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}

// finished is the state of a completed run.
func finished() run.State {
	ref := func(key string) run.ObjectRef {
		return run.ObjectRef{Key: key, SHA256: strings.Repeat("ab", 32), Bytes: 2048}
	}
	return run.State{
		Run: "r", Status: run.StatusCompleted, Stage: run.StageExport, Step: 60, StepsTotal: 60, Adapter: ref("adapter"), Report: ref("report"), Seed: 7, ConfigHash: "hash",
		Checkpoints: []run.CheckpointRef{{Stage: run.StageSFT, Step: 20, Manifest: ref("m"), Adapter: ref("a"), Seconds: 61}},
		StageTimes:  []run.StageTime{{Stage: run.StageSFT, WallSeconds: 70, BusySeconds: 61, Stopped: "dead masks"}},
		Results: []run.EvalResult{{Split: "test_S", Variant: run.VariantBase, IP: 3}, {Split: "test_S", Variant: run.VariantOFT, IP: 9, RI: 0.5, JudgeIP: 0.25, JudgeEP: 0.9, Outside: 3.25,
			RIGain: run.Interval{Mean: 0.08, Low: 0.06, High: 0.1}}},
	}
}

func TestRunAsText(t *testing.T) {
	view := NewRun(finished(), func(key string) string { return "s3://b/" + key })
	view.Files = map[string]string{"report": "/tmp/r.html"}
	view.Timing = &run.Timing{WallSeconds: 100, OutsideShare: 0.012, SaveShare: 0.004}
	p, out, _ := printer(false)
	if err := p.Show(view); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"completed, stage export, step 60 of 60", "SFT + OFT", "+0.080 [+0.060, +0.100]", "25.0 %", "3.25", "1 min 10 s", "dead masks",
		"abababababab  abababababab", "s3://b/adapter", "2.0 KiB", "/tmp/r.html", "1.2 % of 1 min 40 s outside activities", "0.4 % of its time for checkpoints"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestRunAsJSONHasEveryPromisedField(t *testing.T) {
	p, out, _ := printer(true)
	if err := p.Show(NewRun(finished(), func(key string) string { return "s3://b/" + key })); err != nil {
		t.Fatal(err)
	}
	var r struct {
		Run, Status, Stage string
		Step               *int
		StepsTotal         *int `json:"steps_total"`
		Adapter            struct{ URI, SHA256 string }
		Checkpoints        []struct{ Manifest, Adapter struct{ URI, SHA256 string } }
		Metrics            map[string]map[string]map[string]any
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.Run != "r" || r.Status != "completed" || r.Stage != "export" || *r.Step != 60 || *r.StepsTotal != 60 || r.Adapter.URI != "s3://b/adapter" || len(r.Adapter.SHA256) != 64 {
		t.Errorf("%+v", r)
	}
	if len(r.Checkpoints) != 1 || r.Checkpoints[0].Manifest.URI != "s3://b/m" || r.Metrics["test_S"]["oft"]["ri"] != 0.5 || r.Metrics["test_S"]["base"]["judge_ip"] != 0.0 {
		t.Errorf("%+v", r)
	}
}

func TestAFreshRunIsShownWithoutHoles(t *testing.T) {
	p, out, _ := printer(true)
	if err := p.Show(NewRun(run.State{Run: "r", Status: run.StatusRunning, Stage: run.StagePrepare}, func(string) string { return "never" })); err != nil {
		t.Fatal(err)
	}
	if s := out.String(); !strings.Contains(s, `"checkpoints": []`) || strings.Contains(s, "never") || !strings.Contains(s, `"steps_total": 0`) {
		t.Error(s)
	}
	p, out, _ = printer(false)
	if err := p.Show(NewRun(run.State{Run: "r", Status: run.StatusPaused, Reason: "clamp"}, nil)); err != nil || !strings.Contains(out.String(), "reason   clamp") {
		t.Errorf("%v %s", err, out)
	}
}
