// Package cache keeps what can be computed again, encoded prompts and pictures, under keys that name everything they
// depend on: a part in memory, all of it in a folder that runs and processes share. It knows bytes and keys, nothing of
// what they stand for. What it returns is what was put, or nothing: a file that is cut or damaged counts as absent.
package cache

import (
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"sync"
	"time"
)

// Options of New.
type Options struct {
	Dir    string // folder of the files; made when first needed. Empty: memory alone
	Disk   int64  // bytes that the files may take; the ones used longest ago go first
	Memory int64  // bytes kept in memory beside them
}

// Cache holds bytes by key. Its methods may be called by several goroutines and processes at once.
type Cache struct {
	options Options

	mu      sync.Mutex
	recent  *list.List // of *item, newest first
	held    map[string]*list.Element
	bytes   int64 // of recent
	written int64 // to disk since the folder was last measured
}

type item struct {
	key  string
	data []byte
}

// New makes a cache. Nothing is read or written before it is used.
func New(o Options) *Cache {
	return &Cache{options: o, recent: list.New(), held: map[string]*list.Element{}, written: o.Disk}
}

// Key names a value by everything it depends on; no two lists of parts have the same key.
func Key(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Has tells whether Get is likely to find a value, without reading it.
func (c *Cache) Has(key string) bool {
	c.mu.Lock()
	_, ok := c.held[key]
	c.mu.Unlock()
	if ok || c.options.Dir == "" {
		return ok
	}
	_, err := os.Stat(c.path(key))
	return err == nil
}

// Get returns the value of a key. The bytes must not be changed.
func (c *Cache) Get(key string) ([]byte, bool) {
	c.mu.Lock()
	if e, ok := c.held[key]; ok {
		c.recent.MoveToFront(e)
		data := e.Value.(*item).data
		c.mu.Unlock()
		return data, true
	}
	c.mu.Unlock()
	data, ok := c.read(key)
	if ok {
		c.remember(key, data)
	}
	return data, ok
}

// Put keeps a value, which must not be changed afterwards. A disk that is full or read-only costs the file and nothing
// else: the value can be computed again.
func (c *Cache) Put(key string, data []byte) {
	c.remember(key, data)
	if c.options.Dir == "" || int64(len(data)) > c.options.Disk {
		return
	}
	if c.write(key, data) == nil {
		c.makeRoom(int64(len(data)))
	}
}

// remember keeps a value in memory.
func (c *Cache) remember(key string, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.held[key]; ok || int64(len(data)) > c.options.Memory {
		return
	}
	c.held[key] = c.recent.PushFront(&item{key, data})
	c.bytes += int64(len(data))
	for c.bytes > c.options.Memory {
		oldest := c.recent.Remove(c.recent.Back()).(*item)
		delete(c.held, oldest.key)
		c.bytes -= int64(len(oldest.data))
	}
}

// path is the file of a key. A file is the value followed by its SHA-256.
func (c *Cache) path(key string) string { return filepath.Join(c.options.Dir, key[:2], key[2:]) }

func (c *Cache) read(key string) ([]byte, bool) {
	if c.options.Dir == "" {
		return nil, false
	}
	path := c.path(key)
	text, err := os.ReadFile(path)
	if err != nil || len(text) < sha256.Size {
		return nil, false
	}
	data, sum := text[:len(text)-sha256.Size], text[len(text)-sha256.Size:]
	if got := sha256.Sum256(data); string(got[:]) != string(sum) {
		return nil, false
	}
	now := time.Now()
	_ = os.Chtimes(path, now, now) // says that it was used; a read-only folder cannot be told
	return data, true
}

// write puts a file in place whole: others see the old one, none, or the new one.
func (c *Cache) write(key string, data []byte) error {
	path := c.path(key)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	_, err = f.Write(data)
	if err == nil {
		_, err = f.Write(sum[:])
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// makeRoom removes the files used longest ago when the folder is over its bound. Measuring a folder takes a while, so it
// is done once in every sixteenth of the bound that was written.
func (c *Cache) makeRoom(added int64) {
	c.mu.Lock()
	c.written += added
	due := c.written >= c.options.Disk/16
	if due {
		c.written = 0
	}
	c.mu.Unlock()
	if !due {
		return
	}
	files, total := c.files()
	sort.Slice(files, func(i, j int) bool { return files[i].used.Before(files[j].used) })
	for _, f := range files {
		if total <= c.options.Disk-c.options.Disk/16 {
			return
		}
		if os.Remove(f.path) == nil {
			total -= f.bytes
		}
	}
}

// ours is what this package writes: a key in two parts, or a file that a killed process left half-written.
var ours = regexp.MustCompile(`^/[0-9a-f]{2}/([0-9a-f]{62}|\.new-[^/]*)$`)

type file struct {
	path  string
	bytes int64
	used  time.Time
}

// files lists the folder. What another process removes meanwhile is left out.
func (c *Cache) files() (files []file, total int64) {
	dir, err := filepath.EvalSymlinks(c.options.Dir)
	if err != nil {
		return nil, 0
	}
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !ours.MatchString(filepath.ToSlash(strings.TrimPrefix(path, dir))) {
			return nil // somebody else's files are neither counted nor removed
		}
		if info, err := e.Info(); err == nil {
			files = append(files, file{path, info.Size(), info.ModTime()})
			total += info.Size()
		}
		return nil
	})
	return files, total
}
