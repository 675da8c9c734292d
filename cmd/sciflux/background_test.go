package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tiny is a run of both stages that is over in seconds.
func tiny(name string, set ...string) []string {
	return append([]string{"run", "world-smoke", "--name", name}, sets(append([]string{
		"data.train_tuples=8", "sft.steps=3", "sft.chunk_steps=3", "sft.batch=2", "oft.epochs=1", "oft.steps=3", "oft.prompts_per_epoch=2", "oft.accumulate_pairs=2",
		"eval.tuples=2", "eval.steps=2", "eval.bootstrap=5", "eval.during.every_steps=0", "eval.during.every_epochs=0",
	}, set...)...)...)
}

// waitFor asks until something holds.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not after three minutes", what)
		}
	}
}

// A run in the background: the command returns at once and says where the work goes on; another command follows it.
func TestDetachedRunIsWatched(t *testing.T) {
	state := smokeRun(t)
	r := want(t, 0, state, append(tiny("behind"), "--detach", "--json")...)
	at := decode[struct {
		Run, Log string
		PID      int
	}](t, r.out)
	if at.Run != "behind" || at.PID < 2 || at.Log != filepath.Join(state, "runs", "behind", "output.log") {
		t.Errorf("%+v", at)
	}
	if !strings.Contains(r.err, "run behind started") {
		t.Errorf("notes stay text beside the JSON: %s", r)
	}
	watched := want(t, 0, state, "watch", "behind", "--json")
	all := events(t, watched.out)
	last := all[len(all)-1]
	if last["run"] != "behind" || last["status"] != "completed" || last["metrics"] == nil {
		t.Errorf("the last of what was watched is %v", last)
	}
	for _, e := range all[:len(all)-1] {
		if !slices.Contains([]any{"progress", "eval", "trouble", "paused"}, e["event"]) {
			t.Errorf("an event without a name: %v", e)
		}
	}
	log := ""
	waitFor(t, "the worker in the background leaves its summary", func() bool {
		text, err := os.ReadFile(at.Log)
		log = string(text)
		return err == nil && strings.Contains(log, "index.html")
	})
	if strings.ContainsRune(log, '\x1b') || !strings.Contains(log, "status   completed") {
		t.Errorf("the log of the background process:\n%s", log)
	}
	if got := show(t, state, "behind"); got.Step != got.StepsTotal || len(got.Adapter.SHA256) != 64 {
		t.Errorf("%+v", got)
	}
	exported(t, state, "behind")
}

// A run with --json: everything on standard output is JSON, notes are not among it, and the files it names are there.
func TestRunAsJSON(t *testing.T) {
	state := smokeRun(t)
	r := want(t, 0, state, append(tiny("front"), "--json")...)
	all := events(t, r.out)
	seen := map[any]int{}
	for _, e := range all {
		seen[e["event"]]++
	}
	last := all[len(all)-1]
	if seen["progress"] == 0 || last["status"] != "completed" || last["files"] == nil {
		t.Errorf("%v, the last is %v", seen, last)
	}
	if !strings.Contains(r.err, "run front started") || strings.ContainsRune(r.out+r.err, '\x1b') {
		t.Errorf("%s", r)
	}
	for what, path := range last["files"].(map[string]any) {
		if info, err := os.Stat(path.(string)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Commands that stay until Ctrl-C say that they are ready, and end well.
func TestWorkerAndUIUntilInterrupted(t *testing.T) {
	state := smokeRun(t)
	for _, c := range []struct {
		args  []string
		ready string
	}{
		{[]string{"worker"}, "working on queue sciflux"},
		{[]string{"worker", "--json", "--set", "worker.threads=1"}, `{"event":"working","queues":{"control":"sciflux"`},
		{[]string{"ui"}, "web UI    http://127.0.0.1:"},
	} {
		p := startUntilLine(t, state, func(line string) bool { return strings.HasPrefix(line, c.ready) }, c.args...)
		if err := p.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		<-p.ended
		if code := p.ProcessState.ExitCode(); code != 0 {
			t.Errorf("%v: exit code %d\n%s", c.args, code, p.out)
		}
	}
}

// The services of a folder are started once; `up` again says where they are.
func TestUpAgainIsTheSame(t *testing.T) {
	state := smokeRun(t)
	shape := map[string]string{"temporal_address": jsonText, "namespace": jsonText, "s3_endpoint": jsonText, "bucket": jsonText, "ui_address": jsonText, "pid": jsonWhole, "started": jsonTime, "stay": jsonBool, "versions.temporal": jsonText}
	first, second := hasShape(t, inside(t, state, "up", "--json").out, shape), hasShape(t, inside(t, state, "up", "--json").out, shape)
	for key := range shape {
		if at(first, key) != at(second, key) {
			t.Errorf("%s: %v, then %v", key, at(first, key), at(second, key))
		}
	}
	if at(first, "stay") != true || at(first, "ready_seconds") != nil {
		t.Errorf("%v", first)
	}
	if r := inside(t, t.TempDir(), "down", "--json"); r.code != 0 || strings.TrimSpace(r.out) != `{"stopped":false}` {
		t.Error(r)
	}
}

// The adapter does not depend on how many parts the work is cut into, nor on a second process that takes some of them.
func TestShardsAndWorkersDoNotMatter(t *testing.T) {
	state := smokeRun(t)
	work := []string{"oft.epochs=2", "oft.prompts_per_epoch=4", "eval.splits=[test_S]"}
	alone := func(shards string) string {
		name := "shards-" + shards
		want(t, 0, state, tiny(name, append(work, "worker.shards="+shards)...)...)
		return show(t, state, name).Adapter.SHA256
	}
	first := alone("1")
	worker := startUntilLine(t, state, func(line string) bool { return strings.HasPrefix(line, "working on queue") }, "worker")
	defer func() {
		_ = worker.Process.Signal(syscall.SIGINT) // a killed one would be waited for by the server
		<-worker.ended
	}()
	if got := alone("3"); len(first) != 64 || got != first {
		t.Errorf("adapter %s in one part, %s in three with another worker", first, got)
	}
}
