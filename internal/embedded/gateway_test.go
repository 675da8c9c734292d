package embedded

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
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
	g := &gateway{data: filepath.Join(dir, "data"), sidecar: filepath.Join(dir, "meta")}
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
