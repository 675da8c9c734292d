package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// small is a run of both stages with many checkpoints: about twenty seconds.
func small(set ...string) []string {
	return append([]string{"run", "world-smoke", "--name", "small"}, sets(append([]string{
		"data.train_tuples=24", "sft.steps=40", "sft.chunk_steps=5", "sft.batch=4", "sft.ema=0.9",
		"oft.epochs=6", "oft.chunk_epochs=2", "oft.steps=5", "oft.noisy_steps=3", "oft.images_per_prompt=3", "oft.accumulate_pairs=2",
		"eval.tuples=4", "eval.steps=3", "eval.bootstrap=20", "eval.during.tuples=2", "worker.price_per_hour=3600", "worker.currency=EUR",
	}, set...)...)...)
}

// output collects what a process prints and calls back on every line.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
	rest string
	line func(string)
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	o.rest += string(p)
	for {
		line, rest, ok := strings.Cut(o.rest, "\n")
		if !ok {
			return len(p), nil
		}
		o.rest = rest
		o.line(line)
	}
}

// watch sets what is called back.
func (o *output) watch(line func(string)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.line = line
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// moment is when to kill: some time after the first line of progress of a stage.
type moment struct {
	stage string
	delay time.Duration
}

func (m moment) reached(line string) bool {
	f := strings.Fields(line)
	return len(f) > 1 && f[0] == m.stage && (strings.Contains(line, "training") || strings.Contains(line, "generating") || strings.Contains(line, "scoring"))
}

// process is a command that is under way and has reached a moment.
type process struct {
	*exec.Cmd
	out   *output
	ended chan struct{}
}

// startUntil starts a command and waits for the first line of the moment's stage.
func startUntil(t *testing.T, state string, m moment, args ...string) process {
	t.Helper()
	return startUntilLine(t, state, m.reached, args...)
}

// startUntilLine starts a command and waits for a line of its output.
func startUntilLine(t *testing.T, state string, reached func(line string) bool, args ...string) process {
	t.Helper()
	now := make(chan struct{})
	var once sync.Once
	p := process{command(t.Context(), state, args...), &output{}, make(chan struct{})}
	p.out.line = func(line string) {
		if reached(line) {
			once.Do(func() { close(now) })
		}
	}
	p.Stdout, p.Stderr = p.out, p.out
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.Wait() // its exit code is looked at
		close(p.ended)
	}()
	select {
	case <-now:
	case <-p.ended:
		t.Fatalf("%v ended too soon: %v\n%s", args, p.ProcessState, p.out)
	case <-time.After(5 * time.Minute):
		t.Fatalf("%v never came so far:\n%s", args, p.out)
	}
	return p
}

// killAt runs a command until the moment, then kills its process group and the services, as a power cut would. It
// reports whether the command was killed before its end.
func killAt(t *testing.T, state string, m moment, args ...string) bool {
	t.Helper()
	p := startUntil(t, state, m, args...)
	time.Sleep(m.delay)
	killServices(t, state)
	if err := syscall.Kill(-p.Process.Pid, syscall.SIGKILL); err != nil {
		t.Log(err) // it may have ended by itself
	}
	<-p.ended
	return p.ProcessState.ExitCode() < 0
}

func killServices(t *testing.T, state string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(state, "services", "services.json"))
	if err != nil {
		t.Fatal(err)
	}
	pid := decode[struct {
		PID int `json:"pid"`
	}](t, string(text)).PID
	if pid < 2 {
		t.Fatalf("no process in %s", text)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// moments are kills in both stages, at random times: one of three in supervised training, the others while pictures are
// made, scored or trained on. The more there are, the sooner each comes, so that none comes after the stage's end.
func moments() []moment {
	kills := 3
	if n, err := strconv.Atoi(os.Getenv("SCIFLUX_SOAK")); err == nil && n > kills {
		kills = n
	}
	random := rand.New(rand.NewPCG(uint64(kills), 5))
	var out []moment
	add := func(stage string, n int) {
		for range n {
			out = append(out, moment{stage, time.Duration(random.IntN(3000/n)) * time.Millisecond})
		}
	}
	add("sft", kills/3)
	add("oft", kills-kills/3)
	return out
}

// A run that is killed again and again, with its services, and continued, gives the same adapter as one that is not.
func TestKillAndResume(t *testing.T) {
	if testing.Short() {
		t.Skip("runs whole pipelines")
	}
	long := small("sft.steps=400", "sft.chunk_steps=20", "oft.epochs=24", "oft.chunk_epochs=3")
	whole := stateDir(t)
	want(t, 0, whole, long...)
	reference := show(t, whole, "small")
	if reference.Status != "completed" || len(reference.Adapter.SHA256) != 64 {
		t.Fatalf("%+v", reference)
	}

	broken := stateDir(t)
	args := long
	for i, m := range moments() {
		if !killAt(t, broken, m, args...) {
			t.Fatalf("kill %d at %+v came after the end", i, m)
		}
		args = []string{"resume", "small"}
	}
	want(t, 0, broken, "resume", "small", "--set", "worker.threads=1")
	got := show(t, broken, "small")
	if got.Status != "completed" || got.Adapter.SHA256 != reference.Adapter.SHA256 {
		t.Errorf("after %d kills: %s, adapter %s, want %s", len(moments()), got.Status, got.Adapter.SHA256, reference.Adapter.SHA256)
	}
	if !bytes.Equal(exported(t, whole, "small"), exported(t, broken, "small")) {
		t.Error("the exported files differ")
	}
	if a, b := fmt.Sprint(got.Metrics), fmt.Sprint(reference.Metrics); a != b {
		t.Errorf("metrics %s, want %s", a, b)
	}
}

// Ctrl-C leaves a checkpoint and says how to go on; a second one ends at once.
func TestInterruptIsResumable(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a pipeline")
	}
	state := stateDir(t)
	interrupt := func(times int, args ...string) (int, string) {
		p := startUntil(t, state, moment{stage: "sft"}, args...)
		for i := range times {
			time.Sleep(time.Duration(i) * 20 * time.Millisecond)
			_ = p.Process.Signal(os.Interrupt)
		}
		<-p.ended
		return p.ProcessState.ExitCode(), p.out.String()
	}
	long := small("sft.steps=4000", "sft.chunk_steps=2000")
	if code, text := interrupt(2, long...); code != 4 {
		t.Errorf("twice: exit code %d\n%s", code, text)
	}
	code, text := interrupt(1, "resume", "small")
	if code != 4 || !strings.Contains(text, "sciflux resume small") {
		t.Errorf("once: exit code %d, and no command that goes on in\n%s", code, text)
	}
	r := want(t, 0, state, "ckpt", "ls", "small", "--json")
	if !strings.Contains(r.out, `"sft"`) {
		t.Errorf("no checkpoint was left: %s", r.out)
	}
	if s := show(t, state, "small"); s.Status != "paused" || s.Stage != "sft" || s.Step == 0 || s.StepsTotal != 4000 {
		t.Errorf("%+v", s)
	}
}

// smallDisk is a state folder on a disk of its own.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("a small disk cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { command(context.Background(), dir, "down").Run() })
	return dir
}

// fill takes all that is left on a folder's disk and returns the file that does.
func fill(t *testing.T, dir string) string {
	t.Helper()
	name := filepath.Join(dir, "fill")
	f, err := os.Create(name)
	for block := make([]byte, 1<<20); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

// A disk that fills up while a run works on it holds the run up, which is told, and costs it nothing.
func TestDiskThatFillsUp(t *testing.T) {
	reference := exported(t, smokeRun(t), "small")
	state := smallDisk(t, "400m")
	said := make(chan string, 100)
	p := startUntil(t, state, moment{stage: "oft"}, small()...)
	p.out.watch(func(line string) {
		if strings.HasPrefix(line, "disk: ") {
			said <- line
		}
	})
	hears := func(words string) {
		select {
		case line := <-said:
			if !strings.Contains(line, words) {
				t.Fatalf("%q, want %q", line, words)
			}
		case <-p.ended:
			t.Fatalf("the run ended: %v\n%s", p.ProcessState, p.out)
		case <-time.After(time.Minute):
			t.Fatalf("nothing was told:\n%s", p.out)
		}
	}
	file := fill(t, state)
	hears("the run waits")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	hears("the run goes on")
	<-p.ended
	if !p.ProcessState.Success() {
		t.Fatalf("%v\n%s", p.ProcessState, p.out)
	}
	if !bytes.Equal(exported(t, state, "small"), reference) {
		t.Error("the adapter is not that of a run with room on its disk")
	}
}
