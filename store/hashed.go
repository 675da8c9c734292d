package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	"github.com/sciflux/sciflux/run"
)

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Write stores what write produces and returns its size and hash, without holding it in memory. The hash is
// of the bytes that write produced, not of those that arrived.
func Write(ctx context.Context, o Objects, key string, write func(io.Writer) error) (run.ObjectRef, error) {
	r, w := io.Pipe()
	sum := &hashingWriter{w: w, hash: sha256.New()}
	written := make(chan struct{})
	go func() {
		defer close(written)
		w.CloseWithError(write(sum))
	}()
	_, err := o.Put(ctx, key, r)
	r.CloseWithError(io.ErrClosedPipe) // lets the writer end when Put did not read to the end
	<-written
	if err != nil {
		return run.ObjectRef{}, err
	}
	return run.ObjectRef{Key: key, SHA256: hex.EncodeToString(sum.hash.Sum(nil)), Bytes: sum.n}, nil
}

type hashingWriter struct {
	w    io.Writer
	hash hash.Hash
	n    int64
}

func (h *hashingWriter) Write(p []byte) (int, error) {
	n, err := h.w.Write(p)
	h.hash.Write(p[:n])
	h.n += int64(n)
	return n, err
}

// Read returns an object whose size and hash are those of ref; one that differs is ErrCorrupt.
func Read(ctx context.Context, o Objects, ref run.ObjectRef) ([]byte, error) {
	r, object, err := o.Get(ctx, ref.Key)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if object.Size != ref.Bytes {
		return nil, wrongContents(ref, fmt.Errorf("%d bytes, expected %d", object.Size, ref.Bytes))
	}
	data := make([]byte, ref.Bytes)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, Fail("read", ref.Key, ErrUnavailable, err)
	}
	if got := hashOf(data); got != ref.SHA256 {
		return nil, wrongContents(ref, fmt.Errorf("hash %.12s, expected %.12s", got, ref.SHA256))
	}
	return data, nil
}

// Check compares an object's size and hash with those of ref without holding it in memory.
func Check(ctx context.Context, o Objects, ref run.ObjectRef) error {
	r, object, err := o.Get(ctx, ref.Key)
	if err != nil {
		return err
	}
	defer r.Close()
	if object.Size != ref.Bytes {
		return wrongContents(ref, fmt.Errorf("%d bytes, expected %d", object.Size, ref.Bytes))
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, r); err != nil {
		return Fail("read", ref.Key, ErrUnavailable, err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != ref.SHA256 {
		return wrongContents(ref, fmt.Errorf("hash %.12s, expected %.12s", got, ref.SHA256))
	}
	return nil
}

func wrongContents(ref run.ObjectRef, cause error) error {
	return Fail("verify", ref.Key, ErrCorrupt, cause)
}
