package embedded

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/store/s3"
	"github.com/sciflux/sciflux/store/storetest"
	"github.com/sciflux/sciflux/workflows"
)

// The test binary is also the child.
const childEnv = "SCIFLUX_TEST_SERVICES"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "child":
		if err := Main(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case "user":
		// A command that uses the services and is killed.
		o := testOptions(os.Getenv("SCIFLUX_TEST_DIR"))
		if _, err := Start(context.Background(), o); err != nil {
			fmt.Println("failed", err)
			os.Exit(1)
		}
		fmt.Println("ready")
		select {}
	}
	os.Exit(m.Run())
}

func testOptions(dir string) Options {
	return Options{Dir: dir, Command: []string{os.Args[0]}, Env: []string{childEnv + "=child"}, Version: "test"}
}

func start(t *testing.T, o Options) *Services {
	t.Helper()
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// stateDir returns a folder and ends what still runs in it when the test is over.
func stateDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		if err := Stop(context.Background(), dir); err != nil && !errors.Is(err, ErrNotRunning) {
			t.Error(err)
		}
	})
	return dir
}

func bucketOf(t *testing.T, s *Services) *s3.Bucket {
	t.Helper()
	return openBucket(t, s, s.Bucket)
}

func openBucket(t *testing.T, s *Services, name string) *s3.Bucket {
	t.Helper()
	b, err := s3.Open(t.Context(), s3.Options{Endpoint: s.S3Endpoint, Region: s.Region, Bucket: name, Keys: s3.Keys{Access: s.AccessKey, Secret: s.SecretKey}.Static(), PathStyle: true, PartSize: 5 << 20, Attempts: 2})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func dial(t *testing.T, s *Services) client.Client {
	t.Helper()
	c, err := client.DialContext(t.Context(), client.Options{HostPort: s.TemporalAddress, Namespace: s.Namespace})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func waitGone(t *testing.T, dir string) {
	t.Helper()
	for range 400 {
		if running, err := state(dir).running(); err == nil && !running {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatal("the services still run")
}

// One pair of services serves the tests that do not end it.
func TestServices(t *testing.T) {
	dir := stateDir(t)
	began := time.Now()
	s := start(t, testOptions(dir))
	t.Logf("ready after %v", time.Since(began))
	t.Run("addresses", func(t *testing.T) { testAddresses(t, dir, s) })
	t.Run("workflow", func(t *testing.T) { testWorkflow(t, s) })
	t.Run("retention and attributes", func(t *testing.T) { testNamespace(t, s) })
	t.Run("web UI", func(t *testing.T) { testUI(t, s) })
	t.Run("objects", func(t *testing.T) { testObjects(t, s) })
	t.Run("wrong keys", func(t *testing.T) { testWrongKeys(t, s) })
	t.Run("unsigned payload", func(t *testing.T) { testUnsigned(t, s) })
	t.Run("second command attaches", func(t *testing.T) { testAttach(t, dir, s) })
	t.Run("second owner is refused", func(t *testing.T) { testSecondOwner(t, dir) })
	t.Run("other ports are refused", func(t *testing.T) { testOtherPorts(t, dir) })
	t.Run("checkpoints", func(t *testing.T) { testCheckpoints(t, s) })
	t.Run("bit rot", func(t *testing.T) { testBitRot(t, dir, s) })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	waitGone(t, dir) // nobody uses them
	if err := Stop(t.Context(), dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("stop of what has ended: %v", err)
	}
}

func testAddresses(t *testing.T, dir string, s *Services) {
	for _, address := range []string{s.TemporalAddress, hostOf(s.S3Endpoint), hostOf(s.UIAddress)} {
		host, _, err := net.SplitHostPort(address)
		if err != nil || host != "127.0.0.1" {
			t.Errorf("address %q, %v", address, err)
		}
	}
	if s.Versions["temporal"] == "" || s.Versions["sciflux"] != "test" {
		t.Errorf("versions %v", s.Versions)
	}
	for name, want := range map[string]fs.FileMode{"credentials.json": 0o600, "services.json": 0o600, "services.log": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "services.json"))
	if err != nil || strings.Contains(string(text), s.SecretKey) {
		t.Errorf("services.json has the secret, %v", err)
	}
}

func echo(_ workflow.Context, text string) (string, error) { return text + "!", nil }

func testWorkflow(t *testing.T, s *Services) {
	c := dial(t, s)
	w := worker.New(c, "q", worker.Options{})
	w.RegisterWorkflow(echo)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	r, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "echo", TaskQueue: "q"}, echo, "ripe")
	if err != nil {
		t.Fatal(err)
	}
	var out string
	if err := r.Get(t.Context(), &out); err != nil || out != "ripe!" {
		t.Errorf("%q, %v", out, err)
	}
}

func testNamespace(t *testing.T, s *Services) {
	c := dial(t, s)
	ns, err := c.WorkflowService().DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: s.Namespace})
	if err != nil {
		t.Fatal(err)
	}
	if got := ns.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration(); got != 30*24*time.Hour {
		t.Errorf("retention %v", got)
	}
	aliases := ns.GetConfig().GetCustomSearchAttributeAliases()
	for name := range SearchAttributes {
		found := false
		for _, alias := range aliases {
			found = found || alias == name
		}
		if !found {
			t.Errorf("search attribute %s is missing", name)
		}
	}
}

// TestSearchAttributesAreThoseOfTheWorkflows: what workflows write has a place in the database, and nothing else has.
func TestSearchAttributesAreThoseOfTheWorkflows(t *testing.T) {
	written := map[string]enumspb.IndexedValueType{}
	for _, a := range workflows.SearchAttributes() {
		written[a.Name] = a.Type
	}
	if !maps.Equal(written, SearchAttributes) {
		t.Errorf("workflows write %v, the namespace has %v", written, SearchAttributes)
	}
}

func testUI(t *testing.T, s *Services) {
	for path, want := range map[string]string{"/": "<html", "/namespaces/" + s.Namespace + "/workflows": "<html", "/api/v1/namespaces": s.Namespace} {
		r, err := http.Get(s.UIAddress + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != 200 || !strings.Contains(string(body), want) {
			t.Errorf("%s: status %d, %d bytes, %v", path, r.StatusCode, len(body), err)
		}
	}
}

// The suite of all stores, over the real gateway; every test gets a bucket of its own.
func testObjects(t *testing.T, s *Services) {
	n := 0
	storetest.Run(t, 23<<20, func(t *testing.T) store.Objects {
		n++
		b := openBucket(t, s, fmt.Sprintf("suite-%d", n))
		if err := b.Create(t.Context()); err != nil {
			t.Fatal(err)
		}
		return b
	})
}

func testWrongKeys(t *testing.T, s *Services) {
	b := bucketOf(t, &Services{S3Endpoint: s.S3Endpoint, Region: s.Region, Bucket: s.Bucket, AccessKey: s.AccessKey, SecretKey: "wrong"})
	_, err := b.Put(t.Context(), "k", strings.NewReader("x"))
	if !errors.Is(err, store.ErrDenied) || run.ClassOf(err) != run.ClassConfig {
		t.Errorf("wrong secret: %v", err)
	}
	absent := openBucket(t, s, "no-such-bucket")
	if err := absent.Check(t.Context()); err == nil {
		t.Error("a bucket that is not there was found")
	}
	if _, err := absent.Put(t.Context(), "k", strings.NewReader("x")); !errors.Is(err, store.ErrDenied) {
		t.Errorf("absent bucket: %v", err)
	}
}

func testUnsigned(t *testing.T, s *Services) {
	request, err := http.NewRequest(http.MethodPut, s.S3Endpoint+"/"+s.Bucket+"/unsigned", strings.NewReader("cut"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	r, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if body, _ := io.ReadAll(r.Body); r.StatusCode != 400 || !strings.Contains(string(body), "checksum") {
		t.Errorf("status %d, %s", r.StatusCode, body)
	}
}

func testAttach(t *testing.T, dir string, s *Services) {
	second := start(t, testOptions(dir))
	third, err := Attach(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []*Services{second, third} {
		if other.PID != s.PID || other.TemporalAddress != s.TemporalAddress || other.SecretKey != s.SecretKey {
			t.Errorf("%+v, expected %+v", other, s)
		}
		if err := other.Close(); err != nil {
			t.Error(err)
		}
	}
	time.Sleep(3 * watchEvery)
	if err := s.answers(t.Context()); err != nil {
		t.Errorf("the services ended although they are used: %v", err)
	}
}

func testSecondOwner(t *testing.T, dir string) {
	err := Serve(t.Context(), Options{Dir: dir}, func(*Services) {})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d", state(dir).pid())) || run.ClassOf(err) != run.ClassConfig {
		t.Errorf("%v", err)
	}
}

func testOtherPorts(t *testing.T, dir string) {
	o := testOptions(dir)
	o.S3Port = 1
	if s, err := Start(t.Context(), o); err == nil {
		s.Close()
		t.Error("attached to other ports than configured")
	}
}

func testCheckpoints(t *testing.T, s *Services) {
	c := store.Checkpoints{Objects: bucketOf(t, s), Run: "apple"}
	m := store.Manifest{Stage: run.StageSFT, Step: 5, ConfigHash: "c"}
	big := bytes.Repeat([]byte("adapter"), 1<<20)
	ref, err := c.Save(t.Context(), m, []store.Part{store.BytesPart(store.AdapterPart, big)})
	if err != nil {
		t.Fatal(err)
	}
	latest, err := c.Latest(t.Context(), run.StageSFT)
	if err != nil || latest != ref {
		t.Fatalf("%+v, %v", latest, err)
	}
	loaded, err := c.Load(t.Context(), ref)
	if err != nil || !bytes.Equal(loaded.Parts[store.AdapterPart], big) {
		t.Errorf("%v", err)
	}
}

// A byte that changes on the disk must make readers step back.
func testBitRot(t *testing.T, dir string, s *Services) {
	c := store.Checkpoints{Objects: bucketOf(t, s), Run: "rot"}
	var refs []run.CheckpointRef
	for step := 1; step <= 2; step++ {
		ref, err := c.Save(t.Context(), store.Manifest{Stage: run.StageSFT, Step: step}, []store.Part{store.BytesPart(store.AdapterPart, []byte("weights"))})
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, ref)
	}
	f, err := os.OpenFile(filepath.Join(dir, "s3", "data", s.Bucket, refs[1].Adapter.Key), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("W"), 0); err != nil {
		t.Fatal(err)
	}
	if latest, err := c.Latest(t.Context(), run.StageSFT); err != nil || latest != refs[0] {
		t.Errorf("%v, %v", latest, err)
	}
}

// A child that is killed is started again by the next command, with everything that it had acknowledged.
func TestKilledChildKeepsItsData(t *testing.T) {
	dir := stateDir(t)
	first := start(t, testOptions(dir))
	c := dial(t, first)
	options := client.StartWorkflowOptions{ID: "kept", TaskQueue: "nobody", Memo: map[string]any{"title": "apple"}}
	if _, err := c.ExecuteWorkflow(t.Context(), options, "Anything"); err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("abc"), 3<<20)
	if _, err := bucketOf(t, first).Put(t.Context(), "a/b", bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	// In the middle of an upload, with half of its parts there.
	half := io.MultiReader(bytes.NewReader(make([]byte, 12<<20)), killer{first.PID})
	if _, err := bucketOf(t, first).Put(t.Context(), "a/half", half); err == nil {
		t.Error("the upload survived its server")
	}
	waitGone(t, dir)
	second := start(t, testOptions(dir))
	if second.PID == first.PID || second.TemporalAddress != first.TemporalAddress || second.S3Endpoint != first.S3Endpoint || second.SecretKey != first.SecretKey {
		t.Errorf("first %+v, second %+v", first, second)
	}
	got, _, err := store.ReadAll(t.Context(), bucketOf(t, second), "a/b")
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := bucketOf(t, second).Head(t.Context(), "a/half"); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("half an object is visible: %v", err)
	}
	w, err := dial(t, second).DescribeWorkflowExecution(t.Context(), "kept", "")
	if err != nil || w.GetWorkflowExecutionInfo().GetMemo().GetFields()["title"] == nil {
		t.Errorf("workflow: %v, %v", w, err)
	}
}

// killer kills a process when it is read.
type killer struct{ pid int }

func (k killer) Read([]byte) (int, error) {
	syscall.Kill(k.pid, syscall.SIGKILL)
	return 0, io.EOF
}

// A supervised child comes back at the same addresses, and clients that were connected go on.
func TestSupervise(t *testing.T) {
	dir := stateDir(t)
	s := start(t, testOptions(dir))
	c := dial(t, s)
	reports := make(chan error, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Supervise(t.Context(), testOptions(dir), func(err error) { reports <- err })
	}()
	syscall.Kill(s.PID, syscall.SIGKILL)
	if err := <-reports; err != nil {
		t.Fatal(err)
	}
	// The client's own pause between two attempts to connect may still last.
	var err error
	for range 100 {
		if _, err = c.WorkflowService().DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: s.Namespace}); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		t.Errorf("a client that was connected: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
	waitGone(t, dir)
}

func TestKilledCommandLeavesNoOrphan(t *testing.T) {
	dir := stateDir(t)
	command, out := startUser(t, dir)
	if line := readLine(t, out); line != "ready\n" {
		t.Fatal(line)
	}
	if running, err := state(dir).running(); err != nil || !running {
		t.Fatalf("running %v, %v", running, err)
	}
	command.Process.Kill()
	command.Wait()
	waitGone(t, dir)
}

// Commands that start at the same time share one child.
func TestStartsAtOnce(t *testing.T) {
	dir := stateDir(t)
	pids := make([]int, 3)
	services := make([]*Services, len(pids))
	var wg sync.WaitGroup
	for i := range pids {
		wg.Go(func() {
			s, err := Start(t.Context(), testOptions(dir))
			if err != nil {
				t.Error(err)
				return
			}
			services[i], pids[i] = s, s.PID
		})
	}
	wg.Wait()
	if len(slices.Compact(pids)) != 1 {
		t.Errorf("children %v", pids)
	}
	for _, s := range services {
		if s != nil {
			s.Close()
		}
	}
}

func TestStay(t *testing.T) {
	dir := stateDir(t)
	s := start(t, testOptions(dir))
	o := testOptions(dir)
	o.Stay = true
	stays := start(t, o) // asks the running child to stay
	s.Close()
	stays.Close()
	time.Sleep(5 * watchEvery)
	again, err := Attach(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Stay || again.PID != s.PID {
		t.Errorf("%+v", again)
	}
	again.Close()
	if err := Stop(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Attach(t.Context(), dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("attach to what was stopped: %v", err)
	}
}

func TestConfiguredPorts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	for _, o := range []Options{{TemporalPort: port}, {UIPort: port}, {S3Port: port}} {
		test := testOptions(stateDir(t))
		test.TemporalPort, test.UIPort, test.S3Port = o.TemporalPort, o.UIPort, o.S3Port
		_, err := Start(t.Context(), test)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("port %d", port)) || run.ClassOf(err) != run.ClassConfig {
			t.Errorf("%+v: %v", o, err)
		}
	}
	o := testOptions(t.TempDir())
	o.UIPort = 70000
	if _, err := Start(t.Context(), o); run.ClassOf(err) != run.ClassConfig {
		t.Errorf("port 70000: %v", err)
	}
}

func TestFolderThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", filepath.Join(file, "below")} {
		if _, err := Start(t.Context(), testOptions(dir)); run.ClassOf(err) != run.ClassConfig {
			t.Errorf("%q: %v", dir, err)
		}
	}
	if _, err := Attach(t.Context(), t.TempDir()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("attach to nothing: %v", err)
	}
	if err := Stop(t.Context(), t.TempDir()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("stop of nothing: %v", err)
	}
}

// A child that ends at once must give an error with its last words.
func TestChildThatFails(t *testing.T) {
	o := testOptions(stateDir(t))
	o.Command = []string{"/bin/sh", "-c", "echo no such thing >&2; exit 3"}
	if _, err := Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("%v", err)
	}
	o.Command = []string{filepath.Join(o.Dir, "absent")}
	if _, err := Start(t.Context(), o); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// A database of another schema is put aside, with a notice, and a fresh one is made.
func TestDatabaseOfAnotherVersion(t *testing.T) {
	dir := stateDir(t)
	s := start(t, testOptions(dir))
	if _, err := bucketOf(t, s).Put(t.Context(), "k", strings.NewReader("stays")); err != nil {
		t.Fatal(err)
	}
	s.Close()
	waitGone(t, dir)
	text, _ := json.Marshal(stamp{ServerVersion: "1.2.3", Schema: "other"})
	if err := os.WriteFile(filepath.Join(dir, "temporal", "stamp.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	s = start(t, testOptions(dir))
	if !strings.Contains(s.SetAside, "of-1.2.3") {
		t.Errorf("set aside %q", s.SetAside)
	}
	if _, err := os.Stat(s.SetAside); err != nil {
		t.Error(err)
	}
	if got, _, err := store.ReadAll(t.Context(), bucketOf(t, s), "k"); err != nil || string(got) != "stays" {
		t.Errorf("%q, %v", got, err)
	}
	s.Close()
	waitGone(t, dir)
	if s = start(t, testOptions(dir)); s.SetAside != "" {
		t.Errorf("put aside again: %q", s.SetAside)
	}
}

// Without extended attributes the metadata of objects lies beside them; the whole suite must hold there too.
func TestSidecarMetadata(t *testing.T) {
	dir := stateDir(t)
	if err := os.MkdirAll(filepath.Join(dir, "s3"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "s3", "metadata.json"), []byte(`{"sidecar":true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, testOptions(dir))
	testCheckpoints(t, s)
	testObjects(t, s)
	if entries, err := os.ReadDir(filepath.Join(dir, "s3", "meta", s.Bucket)); err != nil || len(entries) == 0 {
		t.Errorf("no metadata beside the objects: %v", err)
	}
}

// A folder may have any name: what stands for something in addresses is part of the name here, and nothing lies beside it.
func TestFolderWithOddName(t *testing.T) {
	parent := stateDir(t)
	dir := filepath.Join(parent, "what? is #1 of 100% %41")
	t.Cleanup(func() { _ = Stop(context.Background(), dir) })
	s := start(t, testOptions(dir))
	if _, err := bucketOf(t, s).Put(t.Context(), "runs/a?b#c%d/e f", strings.NewReader("x")); err != nil {
		t.Error(err)
	}
	for _, path := range []string{filepath.Join(dir, "temporal", "temporal.db"), filepath.Join(dir, "s3", "data")} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	entries, err := os.ReadDir(parent)
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the folder lies %v, %v", entries, err)
	}
}
