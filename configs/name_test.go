package configs

import (
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"world": true, "run-1.b_2": true, "7": true, strings.Repeat("a", 64): true,
		"": false, "A": false, "-a": false, ".": false, "_x": false, "a b": false, "a/b": false, "ä": false, strings.Repeat("a", 65): false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A run is called after its file, in the letters that names have; a name that is given counts as it is.
func TestNameOfAFile(t *testing.T) {
	for _, tc := range []struct{ file, text, want string }{
		{"my.yaml", "", "my"}, {"My Run (2).yaml", "", "my-run--2"}, {"a.b.yaml", "", "a.b"}, {"_x.yaml", "", "x"},
		{strings.Repeat("a", 70) + ".yaml", "", strings.Repeat("a", 64)}, {"plain", "", "plain"}, {"Whatever.yaml", "name: other\n", "other"},
	} {
		path := filepath.Join(filepath.Dir(file(t, "")), tc.file)
		write(t, path, tc.text)
		if c, err := Load(Sources{Name: path}); err != nil || c.Name != tc.want {
			t.Errorf("%s: %q, %v; want %q", tc.file, c.Name, err, tc.want)
		}
	}
	path := filepath.Join(t.TempDir(), "日本.yaml")
	write(t, path, "")
	if p := problemsOf(t, Sources{Name: path}); len(p) != 1 || p[0].Path != "name" || p[0].Where != path {
		t.Errorf("%v", p)
	}
	if c, err := Load(Sources{Name: path, Set: []string{"name=n"}}); err != nil || c.Name != "n" {
		t.Errorf("%q, %v", c.Name, err)
	}
}

func TestEveryFileNameMakesAName(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		source := rapid.String().Draw(r, "source")
		if name := nameOf(source); name != "" && CheckName(name) != nil {
			r.Fatalf("%q becomes %q: %v", source, name, CheckName(name))
		}
	})
}
