package parity

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzOpen: no case.json makes Open panic, and a case that opens has a kind and something to judge.
func FuzzOpen(f *testing.F) {
	folders, err := Find(filepath.Join("..", "testdata", "golden"))
	if err != nil {
		f.Fatal(err)
	}
	for _, folder := range folders[:12] {
		text, err := os.ReadFile(filepath.Join(folder, CaseFile))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"kind":"x","expected":{"a":1}} trailing`))
	f.Add([]byte(`{"kind":"x","expected":{"a":1},"tolerance":{"*":1e400}}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(filepath.Join(dir, CaseFile), text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Open(dir)
		if err != nil {
			return
		}
		if c.Kind == "" || len(c.expected)+len(c.values) == 0 {
			t.Fatalf("kind %q with outputs %v was opened", c.Kind, sortedKeys(c.expected))
		}
		if rows := judge(c, NewOutputs(), Float32); failed(rows) != len(rows) || len(rows) == 0 {
			t.Fatalf("a runner that gives nothing passes %d of %d", len(rows)-failed(rows), len(rows))
		}
	})
}
