package models

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
)

// TestUnpackOnce: files come out whole under a name that changes with any of them; a second call writes nothing.
func TestUnpackOnce(t *testing.T) {
	files := fstest.MapFS{"m/a/config.json": {Data: []byte("{}")}, "m/w.bin": {Data: bytes.Repeat([]byte{7}, 3000)}, "other/x": {Data: []byte("x")}}
	dir := t.TempDir()
	first, err := Unpack(files, "m", dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(first, "w.bin"))
	if err != nil || !bytes.Equal(got, files["m/w.bin"].Data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if err := os.WriteFile(filepath.Join(first, "mark"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := Unpack(files, "m", dir)
	if err != nil || again != first {
		t.Fatalf("%s then %s, %v", first, again, err)
	}
	if _, err := os.Stat(filepath.Join(first, "mark")); err != nil {
		t.Error("the folder was written again")
	}
	for name, change := range map[string]fstest.MapFS{
		"contents": {"m/a/config.json": {Data: []byte("{ }")}, "m/w.bin": files["m/w.bin"]},
		"a name":   {"m/a/config.jsom": {Data: []byte("{}")}, "m/w.bin": files["m/w.bin"]},
		"a border": {"m/a/config.json": {Data: []byte("{}\x07")}, "m/w.bin": {Data: files["m/w.bin"].Data[1:]}},
	} {
		if other, err := Unpack(change, "m", dir); err != nil || other == first {
			t.Errorf("another %s: %s, %v", name, other, err)
		}
	}
	if _, err := Unpack(files, "absent", dir); err == nil {
		t.Error("an absent folder was unpacked")
	}
	left, _ := filepath.Glob(filepath.Join(dir, ".*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
