package embedded

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gofiber/fiber/v3"

	"github.com/sciflux/sciflux/run"
)

// Writers of a key are alone, readers are not, and no lock stays when nobody uses it.
func TestKeyLocks(t *testing.T) {
	var locks keyLocks
	counts := map[string]*int{"a": new(int), "b": new(int)}
	var wg sync.WaitGroup
	for key, count := range counts {
		for range 4 {
			wg.Go(func() {
				for range 200 {
					unlock := locks.lock(key, false)
					*count++
					unlock()
					unlock = locks.lock(key, true)
					_ = *count
					unlock()
				}
			})
		}
	}
	wg.Wait()
	for key, count := range counts {
		if *count != 800 {
			t.Errorf("%s counted %d of 800", key, *count)
		}
	}
	first, second := locks.lock("a", true), locks.lock("a", true) // together, or this blocks for ever
	first()
	second()
	if len(locks.inUse) != 0 {
		t.Errorf("%d locks are left", len(locks.inUse))
	}
}

func TestMetadataChoiceStays(t *testing.T) {
	dir := t.TempDir()
	choose := func() *gateway {
		g := &gateway{data: filepath.Join(dir, "data")}
		if err := os.MkdirAll(g.data, 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := g.chooseMetadata(dir); err != nil {
			t.Fatal(err)
		}
		return g
	}
	attributes := hasAttributes(dir)
	if first := choose(); (first.sidecar == "") != attributes {
		t.Errorf("sidecar %q on a file system with attributes: %v", first.sidecar, attributes)
	}
	if err := os.WriteFile(filepath.Join(dir, "metadata.json"), []byte(`{"sidecar":true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if g := choose(); g.sidecar != filepath.Join(dir, "meta") {
			t.Errorf("sidecar %q", g.sidecar)
		}
	}
}

// Names of requests must not lead out of the folder.
func TestSyncStaysInTheFolder(t *testing.T) {
	dir := t.TempDir()
	g := &gateway{data: filepath.Join(dir, "data"), sidecar: filepath.Join(dir, "meta"), sync: syncPath}
	for _, path := range []string{"data/b/k", "meta/b/k/meta"} {
		if err := os.MkdirAll(filepath.Join(dir, path), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "meta/b/k/meta/etag"), []byte("e"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/b/k", "/b/gone", "/", "", "/../../../../nowhere", "/b/../../x"} {
		if err := g.syncObject(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestStampOfTheSchema(t *testing.T) {
	a, err := currentStamp()
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := currentStamp(); a != b || len(a.Schema) != 64 || a.ServerVersion == "" {
		t.Errorf("%+v, %+v", a, b)
	}
}

func TestPortsOfTheLastTime(t *testing.T) {
	first, err := choosePorts(Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	last := describe(Options{}, first, credentials{}, "")
	again, err := choosePorts(Options{}, last)
	if err != nil || again.temporal != first.temporal || again.ui != first.ui || again.s3 != first.s3 {
		t.Errorf("%+v, then %+v, %v", first, again, err)
	}
	l, err := listen(first.s3)
	if err != nil {
		t.Skip("somebody took the port")
	}
	defer l.Close()
	moved, err := choosePorts(Options{}, last)
	if err != nil || moved.s3 == first.s3 || moved.temporal != first.temporal {
		t.Errorf("%+v, then %+v, %v", first, moved, err)
	}
	seen := map[int]bool{}
	for _, port := range []int{moved.temporal, moved.ui, moved.s3, moved.temporalHTTP, moved.history, moved.matching, moved.internal} {
		if seen[port] {
			t.Errorf("port %d is given twice in %+v", port, moved)
		}
		seen[port] = true
	}
	for _, s := range []*Services{{S3Endpoint: "::bad"}, {S3Endpoint: "http://127.0.0.1"}, {S3Endpoint: "http://127.0.0.1:99999"}} {
		if _, err := choosePorts(Options{}, s); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// A conditional write that could not be synced is an error, also when it is sent again, and is not there afterwards; other
// writes are an error and are written anew by the repetition.
func TestUnsyncedWritesAreNoSuccess(t *testing.T) {
	for header, stays := range map[string]bool{"If-None-Match": false, "If-Match": false, "X-Other": true} {
		dir := t.TempDir()
		broken := true
		g := &gateway{data: dir, sync: func(string) error {
			if broken {
				return errors.New("input/output error")
			}
			return nil
		}}
		path := filepath.Join(dir, "b", "k")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		app := fiber.New()
		app.Use(g.makeDurable)
		app.Put("/b/k", func(c fiber.Ctx) error {
			if _, err := os.Stat(path); err == nil && c.Get("If-None-Match") != "" {
				return c.SendStatus(fiber.StatusPreconditionFailed)
			}
			return os.WriteFile(path, c.Body(), 0o600)
		})
		send := func() int {
			r := httptest.NewRequest(http.MethodPut, "/b/k", strings.NewReader("x"))
			r.Header.Set(header, "*")
			answer, err := app.Test(r)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			return answer.StatusCode
		}
		for range 2 {
			if status := send(); status != 500 {
				t.Errorf("%s: status %d of a write that was not synced", header, status)
			}
		}
		if _, err := os.Stat(path); (err == nil) != stays {
			t.Errorf("%s: afterwards %v", header, err)
		}
		broken = false
		if status := send(); status != 200 {
			t.Errorf("%s: status %d when the disk is well again", header, status)
		}
	}
}

// A bucket that lost its attributes is no bucket, one that is empty is made again.
func TestCopiedWithoutAttributes(t *testing.T) {
	dir := t.TempDir()
	if !hasAttributes(dir) {
		t.Skip("this file system has no extended attributes")
	}
	g := &gateway{data: dir}
	if err := os.MkdirAll(filepath.Join(dir, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := g.checkCopied(dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "empty")); err == nil {
		t.Error("the empty bucket is left")
	}
	if err := os.MkdirAll(filepath.Join(dir, "b", "runs"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := g.checkCopied("the/folder")
	if run.ClassOf(err) != run.ClassConfig {
		t.Fatalf("%v", err)
	}
	for _, word := range []string{"the/folder", "extended attributes", "cp -a", "rsync -aX"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("no %q in %v", word, err)
		}
	}
	g.sidecar = "meta"
	if err := g.checkCopied(dir); err != nil {
		t.Errorf("with metadata in files: %v", err)
	}
}

func TestCredentialsCutShort(t *testing.T) {
	for _, text := range []string{"", `{"access_key":"a`, `{}`, `{"access_key":"a"}`, "null"} {
		d := state(t.TempDir())
		if err := os.WriteFile(d.path("credentials.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := d.credentials()
		if run.ClassOf(err) != run.ClassConfig || !strings.Contains(err.Error(), d.path("credentials.json")) || !strings.Contains(err.Error(), "delete the file") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestFreeSpaceThatIsNotKnown(t *testing.T) {
	for _, c := range []struct {
		blocks, available uint64
		size              int64
		want              int64
	}{{100, 7, 4096, 7 * 4096}, {100, 0, 4096, 0}, {0, 0, 4096, -1}, {0, 0, 0, -1}, {1 << 62, 1 << 62, 4096, 1<<63 - 4096}} {
		if got := available(c.blocks, c.available, c.size); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
