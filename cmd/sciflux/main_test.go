package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asCommand makes the test binary the command itself, so that tests run real processes of the code they were built from.
const asCommand = "SCIFLUX_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	os.Setenv(asCommand, "1") // the services' process is started by tests too
	code := m.Run()
	if smoke.dir != "" { // the run that tests share
		command(context.Background(), smoke.dir, "down").Run()
		os.RemoveAll(smoke.dir)
	}
	os.Exit(code)
}

// command is a sciflux process on a state folder, in a process group of its own.
func command(ctx context.Context, state string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, os.Args[0], args...)
	c.Env = append(os.Environ(), "SCIFLUX_STATE_DIR="+state)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.WaitDelay = 10 * time.Second
	return c
}

// result is what a process left.
type result struct {
	code     int
	out, err string
}

func (r result) String() string {
	return "exit code " + strconv.Itoa(r.code) + "\nstdout: " + r.out + "\nstderr: " + r.err
}

// sciflux runs a command to its end.
func sciflux(t testing.TB, state string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	c := command(ctx, state, args...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); c.ProcessState == nil {
		t.Fatal(err)
	}
	return result{c.ProcessState.ExitCode(), out.String(), errs.String()}
}

// want runs a command that must end with a code.
func want(t testing.TB, code int, state string, args ...string) result {
	t.Helper()
	r := sciflux(t, state, args...)
	if r.code != code {
		t.Fatalf("sciflux %s: want exit code %d, got %s", strings.Join(args, " "), code, r)
	}
	return r
}

// stateDir is a state folder whose services end with the test.
func stateDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { command(context.Background(), dir, "down").Run() })
	return dir
}

// decode reads the JSON of a command.
func decode[T any](t testing.TB, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// shown is what `show --json` promises.
type shown struct {
	Run        string `json:"run"`
	Status     string `json:"status"`
	Stage      string `json:"stage"`
	Step       int    `json:"step"`
	StepsTotal int    `json:"steps_total"`
	Adapter    struct {
		URI    string `json:"uri"`
		SHA256 string `json:"sha256"`
	} `json:"adapter"`
	Checkpoints []struct {
		Stage string `json:"stage"`
		Step  int    `json:"step"`
	} `json:"checkpoints"`
	Metrics map[string]map[string]map[string]any `json:"metrics"`
}

func show(t testing.TB, state, name string) shown {
	t.Helper()
	return decode[shown](t, want(t, 0, state, "show", name, "--json").out)
}

// exported is the adapter file that a completed run left in its folder.
func exported(t testing.TB, state, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(state, "runs", name, "export", "pytorch_lora_weights.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
