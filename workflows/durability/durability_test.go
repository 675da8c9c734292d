package durability

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/internal/embedded"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/workflows"
	"github.com/sciflux/sciflux/workflows/rehearsal"
)

// The test binary is also the services' child and the worker process.
const (
	roleEnv    = "SCIFLUX_TEST_ROLE"
	addressEnv = "SCIFLUX_TEST_ADDRESS"
	storeEnv   = "SCIFLUX_TEST_STORE"
	epochsEnv  = "SCIFLUX_TEST_EPOCHS"
	compareEnv = "SCIFLUX_TEST_COMPARE"
	failEnv    = "SCIFLUX_TEST_FAIL" // the beginning of calls that fail with an error of class data
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "services":
		exit(embedded.Main(context.Background()))
	case "worker":
		exit(work())
	}
	os.Exit(m.Run())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// plan is a run of about three seconds of pretended work.
func plan() run.Plan {
	return run.Plan{SFTSteps: 60, SFTChunk: 20, OFTEpochs: 12, OFTChunk: 1, OFTSteps: 1, Shards: 2, Splits: []string{"test_S"},
		KeepLast: 2, Attributes: true, HeartbeatTimeout: 2 * time.Second, Stop: configs.Default().Stop}
}

func spec(name string) run.Spec {
	return run.Spec{Name: name, ConfigHash: "hash-" + name, Seed: 1, Queues: run.QueuesWithPrefix("test"), HeartbeatTimeout: 2 * time.Second}
}

// pretend makes stages with their manifests in dir.
func pretend(dir string, p run.Plan) *rehearsal.Stages {
	s := rehearsal.New(p)
	s.Store, s.Step = &rehearsal.Disk{Dir: dir}, 20*time.Millisecond
	s.PairWork = func(int) time.Duration { return 30 * time.Millisecond }
	return s
}

func dial(address string) (client.Client, error) {
	quiet := sdklog.NewStructuredLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
	return client.Dial(client.Options{HostPort: address, Namespace: "sciflux", Logger: quiet})
}

// work is the body of a worker process: it works until SIGTERM.
func work() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	c, err := dial(os.Getenv(addressEnv))
	if err != nil {
		return err
	}
	defer c.Close()
	p := plan()
	if n := os.Getenv(epochsEnv); n != "" {
		if _, err := fmt.Sscan(n, &p.OFTEpochs); err != nil {
			return err
		}
	}
	if p.Compare = os.Getenv(compareEnv) != ""; p.Compare {
		p.EveryEpochs = 2
	}
	stages := pretend(os.Getenv(storeEnv), p)
	if bad := os.Getenv(failEnv); bad != "" {
		stages.Fail = func(call string, _ int) error {
			if strings.HasPrefix(call, bad) {
				return run.Errorf(run.ClassData, "read", "x.png", "replace it", "truncated")
			}
			return nil
		}
	}
	a := activities.New(stages, activities.Limits{HangAfter: time.Minute, StopGrace: 10 * time.Second})
	w := workflows.NewWorkers(c, run.QueuesWithPrefix("test"), a, 2)
	if err := w.Start(); err != nil {
		return err
	}
	fmt.Println("working")
	<-ctx.Done()
	w.Stop()
	return nil
}

// services starts Temporal for a test in its own folder.
func services(t *testing.T, dir string) *embedded.Services {
	t.Helper()
	s, err := embedded.Start(t.Context(), embedded.Options{Dir: dir, Command: []string{os.Args[0]}, Env: []string{roleEnv + "=services"}, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		if err := embedded.Stop(context.Background(), dir); err != nil && !errors.Is(err, embedded.ErrNotRunning) {
			t.Error(err)
		}
	})
	return s
}

// worker starts a worker process.
func worker(t *testing.T, s *embedded.Services, store string, env ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(append(os.Environ(), env...), roleEnv+"=worker", addressEnv+"="+s.TemporalAddress, storeEnv+"="+store)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	return c
}

func runs(t *testing.T, s *embedded.Services) workflows.Runs {
	t.Helper()
	var err error
	for range 100 { // right after a kill the old process may still be on its way out
		var c client.Client
		if c, err = dial(s.TemporalAddress); err == nil {
			t.Cleanup(c.Close)
			return workflows.Runs{Client: c}
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Fatal(err)
	return workflows.Runs{}
}

func start(t *testing.T, r workflows.Runs, name string) {
	t.Helper()
	if _, err := r.Start(t.Context(), spec(name)); err != nil {
		t.Fatal(err)
	}
}

func wait(t *testing.T, r workflows.Runs, name string) run.State {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	s, err := r.Wait(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// unbroken is the adapter that a run ends with when nothing happens to it.
func unbroken(t *testing.T, s *embedded.Services, r workflows.Runs) string {
	t.Helper()
	w := worker(t, s, t.TempDir())
	start(t, r, "unbroken")
	state := wait(t, r, "unbroken")
	if err := w.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	w.Wait()
	return state.Adapter.SHA256
}

// kill ends a process at once.
func kill(t *testing.T, c *exec.Cmd) {
	t.Helper()
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.Wait()
}

// killServices ends the server at once and returns when it is gone.
func killServices(t *testing.T, s *embedded.Services) {
	t.Helper()
	if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.Close()
	for {
		c, err := net.Dial("tcp", s.TemporalAddress)
		if err != nil {
			return
		}
		c.Close()
		time.Sleep(10 * time.Millisecond)
	}
}

// Workers are killed at random moments of both stages, one of them together with the server; the adapter is the same.
func TestKilledProcessesLeaveNoTrace(t *testing.T) {
	dir := t.TempDir()
	s := services(t, dir)
	r := runs(t, s)
	want := unbroken(t, s, r)
	store := t.TempDir()
	w := worker(t, s, store)
	start(t, r, "broken")
	seed := uint64(time.Now().UnixNano())
	t.Logf("random moments from seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for i := range 4 {
		time.Sleep(time.Duration(200+random.IntN(900)) * time.Millisecond)
		kill(t, w)
		if i == 2 {
			killServices(t, s)
			s = services(t, dir)
			r = runs(t, s)
			start(t, r, "broken") // attaches
		}
		w = worker(t, s, store)
	}
	if got := wait(t, r, "broken").Adapter.SHA256; got != want {
		t.Error("the killed run ends with another adapter")
	}
}

// A run whose database is gone goes on from the manifests, under the same name.
func TestLostHistory(t *testing.T) {
	s := services(t, t.TempDir())
	r := runs(t, s)
	want := unbroken(t, s, r)
	store := t.TempDir()
	w := worker(t, s, store)
	start(t, r, "lost")
	waitFor(t, store, "oft/000003.json")
	kill(t, w)

	fresh := services(t, t.TempDir())
	r = runs(t, fresh)
	worker(t, fresh, store)
	start(t, r, "lost")
	if got := wait(t, r, "lost").Adapter.SHA256; got != want {
		t.Error("the rebuilt run ends with another adapter")
	}
}

// waitFor returns when a file is there.
func waitFor(t *testing.T, dir, name string) {
	t.Helper()
	for range 600 {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s did not appear", name)
}

// SIGTERM leaves a checkpoint inside the chunk, and the next worker goes on from it within a moment.
func TestStoppedWorkerLosesNoStep(t *testing.T) {
	s := services(t, t.TempDir())
	r := runs(t, s)
	store := t.TempDir()
	w := worker(t, s, store)
	start(t, r, "stopped")
	waitFor(t, store, "step-000023") // some steps into the second chunk
	begin := time.Now()
	if err := w.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := w.Wait(); err != nil {
		t.Errorf("worker: %v", err)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("leaving took %v", d)
	}
	files, _ := filepath.Glob(filepath.Join(store, "sft", "*.json"))
	if len(files) != 2 || strings.HasSuffix(files[1], "000040.json") {
		t.Errorf("no checkpoint inside the chunk: %v", files)
	}
	state, err := r.Client.DescribeWorkflowExecution(t.Context(), workflows.ID("stopped"), "")
	if err != nil || state.WorkflowExecutionInfo.CloseTime != nil {
		t.Errorf("the run did not stay open: %v", err)
	}
	worker(t, s, store)
	if got := wait(t, r, "stopped"); got.Status != run.StatusCompleted {
		t.Errorf("%s", got.Status)
	}
}

func TestAttachStateCancelAndNames(t *testing.T) {
	s := services(t, t.TempDir())
	r := runs(t, s)
	worker(t, s, t.TempDir(), epochsEnv+"=1000")
	start(t, r, "a")
	if attached, err := r.Start(t.Context(), spec("a")); err != nil || !attached {
		t.Errorf("a second start: attached %v, %v", attached, err)
	}
	other := spec("a")
	other.ConfigHash = "other"
	if _, err := r.Start(t.Context(), other); !errors.Is(err, workflows.ErrOtherConfig) || run.ClassOf(err) != run.ClassConfig {
		t.Errorf("another config under the same name: %v", err)
	}
	var live workflows.Live
	for range 200 {
		var err error
		if live, err = r.State(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if live.Stage == run.StageOFT && live.Epoch > 1 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if live.Status != run.StatusRunning || live.EpochsTotal != 1000 || live.Step != live.Epoch || len(live.Checkpoints) != 2 || live.Adapter.IsZero() {
		t.Errorf("state %+v", live.State)
	}
	if _, err := r.Pause(t.Context(), "a", "lunch"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond) // the epoch in hand ends
	before, err := r.State(t.Context(), "a")
	if err != nil || before.Status != run.StatusPaused || before.Reason != "lunch" {
		t.Errorf("paused: %+v %v", before.State, err)
	}
	time.Sleep(500 * time.Millisecond)
	if after, err := r.State(t.Context(), "a"); err != nil || after.Epoch != before.Epoch {
		t.Errorf("epoch %d, then %d while paused: %v", before.Epoch, after.Epoch, err)
	}
	if _, err := r.Unpause(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := r.Cancel(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Wait(t.Context(), "a"); run.ClassOf(err) != run.ClassCancelled {
		t.Errorf("cancelled run: %v", err)
	}
	if live, err := r.State(t.Context(), "a"); err != nil || live.Status != run.StatusCancelled {
		t.Errorf("after cancel: %s %v", live.Status, err)
	}
	if _, err := r.State(t.Context(), "nobody"); run.ClassOf(err) != run.ClassConfig {
		t.Errorf("unknown run: %v", err)
	}
	var rows []workflows.Row
	for range 50 { // the list is written a moment later
		if rows, err = r.List(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(rows) == 1 && rows[0].Status == run.StatusCancelled {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if len(rows) != 1 || rows[0].Name != "a" || rows[0].Status != run.StatusCancelled || rows[0].Ended.IsZero() {
		t.Errorf("rows %+v", rows)
	}
}

// What an epoch pays for being durable: history events, which do not depend on how busy the machine is, and time, which
// is logged. Two per cent of a main-job epoch of three seconds are 60 ms.
func TestOverheadOfAnEpoch(t *testing.T) {
	const epochs = 30
	s := services(t, t.TempDir())
	c, err := dial(s.TemporalAddress)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p := plan()
	p.SFTSteps, p.OFTEpochs, p.OFTChunk, p.Shards = 20, epochs, 5, 1
	queues := run.OneQueue("one")
	w := workflows.NewWorkers(c, queues, activities.New(rehearsal.New(p), activities.Limits{StopGrace: time.Second}), 2)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	r := workflows.Runs{Client: c}
	idle := spec("idle")
	idle.Queues = queues
	if _, err := r.Start(t.Context(), idle); err != nil {
		t.Fatal(err)
	}
	for _, st := range wait(t, r, "idle").StageTimes {
		t.Logf("%-9s %.3f s", st.Stage, st.WallSeconds)
		if st.Stage == run.StageOFT {
			t.Logf("%.0f ms an epoch", 1000*st.WallSeconds/epochs)
		}
	}
	d, err := c.DescribeWorkflowExecution(t.Context(), workflows.StageID("idle", run.StageOFT), "")
	if err != nil {
		t.Fatal(err)
	}
	// Three activities of three events, each with a decision of three.
	if n := d.WorkflowExecutionInfo.HistoryLength; n > 20*epochs {
		t.Errorf("%d events for %d epochs", n, epochs)
	}
}
