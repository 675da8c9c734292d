package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
)

// told collects what is told.
type told struct {
	mu    sync.Mutex
	texts []string
}

func (t *told) tell(s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.texts = append(t.texts, s)
}

func (t *told) has(words ...string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.texts, func(s string) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(s, w) })
	})
}

func at(t *testing.T, endpoint string, change func(*Options)) *Bucket {
	t.Helper()
	o := Options{Endpoint: endpoint, Bucket: "b", Keys: Keys{Access: "a", Secret: "s"}.Static(), PathStyle: true, Attempts: 2, PartSize: 5 << 20, Patience: 200 * time.Millisecond}
	if change != nil {
		change(&o)
	}
	b, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// silent accepts connections, reads nothing and never answers.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, c)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		for _, c := range conns {
			c.Close()
		}
	})
	return "http://" + l.Addr().String()
}

// No operation waits for ever for a service that accepts and says nothing, and people hear what is waited for.
func TestSilentService(t *testing.T) {
	endpoint := silent(t)
	for name, op := range map[string]func(b *Bucket) error{
		"head": func(b *Bucket) error { _, err := b.Head(t.Context(), "k"); return err },
		"get":  func(b *Bucket) error { _, _, err := b.Get(t.Context(), "k"); return err },
		"list": func(b *Bucket) error { _, err := b.List(t.Context(), ""); return err },
		"put":  func(b *Bucket) error { _, err := b.Put(t.Context(), "k", strings.NewReader("x")); return err },
		"large put": func(b *Bucket) error {
			_, err := b.Put(t.Context(), "k", bytes.NewReader(make([]byte, 12<<20)))
			return err
		},
		"conditional": func(b *Bucket) error {
			_, err := b.PutIfAbsent(t.Context(), "k", bytes.NewReader(make([]byte, 8<<20)))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var heard told
			start := time.Now()
			err := op(at(t, endpoint, func(o *Options) { o.Tell = heard.tell }))
			if !errors.Is(err, store.ErrUnavailable) || run.ClassOf(err) != run.ClassStorage || !strings.Contains(err.Error(), "no answer from 127.0.0.1:") {
				t.Errorf("%v of class %s", err, run.ClassOf(err))
			}
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
			if !heard.has("store: no answer from 127.0.0.1:", "for 200ms, trying again") {
				t.Errorf("told %q", heard.texts)
			}
		})
	}
}

// Who wants to end does not wait as long as one who works, also for what was asked before.
func TestLeavingASilentService(t *testing.T) {
	b := at(t, silent(t), func(o *Options) { o.Patience, o.Attempts = time.Hour, 100 })
	ended := make(chan error, 1)
	go func() { _, err := b.Put(t.Context(), "k", strings.NewReader("x")); ended <- err }()
	time.Sleep(100 * time.Millisecond)
	start := time.Now()
	b.Leave()
	if err := <-ended; !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if took := time.Since(start); took > 2*leavingTime {
		t.Errorf("leaving took %v", took)
	}
}

// A transfer that moves may take longer than the patience.
func TestSlowTransfersAreNotSilent(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "8")
		for range 8 {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			time.Sleep(100 * time.Millisecond)
		}
	}))
	defer server.Close()
	data, _, err := store.ReadAll(t.Context(), at(t, server.URL, func(o *Options) { o.Attempts = 1 }), "k")
	if err != nil || string(data) != "xxxxxxxx" {
		t.Errorf("%q, %v", data, err)
	}
}

// broken serves contents in pieces: each answer breaks off after a piece.
type broken struct {
	contents []byte
	piece    int
	stall    bool // fall silent instead of closing
	etag     func(n int) string
	sum      string // crc32 header
	ranges   bool

	mu       sync.Mutex
	requests int
}

func (s *broken) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	n := s.requests
	s.requests++
	s.mu.Unlock()
	etag := s.etag(n)
	if match := r.Header.Get("If-Match"); match != "" && match != etag {
		fail(w, 412, "PreconditionFailed")
		return
	}
	from, to := 0, len(s.contents)-1
	if span := r.Header.Get("Range"); span != "" && s.ranges {
		fmt.Sscanf(span, "bytes=%d-%d", &from, &to)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(s.contents)))
	} else if s.sum != "" {
		w.Header().Set("X-Amz-Checksum-Crc32", s.sum)
	}
	w.Header().Set("ETag", etag)
	w.Header().Set("Content-Length", fmt.Sprint(to+1-from))
	if from > 0 && s.ranges {
		w.WriteHeader(http.StatusPartialContent)
	}
	w.Write(s.contents[from:min(from+s.piece, to+1)])
	w.(http.Flusher).Flush()
	if s.stall && from+s.piece <= to {
		<-r.Context().Done()
	}
	if from+s.piece <= to {
		panic(http.ErrAbortHandler)
	}
}

func TestBrokenBodiesAreResumed(t *testing.T) {
	contents := []byte(strings.Repeat("0123456789", 1000))
	same := func(int) string { return `"e"` }
	for name, c := range map[string]struct {
		s    *broken
		want error
	}{
		"closed":         {&broken{piece: 3000, etag: same, ranges: true, sum: base64Of(crc32.ChecksumIEEE(contents))}, nil},
		"without sum":    {&broken{piece: 3000, etag: same, ranges: true}, nil},
		"stalled":        {&broken{piece: 6000, etag: same, ranges: true, stall: true}, nil},
		"damaged":        {&broken{piece: 3000, etag: same, ranges: true, sum: base64Of(1)}, store.ErrCorrupt},
		"replaced":       {&broken{piece: 3000, etag: func(n int) string { return fmt.Sprintf(`"%d"`, n) }, ranges: true}, store.ErrUnavailable},
		"without ranges": {&broken{piece: 3000, etag: same}, store.ErrUnavailable},
		"nothing comes":  {&broken{piece: 0, etag: same, ranges: true}, store.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			c.s.contents = contents
			server := httptest.NewServer(c.s)
			defer server.Close()
			b := at(t, server.URL, nil)
			data, _, err := store.ReadAll(t.Context(), b, "k")
			if c.want != nil && !errors.Is(err, c.want) || c.want == nil && (err != nil || !bytes.Equal(data, contents)) {
				t.Errorf("%d bytes, %v after %d requests", len(data), err, c.s.requests)
			}
		})
	}
	server := httptest.NewServer(&broken{contents: contents, piece: 100, etag: same, ranges: true})
	defer server.Close()
	r, err := at(t, server.URL, nil).GetRange(t.Context(), "k", 5, 995)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, contents[5:1000]) {
		t.Errorf("range: %d bytes, %v", len(got), err)
	}
}

// A body whose reader's context ends is not asked for again.
func TestBrokenBodyEndsWithTheContext(t *testing.T) {
	s := &broken{contents: make([]byte, 1000), piece: 10, stall: true, ranges: true, etag: func(int) string { return `"e"` }}
	server := httptest.NewServer(s)
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	r, _, err := at(t, server.URL, func(o *Options) { o.Patience = time.Minute }).Get(ctx, "k")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) || s.requests != 1 {
		t.Errorf("%v after %d requests", err, s.requests)
	}
}

// What a service says that never heals is named, with what to do, and is not tried again and again.
func TestAnswersThatNeverHeal(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		want   error
		class  run.Class
		words  string
	}{
		{501, "NotImplemented", store.ErrUnsupported, run.ClassConfig, "conditional writes"},
		{400, "InvalidArgument", store.ErrUnsupported, run.ClassConfig, "conditional writes"},
		{400, "ExpiredToken", store.ErrExpired, run.ClassStorage, "store.session_token"},
		{301, "PermanentRedirect", store.ErrRegion, run.ClassConfig, "set store.region to eu-west-1"},
		{403, "RequestTimeTooSkewed", store.ErrClock, run.ClassStorage, "clock"},
		{400, "SomethingElse", store.ErrUnavailable, run.ClassStorage, "answer 400 SomethingElse"},
	} {
		answer := func(_ int, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Amz-Bucket-Region", "eu-west-1")
			fail(w, c.status, c.code)
		}
		b, _ := open(t, answer)
		_, put := b.PutIfAbsent(t.Context(), "k", strings.NewReader("x"))
		_, head := b.Head(t.Context(), "k") // whose answer has no body
		for what, err := range map[string]error{"put": put, "head": head, "check": b.Check(t.Context())} {
			if c.status == 501 && what != "put" || c.status == 403 && what != "put" {
				continue
			}
			if !errors.Is(err, c.want) || run.ClassOf(err) != c.class || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%s %d %s: %v of class %s", what, c.status, c.code, err, run.ClassOf(err))
			}
		}
	}
}

// Keys are asked for again when the service says that they have run out.
func TestExpiredKeysAreReadAgain(t *testing.T) {
	current := "old"
	var mu sync.Mutex
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Amz-Security-Token") != "new" {
			fail(w, 400, "ExpiredToken")
			return
		}
		w.Header().Set("ETag", `"e"`)
	}))
	defer server.Close()
	b := at(t, server.URL, func(o *Options) {
		o.Keys = func() (Keys, error) {
			mu.Lock()
			defer mu.Unlock()
			return Keys{Access: "a", Secret: "s", Session: current}, nil
		}
	})
	if _, err := b.Put(t.Context(), "k", strings.NewReader("x")); !errors.Is(err, store.ErrExpired) {
		t.Fatalf("%v", err)
	}
	mu.Lock()
	current = "new"
	mu.Unlock()
	if _, err := b.Put(t.Context(), "k", strings.NewReader("x")); err != nil {
		t.Errorf("with new keys: %v", err)
	}
}

// Without credentials nobody is asked for them over the network, and the error names what to set.
func TestNoCredentials(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	none := t.TempDir() + "/none"
	t.Setenv("AWS_CONFIG_FILE", none)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
	asked := make(chan string, 10)
	imds := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.URL.Path }))
	defer imds.Close()
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.URL)
	_, err := Open(t.Context(), Options{Endpoint: "http://127.0.0.1:1", Bucket: "b", Keys: Keys{}.Static()})
	if !errors.Is(err, store.ErrDenied) || !strings.Contains(err.Error(), "AWS_ACCESS_KEY_ID") || !strings.Contains(err.Error(), "store.access_key") {
		t.Errorf("%v", err)
	}
	if len(asked) > 0 {
		t.Errorf("the metadata service was asked for %s", <-asked)
	}
}
