package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sciflux/sciflux/run"
)

// put writes a file of a state folder.
func put(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaultsOfOptions(t *testing.T) {
	o, err := Options{Dir: "relative"}.withDefaults()
	if err != nil || !filepath.IsAbs(o.Dir) || o.Namespace != "sciflux" || o.Bucket != "sciflux" || o.Retention != 30*24*time.Hour {
		t.Errorf("%+v %v", o, err)
	}
	o, err = Options{Dir: "/d", Namespace: "n", Bucket: "b", Retention: time.Hour, TemporalPort: 65535}.withDefaults()
	if err != nil || o.Namespace != "n" || o.Bucket != "b" || o.Retention != time.Hour || o.TemporalPort != 65535 {
		t.Errorf("%+v %v", o, err)
	}
	for _, bad := range []Options{{}, {Dir: "/d", TemporalPort: -1}, {Dir: "/d", UIPort: 65536}, {Dir: "/d", S3Port: 1 << 20}} {
		if _, err := bad.withDefaults(); run.ClassOf(err) != run.ClassConfig {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// A child that says nothing, something else or what is wrong: each is an error with its words, and its class comes along.
func TestStatusOfTheChild(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "services.log", "the last words\n")
	for _, c := range []struct {
		line  string
		class run.Class
		words string // empty: no error
	}{
		{`{}`, run.ClassNone, ""},
		{``, run.ClassInternal, "the last words"},
		{`not JSON`, run.ClassInternal, "the last words"},
		{`{"error":"port 80: taken","class":"config","hint":"choose another"}`, run.ClassConfig, "port 80: taken; choose another"},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.WriteString(c.line); err != nil {
			t.Fatal(err)
		}
		w.Close()
		err = awaitStatus(t.Context(), r, state(dir))
		r.Close()
		if run.ClassOf(err) != c.class || c.words != "" && !strings.Contains(err.Error(), c.words) {
			t.Errorf("%q: class %q, %v", c.line, run.ClassOf(err), err)
		}
	}
}

// A child that never says anything is not waited for after the caller has given up.
func TestStatusIsNotAwaitedForEver(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer r.Close()
	reason := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, reason)
	defer cancel()
	if err := awaitStatus(ctx, r, state(t.TempDir())); !errors.Is(err, reason) {
		t.Errorf("%v", err)
	}
}

// What is sent is what is understood, for every class of failure.
func TestStatusThereAndBack(t *testing.T) {
	for _, sent := range []error{
		run.Errorf(run.ClassConfig, "start services", "port 5", "choose another", "taken"),
		run.Errorf(run.ClassStorage, "start services", "/d", "", "no space"),
		errors.New("a plain failure"),
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		sendStatus(w, sent)
		got := awaitStatus(t.Context(), r, state(t.TempDir()))
		r.Close()
		class := run.ClassOf(sent)
		if class == run.ClassInternal {
			class = run.ClassStorage // of a child that cannot start
		}
		if run.ClassOf(got) != class {
			t.Errorf("%v became %v", sent, got)
		}
		for _, word := range strings.Fields("port 5 taken choose another no space a plain failure") {
			if strings.Contains(sent.Error(), word) && !strings.Contains(got.Error(), word) {
				t.Errorf("%q is lost from %v: %v", word, sent, got)
			}
		}
	}
}

func TestOtherPortsThanThoseThatRun(t *testing.T) {
	s := &Services{TemporalAddress: "127.0.0.1:7233", UIAddress: "http://127.0.0.1:8233", S3Endpoint: "http://127.0.0.1:9000"}
	for _, c := range []struct {
		o    Options
		says string // empty: agreed
	}{
		{Options{}, ""}, {Options{TemporalPort: 7233, UIPort: 8233, S3Port: 9000}, ""},
		{Options{TemporalPort: 233}, "Temporal at 127.0.0.1:7233"}, {Options{UIPort: 8234}, "web UI"}, {Options{S3Port: 7233}, "S3 at http://127.0.0.1:9000"},
	} {
		c.o.Dir = "/state"
		err := samePorts(c.o, s)
		if (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "sciflux down") || run.ClassOf(err) != run.ClassConfig) {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
}

// Files that a crash or a hand has spoiled are named, and keys are never made anew over old ones.
func TestSpoiledCredentials(t *testing.T) {
	for text, says := range map[string]string{`{`: "credentials.json", `{"access_key":"a"}`: "cut short", `[]`: "credentials.json", ``: "credentials.json"} {
		dir := t.TempDir()
		path := put(t, dir, "credentials.json", text)
		if _, err := state(dir).credentials(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", text, err)
		}
		if after, _ := os.ReadFile(path); string(after) != text {
			t.Errorf("%q became %q", text, after)
		}
	}
}

func TestCredentialsAreMadeOnceAndKeptPrivate(t *testing.T) {
	dir := t.TempDir()
	first, err := state(dir).credentials()
	if err != nil || len(first.SecretKey) < 32 || first.AccessKey == "" {
		t.Fatalf("%d letters, %v", len(first.SecretKey), err)
	}
	if err := os.Chmod(filepath.Join(dir, "credentials.json"), 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := state(dir).credentials()
	info, _ := os.Stat(filepath.Join(dir, "credentials.json"))
	if err != nil || again != first || info.Mode().Perm() != 0o600 {
		t.Errorf("same %v, mode %v, %v", again == first, info.Mode(), err)
	}
	other, err := state(t.TempDir()).credentials()
	if err != nil || other.SecretKey == first.SecretKey {
		t.Errorf("two folders share a secret: %v", err)
	}
}

// What a command prints about the services holds no secret.
func TestServicesAsJSONHaveNoSecret(t *testing.T) {
	s := describe(Options{Version: "v"}, ports{temporal: 1, ui: 2, s3: 3}, credentials{"the-access-key", "the-secret-key"}, "")
	text, err := json.Marshal(s)
	if err != nil || strings.Contains(string(text), "the-") {
		t.Errorf("%s %v", text, err)
	}
	for _, want := range []string{`"temporal_address":"127.0.0.1:1"`, `"ui_address":"http://127.0.0.1:2"`, `"s3_endpoint":"http://127.0.0.1:3"`, `"pid":`, `"versions":`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	if s.AccessKey != "the-access-key" || s.SecretKey != "the-secret-key" {
		t.Errorf("the program itself needs the keys: %+v", s)
	}
}

func TestReplacedFilesAreWholeOrOld(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.json")
	if err := writeJSON(path, 0o600, map[string]int{"a": 1}); err != nil {
		t.Fatal(err)
	}
	if err := writeJSON(path, 0o640, map[string]int{"a": 2}); err != nil {
		t.Fatal(err)
	}
	if err := writeJSON(path, 0o600, make(chan int)); err == nil {
		t.Error("a channel was written")
	}
	var got map[string]int
	if err := readJSON(path, &got); err != nil || got["a"] != 2 {
		t.Errorf("%v %v", got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v %v", info, err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("something is left beside it: %v", entries)
	}
	if err := writeJSON(filepath.Join(dir, "no", "x.json"), 0o600, 1); err == nil || !strings.Contains(err.Error(), "x.json") {
		t.Errorf("%v", err)
	}
	put(t, dir, "bad.json", "{")
	if err := readJSON(filepath.Join(dir, "bad.json"), &got); err == nil || !strings.Contains(err.Error(), "bad.json") {
		t.Errorf("%v", err)
	}
}

// A log that has grown long starts anew; the old one is kept once. Of a log only the end is repeated.
func TestLogOfTheChild(t *testing.T) {
	dir := t.TempDir()
	d := state(dir)
	put(t, dir, "services.log", "short\n")
	appended := func(text string) {
		t.Helper()
		f, err := d.openLog()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	appended("more\n")
	if got := d.logTail(); got != "short\nmore" {
		t.Errorf("%q", got)
	}
	put(t, dir, "services.log", strings.Repeat("0123456789abcdef", (maxLog+16)/16))
	appended("new\n")
	if got := d.logTail(); got != "new" {
		t.Errorf("%.100q", got)
	}
	if old, err := os.Stat(d.path("services.log.1")); err != nil || old.Size() <= maxLog {
		t.Errorf("%v %v", old, err)
	}
	put(t, dir, "services.log", strings.Repeat("x", 5000)+"END\n")
	if got := d.logTail(); len(got) > 600 || !strings.HasSuffix(got, "END") {
		t.Errorf("%d letters of the log", len(got))
	}
	if got := state(t.TempDir()).logTail(); !strings.Contains(got, "no such file") {
		t.Errorf("%q", got)
	}
}

// Files of a child that is gone do not make anybody believe that it runs.
func TestFilesWithoutAProcess(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "lock", fmt.Sprintln(os.Getpid()))
	put(t, dir, "services.json", `{"pid": 1, "temporal_address": "127.0.0.1:1"}`)
	if _, err := Attach(t.Context(), dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("attach: %v", err)
	}
	if err := Stop(t.Context(), dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("stop: %v", err)
	}
	if state(dir).pid() != os.Getpid() {
		t.Errorf("process %d", state(dir).pid())
	}
}

// A folder whose lock is held but names no process is left alone.
func TestLockWithoutAName(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"", "1\n", "-5\n", "words\n"} {
		put(t, dir, "lock", text)
		l, err := tryLock(filepath.Join(dir, "lock"), false)
		if err != nil || l == nil {
			t.Fatal(err)
		}
		if err := Stop(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "names no process") {
			t.Errorf("%q: %v", text, err)
		}
		if err := l.release(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLocksExcludeAndShare(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	take := func(shared bool) *lock {
		t.Helper()
		l, err := tryLock(path, shared)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	a, b := take(true), take(true)
	if a == nil || b == nil {
		t.Fatal("a shared lock is not shared")
	}
	if take(false) != nil {
		t.Fatal("an exclusive lock beside shared ones")
	}
	for _, l := range []*lock{a, b} {
		if err := l.release(); err != nil {
			t.Fatal(err)
		}
	}
	c := take(false)
	if c == nil || take(true) != nil {
		t.Fatal("an exclusive lock is not exclusive")
	}
	if err := c.write("a long text\n"); err != nil {
		t.Fatal(err)
	}
	if err := c.write("7\n"); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(path); string(text) != "7\n" {
		t.Errorf("%q", text)
	}
	reason := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 60*time.Millisecond, reason)
	defer cancel()
	if _, err := waitLock(ctx, path, true); !errors.Is(err, reason) || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	time.AfterFunc(60*time.Millisecond, func() { _ = c.release() })
	if l, err := waitLock(t.Context(), path, false); err != nil {
		t.Error(err)
	} else if err := l.release(); err != nil {
		t.Error(err)
	}
}
