package s3

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/sciflux/sciflux/store"
)

// body reads an object or a range of it. When the connection breaks off, it asks for the rest of the same version.
type body struct {
	io.ReadCloser
	ctx    context.Context
	bucket *Bucket
	key    string
	etag   string
	at     int64 // of the next byte in the object
	end    int64 // behind the last byte
	idle   int   // resumptions since bytes came
	sum    hash.Hash
	want   string // of sum in base64; empty when there is none
}

// whole is the body of an answer to a request for all of an object.
func (b *Bucket) whole(ctx context.Context, key string, out *s3.GetObjectOutput) *body {
	r := &body{ReadCloser: out.Body, ctx: ctx, bucket: b, key: key, etag: aws.ToString(out.ETag), end: aws.ToInt64(out.ContentLength)}
	r.sum, r.want = checksumOf(out)
	return r
}

// checksumOf is the checksum over a whole object that a service stores with it, if it is one of those that this client
// writes. The SDK checks what comes in one piece; this one goes on when the object comes in several.
func checksumOf(out *s3.GetObjectOutput) (hash.Hash, string) {
	if out.ChecksumType == types.ChecksumTypeComposite {
		return nil, ""
	}
	for _, c := range []struct {
		value *string
		make  func() hash.Hash
	}{
		{out.ChecksumCRC32, func() hash.Hash { return crc32.NewIEEE() }},
		{out.ChecksumCRC32C, func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }},
		{out.ChecksumSHA256, sha256.New},
	} {
		if v := aws.ToString(c.value); v != "" && !strings.Contains(v, "-") { // with a dash: a sum of the parts' sums
			return c.make(), v
		}
	}
	return nil, ""
}

// Read implements io.Reader.
func (r *body) Read(p []byte) (int, error) {
	for {
		n, err := r.ReadCloser.Read(p)
		if n > 0 {
			r.at, r.idle = r.at+int64(n), 0
			if r.sum != nil {
				r.sum.Write(p[:n])
			}
		}
		switch {
		case err == nil:
			return n, nil
		case strings.Contains(err.Error(), "checksum did not match"): // the SDK's error has no exported type
			return n, store.Fail("read", r.key, store.ErrCorrupt, err)
		case err == io.EOF && r.at >= r.end:
			return n, r.finish()
		case r.ctx.Err() != nil:
			return n, store.Fail("read", r.key, store.ErrUnavailable, errors.Join(context.Cause(r.ctx), err))
		}
		if err := r.resume(err); err != nil {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
	}
}

// finish compares the checksum of an object that was read to its end.
func (r *body) finish() error {
	if r.sum == nil {
		return io.EOF
	}
	if got := base64.StdEncoding.EncodeToString(r.sum.Sum(nil)); got != r.want {
		return store.Fail("read", r.key, store.ErrCorrupt, fmt.Errorf("checksum %s, expected %s", got, r.want))
	}
	return io.EOF
}

// resume opens the rest of the object after the connection broke off.
func (r *body) resume(cause error) error {
	r.ReadCloser.Close()
	r.idle++
	if r.idle >= r.bucket.attempts || r.at >= r.end {
		return store.Fail("read", r.key, store.ErrUnavailable, fmt.Errorf("%d of %d bytes came: %w", r.at, r.end, cause))
	}
	span := fmt.Sprintf("bytes=%d-%d", r.at, r.end-1)
	in := &s3.GetObjectInput{Bucket: &r.bucket.name, Key: &r.key, Range: &span}
	if r.etag != "" {
		in.IfMatch = &r.etag
	}
	out, err := r.bucket.client.GetObject(r.ctx, in)
	if err != nil {
		if err = r.bucket.failure("read", r.key, err); errors.Is(err, store.ErrPrecondition) {
			err = store.Fail("read", r.key, store.ErrUnavailable, errors.New("it was replaced while it was read"))
		}
		return err
	}
	if !strings.HasPrefix(aws.ToString(out.ContentRange), fmt.Sprintf("bytes %d-", r.at)) {
		out.Body.Close()
		return store.Fail("read", r.key, store.ErrUnavailable, fmt.Errorf("%d of %d bytes came, and the service gives no rest: %w", r.at, r.end, cause))
	}
	r.ReadCloser = out.Body
	return nil
}
