package store_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/store/storetest"
)

func openDisk(t *testing.T, dir string) *store.Disk {
	t.Helper()
	d, err := store.OpenDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestMem(t *testing.T) {
	storetest.Run(t, 3<<20, func(*testing.T) store.Objects { return &store.Mem{} })
}

func TestDisk(t *testing.T) {
	storetest.Run(t, 3<<20, func(t *testing.T) store.Objects { return openDisk(t, t.TempDir()) })
}

func TestDiskSurvivesReopening(t *testing.T) {
	dir, ctx := t.TempDir(), context.Background()
	first := openDisk(t, dir)
	big := bytes.Repeat([]byte("big"), 1<<20)
	before, err := first.Put(ctx, "a/big", bytes.NewReader(big))
	if err != nil {
		t.Fatal(err)
	}
	data, after, err := store.ReadAll(ctx, openDisk(t, dir), "a/big")
	if err != nil || !bytes.Equal(data, big) || after.ETag != before.ETag {
		t.Errorf("%d bytes, tags %q and %q, %v", len(data), before.ETag, after.ETag, err)
	}
	if plain, err := os.ReadFile(filepath.Join(dir, "a", "big")); err != nil || !bytes.Equal(plain, big) {
		t.Errorf("the object is no ordinary file: %v", err)
	}
}

func TestDiskLeavesNoTemporaryFiles(t *testing.T) {
	dir, ctx := t.TempDir(), context.Background()
	d := openDisk(t, dir)
	d.Put(ctx, "a", strings.NewReader("1"))
	d.PutIfAbsent(ctx, "a", strings.NewReader("2"))
	d.Put(ctx, "b", readerFunc(func([]byte) (int, error) { return 0, errors.New("broken") }))
	d.Put(ctx, "a/below", strings.NewReader("3"))
	temps, err := os.ReadDir(filepath.Join(dir, ".sciflux", "tmp"))
	if err != nil || len(temps) != 0 {
		t.Errorf("%v, %v", temps, err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestDiskDropsTemporaryFilesOfTheDead(t *testing.T) {
	dir := t.TempDir()
	openDisk(t, dir)
	temps := filepath.Join(dir, ".sciflux", "tmp")
	for name, age := range map[string]time.Duration{"old": 25 * time.Hour, "young": time.Hour} {
		path := filepath.Join(temps, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	openDisk(t, dir)
	left, err := os.ReadDir(temps)
	if err != nil || len(left) != 1 || left[0].Name() != "young" {
		t.Errorf("%v, %v", left, err)
	}
}

func TestDiskRefusesKeysBelowObjects(t *testing.T) {
	d, ctx := openDisk(t, t.TempDir()), context.Background()
	if _, err := d.Put(ctx, "a/b", strings.NewReader("1")); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a/b/c", "a"} {
		_, err := d.Put(ctx, key, strings.NewReader("2"))
		if !errors.Is(err, store.ErrKey) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// Links out of the folder must not be followed: a store may be shared.
func TestDiskStaysInItsFolder(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := openDisk(t, dir)
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Skip(err)
	}
	if data, _, err := store.ReadAll(context.Background(), d, "link/secret"); err == nil {
		t.Errorf("read %q from outside", data)
	}
	if _, err := d.Put(context.Background(), "link/new", strings.NewReader("x")); err == nil {
		t.Error("wrote outside")
	}
}

func TestDiskErrorsAreClassified(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	dir := t.TempDir()
	d := openDisk(t, dir)
	if err := os.Chmod(filepath.Join(dir, ".sciflux", "tmp"), 0o500); err != nil {
		t.Fatal(err)
	}
	_, err := d.Put(context.Background(), "a", strings.NewReader("x"))
	if !errors.Is(err, store.ErrDenied) || run.ClassOf(err) != run.ClassConfig {
		t.Errorf("%v of class %q", err, run.ClassOf(err))
	}
}

func TestFailKeepsWhatItWraps(t *testing.T) {
	inner := store.Fail("write", "k", store.ErrNoSpace, errors.New("disk is full"))
	outer := store.Fail("list", "p", store.ErrUnavailable, inner)
	if !errors.Is(outer, store.ErrNoSpace) || errors.Is(outer, store.ErrUnavailable) || run.ClassOf(outer) != run.ClassStorage {
		t.Errorf("%v", outer)
	}
	ended := store.Fail("write", "k", store.ErrUnavailable, context.Canceled)
	if run.ClassOf(ended) != run.ClassCancelled || errors.Is(ended, store.ErrUnavailable) {
		t.Errorf("%v of class %q", ended, run.ClassOf(ended))
	}
	if !strings.Contains(inner.Error(), "write k: no space left: disk is full; free some space") {
		t.Errorf("message %q", inner)
	}
}

func TestConditionalWritesAreSmall(t *testing.T) {
	body := bytes.NewReader(make([]byte, store.MaxConditional+1))
	if _, err := (&store.Mem{}).PutIfAbsent(context.Background(), "k", body); !errors.Is(err, store.ErrKey) {
		t.Errorf("%v", err)
	}
}

// Several processes compete for the same keys; each key must have exactly one winner.
func TestDiskAcrossProcesses(t *testing.T) {
	if dir := os.Getenv("SCIFLUX_TEST_COMPETE"); dir != "" {
		d := openDisk(t, dir)
		for i := range 100 {
			if _, err := d.PutIfAbsent(context.Background(), "k/"+strconv.Itoa(i), strings.NewReader(strconv.Itoa(os.Getpid()))); err == nil {
				os.Stdout.WriteString("won " + strconv.Itoa(i) + "\n")
			}
		}
		return
	}
	dir := t.TempDir()
	openDisk(t, dir)
	outputs := make(chan string)
	for range 3 {
		go func() {
			cmd := exec.Command(os.Args[0], "-test.run=^TestDiskAcrossProcesses$", "-test.count=1")
			cmd.Env = append(os.Environ(), "SCIFLUX_TEST_COMPETE="+dir)
			out, err := cmd.Output()
			if err != nil {
				out = append(out, err.Error()...)
			}
			outputs <- string(out)
		}()
	}
	winners := map[string]int{}
	for range 3 {
		for line := range strings.Lines(<-outputs) {
			if key, ok := strings.CutPrefix(line, "won "); ok {
				winners[key]++
			}
		}
	}
	for i := range 100 {
		if n := winners[strconv.Itoa(i)+"\n"]; n != 1 {
			t.Errorf("key %d has %d winners", i, n)
		}
	}
}
