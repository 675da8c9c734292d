package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/store"
)

// testAgainstModel does random operations on a store and on a map, which must agree after each.
func testAgainstModel(t *testing.T, o store.Objects) {
	m := &model{o: o, random: rand.New(rand.NewPCG(7, 11)), contents: map[string][]byte{}, tags: map[string]string{}}
	for step := range 150 {
		if err := m.step(); err != nil {
			t.Fatalf("operation %d: %v", step, err)
		}
	}
}

// model is what a store should hold.
type model struct {
	o        store.Objects
	random   *rand.Rand
	contents map[string][]byte
	tags     map[string]string
}

var modelKeys = []string{"a", "b/c", "b/d/e", "b-c", "b0"}

func (m *model) step() error {
	ctx := context.Background()
	key := modelKeys[m.random.IntN(len(modelKeys))]
	data := bytes.Repeat([]byte{byte(m.random.Uint32())}, m.random.IntN(3000))
	_, exists := m.contents[key]
	switch m.random.IntN(8) {
	case 0, 1:
		object, err := m.o.Put(ctx, key, bytes.NewReader(data))
		return m.written(key, data, object, err, nil)
	case 2:
		object, err := m.o.PutIfAbsent(ctx, key, bytes.NewReader(data))
		return m.written(key, data, object, err, refusedIf(exists))
	case 3:
		tag := m.tags[modelKeys[m.random.IntN(len(modelKeys))]] // often that of another object
		if tag == "" {
			tag = `"none"`
		}
		same := exists && tag == m.tags[key]
		object, err := m.o.PutIfMatch(ctx, key, bytes.NewReader(data), tag)
		return m.written(key, data, object, err, refusedIf(!same))
	case 4:
		delete(m.contents, key)
		delete(m.tags, key)
		return m.o.Delete(ctx, key)
	case 5:
		return m.read(ctx, key)
	case 6:
		return m.readRange(ctx, key)
	default:
		return m.list(ctx, key[:m.random.IntN(len(key)+1)])
	}
}

func refusedIf(refused bool) error {
	if refused {
		return store.ErrPrecondition
	}
	return nil
}

func (m *model) written(key string, data []byte, object store.Object, err, want error) error {
	if !errors.Is(err, want) {
		return fmt.Errorf("write %s: %w, expected %v", key, err, want)
	}
	if err == nil {
		m.contents[key], m.tags[key] = data, object.ETag
	}
	return nil
}

func (m *model) read(ctx context.Context, key string) error {
	want, exists := m.contents[key]
	got, object, err := store.ReadAll(ctx, m.o, key)
	if !exists {
		if !errors.Is(err, store.ErrNotExist) {
			return fmt.Errorf("read %s, which does not exist: %w", key, err)
		}
		return nil
	}
	if err != nil || !bytes.Equal(got, want) || object.ETag != m.tags[key] {
		return fmt.Errorf("read %s: %d bytes of %d, tag %s of %s, %v", key, len(got), len(want), object.ETag, m.tags[key], err)
	}
	return nil
}

func (m *model) readRange(ctx context.Context, key string) error {
	want, exists := m.contents[key]
	offset, length := m.random.IntN(3000), m.random.IntN(3000)
	r, err := m.o.GetRange(ctx, key, int64(offset), int64(length))
	switch {
	case !exists && errors.Is(err, store.ErrNotExist), exists && offset >= len(want) && errors.Is(err, store.ErrRange):
		return nil
	case err != nil:
		return fmt.Errorf("read %d bytes of %s from %d: %w", length, key, offset, err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil || !exists || offset >= len(want) || !bytes.Equal(got, want[offset:min(offset+length, len(want))]) {
		return fmt.Errorf("read %d bytes of %s from %d: got %d of an object of %d, %v", length, key, offset, len(got), len(want), err)
	}
	return nil
}

func (m *model) list(ctx context.Context, prefix string) error {
	listed, err := m.o.List(ctx, prefix)
	if err != nil {
		return err
	}
	count := 0
	for key := range m.contents {
		if strings.HasPrefix(key, prefix) {
			count++
		}
	}
	if len(listed) != count {
		return fmt.Errorf("list %q: %d objects, expected %d", prefix, len(listed), count)
	}
	for i, object := range listed {
		if object.ETag != m.tags[object.Key] || object.Size != int64(len(m.contents[object.Key])) || i > 0 && object.Key <= listed[i-1].Key {
			return fmt.Errorf("list %q: %+v, expected %d bytes and tag %s", prefix, object, len(m.contents[object.Key]), m.tags[object.Key])
		}
	}
	return nil
}
