package cache

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestValuesComeBackOrNotAtAll: whatever was put, lost, damaged and cut, a key gives its own value or nothing, from memory,
// from disk, and in another process.
func TestValuesComeBackOrNotAtAll(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir := t.TempDir()
		o := Options{Dir: dir, Disk: rapid.Int64Range(0, 4000).Draw(rt, "disk"), Memory: rapid.Int64Range(0, 2000).Draw(rt, "memory")}
		c := New(o)
		value := func(i int) []byte { return bytes.Repeat([]byte{byte(i), 7}, 10*i) }
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(rt *rapid.T) {
				i := rapid.IntRange(1, 20).Draw(rt, "i")
				c.Put(Key("v", fmt.Sprint(i)), value(i))
			},
			"get": func(rt *rapid.T) {
				i := rapid.IntRange(1, 20).Draw(rt, "i")
				if got, ok := c.Get(Key("v", fmt.Sprint(i))); ok && !bytes.Equal(got, value(i)) {
					rt.Fatalf("value %d is another one", i)
				}
			},
			"another process": func(*rapid.T) { c = New(o) },
			"damage": func(rt *rapid.T) {
				files, _ := c.files()
				if len(files) == 0 {
					return
				}
				f := files[rapid.IntRange(0, len(files)-1).Draw(rt, "file")]
				text, err := os.ReadFile(f.path)
				if err != nil || len(text) == 0 {
					return
				}
				if rapid.Bool().Draw(rt, "cut") {
					text = text[:len(text)-1]
				} else {
					text[len(text)/2] ^= 1
				}
				_ = os.WriteFile(f.path, text, 0o600)
			},
			"": func(rt *rapid.T) {
				if c.bytes > o.Memory {
					rt.Fatalf("%d bytes in memory, %d allowed", c.bytes, o.Memory)
				}
			},
		})
	})
}

// TestOldestFilesMakeRoom: the folder stays within its bound, what was used last stays, and nothing half-written is left.
func TestOldestFilesMakeRoom(t *testing.T) {
	dir := t.TempDir()
	c := New(Options{Dir: dir, Disk: 20_000})
	data := make([]byte, 1000)
	long := time.Now().Add(-time.Hour)
	for i := range 15 {
		c.Put(Key(fmt.Sprint(i)), data)
		_ = os.Chtimes(c.path(Key(fmt.Sprint(i))), long.Add(time.Duration(i)*time.Second), long.Add(time.Duration(i)*time.Second))
	}
	if _, ok := c.Get(Key("0")); !ok {
		t.Fatal("the first is gone already")
	}
	for i := range 10 {
		c.Put(Key("new", fmt.Sprint(i)), data)
	}
	if _, total := c.files(); total > 21_100 {
		t.Errorf("%d bytes, 20000 allowed", total)
	}
	if _, ok := c.Get(Key("0")); !ok {
		t.Error("the file used last went first")
	}
	if _, ok := c.Get(Key("1")); ok {
		t.Error("the file used longest ago is still there")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*", ".new-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestBrokenDiskCostsNothing: where no file can be written, values are still computed by the caller; where there is no
// folder, memory serves.
func TestBrokenDiskCostsNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*Cache{"no folder possible": New(Options{Dir: filepath.Join(file, "x"), Disk: 1 << 20, Memory: 100}), "memory alone": New(Options{Memory: 100})} {
		c.Put(Key("a"), []byte("hello"))
		if got, ok := c.Get(Key("a")); !ok || string(got) != "hello" {
			t.Errorf("%s: %q, %v", name, got, ok)
		}
		c.Put(Key("b"), make([]byte, 101))
		if _, ok := c.Get(Key("b")); ok {
			t.Errorf("%s: a value over every bound is kept", name)
		}
	}
}

func TestKeysNameTheirParts(t *testing.T) {
	seen := map[string][]string{}
	for _, parts := range [][]string{{}, {""}, {"", ""}, {"a", "b"}, {"ab"}, {"ab", ""}, {"", "ab"}, {"1:a"}, {"a1:b"}, {"a", "1:b"}} {
		k := Key(parts...)
		if old, ok := seen[k]; ok {
			t.Errorf("%q and %q have one key", old, parts)
		}
		seen[k] = parts
	}
}
