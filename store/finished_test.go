package store_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/store"
)

func hello(w io.Writer) error {
	_, err := io.WriteString(w, "hello")
	return err
}

// TestFinishedObjectsAreFoundWhole: an object counts as made only with a reference that fits it.
func TestFinishedObjectsAreFoundWhole(t *testing.T) {
	ctx, objects := context.Background(), &store.Mem{}
	if _, ok, err := store.Finished(ctx, objects, "k"); ok || err != nil {
		t.Errorf("nothing stored: %v, %v", ok, err)
	}
	ref, err := store.Finish(ctx, objects, "k", hello)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok, err := store.Finished(ctx, objects, "k"); !ok || err != nil || got != ref {
		t.Errorf("%+v %v %v, want %+v", got, ok, err, ref)
	}
	for what, spoil := range map[string]func() error{
		"damaged": func() error { _, err := objects.Put(ctx, "k", strings.NewReader("hellO")); return err },
		"gone":    func() error { return objects.Delete(ctx, "k") },
		"a reference of others": func() error {
			_, err := objects.Put(ctx, "k.ref.json", strings.NewReader(`{"key":"other"}`))
			return err
		},
		"no reference": func() error { _, err := objects.Put(ctx, "k.ref.json", strings.NewReader(`{`)); return err },
	} {
		if _, err := store.Finish(ctx, objects, "k", hello); err != nil {
			t.Fatal(err)
		}
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := store.Finished(ctx, objects, "k"); ok || err != nil {
			t.Errorf("%s: found %v, %v", what, ok, err)
		}
	}
}
