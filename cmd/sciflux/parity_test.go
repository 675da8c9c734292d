package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// golden is a copy of a stored case, for a test to change.
func golden(t *testing.T, name string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(to, os.DirFS(filepath.Join("..", "..", "testdata", "golden", name))); err != nil {
		t.Fatal(err)
	}
	return to
}

// edit replaces a text of a file that must be there.
func edit(t *testing.T, path, old, with string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), old) {
		t.Fatalf("no %q in %s", old, path)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(data), old, with, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// parityRow is a line of `parity --json`.
type parityRow struct {
	Case, Kind, Output, Detail string
	Error, Tolerance           any
	OK                         bool
}

// rowsOf runs parity and reads its lines.
func rowsOf(t *testing.T, code int, args ...string) (rows []parityRow, r result) {
	t.Helper()
	r = inside(t, t.TempDir(), append([]string{"parity", "--json"}, args...)...)
	if r.code != code {
		t.Errorf("parity %v: want exit code %d, got %s", args, code, r)
	}
	for line := range strings.Lines(r.out) {
		rows = append(rows, decode[parityRow](t, line))
	}
	return rows, r
}

func TestParityOfARightCase(t *testing.T) {
	rows, r := rowsOf(t, 0, golden(t, "lora_targets_suffix"))
	if len(rows) != 4 || r.err != "" {
		t.Fatalf("%d rows, %s", len(rows), r)
	}
	for _, row := range rows {
		_, isNumber := row.Error.(float64)
		if !row.OK || row.Kind != "lora_targets" || !strings.HasSuffix(row.Case, "lora_targets_suffix") || row.Output == "" || row.Detail != "" || !isNumber || row.Tolerance != 0.0 /* values are equal or not */ {
			t.Errorf("%+v", row)
		}
	}
	text := inside(t, t.TempDir(), "parity", golden(t, "lora_targets_suffix"))
	if lines := strings.Split(strings.TrimSpace(text.out), "\n"); len(lines) != 5 || lines[4] != "1 cases, 4 outputs, 0 failed" || !strings.HasSuffix(lines[0], " ok") {
		t.Errorf("%s", text)
	}
}

// One wrong number fails its output and no other; cases after it are still judged.
func TestParityOfAWrongNumber(t *testing.T) {
	wrong, right := golden(t, "lora_targets_suffix"), golden(t, "schedule_schnell_4")
	edit(t, filepath.Join(wrong, "case.json"), `"parameters": 3948`, `"parameters": 3949`)
	rows, r := rowsOf(t, 1, wrong, right)
	failed := 0
	for _, row := range rows {
		if row.OK {
			continue
		}
		if failed++; row.Output != "parameters" || !strings.Contains(row.Detail, "3948") || !strings.Contains(row.Detail, "3949") {
			t.Errorf("%+v", row)
		}
	}
	if last := rows[len(rows)-1]; failed != 1 || last.Kind != "flow_schedule" || !last.OK {
		t.Errorf("%d failed, the last is %+v", failed, last)
	}
	f := decode[struct {
		Error string
		Exit  int `json:"exit_code"`
	}](t, r.err)
	if f.Exit != 1 || !strings.Contains(f.Error, "1 of ") {
		t.Errorf("%s", r.err)
	}
	text := inside(t, t.TempDir(), "parity", wrong)
	if text.code != 1 || !strings.Contains(text.out, "FAILED") || !strings.Contains(text.out, "1 cases, 4 outputs, 1 failed") || text.err != "sciflux: parity: 1 of 4 outputs failed\n" {
		t.Errorf("%s", text)
	}
}

// A tolerance that the result does not keep fails; so do tensors, with the place of the largest error.
func TestParityOfATightTolerance(t *testing.T) {
	c := golden(t, "metrics_published")
	edit(t, filepath.Join(c, "case.json"), `"ip": 22.37`, `"ip": 22.38`)
	rows, _ := rowsOf(t, 1, c)
	failed := 0
	for _, row := range rows {
		if !row.OK {
			failed++
			if size, ok := row.Error.(float64); !ok || size <= 1e-9 || row.Detail == "" {
				t.Errorf("%+v", row)
			}
		}
	}
	if failed == 0 || failed == len(rows) {
		t.Errorf("%d of %d outputs failed", failed, len(rows))
	}
}

// Cases that cannot be judged are failed rows that say why; what cannot be found at all is a wrong command.
func TestParityOfCasesThatCannotRun(t *testing.T) {
	for name, c := range map[string]struct {
		from  string
		spoil func(dir string)
		words []string
	}{
		"unknown kind": {"lora_targets_suffix", func(d string) {
			edit(t, filepath.Join(d, "case.json"), `"kind": "lora_targets"`, `"kind": "lora_tragets"`)
		}, []string{`unknown kind "lora_tragets"`, "lora_targets", "flux_transformer"}},
		"no kind":           {"lora_targets_suffix", func(d string) { edit(t, filepath.Join(d, "case.json"), `"kind": "lora_targets"`, `"kind": ""`) }, []string{"has no kind"}},
		"an unknown option": {"lora_targets_suffix", func(d string) { edit(t, filepath.Join(d, "case.json"), `"rank": 3`, `"rankk": 3`) }, []string{"rankk"}},
		"no JSON":           {"lora_targets_suffix", func(d string) { edit(t, filepath.Join(d, "case.json"), `{`, `[`) }, []string{"case.json"}},
		"nothing expected":  {"metrics_published", func(d string) { _ = os.Remove(filepath.Join(d, "expected.safetensors")) }, []string{"no expected outputs", "expected.safetensors"}},
		"cut tensors": {"metrics_published", func(d string) {
			if err := os.Truncate(filepath.Join(d, "expected.safetensors"), 20); err != nil {
				t.Fatal(err)
			}
		}, []string{"expected.safetensors"}},
		"a lost model": {"forward_dev", func(string) { // it lies beside the case that was copied
		}, []string{"model", "model_dev", "no such file"}},
		"no inputs": {"forward_dev", func(d string) { _ = os.Remove(filepath.Join(d, "inputs.safetensors")) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := golden(t, c.from)
			c.spoil(dir)
			rows, _ := rowsOf(t, 1, dir)
			if len(rows) != 1 || rows[0].OK || rows[0].Error != "inf" || rows[0].Detail == "" {
				t.Fatalf("%+v", rows)
			}
			for _, word := range c.words {
				if !strings.Contains(rows[0].Detail, word) {
					t.Errorf("no %q in %q", word, rows[0].Detail)
				}
			}
		})
	}
	file := filepath.Join(t.TempDir(), "other.json")
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, 2, t.TempDir(), []string{"other.json", "case.json"}, "parity", file)
	fails(t, 2, t.TempDir(), []string{"no-such-case", "case.json"}, "parity", golden(t, "lora_targets_suffix"), "no-such-case")
	fails(t, 2, t.TempDir(), []string{"usage: sciflux parity CASE"}, "parity")
}

func TestParityInBFloat16(t *testing.T) {
	rows, r := rowsOf(t, 0, "--dtype", "bfloat16", "--device", "cpu", golden(t, "lora_targets_suffix"), golden(t, "schedule_shift3_10"))
	if len(rows) < 5 {
		t.Errorf("%s", r)
	}
}
