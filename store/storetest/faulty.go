package storetest

import (
	"bytes"
	"context"
	"io"
	"sync"

	"github.com/sciflux/sciflux/store"
)

// Faulty is a store in front of another one that dies or lies on purpose.
type Faulty struct {
	store.Objects

	mu     sync.Mutex
	writes int

	// FailWrite, if set, is asked before each write, whose number it gets, counted from 0; an error that it
	// returns is the write's result and nothing is written.
	FailWrite func(n int, key string) error
	// LoseAnswer, if set, is asked after each write that succeeded; an error that it returns is the write's
	// result, although the object is there.
	LoseAnswer func(n int, key string) error
	// Damage, if set, changes what is read. It gets a copy.
	Damage func(key string, data []byte) []byte
}

func (f *Faulty) write(key string, put func() (store.Object, error)) (store.Object, error) {
	f.mu.Lock()
	n := f.writes
	f.writes++
	f.mu.Unlock()
	if f.FailWrite != nil {
		if err := f.FailWrite(n, key); err != nil {
			return store.Object{}, err
		}
	}
	object, err := put()
	if err == nil && f.LoseAnswer != nil {
		if err := f.LoseAnswer(n, key); err != nil {
			return store.Object{}, err
		}
	}
	return object, err
}

// Writes returns how many writes were tried.
func (f *Faulty) Writes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writes
}

// Put implements store.Objects.
func (f *Faulty) Put(ctx context.Context, key string, body io.Reader) (store.Object, error) {
	return f.write(key, func() (store.Object, error) { return f.Objects.Put(ctx, key, body) })
}

// PutIfAbsent implements store.Objects.
func (f *Faulty) PutIfAbsent(ctx context.Context, key string, body io.Reader) (store.Object, error) {
	return f.write(key, func() (store.Object, error) { return f.Objects.PutIfAbsent(ctx, key, body) })
}

// PutIfMatch implements store.Objects.
func (f *Faulty) PutIfMatch(ctx context.Context, key string, body io.Reader, etag string) (store.Object, error) {
	return f.write(key, func() (store.Object, error) { return f.Objects.PutIfMatch(ctx, key, body, etag) })
}

// Get implements store.Objects.
func (f *Faulty) Get(ctx context.Context, key string) (io.ReadCloser, store.Object, error) {
	if f.Damage == nil {
		return f.Objects.Get(ctx, key)
	}
	data, object, err := store.ReadAll(ctx, f.Objects, key)
	if err != nil {
		return nil, store.Object{}, err
	}
	return io.NopCloser(bytes.NewReader(f.Damage(key, bytes.Clone(data)))), object, nil
}
