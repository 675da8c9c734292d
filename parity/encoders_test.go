package parity

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Cases with a tolerance for bfloat16 also hold with their weights rounded to it.
func TestEncodersInBFloat16(t *testing.T) {
	folders, err := Find(filepath.Join("..", "testdata", "golden"))
	if err != nil {
		t.Fatal(err)
	}
	judged := 0
	for _, folder := range folders {
		c, err := Open(folder)
		if err != nil {
			t.Fatal(err)
		}
		switch c.Kind {
		case "vae", "t5_encoder", "clip_text", "prompt_encode", "generate", "sciscore":
		default:
			continue
		}
		if c.effectiveDType(BFloat16) != BFloat16 {
			continue
		}
		judged++
		for _, row := range RunCase(context.Background(), folder, Options{DType: BFloat16}) {
			if !row.OK {
				t.Error(row)
			}
		}
	}
	if judged < 5 {
		t.Errorf("only %d cases speak of bfloat16", judged)
	}
}

// A case with something the runner does not know is an error, never a silent pass.
func TestEncoderCasesThatAreWrong(t *testing.T) {
	golden := filepath.Join("..", "testdata", "golden")
	for name, c := range map[string]struct{ from, old, new, says string }{
		"vae mode":      {"vae_decode_bfl", `"mode": "decode"`, `"mode": "transcode"`, "transcode"},
		"sciscore mode": {"sciscore_reward", `"mode": "reward"`, `"mode": "punish"`, "punish"},
		"unknown arg":   {"generate_dev", `"steps": 5`, `"strides": 5`, "strides"},
		"box form":      {"mask_box_left_paper", `"form": "paper"`, `"form": "exact"`, "exact"},
		"no model":      {"t5_encoder_sharded", `"model": "model"`, `"model": "absent"`, "absent"},
	} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(filepath.Join(golden, c.from))); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, CaseFile))
		if err != nil {
			t.Fatal(err)
		}
		root, err := filepath.Abs(golden)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(strings.ReplaceAll(string(text), `"../`, `"`+link(t, dir, root)+`/`), c.old, c.new, 1)
		if changed == string(text) {
			t.Fatalf("%s: the case does not hold %q", name, c.old)
		}
		if err := os.WriteFile(filepath.Join(dir, CaseFile), []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		rows := RunCase(context.Background(), dir, Options{})
		if len(rows) != 1 || rows[0].OK || !strings.Contains(rows[0].Detail, c.says) {
			t.Errorf("%s: %v, want one failure that mentions %q", name, rows, c.says)
		}
	}
}

// link makes the shared models of root reachable below dir and returns the name to use.
func link(t *testing.T, dir, root string) string {
	t.Helper()
	if err := os.Symlink(root, filepath.Join(dir, "golden")); err != nil {
		t.Fatal(err)
	}
	return "golden"
}
