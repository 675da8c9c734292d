//go:build linux

package embedded

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/sciflux/sciflux/run"
)

// A start on a disk that is nearly full is refused before a database is made that could not grow.
func TestNoSpaceForTheServices(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("a small disk cannot be mounted here: %v", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	_, err := Start(t.Context(), testOptions(dir))
	if run.ClassOf(err) != run.ClassStorage {
		t.Errorf("class %q", run.ClassOf(err))
	}
	for _, word := range []string{"start services " + dir, "16 MiB left", "256 MiB needed", "free some space"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("no %q in %v", word, err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}
