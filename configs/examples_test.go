package configs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestExamplesLoad: every example is a config that runs would accept, starts from a preset, and is listed.
func TestExamplesLoad(t *testing.T) {
	index, err := os.ReadFile("../examples/README.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../examples/*.*")
	if err != nil || len(files) < 7 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	for _, path := range files {
		if name := filepath.Base(path); name != "README.md" && !strings.Contains(string(index), "]("+name+")") {
			t.Errorf("%s is not in the list of examples", name)
		}
		if filepath.Ext(path) != ".yaml" {
			continue
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			c, err := Load(Sources{Name: path})
			if err != nil {
				t.Fatal(err)
			}
			if c.Preset == "" || c.Name != strings.TrimSuffix(filepath.Base(path), ".yaml") {
				t.Errorf("preset %q, name %q", c.Preset, c.Name)
			}
			base, err := Load(Sources{Name: c.Preset})
			if err != nil {
				t.Fatal(err)
			}
			if c.Name = base.Name; c.Resolved() == base.Resolved() {
				t.Error("it changes nothing of its preset")
			}
		})
	}
}

// keyInText finds what documents call a key: --set path=…, or `section.key` in backquotes.
var keyInText = regexp.MustCompile("--set ([a-z][a-zA-Z_.]*)=|`([a-z]+(?:\\.[a-z_]+)+)(?:[:=][^`]*)?`")

// TestDocumentsNameKeysThatExist: keys in the documents and examples are keys of the config.
func TestDocumentsNameKeysThatExist(t *testing.T) {
	var files []string
	for _, pattern := range []string{"../README.md", "../docs/*.md", "../examples/*", "../models/README.md", "../docker-compose.yml"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		files = append(files, found...)
	}
	seen := 0
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range keyInText.FindAllStringSubmatch(string(text), -1) {
			key := m[1] + m[2]
			section, _, _ := strings.Cut(key, ".")
			if m[2] != "" && !isSection(section) {
				continue // `scheduler.json`, `flow.DPO`
			}
			if strings.HasSuffix(key, ".safetensors") {
				continue // a file
			}
			seen++
			if _, known := fieldAt(key); !known && !isSection(key) {
				near, _ := nearest(key, allKeys())
				t.Errorf("%s: %s is no key; %s?", path, key, near)
			}
		}
	}
	compose, err := os.ReadFile("../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{"SCIFLUX_VERSION": true} // of the image
	for _, f := range Fields() {
		names[envName(f.Path)] = true
	}
	for _, name := range regexp.MustCompile(`SCIFLUX_[A-Z_]+`).FindAllString(string(compose), -1) {
		if seen++; !names[name] {
			t.Errorf("docker-compose.yml: %s sets no key", name)
		}
	}
	if seen < 20 {
		t.Errorf("%d keys found: the pattern is broken", seen)
	}
}

// FuzzFile: no config file makes the loader panic, and what it accepts it can print and read again to the same hash.
func FuzzFile(f *testing.F) {
	for _, seed := range []string{
		"preset: world\n", "sft: {lr: 1e-4}\n", "a: &a [1, *a]\n", "sft:\n  lr: [1]\n", "---\n---\n", "? {a: b}\n: c\n", "seed: 1e400\n", "store: {access_key: {env: X}}\n",
		"!!binary x: y\n", "<<: {seed: 3}\n", "worker: {hang_after: 10h}\n", "\xff\xfe", "oft: {forms: {step: paper}}\n",
	} {
		f.Add([]byte(seed))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(dir, "fuzz.yaml")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(Sources{Name: path})
		if err != nil {
			return
		}
		if err := os.WriteFile(path, []byte(c.Resolved()), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := Load(Sources{Name: path})
		if err != nil {
			t.Fatalf("the resolved config is refused: %v", err)
		}
		if again.Hash() != c.Hash() {
			t.Fatalf("hash %s, read again %s", c.Hash(), again.Hash())
		}
	})
}
