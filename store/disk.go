package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Disk keeps each object as an ordinary file of the same path below a folder. Several processes may share the
// folder. Names that begin with a dot are no objects; the store's own files are in .sciflux.
//
// A write goes to a temporary file that is synced and renamed, then the folder is synced. Conditional writes
// compare and rename under a file lock.
type Disk struct {
	root *os.Root
	mu   sync.Mutex // a file lock does not exclude goroutines that share its descriptor
	lock *os.File
}

const (
	diskOwn  = ".sciflux"
	diskTemp = diskOwn + "/tmp"
	// hashedUpTo is the size in bytes up to which an ETag is a hash of the contents. The tag of a larger file is
	// made of its identity (size, time, inode), because reading it at every look-up would cost too much; such
	// files are never written conditionally.
	hashedUpTo = 1 << 20
)

var _ Objects = (*Disk)(nil)

// OpenDisk opens a folder as a store and creates it if necessary.
func OpenDisk(dir string) (*Disk, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, diskFailure("open store", dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, diskFailure("open store", dir, err)
	}
	if err := root.MkdirAll(diskTemp, 0o755); err != nil {
		root.Close()
		return nil, diskFailure("open store", dir, err)
	}
	lock, err := root.OpenFile(diskOwn+"/lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		root.Close()
		return nil, diskFailure("open store", dir, err)
	}
	d := &Disk{root: root, lock: lock}
	d.dropStaleTemps()
	return d, nil
}

// staleTemp is the age after which a temporary file belongs to a process that died: no write takes a day.
const staleTemp = 24 * time.Hour

// dropStaleTemps frees what killed processes left. It may fail silently: the next opening tries again.
func (d *Disk) dropStaleTemps() {
	entries, err := fs.ReadDir(d.root.FS(), diskTemp)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && time.Since(info.ModTime()) > staleTemp {
			d.root.Remove(diskTemp + "/" + entry.Name())
		}
	}
}

// Close releases the folder. Objects that are open for reading stay readable.
func (d *Disk) Close() error { return errors.Join(d.lock.Close(), d.root.Close()) }

// diskFailure sorts an error of the file system.
func diskFailure(op, key string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Fail(op, key, ErrNotExist, nil)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return Fail(op, key, ErrDenied, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return Fail(op, key, ErrNoSpace, err)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, fs.ErrExist):
		return Fail(op, key, ErrKey, fmt.Errorf("it is a folder of other objects, or a part of its path is an object: %w", err))
	}
	return Fail(op, key, ErrUnavailable, err)
}

// open opens an object's file and describes it by the open descriptor, so that a concurrent replacement does
// not mix two objects. For small objects the contents are returned as well.
func (d *Disk) open(ctx context.Context, op, key string) (*os.File, []byte, Object, error) {
	if err := begin(ctx, op, key); err != nil {
		return nil, nil, Object{}, err
	}
	f, err := d.root.Open(key)
	if errors.Is(err, syscall.ENOTDIR) {
		err = fs.ErrNotExist // a part of the path is an object, so there is none below it
	}
	if err != nil {
		return nil, nil, Object{}, diskFailure(op, key, err)
	}
	data, object, err := describe(f, key)
	if err != nil {
		f.Close()
		return nil, nil, Object{}, diskFailure(op, key, err)
	}
	return f, data, object, nil
}

func describe(f *os.File, key string) ([]byte, Object, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, Object{}, err
	}
	if !info.Mode().IsRegular() {
		return nil, Object{}, fs.ErrNotExist
	}
	object := Object{Key: key, Size: info.Size(), Modified: info.ModTime()}
	if object.Size > hashedUpTo {
		object.ETag = identityTag(info)
		return nil, object, nil
	}
	data, err := io.ReadAll(f)
	object.ETag = contentTag(data)
	return data, object, err
}

// Get implements Objects.
func (d *Disk) Get(ctx context.Context, key string) (io.ReadCloser, Object, error) {
	f, data, object, err := d.open(ctx, "read", key)
	if err != nil {
		return nil, Object{}, err
	}
	if object.Size <= hashedUpTo {
		f.Close()
		return io.NopCloser(bytes.NewReader(data)), object, nil
	}
	return f, object, nil
}

// GetRange implements Objects.
func (d *Disk) GetRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	f, _, object, err := d.open(ctx, "read", key)
	if err != nil {
		return nil, err
	}
	length, err = cutRange(key, object.Size, offset, length)
	if err != nil {
		f.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, offset, length), f}, nil
}

// Head implements Objects.
func (d *Disk) Head(ctx context.Context, key string) (Object, error) {
	f, _, object, err := d.open(ctx, "look up", key)
	if err != nil {
		return Object{}, err
	}
	f.Close()
	return object, nil
}

// Put implements Objects.
func (d *Disk) Put(ctx context.Context, key string, body io.Reader) (Object, error) {
	return d.put(ctx, key, body, func() error { return nil })
}

// PutIfAbsent implements Objects.
func (d *Disk) PutIfAbsent(ctx context.Context, key string, body io.Reader) (Object, error) {
	data, err := ReadConditional(key, body)
	if err != nil {
		return Object{}, err
	}
	return d.put(ctx, key, bytes.NewReader(data), func() error {
		_, err := d.Head(ctx, key)
		switch {
		case err == nil:
			return Fail("write", key, ErrPrecondition, nil)
		case errors.Is(err, ErrNotExist):
			return nil
		}
		return err
	})
}

// PutIfMatch implements Objects.
func (d *Disk) PutIfMatch(ctx context.Context, key string, body io.Reader, etag string) (Object, error) {
	data, err := ReadConditional(key, body)
	if err != nil {
		return Object{}, err
	}
	return d.put(ctx, key, bytes.NewReader(data), func() error {
		old, err := d.Head(ctx, key)
		if errors.Is(err, ErrNotExist) || err == nil && old.ETag != etag {
			return Fail("write", key, ErrPrecondition, nil)
		}
		return err
	})
}

// put writes body to a temporary file and, if allowed still says so under the lock, gives it the key's name.
func (d *Disk) put(ctx context.Context, key string, body io.Reader, allowed func() error) (Object, error) {
	if err := begin(ctx, "write", key); err != nil {
		return Object{}, err
	}
	temp, object, err := d.writeTemp(ctx, key, body)
	if err != nil {
		return Object{}, err
	}
	err = d.locked(func() error {
		if err := allowed(); err != nil {
			return err
		}
		if dir := path.Dir(key); dir != "." {
			if err := d.root.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		if err := d.root.Rename(temp, key); err != nil {
			return err
		}
		return d.syncFolders(key)
	})
	if err != nil {
		d.root.Remove(temp)
		return Object{}, diskFailure("write", key, err)
	}
	object.Modified = time.Time{}
	return object, nil
}

func (d *Disk) writeTemp(ctx context.Context, key string, body io.Reader) (temp string, object Object, err error) {
	temp = diskTemp + "/" + rand.Text()
	f, err := d.root.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	if err != nil {
		return "", Object{}, diskFailure("write", key, err)
	}
	reader := &contextReader{ctx: ctx, r: body}
	_, err = io.Copy(f, reader)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		_, object, err = describe(f, key)
	}
	err = errors.Join(err, f.Close())
	if err != nil {
		d.root.Remove(temp)
		if reader.err != nil {
			return "", Object{}, fmt.Errorf("write %s: read the body: %w", key, reader.err)
		}
		return "", Object{}, diskFailure("write", key, err)
	}
	return temp, object, nil
}

// contextReader ends with ctx, and remembers an error of the body, which is not the store's.
type contextReader struct {
	ctx context.Context
	r   io.Reader
	err error
}

func (c *contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		c.err = context.Cause(c.ctx)
		return 0, c.err
	}
	n, err := c.r.Read(p)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// locked runs change while no other goroutine or process changes the folder.
func (d *Disk) locked(change func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := lockFile(d.lock); err != nil {
		return err
	}
	defer func() { _ = unlockFile(d.lock) }() // the lock ends with the file anyway
	return change()
}

// syncFolders makes the folders on the way to key durable, the innermost first.
func (d *Disk) syncFolders(key string) error {
	for dir := path.Dir(key); ; dir = path.Dir(dir) {
		f, err := d.root.Open(dir)
		if err != nil {
			return err
		}
		err = errors.Join(f.Sync(), f.Close())
		if err != nil || dir == "." {
			return err
		}
	}
}

// List implements Objects.
func (d *Disk) List(ctx context.Context, prefix string) ([]Object, error) {
	start := path.Dir(prefix + "x") // the innermost folder that holds every match
	if strings.HasPrefix(start, ".") && start != "." || !fs.ValidPath(start) {
		return nil, nil
	}
	var out []Object
	err := fs.WalkDir(d.root.FS(), start, func(name string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return nil // never there, or deleted while we walk
		}
		if err != nil {
			return err
		}
		if name != "." && strings.HasPrefix(path.Base(name), ".") {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if entry.IsDir() || !strings.HasPrefix(name, prefix) {
			return nil
		}
		object, err := d.Head(ctx, name)
		if err == nil {
			out = append(out, object)
		} else if !errors.Is(err, ErrNotExist) {
			return err
		}
		return nil
	})
	if err != nil {
		return nil, diskFailure("list", prefix, err)
	}
	sortByKey(out)
	return out, nil
}

// Delete implements Objects. Folders that become empty go with the object.
func (d *Disk) Delete(ctx context.Context, key string) error {
	if err := begin(ctx, "delete", key); err != nil {
		return err
	}
	err := d.locked(func() error {
		info, err := d.root.Stat(key)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || err == nil && info.IsDir() {
			return nil
		}
		if err != nil {
			return err
		}
		if err := d.root.Remove(key); err != nil {
			return err
		}
		dir := path.Dir(key)
		for ; dir != "."; dir = path.Dir(dir) {
			if d.root.Remove(dir) != nil {
				break // not empty
			}
		}
		return d.syncFolders(dir + "/x")
	})
	if err != nil {
		return diskFailure("delete", key, err)
	}
	return nil
}
