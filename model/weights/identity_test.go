package weights

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestIdentitySeesEveryByte of every file and its name, and neither order nor place.
func TestIdentitySeesEveryByte(t *testing.T) {
	ctx := context.Background()
	root := t.TempDir()
	a, b := filepath.Join(root, "a"), filepath.Join(root, "in", "b")
	text(t, a, "one")
	text(t, b, "two")
	name := func(root string, files ...string) string {
		t.Helper()
		id, err := Identity(ctx, root, files, IdentityOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	want := name(root, a, b)
	if name(root, b, a, b) != want {
		t.Error("the order of files counts")
	}
	other := t.TempDir()
	text(t, filepath.Join(other, "a"), "one")
	text(t, filepath.Join(other, "in", "b"), "two")
	if name(other, filepath.Join(other, "a"), filepath.Join(other, "in", "b")) != want {
		t.Error("the folder's place counts")
	}
	seen := []string{want}
	for _, change := range []func(){
		func() { text(t, b, "twp") }, func() { text(t, b, "") }, func() { text(t, a, "onet") },
	} {
		change()
		if id := name(root, a, b); slices.Contains(seen, id) {
			t.Error("a change is not seen")
		} else {
			seen = append(seen, id)
		}
	}
	if name(root, a) == name(root, b) || name(a, a) == want || len(want) != 64 {
		t.Error("names of files do not count")
	}
	for _, at := range []int{0, blockSize - 1, blockSize, 2*blockSize - 1, 2 * blockSize} {
		long := make([]byte, 2*blockSize+1)
		long[at] = 1
		text(t, a, string(long))
		if id := name(root, a); slices.Contains(seen, id) {
			t.Errorf("byte %d of a long file is not seen", at)
		} else {
			seen = append(seen, id)
		}
	}
	if _, err := Identity(ctx, root, []string{filepath.Join(root, "gone")}, IdentityOptions{}); err == nil {
		t.Error("an absent file has an identity")
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := Identity(ended, root, []string{a}, IdentityOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestRememberedHashes: a file is read once, and again when size, time or inode differ or the cache is damaged.
func TestRememberedHashes(t *testing.T) {
	ctx, cache := context.Background(), filepath.Join(t.TempDir(), "hashes")
	path := filepath.Join(t.TempDir(), "a")
	old := time.Now().Add(-time.Hour)
	write := func(content string, at time.Time) {
		t.Helper()
		text(t, path, content)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	name := func() string {
		t.Helper()
		id, err := Identity(ctx, path, []string{path}, IdentityOptions{Cache: cache})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	write("one", old)
	first := name()
	write("two", old) // same size, time and inode, as a copy that keeps times leaves them
	if runtime.GOOS == "linux" && name() == first {
		t.Error("another content under the old time was not seen")
	}
	write("two", old.Add(time.Second))
	if name() == first {
		t.Error("another time was not seen")
	}
	write("three", old)
	third := name()
	if third == first {
		t.Error("another size was not seen")
	}
	fresh := path + ".new"
	text(t, fresh, "other") // as long as three
	if err := errors.Join(os.Chtimes(fresh, old, old), os.Rename(fresh, path)); err != nil {
		t.Fatal(err)
	}
	if name() == third {
		t.Error("another inode was not seen")
	}
	entries, err := os.ReadDir(cache)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d entries for one file, %v", len(entries), err)
	}
	want := name()
	for _, damage := range []string{"", "{", "null", `{"path":"x"}`} {
		text(t, filepath.Join(cache, entries[0].Name()), damage)
		if name() != want {
			t.Errorf("a cache of %q changes the identity", damage)
		}
	}
	write("now", time.Now())
	name()
	write("new", time.Now())
	if data, err := os.ReadFile(filepath.Join(cache, entries[0].Name())); err != nil || strings.Contains(string(data), `"size":3`) {
		t.Errorf("a file that may still change within its time's tick was remembered: %s, %v", data, err)
	}
	blocked := filepath.Join(path, "no folder")
	if _, err := Identity(ctx, path, []string{path}, IdentityOptions{Cache: blocked}); err != nil {
		t.Errorf("a cache that cannot be written: %v", err)
	}
}

func TestProgressOfIdentity(t *testing.T) {
	root := t.TempDir()
	var files []string
	for _, name := range []string{"a", "b", "c"} {
		path := filepath.Join(root, name)
		text(t, path, strings.Repeat(name, 17<<20))
		files = append(files, path)
	}
	var mu sync.Mutex
	var most, all int64
	calls := 0
	_, err := Identity(context.Background(), root, files, IdentityOptions{Progress: func(done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		calls, most, all = calls+1, max(most, done), total
	}})
	if err != nil || most != 51<<20 || all != 51<<20 || calls != 6 {
		t.Errorf("%d of %d bytes in %d reports, %v", most, all, calls, err)
	}
}

// TestFilesOfFolders: what loading reads, and nothing beside it.
func TestFilesOfFolders(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"config.json", "vocab.json", "merges.txt", "README.md", ".gitattributes", "picture.png"} {
		text(t, filepath.Join(dir, name), "{}")
	}
	names := func() []string {
		t.Helper()
		files, err := FilesOf(dir, "model")
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range files {
			files[i] = filepath.Base(f)
		}
		slices.Sort(files)
		return files
	}
	if got := names(); !slices.Equal(got, []string{"config.json", "merges.txt", "vocab.json"}) {
		t.Errorf("a tokenizer: %q", got)
	}
	file(t, filepath.Join(dir, "other.safetensors"), "x")
	if got := names(); !slices.Contains(got, "other.safetensors") {
		t.Errorf("the only file: %q", got)
	}
	file(t, filepath.Join(dir, "model.safetensors"), "x")
	if got := names(); slices.Contains(got, "other.safetensors") || !slices.Contains(got, "model.safetensors") {
		t.Errorf("the usual file: %q", got)
	}
	text(t, filepath.Join(dir, "model.safetensors.index.json"), `{"weight_map": {"x": "other.safetensors"}}`)
	if got := names(); slices.Contains(got, "model.safetensors") || !slices.Contains(got, "other.safetensors") || !slices.Contains(got,
		"model.safetensors.index.json") {
		t.Errorf("shards: %q", got)
	}
	ctx := context.Background()
	folder, err := FolderIdentity(ctx, dir, "model", IdentityOptions{})
	if err != nil {
		t.Fatal(err)
	}
	alone, err := FolderIdentity(ctx, filepath.Join(dir, "other.safetensors"), "", IdentityOptions{})
	if err != nil || alone == folder {
		t.Errorf("file and folder: %v", err)
	}
	if _, err := FolderIdentity(ctx, filepath.Join(dir, "gone"), "", IdentityOptions{}); err == nil {
		t.Error("an absent path has an identity")
	}
}

func BenchmarkIdentity(b *testing.B) {
	path := filepath.Join(b.TempDir(), "a")
	if err := os.WriteFile(path, make([]byte, 256<<20), 0o600); err != nil {
		b.Fatal(err)
	}
	for name, cache := range map[string]string{"read": "", "remembered": b.TempDir()} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(256 << 20)
			old := time.Now().Add(-time.Hour)
			if err := os.Chtimes(path, old, old); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := Identity(context.Background(), path, []string{path}, IdentityOptions{Cache: cache}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
