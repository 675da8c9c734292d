package weights

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sciflux/sciflux/store/safetensors"
)

// IdentityOptions of Identity.
type IdentityOptions struct {
	// Cache is a folder in which the hashes of files are kept, by path, size, time of change and inode, so that a file is
	// read once and not at every start. "" keeps none.
	Cache string
	// Progress, if not nil, hears of bytes that were hashed, out of all. It may be called by several goroutines.
	Progress func(done, total int64)
}

// Identity names the content of files by a SHA-256 over their names relative to root and their contents. It differs when
// any byte of any of them differs, which no sample of pages could promise: one changed tensor of a model is another model.
// Each file is hashed in blocks on all processors, at one to two GB/s a core where they have SHA instructions, and once;
// after that the cache answers from the files' sizes and times.
func Identity(ctx context.Context, root string, files []string, o IdentityOptions) (string, error) {
	files = slices.Sorted(slices.Values(files))
	files = slices.Compact(files)
	sums := make([]string, len(files))
	var total int64
	infos := make([]os.FileInfo, len(files))
	for i, path := range files {
		info, err := os.Stat(path)
		if err != nil {
			return "", fmt.Errorf("identify %s: %w", root, err)
		}
		infos[i] = info
		total += info.Size()
	}
	h := &hasher{ctx: ctx, cache: o.Cache, report: func(int64) {}}
	if o.Progress != nil {
		h.report = func(done int64) { o.Progress(done, total) }
	}
	if err := h.all(files, infos, sums); err != nil {
		return "", fmt.Errorf("identify %s: %w", root, err)
	}
	whole := sha256.New()
	for i, path := range files {
		name, err := filepath.Rel(root, path)
		if err != nil || name == "." {
			name = filepath.Base(path)
		}
		fmt.Fprintf(whole, "%s\x00%s\n", filepath.ToSlash(name), sums[i])
	}
	return hex.EncodeToString(whole.Sum(nil)), nil
}

// FolderIdentity is the Identity of a file, or of a folder's FilesOf.
func FolderIdentity(ctx context.Context, path, base string, o IdentityOptions) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("identify %s: %w", path, err)
	}
	files := []string{path}
	if info.IsDir() {
		if files, err = FilesOf(path, base); err != nil {
			return "", fmt.Errorf("identify %s: %w", path, err)
		}
	}
	return Identity(ctx, path, files, o)
}

// FilesOf lists the files that loading a folder reads: its weights, as OpenDir finds them, and its configs and
// vocabularies. Pictures, licences and other weights beside them do not count.
func FilesOf(dir, base string) ([]string, error) {
	files, err := settings(dir)
	if err != nil {
		return nil, err
	}
	if !hasWeights(dir) {
		return files, nil
	}
	path, err := safetensors.Locate(dir, base)
	if err != nil {
		return nil, err
	}
	if filepath.Ext(path) != ".json" {
		return append(files, path), nil
	}
	set, err := safetensors.OpenDir(dir, base)
	if err != nil {
		return nil, err
	}
	defer set.Close()
	for _, f := range set.Files() {
		files = append(files, f.Path())
	}
	return append(files, path), nil
}

// settings lists the configs and vocabularies in a folder.
func settings(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		name := e.Name()
		switch {
		case strings.HasSuffix(name, ".safetensors.index.json"):
		case filepath.Ext(name) == ".json", name == "merges.txt", name == "vocab.txt", name == "spiece.model":
			files = append(files, filepath.Join(dir, name))
		}
	}
	return files, nil
}

// Files lists the files that Open reads for the part at path, with the configs beside them.
func (k Kind) Files(path string) ([]string, error) {
	where, dir, err := k.find(path)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(where); err != nil || info.IsDir() {
		return FilesOf(where, k.Base)
	}
	files := []string{where}
	if config := filepath.Join(dir, "config.json"); exists(config) {
		files = append(files, config)
	}
	return files, nil
}

// hasher hashes files.
type hasher struct {
	ctx    context.Context
	cache  string
	report func(done int64)

	mu   sync.Mutex
	done int64
}

func (h *hasher) all(files []string, infos []os.FileInfo, sums []string) error {
	for i := range files {
		var err error
		if sums[i], err = h.file(files[i], infos[i]); err != nil {
			return err
		}
	}
	return nil
}

// remembered is a file's hash in the cache.
type remembered struct {
	stamp
	SHA256 string `json:"sha256"`
}

// stamp is what a changed file has another of.
type stamp struct {
	Path    string `json:"path"`
	Size    int64  `json:"size"`
	Changed int64  `json:"changed"` // nanoseconds since 1970
	Inode   uint64 `json:"inode"`
	Status  int64  `json:"status"` // time of the last change of content or metadata, which no program can set; 0 where unknown
}

// settled is how old a file's last change must be for its hash to be kept: clocks of file systems are coarse, and a
// second change within one tick would not be seen.
const settled = 2 * time.Second

func (h *hasher) file(path string, info os.FileInfo) (string, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	now := stamp{Path: absolute, Size: info.Size(), Changed: info.ModTime().UnixNano(), Inode: inode(info), Status: statusTime(info)}
	if sum, ok := h.recall(now); ok {
		h.add(info.Size())
		return sum, nil
	}
	started := time.Now()
	sum, err := h.read(path, info.Size())
	if err != nil {
		return "", err
	}
	after, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if after.Size() != info.Size() || !after.ModTime().Equal(info.ModTime()) {
		return "", fmt.Errorf("%s was changed while it was read; start again when nobody writes to it", path)
	}
	if started.Sub(info.ModTime()) > settled {
		h.keep(remembered{now, sum})
	}
	return sum, nil
}

// blockSize is how much of a file is hashed at a time. A file's hash is that of its blocks' hashes, so another size gives
// other identities.
const blockSize = 16 << 20

func (h *hasher) read(path string, size int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	n := int((size + blockSize - 1) / blockSize)
	sums, errs := make([][sha256.Size]byte, n), make([]error, n)
	var next atomic.Int64
	var wait sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wait.Go(func() {
			block := make([]byte, min(size, blockSize))
			for i := int(next.Add(1)) - 1; i < n && h.ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				part := block[:min(blockSize, size-int64(i)*blockSize)]
				if _, errs[i] = f.ReadAt(part, int64(i)*blockSize); errs[i] == nil {
					sums[i] = sha256.Sum256(part)
					h.add(int64(len(part)))
				}
			}
		})
	}
	wait.Wait()
	if err := errors.Join(append(errs, h.ctx.Err())...); err != nil {
		return "", err
	}
	whole := sha256.New()
	for i := range sums {
		whole.Write(sums[i][:])
	}
	return hex.EncodeToString(whole.Sum(nil)), nil
}

func (h *hasher) add(n int64) {
	h.mu.Lock()
	h.done += n
	done := h.done
	h.mu.Unlock()
	h.report(done)
}

// entry is the cache's file for a path.
func (h *hasher) entry(path string) string {
	name := sha256.Sum256([]byte(path))
	return filepath.Join(h.cache, hex.EncodeToString(name[:])+".json")
}

func (h *hasher) recall(now stamp) (string, bool) {
	if h.cache == "" {
		return "", false
	}
	text, err := os.ReadFile(h.entry(now.Path))
	if err != nil {
		return "", false
	}
	var r remembered
	if json.Unmarshal(text, &r) != nil || r.stamp != now || len(r.SHA256) != hex.EncodedLen(sha256.Size) {
		return "", false
	}
	return r.SHA256, true
}

// keep writes a hash to the cache, whole or not at all. A cache that cannot be written costs time only.
func (h *hasher) keep(r remembered) {
	if h.cache == "" || os.MkdirAll(h.cache, 0o700) != nil {
		return
	}
	text, err := json.Marshal(r)
	if err != nil {
		return
	}
	f, err := os.CreateTemp(h.cache, "new-*")
	if err != nil {
		return
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), h.entry(r.Path))
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
}
