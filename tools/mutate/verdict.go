package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Outcome is what became of a mutation.
type Outcome string

const (
	killed   Outcome = "killed"   // a test failed
	survived Outcome = "survived" // all tests passed
	broken   Outcome = "broken"   // it does not compile, or its tests hang: nothing was learned
)

// Verdict is what the tests said of a mutation.
type Verdict struct {
	Outcome Outcome
	Package string // whose test noticed
	Test    string // the first that failed
	Detail  string // of a broken one
}

// String is the verdict as the page has it.
func (v Verdict) String() string {
	switch v.Outcome {
	case killed:
		return v.Package + " " + v.Test
	case broken:
		return string(broken) + ": " + strings.ReplaceAll(v.Detail, "\n", " ")
	}
	return string(v.Outcome)
}

// testTimeout ends tests that a mutation makes hang, on a machine that does other work too.
const testTimeout = "10m"

// verdict runs the mutation's tests, package after package, until one fails.
func verdict(ctx context.Context, root string, m Mutation) (Verdict, error) {
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return Verdict{}, err
	}
	defer os.RemoveAll(dir)
	overlay, err := m.overlay(root, dir)
	if err != nil {
		return Verdict{}, err
	}
	for _, p := range m.Tests {
		args := []string{"test", "-overlay", overlay, "-json", "-vet=off", "-failfast", "-timeout", testTimeout}
		if m.Run != "" {
			args = append(args, "-run", m.Run)
		}
		cmd := exec.CommandContext(ctx, "go", append(args, p)...)
		cmd.Dir = root
		before := counterexamples(root, p)
		out, err := cmd.Output() // build errors are events too
		removeNew(before, counterexamples(root, p))
		if v, err := judge(out, err); v.Outcome != survived || err != nil {
			v.Package = strings.TrimPrefix(p, "./")
			return v, err
		}
	}
	return Verdict{Outcome: survived}, nil
}

// counterexamples are the files in which rapid keeps what made a package's tests fail.
func counterexamples(root, pkg string) []string {
	found, _ := filepath.Glob(filepath.Join(root, pkg, "testdata", "rapid", "*", "*.fail")) // the pattern is well formed
	return found
}

// removeNew removes files that were not there before, and the folders that they leave empty.
func removeNew(before, after []string) {
	for _, f := range after {
		if slices.Contains(before, f) {
			continue
		}
		for range 4 { // the file, its test's folder, rapid, testdata
			os.Remove(f)
			f = filepath.Dir(f)
		}
	}
}

// overlay writes the mutated file into dir and, beside it, what -overlay of the go command reads.
func (m Mutation) overlay(root, dir string) (string, error) {
	text, err := m.apply(root)
	if err != nil {
		return "", err
	}
	from, err := filepath.Abs(filepath.Join(root, m.File))
	if err != nil {
		return "", err
	}
	to, list := filepath.Join(dir, "mutated.go"), filepath.Join(dir, "overlay.json")
	table, err := json.Marshal(map[string]map[string]string{"Replace": {from: to}})
	if err != nil {
		return "", err
	}
	return list, errors.Join(os.WriteFile(to, text, 0o600), os.WriteFile(list, table, 0o600))
}

// event is a line of `go test -json`.
type event struct {
	Action, Test, Output string
}

// judge reads the events of a test run that ended with an error or none.
func judge(events []byte, ended error) (Verdict, error) {
	if ended == nil {
		return Verdict{Outcome: survived}, nil
	}
	v := Verdict{Outcome: killed, Test: "(the package)"}
	var build strings.Builder
	lines := bufio.NewScanner(bytes.NewReader(events))
	lines.Buffer(nil, 16<<20)
	failed := false
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		switch {
		case e.Action == "build-output":
			build.WriteString(e.Output)
		case e.Action == "build-fail":
			return Verdict{Outcome: broken, Detail: "it does not compile: " + strings.TrimSpace(build.String())}, nil
		case strings.HasPrefix(e.Output, "panic: test timed out"):
			return Verdict{Outcome: broken, Detail: "its tests hang"}, nil
		case e.Action == "fail" && !failed:
			failed = true
			if e.Test != "" {
				v.Test, _, _ = strings.Cut(e.Test, "/")
			}
		}
	}
	if !failed {
		return Verdict{}, fmt.Errorf("run tests: %w", ended)
	}
	return v, lines.Err()
}

// unmutated checks that the tests of some mutations pass without any.
func unmutated(ctx context.Context, root string, list []Mutation) error {
	var packages []string
	for _, m := range list {
		for _, p := range m.Tests {
			if !slices.Contains(packages, p) {
				packages = append(packages, p)
			}
		}
	}
	if len(packages) == 0 {
		return nil
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-vet=off", "-timeout", testTimeout}, packages...)...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the tests fail without any mutation: %w\n%s", err, out)
	}
	return nil
}
