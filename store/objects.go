package store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Objects stores immutable byte strings by key.
//
// A write is atomic: readers see the old object or the whole new one, also if the writer dies. When a write
// returns nil, the object survives a power cut (as far as the disk or service keeps its promise). Reads see
// every write that returned before. All methods may be used by several goroutines and processes at once and
// stop when ctx ends.
//
// Every error is a *run.Error that matches one of the Err values of this package with errors.Is.
type Objects interface {
	// Get opens an object for reading from its first byte. The caller closes the reader. ErrNotExist.
	Get(ctx context.Context, key string) (io.ReadCloser, Object, error)

	// GetRange opens length bytes from offset; a negative length means up to the end, and a range that ends
	// beyond the object is cut. A range that begins at or after the end is ErrRange. ErrNotExist.
	GetRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)

	// Put writes an object of any size, replacing what is there. body is read once, to its end.
	Put(ctx context.Context, key string, body io.Reader) (Object, error)

	// PutIfAbsent writes an object if there is none of that key, else returns ErrPrecondition; of many
	// callers at once exactly one succeeds. body may have at most MaxConditional bytes. When the answer to
	// a request was lost, the repetition may report ErrPrecondition although the first one succeeded.
	PutIfAbsent(ctx context.Context, key string, body io.Reader) (Object, error)

	// PutIfMatch replaces an object if its ETag is still etag, else returns ErrPrecondition (also if it is
	// gone). Limits and ambiguity as for PutIfAbsent.
	PutIfMatch(ctx context.Context, key string, body io.Reader, etag string) (Object, error)

	// Head describes an object without reading it. ErrNotExist.
	Head(ctx context.Context, key string) (Object, error)

	// List describes all objects whose keys begin with prefix, in the byte order of their keys.
	List(ctx context.Context, prefix string) ([]Object, error)

	// Delete removes an object. One that does not exist is no error.
	Delete(ctx context.Context, key string) error
}

// Object describes a stored object.
type Object struct {
	Key      string
	Size     int64     // bytes
	ETag     string    // changes when the contents change; opaque, to be compared only
	Modified time.Time // when it was written, by the store's clock; zero in the answer to a write
}

// MaxConditional is the largest object in bytes that a conditional write takes: such objects are manifests
// and pointers, and are held in memory so that they can be sent again.
const MaxConditional = 64 << 20

// maxKey leaves room for a prefix below the 1024 bytes that S3 allows.
const maxKey = 900

// CheckKey reports whether every store can hold an object of this key. A key is one or more names with a
// slash between them. A name is not empty, does not begin with a dot, and has no control character and no
// backslash. Beyond that, no key may be another key and a slash and more: some stores are file systems,
// where a folder cannot be a file.
func CheckKey(key string) error {
	fault := ""
	switch {
	case key == "":
		fault = "empty"
	case len(key) > maxKey:
		fault = fmt.Sprintf("longer than %d bytes", maxKey)
	case !utf8.ValidString(key):
		fault = "not UTF-8"
	case strings.ContainsFunc(key, func(r rune) bool { return r == '\\' || unicode.IsControl(r) }):
		fault = "control character or backslash"
	}
	for name := range strings.SplitSeq(key, "/") {
		if fault == "" && (name == "" || name[0] == '.') {
			fault = "a name in it is empty or begins with a dot"
		}
		if fault == "" && len(name) > 255 {
			fault = "a name in it is longer than 255 bytes"
		}
	}
	if fault != "" {
		return Fail("check key", key, ErrKey, fmt.Errorf("%s", fault))
	}
	return nil
}

// ReadAll reads a whole object into memory. When its contents turn out to be damaged, the description is
// returned with the error.
func ReadAll(ctx context.Context, o Objects, key string) ([]byte, Object, error) {
	r, object, err := o.Get(ctx, key)
	if err != nil {
		return nil, Object{}, err
	}
	defer r.Close()
	data := make([]byte, 0, object.Size+bytes.MinRead)
	b := bytes.NewBuffer(data)
	if _, err := b.ReadFrom(r); err != nil {
		return nil, object, Fail("read", key, ErrUnavailable, err)
	}
	return b.Bytes(), object, nil
}

// ReadConditional reads the body of a conditional write, for implementations of Objects.
func ReadConditional(key string, body io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(body, MaxConditional+1))
	if err != nil {
		return nil, fmt.Errorf("write %s: read the body: %w", key, err)
	}
	if len(data) > MaxConditional {
		return nil, Fail("write", key, ErrKey, fmt.Errorf("more than %d bytes for a conditional write", MaxConditional))
	}
	return data, nil
}

// cutRange clips a range to an object of size bytes.
func cutRange(key string, size, offset, length int64) (int64, error) {
	if offset < 0 || offset >= size {
		return 0, Fail("read", key, ErrRange, fmt.Errorf("offset %d of %d bytes", offset, size))
	}
	if length < 0 || length > size-offset {
		length = size - offset
	}
	return length, nil
}
