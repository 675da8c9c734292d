package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"
	"time"
)

// Mem keeps objects in memory, for tests and dry runs. The zero value is ready to use.
type Mem struct {
	mu      sync.RWMutex
	objects map[string]memObject
}

type memObject struct {
	data     []byte
	modified time.Time
}

var _ Objects = (*Mem)(nil)

func contentTag(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}

func (m *Mem) describe(key string, o memObject) Object {
	return Object{Key: key, Size: int64(len(o.data)), ETag: contentTag(o.data), Modified: o.modified}
}

func (m *Mem) find(ctx context.Context, op, key string) (memObject, error) {
	if err := begin(ctx, op, key); err != nil {
		return memObject{}, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	o, ok := m.objects[key]
	if !ok {
		return o, Fail(op, key, ErrNotExist, nil)
	}
	return o, nil
}

// begin refuses work after the end of ctx and keys that not every store can hold.
func begin(ctx context.Context, op, key string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", op, key, context.Cause(ctx))
	}
	return CheckKey(key)
}

// Get implements Objects.
func (m *Mem) Get(ctx context.Context, key string) (io.ReadCloser, Object, error) {
	o, err := m.find(ctx, "read", key)
	if err != nil {
		return nil, Object{}, err
	}
	return io.NopCloser(bytes.NewReader(o.data)), m.describe(key, o), nil
}

// GetRange implements Objects.
func (m *Mem) GetRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	o, err := m.find(ctx, "read", key)
	if err != nil {
		return nil, err
	}
	length, err = cutRange(key, int64(len(o.data)), offset, length)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(o.data[offset : offset+length])), nil
}

// Put implements Objects.
func (m *Mem) Put(ctx context.Context, key string, body io.Reader) (Object, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return Object{}, fmt.Errorf("write %s: read the body: %w", key, err)
	}
	return m.put(ctx, key, data, func(memObject, bool) bool { return true })
}

// PutIfAbsent implements Objects.
func (m *Mem) PutIfAbsent(ctx context.Context, key string, body io.Reader) (Object, error) {
	data, err := ReadConditional(key, body)
	if err != nil {
		return Object{}, err
	}
	return m.put(ctx, key, data, func(_ memObject, exists bool) bool { return !exists })
}

// PutIfMatch implements Objects.
func (m *Mem) PutIfMatch(ctx context.Context, key string, body io.Reader, etag string) (Object, error) {
	data, err := ReadConditional(key, body)
	if err != nil {
		return Object{}, err
	}
	return m.put(ctx, key, data, func(old memObject, exists bool) bool { return exists && contentTag(old.data) == etag })
}

func (m *Mem) put(ctx context.Context, key string, data []byte, allowed func(old memObject, exists bool) bool) (Object, error) {
	if err := begin(ctx, "write", key); err != nil {
		return Object{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, exists := m.objects[key]; !allowed(old, exists) {
		return Object{}, Fail("write", key, ErrPrecondition, nil)
	}
	if m.objects == nil {
		m.objects = map[string]memObject{}
	}
	o := memObject{data: data, modified: time.Now()}
	m.objects[key] = o
	out := m.describe(key, o)
	out.Modified = time.Time{}
	return out, nil
}

// Head implements Objects.
func (m *Mem) Head(ctx context.Context, key string) (Object, error) {
	o, err := m.find(ctx, "look up", key)
	if err != nil {
		return Object{}, err
	}
	return m.describe(key, o), nil
}

// List implements Objects.
func (m *Mem) List(ctx context.Context, prefix string) ([]Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, context.Cause(ctx))
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	var out []Object
	for key, o := range m.objects {
		if strings.HasPrefix(key, prefix) {
			out = append(out, m.describe(key, o))
		}
	}
	sortByKey(out)
	return out, nil
}

func sortByKey(objects []Object) {
	sort.Slice(objects, func(i, j int) bool { return objects[i].Key < objects[j].Key })
}

// Delete implements Objects.
func (m *Mem) Delete(ctx context.Context, key string) error {
	if err := begin(ctx, "delete", key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	return nil
}
