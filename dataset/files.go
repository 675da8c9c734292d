package dataset

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// maxPicture is the largest encoded picture that is read, in bytes: a 100-megapixel photo stored without compression.
const maxPicture = 320 << 20

// folder reads the files that data name. They must lie inside the data folder, after links are resolved, unless outside is
// set; and they must be files, never devices, pipes, sockets or folders.
type folder struct {
	dir     string // as the user gave it
	real    string // absolute, links resolved
	root    *os.Root
	outside bool
}

func openFolder(dir string, outside bool) (*folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open dataset: %w", err)
	}
	real, err := filepath.Abs(dir)
	if err == nil {
		real, err = filepath.EvalSymlinks(real)
	}
	if err != nil {
		_ = root.Close()
		return nil, fmt.Errorf("open dataset: %w", err)
	}
	return &folder{dir, real, root, outside}, nil
}

// open opens a file that data name; at is the folder inside the data folder that relative names start from.
func (f *folder) open(at, name string) (*os.File, fs.FileInfo, error) {
	stat, open := f.root.Stat, func(p string) (*os.File, error) { return f.root.OpenFile(p, os.O_RDONLY|syscall.O_NONBLOCK, 0) }
	path, inside := f.local(at, name)
	if !inside {
		if !f.outside {
			return nil, nil, f.leaves(name)
		}
		stat, open = os.Stat, openNoWait
	}
	file, info, err := openRegular(path, stat, open)
	if err != nil && inside && strings.Contains(err.Error(), "escapes from parent") {
		if !f.outside {
			return nil, nil, f.leaves(name)
		}
		file, info, err = openRegular(filepath.Join(f.dir, path), os.Stat, openNoWait)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%q: %w", name, withoutPath(err))
	}
	return file, info, nil
}

func (f *folder) leaves(name string) error {
	return fmt.Errorf("%q lies outside the data folder %s; copy it there, or allow it with data.allow_outside: true", name, f.dir)
}

// local is a name as a path in the data folder, else from where the process runs.
func (f *folder) local(at, name string) (path string, inside bool) {
	if !filepath.IsAbs(name) {
		path = filepath.Join(at, filepath.FromSlash(name))
		if filepath.IsLocal(path) {
			return path, true
		}
		return filepath.Join(f.dir, path), false
	}
	abs, err := filepath.Abs(f.dir)
	for _, base := range []string{abs, f.real} {
		if rel, wrong := filepath.Rel(base, name); err == nil && wrong == nil && filepath.IsLocal(rel) {
			return rel, true
		}
	}
	return name, false
}

// read reads a file that data name, limit bytes at most.
func (f *folder) read(at, name string, limit int64) ([]byte, error) {
	file, info, err := f.open(at, name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := readLimited(file, info.Size(), limit)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, withoutPath(err))
	}
	return b, nil
}

func readLimited(r io.Reader, size, limit int64) ([]byte, error) {
	if size > limit {
		return nil, fmt.Errorf("%d bytes are more than the limit of %d", size, limit)
	}
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("more bytes than the limit of %d", limit)
	}
	return b, err
}

// openNoWait opens for reading. A pipe that took the file's place since it was looked at does not block.
func openNoWait(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// openRegular looks before it opens, and again at what it opened.
func openRegular(path string, stat func(string) (fs.FileInfo, error), open func(string) (*os.File, error)) (*os.File, fs.FileInfo, error) {
	info, err := stat(path)
	if err == nil {
		err = regular(info.Mode())
	}
	if err != nil {
		return nil, nil, err
	}
	file, err := open(path)
	if err != nil {
		return nil, nil, err
	}
	if info, err = file.Stat(); err == nil {
		err = regular(info.Mode())
	}
	if err != nil {
		_ = file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

func regular(m fs.FileMode) error {
	what := "a device"
	switch {
	case m.IsRegular():
		return nil
	case m.IsDir():
		what = "a folder"
	case m&fs.ModeNamedPipe != 0:
		what = "a named pipe"
	case m&fs.ModeSocket != 0:
		what = "a socket"
	}
	return fmt.Errorf("it is %s; only files are read", what)
}

// withoutPath leaves the path out of an error that names it already, so that what a data file says reaches a terminal quoted.
func withoutPath(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// dataFile is an open file of the data set. Its rows stay true as long as it is not written again.
type dataFile struct {
	path string
	f    *os.File
	size int64
	time time.Time
}

// openData opens a file that the user's folder lists. Links are followed wherever they lead: the hub's cache is made of them.
func openData(path string) (*dataFile, error) {
	f, info, err := openRegular(path, os.Stat, openNoWait)
	if err != nil {
		return nil, fmt.Errorf("open dataset %s: %w", path, withoutPath(err))
	}
	return &dataFile{path, f, info.Size(), info.ModTime()}, nil
}

// check says whether the file is the one that was opened.
func (d *dataFile) check() error {
	info, err := d.f.Stat()
	if err != nil {
		return withoutPath(err)
	}
	if info.Size() != d.size || !info.ModTime().Equal(d.time) {
		return fmt.Errorf("%s was written while it was read; start again", d.path)
	}
	return nil
}
