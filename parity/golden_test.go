package parity

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// TestGolden runs the cases that come with the repository, and with SCIFLUX_GOLDEN set (a list of folders, as PATH)
// every case found there as well.
func TestGolden(t *testing.T) {
	t.Run("testdata", func(t *testing.T) { runGolden(t, filepath.Join("..", "testdata", "golden"), true) })
	for _, folder := range filepath.SplitList(os.Getenv("SCIFLUX_GOLDEN")) {
		if !filepath.IsAbs(folder) {
			folder = filepath.Join("..", folder) // the variable is set relative to the root of the repository
		}
		t.Run(filepath.Base(folder), func(t *testing.T) { runGolden(t, folder, false) })
	}
}

// runGolden judges every case below root. Cases from elsewhere may be of kinds that a later version brings; those that
// come with the repository may not.
func runGolden(t *testing.T, root string, mustKnow bool) {
	folders, err := Find(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		name, err := filepath.Rel(root, folder)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			if c, err := Open(folder); err == nil && runners[c.Kind] == nil && !mustKnow {
				t.Skipf("no runner for kind %s", c.Kind)
			}
			for _, row := range RunCase(context.Background(), folder, Options{}) {
				if !row.OK {
					t.Error(row)
				}
			}
		})
	}
}

// TestEveryKindHasACase keeps the cases that come with the repository complete.
func TestEveryKindHasACase(t *testing.T) {
	folders, err := Find(filepath.Join("..", "testdata", "golden"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, folder := range folders {
		c, err := Open(folder)
		if err != nil {
			t.Fatal(err)
		}
		seen[c.Kind] = true
	}
	for _, kind := range Kinds() {
		if !seen[kind] {
			t.Errorf("no case of kind %s in testdata/golden", kind)
		}
	}
}
