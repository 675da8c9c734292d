package s3

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
)

// keeper keeps objects; what it ignores or refuses is told.
type keeper struct {
	mu      sync.Mutex
	objects map[string]string
	ignore  string // header
	refuse  func(r *http.Request) (status int, code string)
}

func (k *keeper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refuse != nil {
		if status, code := k.refuse(r); status != 0 {
			fail(w, status, code)
			return
		}
	}
	tag := func(s string) string { return fmt.Sprintf(`"%x"`, s) }
	old, there := k.objects[r.URL.Path]
	switch r.Method {
	case http.MethodPut:
		text, _ := io.ReadAll(r.Body)
		none, match := r.Header.Get("If-None-Match"), r.Header.Get("If-Match")
		if k.ignore != "If-None-Match" && none == "*" && there || k.ignore != "If-Match" && match != "" && (!there || match != tag(old)) {
			fail(w, 412, "PreconditionFailed")
			return
		}
		k.objects[r.URL.Path] = string(text)
		w.Header().Set("ETag", tag(string(text)))
	case http.MethodDelete:
		delete(k.objects, r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	}
}

func TestProbe(t *testing.T) {
	on := func(match func(*http.Request) bool, status int, code string) func(*http.Request) (int, string) {
		return func(r *http.Request) (int, string) {
			if match(r) {
				return status, code
			}
			return 0, ""
		}
	}
	conditional := func(r *http.Request) bool { return r.Header.Get("If-None-Match") != "" }
	matching := func(r *http.Request) bool { return r.Header.Get("If-Match") != "" }
	deleting := func(r *http.Request) bool { return r.Method == http.MethodDelete }
	for name, c := range map[string]struct {
		k       *keeper
		warning string
		words   []string
	}{
		"conforming":            {k: &keeper{}},
		"delete refused":        {k: &keeper{refuse: on(deleting, 403, "AccessDenied")}, warning: "pruning is off"},
		"ignores If-None-Match": {k: &keeper{ignore: "If-None-Match"}, words: []string{"ignores If-None-Match", "store.kind=disk"}},
		"ignores If-Match":      {k: &keeper{ignore: "If-Match"}, words: []string{"ignores If-Match", "store.kind=disk"}},
		"501":                   {k: &keeper{refuse: on(conditional, 501, "NotImplemented")}, words: []string{"refuses writes with If-None-Match", "501 NotImplemented", "conditional writes"}},
		"400":                   {k: &keeper{refuse: on(conditional, 400, "InvalidArgument")}, words: []string{"refuses writes with If-None-Match", "conditional writes"}},
		"501 If-Match":          {k: &keeper{refuse: on(matching, 501, "NotImplemented")}, words: []string{"refuses writes with If-Match"}},
		"read-only":             {k: &keeper{refuse: on(func(r *http.Request) bool { return r.Method == http.MethodPut }, 403, "AccessDenied")}, words: []string{"access denied", "permissions"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.k.objects = map[string]string{}
			server := httptest.NewServer(c.k)
			defer server.Close()
			warning, err := at(t, server.URL, nil).Probe(t.Context())
			if (len(c.words) > 0) != (err != nil) || !strings.Contains(warning, c.warning) || (warning == "") != (c.warning == "") {
				t.Fatalf("warning %q, %v", warning, err)
			}
			if err != nil && run.ClassOf(err) != run.ClassConfig {
				t.Errorf("class %s of %v", run.ClassOf(err), err)
			}
			for _, w := range c.words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("no %q in %v", w, err)
				}
			}
			if left := len(c.k.objects); left > 0 && name != "delete refused" {
				t.Errorf("%d objects are left", left)
			}
		})
	}
	if _, err := at(t, silent(t), nil).Probe(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("silent: %v", err)
	}
}
