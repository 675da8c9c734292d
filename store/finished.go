package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/sciflux/sciflux/run"
)

// Finish stores an object and then, beside it, its reference, which says that it is whole: later attempts at the same
// work find it with Finished. Racing attempts must store equal bytes.
func Finish(ctx context.Context, o Objects, key string, write func(io.Writer) error) (run.ObjectRef, error) {
	ref, err := Write(ctx, o, key, write)
	if err != nil {
		return ref, err
	}
	text, err := json.Marshal(ref)
	if err != nil {
		return ref, err
	}
	_, err = o.Put(ctx, key+refSuffix, bytes.NewReader(text))
	return ref, err
}

// Finished finds an object that an earlier attempt stored with Finish and that is still whole.
func Finished(ctx context.Context, o Objects, key string) (run.ObjectRef, bool, error) {
	var ref run.ObjectRef
	text, _, err := ReadAll(ctx, o, key+refSuffix)
	if errors.Is(err, ErrNotExist) {
		return ref, false, nil
	}
	if err != nil {
		return ref, false, err
	}
	if json.Unmarshal(text, &ref) != nil || ref.Key != key {
		return ref, false, nil
	}
	err = Check(ctx, o, ref)
	if errors.Is(err, ErrNotExist) || errors.Is(err, ErrCorrupt) {
		return ref, false, nil
	}
	return ref, err == nil, err
}

// refSuffix is added to a finished object's key to name its reference.
const refSuffix = ".ref.json"
