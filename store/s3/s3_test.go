package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
)

// The suite of all stores runs over a real gateway in internal/embedded. Here a service answers as it is told.

type service struct {
	mu       sync.Mutex
	requests []*http.Request // with their bodies read into them
	answer   func(n int, w http.ResponseWriter, r *http.Request)
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	s.mu.Lock()
	n := len(s.requests)
	s.requests = append(s.requests, r)
	s.mu.Unlock()
	s.answer(n, w, r)
}

func open(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) (*Bucket, *service) {
	t.Helper()
	s := &service{answer: answer}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return at(t, server.URL, func(o *Options) { o.Attempts, o.Patience = 3, 0 }), s
}

func refuse(status int, code string) func(int, http.ResponseWriter, *http.Request) {
	return func(_ int, w http.ResponseWriter, _ *http.Request) { fail(w, status, code) }
}

func fail(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>m</Message></Error>`, code)
}

func TestAnswersAreClassified(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		want   error
		class  run.Class
	}{
		{404, "NoSuchKey", store.ErrNotExist, run.ClassInternal},
		{404, "NoSuchBucket", store.ErrDenied, run.ClassConfig},
		{403, "SignatureDoesNotMatch", store.ErrDenied, run.ClassConfig},
		{401, "Unauthorized", store.ErrDenied, run.ClassConfig},
		{412, "PreconditionFailed", store.ErrPrecondition, run.ClassInternal},
		{409, "ConditionalRequestConflict", store.ErrPrecondition, run.ClassInternal},
		{507, "XMinioStorageFull", store.ErrNoSpace, run.ClassStorage},
		{409, "ObjectParentIsFile", store.ErrKey, run.ClassInternal},
		{400, "BadDigest", store.ErrUnavailable, run.ClassStorage},
		{400, "Other", store.ErrUnavailable, run.ClassStorage},
	} {
		b, _ := open(t, refuse(c.status, c.code))
		_, err := b.PutIfAbsent(t.Context(), "k", strings.NewReader("x"))
		if !errors.Is(err, c.want) || run.ClassOf(err) != c.class {
			t.Errorf("%d %s: %v of class %q", c.status, c.code, err, run.ClassOf(err))
		}
	}
	b, _ := open(t, refuse(416, "InvalidRange"))
	if _, err := b.GetRange(t.Context(), "k", 5, 1); !errors.Is(err, store.ErrRange) {
		t.Errorf("range: %v", err)
	}
	if _, err := b.GetRange(t.Context(), "k", -5, 1); !errors.Is(err, store.ErrRange) {
		t.Errorf("negative offset: %v", err)
	}
	b, _ = open(t, refuse(404, "NoSuchKey"))
	if _, err := b.PutIfMatch(t.Context(), "k", strings.NewReader("x"), "e"); !errors.Is(err, store.ErrPrecondition) {
		t.Errorf("if match of an absent object: %v", err)
	}
	if err := b.Delete(t.Context(), "k"); err != nil {
		t.Errorf("delete of an absent object: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	b, err := Open(t.Context(), Options{Endpoint: server.URL, Bucket: "b", Keys: Keys{Access: "a", Secret: "s"}.Static(), PathStyle: true, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Check(t.Context()); !errors.Is(err, store.ErrUnavailable) || run.ClassOf(err) != run.ClassStorage {
		t.Errorf("%v", err)
	}
	if _, err := Open(t.Context(), Options{}); err == nil {
		t.Error("no bucket name was accepted")
	}
}

func TestRetries(t *testing.T) {
	b, s := open(t, func(n int, w http.ResponseWriter, r *http.Request) {
		if n < 2 {
			fail(w, 503, "SlowDown")
			return
		}
		w.Header().Set("ETag", `"e"`)
	})
	object, err := b.Put(t.Context(), "k", io.MultiReader(strings.NewReader("contents")))
	if err != nil || object.ETag != `"e"` || object.Size != 8 {
		t.Fatalf("%+v, %v", object, err)
	}
	for i, r := range s.requests {
		if body, _ := io.ReadAll(r.Body); !bytes.Contains(body, []byte("contents")) {
			t.Errorf("request %d has body %q", i, body)
		}
	}
}

func TestRetriesEndWithTheContext(t *testing.T) {
	b, _ := open(t, refuse(503, "SlowDown"))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.Head(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// Every payload is summed and signed, and conditions go with the request.
func TestWritesAreSummedAndConditional(t *testing.T) {
	b, s := open(t, func(_ int, w http.ResponseWriter, _ *http.Request) { w.Header().Set("ETag", `"e"`) })
	for _, write := range []func() error{
		func() error { _, err := b.Put(t.Context(), "k", strings.NewReader("x")); return err },
		func() error { _, err := b.PutIfAbsent(t.Context(), "k", strings.NewReader("x")); return err },
		func() error { _, err := b.PutIfMatch(t.Context(), "k", strings.NewReader("x"), `"e"`); return err },
	} {
		if err := write(); err != nil {
			t.Fatal(err)
		}
	}
	for i, r := range s.requests {
		if r.URL.Path != "/b/k" || r.Header.Get("X-Amz-Checksum-Crc32") == "" || r.Header.Get("X-Amz-Content-Sha256") == "UNSIGNED-PAYLOAD" {
			t.Errorf("request %d: %s %v", i, r.URL.Path, r.Header)
		}
	}
	for i, want := range [][2]string{{"", ""}, {"*", ""}, {"", `"e"`}} {
		if h := s.requests[i].Header; h.Get("If-None-Match") != want[0] || h.Get("If-Match") != want[1] {
			t.Errorf("request %d: %v", i, h)
		}
	}
}

func TestLargeObjectsGoInParts(t *testing.T) {
	b, s := open(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost && r.URL.Query().Has("uploads"):
			io.WriteString(w, `<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>`)
		case r.Method == http.MethodPost:
			io.WriteString(w, `<CompleteMultipartUploadResult><ETag>"whole"</ETag></CompleteMultipartUploadResult>`)
		default:
			w.Header().Set("ETag", `"part"`)
		}
	})
	object, err := b.Put(t.Context(), "k", io.MultiReader(bytes.NewReader(make([]byte, 12<<20))))
	if err != nil || object.ETag != `"whole"` || object.Size != 12<<20 {
		t.Fatalf("%+v, %v", object, err)
	}
	if len(s.requests) != 5 { // begin, three parts, complete
		t.Errorf("%d requests", len(s.requests))
	}
}

// A body that fails must leave no upload behind.
func TestFailingBodyAborts(t *testing.T) {
	var aborted bool
	b, _ := open(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost && r.URL.Query().Has("uploads"):
			io.WriteString(w, `<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>`)
		case r.Method == http.MethodDelete:
			aborted = true
		default:
			w.Header().Set("ETag", `"part"`)
		}
	})
	broken := errors.New("the encoder failed")
	r, w := io.Pipe()
	go func() {
		w.Write(make([]byte, 11<<20))
		w.CloseWithError(broken)
	}()
	if _, err := b.Put(t.Context(), "k", r); !errors.Is(err, broken) || !aborted {
		t.Errorf("%v, aborted %v", err, aborted)
	}
}

// Contents that do not fit the stored checksum are damage, for which a checkpoint is passed over.
func TestDamagedContents(t *testing.T) {
	b, _ := open(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		sum := crc32.ChecksumIEEE([]byte("right"))
		w.Header().Set("X-Amz-Checksum-Crc32", base64Of(sum))
		w.Header().Set("ETag", `"e"`)
		io.WriteString(w, "wrong")
	})
	_, object, err := store.ReadAll(t.Context(), b, "k")
	if !errors.Is(err, store.ErrCorrupt) || object.ETag != `"e"` {
		t.Errorf("%+v, %v", object, err)
	}
}

// A service that ignores ranges must not be taken for one that keeps them.
func TestIgnoredRange(t *testing.T) {
	b, _ := open(t, func(_ int, w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "everything") })
	if _, err := b.GetRange(t.Context(), "k", 3, 2); err == nil {
		t.Error("the whole object was taken for a range")
	}
}

func TestListSkipsWhatIsNoObject(t *testing.T) {
	b, s := open(t, func(n int, w http.ResponseWriter, r *http.Request) {
		page := `<Contents><Key>p/a</Key><Size>1</Size><ETag>"1"</ETag></Contents><Contents><Key>p/folder/</Key></Contents><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>`
		if n == 1 {
			page = `<Contents><Key>p/b</Key><Size>2</Size><ETag>"2"</ETag></Contents>`
		}
		io.WriteString(w, "<ListBucketResult>"+page+"</ListBucketResult>")
	})
	listed, err := b.List(t.Context(), "p/")
	if err != nil || len(listed) != 2 || listed[0].Key != "p/a" || listed[1].Key != "p/b" || listed[1].Size != 2 {
		t.Errorf("%+v, %v", listed, err)
	}
	if q := s.requests[1].URL.Query(); q.Get("continuation-token") != "t" || q.Get("prefix") != "p/" {
		t.Errorf("query %v", q)
	}
}

func TestAbortStale(t *testing.T) {
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	b, s := open(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			io.WriteString(w, `<ListMultipartUploadsResult><Upload><Key>runs/a/old</Key><UploadId>1</UploadId><Initiated>2026-01-01T00:00:00Z</Initiated></Upload><Upload><Key>runs/b/old</Key><UploadId>3</UploadId><Initiated>2026-01-01T00:00:00Z</Initiated></Upload><Upload><Key>runs/a/young</Key><UploadId>2</UploadId><Initiated>2026-01-02T00:00:00Z</Initiated></Upload></ListMultipartUploadsResult>`)
		}
	})
	n, err := b.AbortStale(t.Context(), "runs/a/", now.Add(-time.Hour))
	if err != nil || n != 1 || len(s.requests) != 2 || s.requests[1].URL.Path != "/b/runs/a/old" {
		t.Errorf("%d aborted, %v", n, err)
	}
}

func TestCreate(t *testing.T) {
	for _, code := range []string{"BucketAlreadyOwnedByYou", "BucketAlreadyExists"} {
		b, _ := open(t, func(_ int, w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				fail(w, 409, code)
			}
		})
		if err := b.Create(t.Context()); err != nil {
			t.Errorf("%s: %v", code, err)
		}
	}
	b, _ := open(t, refuse(403, "AccessDenied"))
	if err := b.Create(t.Context()); !errors.Is(err, store.ErrDenied) {
		t.Errorf("%v", err)
	}
}
