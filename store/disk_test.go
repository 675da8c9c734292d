//go:build linux

package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sciflux/sciflux/run"
)

func TestDiskFailures(t *testing.T) {
	for _, c := range []struct {
		err   error
		want  error
		class run.Class
	}{
		{syscall.ENOSPC, ErrNoSpace, run.ClassStorage},
		{syscall.EDQUOT, ErrNoSpace, run.ClassStorage},
		{syscall.EACCES, ErrDenied, run.ClassConfig},
		{syscall.EROFS, ErrDenied, run.ClassConfig},
		{syscall.ENOENT, ErrNotExist, run.ClassInternal},
		{syscall.ENOTDIR, ErrKey, run.ClassInternal},
		{syscall.EISDIR, ErrKey, run.ClassInternal},
		{syscall.EIO, ErrUnavailable, run.ClassStorage},
		{context.Canceled, context.Canceled, run.ClassCancelled},
	} {
		err := diskFailure("write", "k", &fs.PathError{Op: "write", Path: "k", Err: c.err})
		if !errors.Is(err, c.want) || run.ClassOf(err) != c.class {
			t.Errorf("%v: %v of class %q", c.err, err, run.ClassOf(err))
		}
	}
}

// A disk that is full while a part is written: the error says so, and what was there stays.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	d, err := OpenDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c := Checkpoints{Objects: d, Run: "apple"}
	save := func(step, size int) error {
		_, err := c.Save(t.Context(), Manifest{Stage: run.StageSFT, Step: step}, []Part{BytesPart(AdapterPart, make([]byte, size))})
		return err
	}
	if err := save(1, 300<<10); err != nil {
		t.Fatal(err)
	}
	if err := save(2, 2<<20); !errors.Is(err, ErrNoSpace) || run.ClassOf(err) != run.ClassStorage || !strings.Contains(err.Error(), "free some space") {
		t.Errorf("full disk: %v of class %q", err, run.ClassOf(err))
	}
	if latest, err := c.Latest(t.Context(), run.StageSFT); err != nil || latest.Step != 1 {
		t.Errorf("latest %v, %v", latest, err)
	}
	if temps, err := os.ReadDir(filepath.Join(dir, diskTemp)); err != nil || len(temps) != 0 {
		t.Errorf("temporary files stay: %v, %v", temps, err)
	}
	if err := save(2, 300<<10); err != nil { // there was room for that all along
		t.Errorf("after the full disk: %v", err)
	}
}

func TestKeys(t *testing.T) {
	for _, key := range []string{"a", "a/b", "a.b/c-d_e", "ä", "a b", strings.Repeat("n", 255), strings.Repeat("k/", 449) + "k"} {
		if err := CheckKey(key); err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
	for _, key := range []string{strings.Repeat("n", 256), strings.Repeat("k/", 450) + "k", "a/.", "..", "a\u0085b", "a\x7f"} {
		if err := CheckKey(key); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func TestManifestKeys(t *testing.T) {
	const prefix = "runs/apple/checkpoints/sft/"
	for _, step := range []int{0, 1, 999_999, 1_000_000, 123_456_789} {
		got, ok := stepOf(prefix, prefix+stepName(step)+"/manifest.json")
		if !ok || got != step {
			t.Errorf("step %d came back as %d, %v", step, got, ok)
		}
	}
	for _, rest := range []string{"step-1/manifest.json", "step-0000001/manifest.json", "step-000001/manifest.json.old", "step-00000a/manifest.json", "step-000001", "parts/x/manifest.json",
		"step-" + strings.Repeat("9", 30) + "/manifest.json"} {
		if step, ok := stepOf(prefix, prefix+rest); ok {
			t.Errorf("%s was taken for step %d", rest, step)
		}
	}
	if _, ok := stepOf(prefix, "runs/pear/checkpoints/sft/step-000001/manifest.json"); ok {
		t.Error("another run's manifest was taken")
	}
}

// Whatever bytes lie under a manifest's key, reading them is refused with a class or gives parts of the stage.
func FuzzManifest(f *testing.F) {
	mem := &Mem{}
	c := Checkpoints{Objects: mem, Run: "apple"}
	ref, err := c.Save(context.Background(), Manifest{Stage: run.StageSFT, Step: 7, Metrics: map[string]float64{"loss": 0.5}}, []Part{BytesPart(AdapterPart, []byte("w"))})
	if err != nil {
		f.Fatal(err)
	}
	text, _, err := ReadAll(context.Background(), mem, ref.Manifest.Key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"format":1,"step":7,"parts":[{}]}`))
	prefix := c.prefix(run.StageSFT)
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := decodeManifest(text, prefix, ref.Manifest.Key)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrConflict) {
				t.Fatalf("refusal without class: %v", err)
			}
			return
		}
		for _, p := range m.Parts {
			if !strings.HasPrefix(p.Object.Key, prefix+"parts/") || strings.Contains(p.Name, "/") {
				t.Fatalf("part outside the stage: %+v", p)
			}
		}
		if again, err := m.encode(); err != nil {
			t.Fatal(err)
		} else if _, err := decodeManifest(again, prefix, ref.Manifest.Key); err != nil {
			t.Fatalf("what was read cannot be read again: %v\n%s", err, again)
		}
	})
}

func TestStoredStreams(t *testing.T) {
	mem := &Mem{}
	ref, err := Write(t.Context(), mem, "k", BytesPart("x", []byte("contents")).Write)
	if err != nil || ref.Bytes != 8 || ref.SHA256 != hashOf([]byte("contents")) {
		t.Fatalf("%+v, %v", ref, err)
	}
	if data, err := Read(t.Context(), mem, ref); err != nil || string(data) != "contents" {
		t.Errorf("%q, %v", data, err)
	}
	for name, wrong := range map[string]run.ObjectRef{
		"hash": {Key: "k", Bytes: 8, SHA256: hashOf(nil)}, "short": {Key: "k", Bytes: 7, SHA256: ref.SHA256}, "long": {Key: "k", Bytes: 1 << 50, SHA256: ref.SHA256},
	} {
		if _, err := Read(t.Context(), mem, wrong); !errors.Is(err, ErrCorrupt) {
			t.Errorf("read with wrong %s: %v", name, err)
		}
		if err := Check(t.Context(), mem, wrong); !errors.Is(err, ErrCorrupt) {
			t.Errorf("check with wrong %s: %v", name, err)
		}
	}
	gone := run.ObjectRef{Key: "gone", SHA256: ref.SHA256}
	if err := Check(t.Context(), mem, gone); !errors.Is(err, ErrNotExist) {
		t.Errorf("check of nothing: %v", err)
	}
}
