// Package storetest holds the tests that every implementation of store.Objects must pass, and stores that fail
// on purpose.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sciflux/sciflux/store"
)

// Run tests a store. open returns an empty store; what a test leaves in it may stay. Large is the size in
// bytes of the largest object that is written: choose more than one part of a store that splits objects.
func Run(t *testing.T, large int, open func(t *testing.T) store.Objects) {
	for name, test := range map[string]func(t *testing.T, o store.Objects){
		"write and read":          testReadBack,
		"large":                   func(t *testing.T, o store.Objects) { testLarge(t, o, large) },
		"overwrite":               testOverwrite,
		"absent":                  testAbsent,
		"ranges":                  testRanges,
		"if absent":               testIfAbsent,
		"if match":                testIfMatch,
		"race if absent":          testRaceIfAbsent,
		"race if match":           testRaceIfMatch,
		"list":                    testList,
		"many keys":               testManyKeys,
		"keys":                    testKeys,
		"failing body":            testFailingBody,
		"cancelled":               testCancelled,
		"readers see whole files": testNoMixing,
		"random operations":       testAgainstModel,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func random(seed uint64, n int) []byte {
	data := make([]byte, n)
	source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = source.Read(data) // never fails
	return data
}

func put(t *testing.T, o store.Objects, key string, data []byte) store.Object {
	t.Helper()
	object, err := o.Put(context.Background(), key, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return object
}

func wantContents(t *testing.T, o store.Objects, key string, want []byte) store.Object {
	t.Helper()
	got, object, err := store.ReadAll(context.Background(), o, key)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: %d bytes read, %d written, equal up to byte %d", key, len(got), len(want), commonPrefix(got, want))
	}
	return object
}

func commonPrefix(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, expected %v", err, want)
	}
}

func testReadBack(t *testing.T, o store.Objects) {
	ctx := context.Background()
	for i, size := range []int{0, 1, 4096, 1<<20 - 1, 1 << 20, 1<<20 + 1} {
		key, data := fmt.Sprintf("a/b/%d", i), random(uint64(size), size)
		written := put(t, o, key, data)
		read := wantContents(t, o, key, data)
		head, err := o.Head(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		if written.Size != int64(size) || read.Size != int64(size) || head.Size != int64(size) || head.Key != key || written.Key != key {
			t.Errorf("size %d: written %+v, read %+v, head %+v", size, written, read, head)
		}
		if written.ETag == "" || written.ETag != read.ETag || read.ETag != head.ETag {
			t.Errorf("size %d: tags %q, %q, %q", size, written.ETag, read.ETag, head.ETag)
		}
		if age := time.Since(head.Modified); age < -time.Minute || age > time.Hour {
			t.Errorf("size %d: written %v ago", size, age)
		}
	}
}

func testLarge(t *testing.T, o store.Objects, size int) {
	data := random(3, size)
	// A reader without Seek, as a pipe from an encoder is.
	written, err := o.Put(context.Background(), "large", io.MultiReader(bytes.NewReader(data)))
	if err != nil {
		t.Fatal(err)
	}
	if read := wantContents(t, o, "large", data); read.ETag != written.ETag {
		t.Errorf("tag %q when written, %q when read", written.ETag, read.ETag)
	}
	r, err := o.GetRange(context.Background(), "large", int64(size/2), 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data[size/2:size/2+1000]) {
		t.Errorf("range of a large object: %d bytes, %v", len(got), err)
	}
}

func testOverwrite(t *testing.T, o store.Objects) {
	first := put(t, o, "k", []byte("one"))
	second := put(t, o, "k", []byte("other"))
	if first.ETag == second.ETag {
		t.Error("the tag does not tell the versions apart")
	}
	wantContents(t, o, "k", []byte("other"))
}

func testAbsent(t *testing.T, o store.Objects) {
	ctx := context.Background()
	put(t, o, "x/y", []byte("1"))
	for _, key := range []string{"nothing", "x", "x/y/z", "x/yy"} {
		_, _, err := o.Get(ctx, key)
		wantError(t, err, store.ErrNotExist)
		_, err = o.Head(ctx, key)
		wantError(t, err, store.ErrNotExist)
		_, err = o.GetRange(ctx, key, 0, 1)
		wantError(t, err, store.ErrNotExist)
		if err := o.Delete(ctx, key); err != nil {
			t.Errorf("delete %s: %v", key, err)
		}
	}
	wantContents(t, o, "x/y", []byte("1"))
	if err := o.Delete(ctx, "x/y"); err != nil {
		t.Fatal(err)
	}
	_, err := o.Head(ctx, "x/y")
	wantError(t, err, store.ErrNotExist)
	put(t, o, "x", []byte("2")) // no folder stays behind
	wantContents(t, o, "x", []byte("2"))
}

func testRanges(t *testing.T, o store.Objects) {
	ctx := context.Background()
	data := random(5, 100)
	put(t, o, "r", data)
	for _, c := range []struct{ offset, length, want int64 }{
		{0, 100, 100}, {0, 1, 1}, {99, 1, 1}, {10, 20, 20}, {90, 20, 10}, {0, -1, 100}, {37, -1, 63}, {5, 0, 0}, {1, 1<<63 - 1, 99},
	} {
		r, err := o.GetRange(ctx, "r", c.offset, c.length)
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err != nil || !bytes.Equal(got, data[c.offset:c.offset+c.want]) {
			t.Errorf("%+v: %d bytes, %v", c, len(got), err)
		}
	}
	put(t, o, "empty", nil)
	for _, c := range []struct {
		key            string
		offset, length int64
	}{{"r", 100, 1}, {"r", 100, -1}, {"r", -1, 1}, {"r", 1000, 1}, {"r", 100, 0}, {"empty", 0, 1}, {"empty", 0, -1}} {
		_, err := o.GetRange(ctx, c.key, c.offset, c.length)
		if !errors.Is(err, store.ErrRange) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func testIfAbsent(t *testing.T, o store.Objects) {
	ctx := context.Background()
	first, err := o.PutIfAbsent(ctx, "d/m", strings.NewReader("first"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = o.PutIfAbsent(ctx, "d/m", strings.NewReader("second"))
	wantError(t, err, store.ErrPrecondition)
	if read := wantContents(t, o, "d/m", []byte("first")); read.ETag != first.ETag {
		t.Errorf("tag %q, then %q", first.ETag, read.ETag)
	}
	if err := o.Delete(ctx, "d/m"); err != nil {
		t.Fatal(err)
	}
	if _, err := o.PutIfAbsent(ctx, "d/m", strings.NewReader("third")); err != nil {
		t.Errorf("after the deletion: %v", err)
	}
}

func testIfMatch(t *testing.T, o store.Objects) {
	ctx := context.Background()
	_, err := o.PutIfMatch(ctx, "p", strings.NewReader("1"), `"0"`)
	wantError(t, err, store.ErrPrecondition)
	first := put(t, o, "p", []byte("1"))
	second, err := o.PutIfMatch(ctx, "p", strings.NewReader("2"), first.ETag)
	if err != nil {
		t.Fatal(err)
	}
	_, err = o.PutIfMatch(ctx, "p", strings.NewReader("3"), first.ETag)
	wantError(t, err, store.ErrPrecondition)
	wantContents(t, o, "p", []byte("2"))
	if _, err := o.PutIfMatch(ctx, "p", strings.NewReader("4"), second.ETag); err != nil {
		t.Error(err)
	}
}

func testRaceIfAbsent(t *testing.T, o store.Objects) {
	ctx := context.Background()
	var wg sync.WaitGroup
	results := make([]error, 16)
	for i := range results {
		wg.Go(func() { _, results[i] = o.PutIfAbsent(ctx, "race", strings.NewReader(fmt.Sprint(i))) })
	}
	wg.Wait()
	winner := -1
	for i, err := range results {
		if err == nil && winner >= 0 {
			t.Fatalf("%d and %d both succeeded", winner, i)
		}
		if err == nil {
			winner = i
		} else if !errors.Is(err, store.ErrPrecondition) {
			t.Fatal(err)
		}
	}
	if winner < 0 {
		t.Fatal("nobody succeeded")
	}
	wantContents(t, o, "race", []byte(fmt.Sprint(winner)))
}

// testRaceIfMatch counts with compare and swap: no increment may get lost.
func testRaceIfMatch(t *testing.T, o store.Objects) {
	ctx := context.Background()
	put(t, o, "counter", nil)
	const workers, each = 4, 8
	increment := func() error {
		for {
			data, object, err := store.ReadAll(ctx, o, "counter")
			if err != nil {
				return err
			}
			_, err = o.PutIfMatch(ctx, "counter", bytes.NewReader(append(data, 'x')), object.ETag)
			if !errors.Is(err, store.ErrPrecondition) {
				return err
			}
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		wg.Go(func() {
			for range each {
				errs[w] = errors.Join(errs[w], increment())
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	wantContents(t, o, "counter", bytes.Repeat([]byte("x"), workers*each))
}

func testList(t *testing.T, o store.Objects) {
	ctx := context.Background()
	keys := []string{"a-b", "a/b", "a/b-c", "a/bc/d", "a0", "b/a/c", "ü/x"}
	for _, i := range []int{3, 1, 5, 0, 6, 2, 4} {
		put(t, o, keys[i], []byte(keys[i]))
	}
	for prefix, want := range map[string][]string{
		"": keys, "a": keys[:5], "a/": keys[1:4], "a/b": keys[1:4], "a/bc": keys[3:4], "a/bc/d": keys[3:4], "b/a/": keys[5:6],
		"c": nil, "a/bc/d/": nil, "x/y": nil, "ü": keys[6:], ".": nil, ".sciflux/": nil,
	} {
		listed, err := o.List(ctx, prefix)
		if err != nil {
			t.Fatalf("prefix %q: %v", prefix, err)
		}
		var got []string
		for _, object := range listed {
			got = append(got, object.Key)
			if head, err := o.Head(ctx, object.Key); err != nil || head.ETag != object.ETag || head.Size != object.Size {
				t.Errorf("listed %+v, head %+v, %v", object, head, err)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("prefix %q: %q, expected %q", prefix, got, want)
		}
	}
}

// testManyKeys needs more than one page of a service that answers 1000 keys at once.
func testManyKeys(t *testing.T, o store.Objects) {
	if testing.Short() {
		t.Skip("1005 writes")
	}
	const n = 1005
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < n; i += 8 {
				if _, err := o.Put(context.Background(), fmt.Sprintf("many/%04d", i), strings.NewReader("x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	listed, err := o.List(context.Background(), "many/")
	if err != nil || len(listed) != n {
		t.Fatalf("%d keys listed of %d, %v", len(listed), n, err)
	}
	for i, object := range listed {
		if want := fmt.Sprintf("many/%04d", i); object.Key != want {
			t.Fatalf("key %d is %s, expected %s", i, object.Key, want)
		}
	}
}

func testKeys(t *testing.T, o store.Objects) {
	ctx := context.Background()
	for _, key := range []string{"späce key+=%&?#.bin", "x@y:z,(1)!", "日本/名前", "~tilde'\"", strings.Repeat("n", 200)} {
		put(t, o, key, []byte(key))
		wantContents(t, o, key, []byte(key))
		if listed, err := o.List(ctx, key); err != nil || len(listed) != 1 || listed[0].Key != key {
			t.Errorf("list %q: %v, %v", key, listed, err)
		}
	}
	for _, key := range []string{"", "/a", "a/", "a//b", "../a", "a/../b", "./a", ".hidden", "a/.b", "a\\b", "a\x00b", "a\nb", "\xff", strings.Repeat("k/", 450) + "k"} {
		_, err := o.Put(ctx, key, strings.NewReader("x"))
		wantError(t, err, store.ErrKey)
		_, _, err = o.Get(ctx, key)
		wantError(t, err, store.ErrKey)
		wantError(t, o.Delete(ctx, key), store.ErrKey)
	}
}

func testFailingBody(t *testing.T, o store.Objects) {
	ctx := context.Background()
	broken := errors.New("the encoder failed")
	put(t, o, "old", []byte("old"))
	for _, key := range []string{"old", "new"} {
		_, err := o.Put(ctx, key, io.MultiReader(bytes.NewReader(make([]byte, 100_000)), failingReader{broken}))
		wantError(t, err, broken)
		_, err = o.PutIfAbsent(ctx, key, failingReader{broken})
		wantError(t, err, broken)
	}
	wantContents(t, o, "old", []byte("old"))
	_, err := o.Head(ctx, "new")
	wantError(t, err, store.ErrNotExist)
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

func testCancelled(t *testing.T, o store.Objects) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := o.Put(ctx, "c", strings.NewReader("x"))
	wantError(t, err, context.Canceled)
	_, _, err = o.Get(ctx, "c")
	wantError(t, err, context.Canceled)
	_, err = o.List(ctx, "")
	wantError(t, err, context.Canceled)
	_, err = o.Head(context.Background(), "c")
	wantError(t, err, store.ErrNotExist)
}

// testNoMixing replaces an object again and again while others read it: each must see one version whole.
func testNoMixing(t *testing.T, o store.Objects) {
	ctx := context.Background()
	version := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 50_000+i) }
	put(t, o, "v", version(0))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				data, _, err := store.ReadAll(ctx, o, "v")
				if err != nil {
					t.Error(err)
					return
				}
				if want := version(int(data[0])); !bytes.Equal(data, want) {
					t.Errorf("%d bytes that begin with %d", len(data), data[0])
					return
				}
			}
		})
	}
	for i := range 30 {
		put(t, o, "v", version(i+1))
	}
	close(stop)
	wg.Wait()
}
