package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the repository's, seen from this package.
const root = "../.."

func repository(t *testing.T) []Mutation {
	t.Helper()
	all, err := readList()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestEveryFaultFitsTheCode: the old text of every mutation is in its file exactly once, so that the list does not rot.
func TestEveryFaultFitsTheCode(t *testing.T) {
	if err := check(root, repository(t)); err != nil {
		t.Error(err)
	}
}

// TestEveryFaultIsKilled: the page is that of the list, and the test that it names for each fault is there.
func TestEveryFaultIsKilled(t *testing.T) {
	all, path := repository(t), filepath.Join(root, "docs", "mutations.md")
	verdicts := readPage(path)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != pageOf(all, verdicts) {
		t.Error("docs/mutations.md is not that of the list: run `make mutate`, or `go run ./tools/mutate -only` with the ids that changed")
	}
	for _, m := range all {
		parts := killer.FindStringSubmatch(verdicts[m.ID])
		if parts == nil {
			t.Errorf("%s: %s", m.ID, verdicts[m.ID])
			continue
		}
		if !tested(t, filepath.Join(root, parts[1]), parts[2]) {
			t.Errorf("%s: %s has no %s any more; see who kills it now with `go run ./tools/mutate -only %s`", m.ID, parts[1], parts[2], m.ID)
		}
	}
}

// tested tells whether a folder's tests have a function of that name.
func tested(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`(?m)^func ` + regexp.QuoteMeta(name) + `\(`)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if form.Match(text) {
			return true
		}
	}
	return false
}

// moduleTest leaves what rapid leaves when it fails.
const moduleTest = `package m

import (
	"os"
	"testing"
)

func TestNothing(t *testing.T) { _ = thrice(1) }

func TestTwice(t *testing.T) {
	t.Run("two", func(t *testing.T) {
		if twice(2) != 4 {
			t.Error(twice(2), os.MkdirAll("testdata/rapid/TestTwice", 0o755), os.WriteFile("testdata/rapid/TestTwice/1.fail", nil, 0o644))
		}
	})
}
`

// module writes a small module with a function and its test.
func module(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":    "module m\n\ngo 1.26\n",
		"a.go":      "package m\n\nfunc twice(x int) int { return 2 * x }\n\nfunc thrice(x int) int { return 3 * x }\n",
		"a_test.go": moduleTest,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestVerdicts: a fault that a test notices, one that none notices, one that does not compile, and a test that fails
// without any; the files stay as they were.
func TestVerdicts(t *testing.T) {
	dir, here := module(t), []string{"."}
	list := []Mutation{
		{ID: "noticed", File: "a.go", Old: "2 * x", New: "x", Tests: here},
		{ID: "not-noticed", File: "a.go", Old: "3 * x", New: "x", Tests: here},
		{ID: "no-go", File: "a.go", Old: "3 * x", New: "y", Tests: here},
	}
	before, err := os.ReadFile(filepath.Join(dir, "a.go"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unmutated(t.Context(), dir, list); err != nil {
		t.Fatal(err)
	}
	got := map[string]Verdict{}
	keep := func(id string, v Verdict) { got[id] = v }
	try(t.Context(), dir, list, 2, keep)
	if v := got["noticed"]; v.Outcome != killed || v.Test != "TestTwice" || v.String() != ". TestTwice" {
		t.Errorf("a noticed fault: %+v", v)
	}
	if v := got["not-noticed"]; v.Outcome != survived {
		t.Errorf("a fault that nobody notices: %+v", v)
	}
	if v := got["no-go"]; v.Outcome != broken || !strings.Contains(v.Detail, "undefined: y") {
		t.Errorf("a fault that does not compile: %+v", v)
	}
	if after, err := os.ReadFile(filepath.Join(dir, "a.go")); err != nil || string(after) != string(before) {
		t.Errorf("the file was changed: %q, %v", after, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 3 {
		t.Errorf("left behind are %v, %v", left, err)
	}
	list[0].Tests = []string{"./nowhere"}
	try(t.Context(), dir, list[:1], 1, keep)
	if v := got["noticed"]; v.Outcome != broken {
		t.Errorf("without its package: %+v", v)
	}
	wrong := strings.Replace(string(before), "2 * x", "x", 1)
	if err := os.WriteFile(filepath.Join(dir, "a.go"), []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unmutated(t.Context(), dir, list[1:]); err == nil || !strings.Contains(err.Error(), "TestTwice") {
		t.Errorf("tests that fail without a fault: %v", err)
	}
}

// TestTestsThatHangProveNothing: neither killed nor survived.
func TestTestsThatHangProveNothing(t *testing.T) {
	events := `{"Action":"run","Test":"TestA"}
{"Action":"output","Test":"TestA","Output":"panic: test timed out after 10m0s\n"}
{"Action":"fail","Test":"TestA"}`
	if v, err := judge([]byte(events), errors.New("exit status 1")); err != nil || v.Outcome != broken {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := judge([]byte("go: no such tool"), context.Canceled); err == nil {
		t.Error("no event of a failure: no error")
	}
}

// TestFaultyLists: what is wrong with a list is said, all of it.
func TestFaultyLists(t *testing.T) {
	dir := module(t)
	all, err := parse("area.yaml", []byte(`
- {id: twice, what: a, file: a.go, old: "2 * x", new: x}
- {id: twice, what: a, file: a.go, old: "3 * x", new: x}
- {id: Upper, what: a, file: a.go, old: "2 * x", new: x}
- {id: many, what: a, file: a.go, old: "x int", new: x}
- {id: gone, what: a, file: a.go, old: "5 * x", new: x}
- {id: no-file, what: a, file: b.go, old: x, new: y}
- {id: no-word, file: a.go, old: "2 * x", new: x}
- {id: same, what: a, file: a.go, old: "2 * x", new: "2 * x"}
- {id: nothing, what: a, file: a.go, new: x}
`))
	if err != nil || all[0].Area != "area" || all[0].Tests[0] != "./." {
		t.Fatalf("%+v, %v", all, err)
	}
	err = check(dir, all)
	if err == nil {
		t.Fatal("no error")
	}
	for _, say := range []string{"twice: the id is given twice", `"Upper"`, "many: the old text occurs 2 times in a.go",
		"gone: the old text occurs 0 times", "no-file: ",
		"no-word: what", "same: the new text is the old one", "nothing: the old text"} {
		if !strings.Contains(err.Error(), say) {
			t.Errorf("no %q in %v", say, err)
		}
	}
	if _, err := parse("x.yaml", []byte("- {id: a, was: b}")); err == nil {
		t.Error("an unknown key is taken")
	}
}

// TestPageKeepsVerdicts: what a page says is read back, also where only some faults are tried again.
func TestPageKeepsVerdicts(t *testing.T) {
	all := []Mutation{{ID: "one", Area: "a"}, {ID: "two", Area: "b"}, {ID: "three", Area: "b"}}
	for i := range all {
		all[i].What, all[i].File = "w", "f.go"
	}
	want := map[string]string{"one": "worker/data TestX", "two": "survived"}
	path := filepath.Join(t.TempDir(), "page.md")
	text := pageOf(all, want)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got := readPage(path)
	if len(got) != 2 || got["one"] != want["one"] || got["two"] != want["two"] {
		t.Errorf("%v", got)
	}
	for _, say := range []string{"3 faults, 1 killed", "## A\n", "## B\n", "| `three` | f.go | w | not tried |"} {
		if !strings.Contains(text, say) {
			t.Errorf("no %q in\n%s", say, text)
		}
	}
	if len(readPage(path+"x")) != 0 {
		t.Error("verdicts of no page")
	}
}

func TestChosenById(t *testing.T) {
	all := []Mutation{{ID: "sft-a"}, {ID: "sft-b"}, {ID: "oft-a"}}
	for only, want := range map[string]string{
		"": "sft-a sft-b oft-a", "sft-*": "sft-a sft-b", "oft-a,sft-b": "sft-b oft-a", "x": "", "sft": "",
	} {
		var ids []string
		for _, m := range choose(all, only) {
			ids = append(ids, m.ID)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%q chooses %q, want %q", only, got, want)
		}
	}
}
