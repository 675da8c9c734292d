package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/sciflux/sciflux/store"
)

// probes is where Probe writes; nothing of it stays where objects may be deleted.
const probes = "sciflux-probe/"

// Probe tries what checkpoints depend on: that conditional writes are honoured and not merely accepted. It also tries
// whether objects may be deleted, which is worth a warning and no more.
func (b *Bucket) Probe(ctx context.Context) (warning string, err error) {
	key := probes + strings.ToLower(rand.Text())
	first, err := b.PutIfAbsent(ctx, key, strings.NewReader("first"))
	if err != nil && !errors.Is(err, store.ErrPrecondition) { // refused: an answer was lost, and the write repeated
		return "", unconditional(b.name, "If-None-Match", err)
	}
	defer func() {
		if refused := b.Delete(ctx, key); refused != nil && err == nil {
			warning = fmt.Sprintf("objects cannot be deleted (%v): pruning is off, old checkpoints and rollouts stay", refused)
		}
	}()
	for _, c := range []struct {
		header string
		again  func() (store.Object, error)
	}{
		{"If-None-Match", func() (store.Object, error) { return b.PutIfAbsent(ctx, key, strings.NewReader("second")) }},
		{"If-Match", func() (store.Object, error) {
			return b.PutIfMatch(ctx, key, strings.NewReader("third"), `"00000000000000000000000000000000"`)
		}},
	} {
		switch _, err := c.again(); {
		case err == nil:
			return "", store.Fail("probe bucket", b.name, store.ErrUnsupported, fmt.Errorf("it ignores %s: two workers would overwrite each other", c.header))
		case !errors.Is(err, store.ErrPrecondition):
			return "", unconditional(b.name, c.header, err)
		}
	}
	if first.ETag == "" {
		return "", nil
	}
	if _, err := b.PutIfMatch(ctx, key, strings.NewReader("fourth"), first.ETag); err != nil && !errors.Is(err, store.ErrPrecondition) {
		return "", unconditional(b.name, "If-Match", err)
	}
	return "", nil
}

// unconditional says which header a service does not understand; other trouble stays what it is.
func unconditional(bucket, header string, err error) error {
	if errors.Is(err, store.ErrUnsupported) {
		cause := strings.TrimPrefix(errors.Unwrap(err).Error(), store.ErrUnsupported.Error()+": ")
		return store.Fail("probe bucket", bucket, store.ErrUnsupported, fmt.Errorf("it refuses writes with %s: %s", header, cause))
	}
	return err
}
