// Package s3 keeps objects in a bucket of any S3-compatible service.
package s3

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/sciflux/sciflux/store"
)

// Options say which bucket and how to reach it.
type Options struct {
	Endpoint string // URL, such as http://127.0.0.1:9000; empty for AWS itself
	Region   string // us-east-1 if empty
	Bucket   string
	// Keys, if not nil, is asked for the credentials, and again every minute and when they have run out. nil, or an
	// answer without a key: they come from where AWS tools look for them.
	Keys func() (Keys, error)
	// PathStyle puts the bucket into the path of the URL and not into the host name, as most services beside
	// AWS need it.
	PathStyle bool
	// PartSize is the size in bytes from which an object is sent in parts, and that of each part. 0 means
	// 16 MiB. A writer holds up to PartSize * (Concurrency + 1) bytes.
	PartSize    int64
	Concurrency int // parts of one object on their way at once; 0 means 4
	Attempts    int // of one request before it fails; 0 means 8, with pauses of up to 5 s between them
	// Patience is how long the service may be silent before a request is given up and tried again; 0 means 30 s.
	Patience time.Duration
	Tell     func(string) // told what is waited for; may be nil
}

// Keys are credentials.
type Keys struct {
	Access, Secret string
	Session        string // token of temporary credentials
}

// Static gives the same keys whenever it is asked.
func (k Keys) Static() func() (Keys, error) { return func() (Keys, error) { return k, nil } }

// Bucket is a bucket as a store.
type Bucket struct {
	name     string
	attempts int
	client   *s3.Client
	manager  *transfermanager.Client
	keys     *aws.CredentialsCache
	patience *patience
}

var _ store.Objects = (*Bucket)(nil)

// Open makes the client of a bucket. It sends nothing to it; use Check for that.
func Open(ctx context.Context, o Options) (*Bucket, error) {
	if o.Bucket == "" {
		return nil, store.Fail("open bucket", o.Endpoint, store.ErrKey, errors.New("no bucket name"))
	}
	keys, err := credentialsOf(ctx, o)
	if err != nil {
		return nil, err
	}
	b := &Bucket{name: o.Bucket, attempts: cmp.Or(o.Attempts, 8), keys: keys, patience: newPatience(o.Patience, o.Tell)}
	options := s3.Options{
		Region: cmp.Or(o.Region, "us-east-1"), UsePathStyle: o.PathStyle, Credentials: keys, HTTPClient: b.patience.client(),
		// A payload that is neither signed nor summed may be stored cut when its sender dies, so every one is summed.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported,
		Retryer: &retryer{patience: b.patience, host: cmp.Or(o.Endpoint, "Amazon S3"), RetryerV2: retry.NewStandard(func(r *retry.StandardOptions) {
			r.MaxAttempts = b.attempts
			r.MaxBackoff = longestPause
			r.RateLimiter = ratelimit.None // the token bucket gives up on a service that is away for a minute
		})},
	}
	if o.Endpoint != "" {
		options.BaseEndpoint = aws.String(o.Endpoint)
	}
	b.client = s3.New(options)
	b.manager = transfermanager.New(b.client, func(t *transfermanager.Options) {
		t.PartSizeBytes = cmp.Or(o.PartSize, 16<<20)
		t.MultipartUploadThreshold = t.PartSizeBytes
		t.Concurrency = cmp.Or(o.Concurrency, 4)
		t.FailTimeout = 10 * time.Second
	})
	return b, nil
}

// Leave says that the process wants to end: requests that are not answered within seconds fail now, and none is repeated.
func (b *Bucket) Leave() { b.patience.leave() }

// Check reports whether the bucket can be reached with these credentials.
func (b *Bucket) Check(ctx context.Context) error {
	_, err := b.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.name})
	if err != nil {
		return b.unnamed(ctx, "reach bucket", b.name, err)
	}
	return nil
}

// Create makes the bucket unless it is there.
func (b *Bucket) Create(ctx context.Context) error {
	_, err := b.client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &b.name})
	switch errorCode(err) {
	case "BucketAlreadyOwnedByYou", "BucketAlreadyExists":
		return b.Check(ctx)
	}
	if err != nil {
		return b.failure("create bucket", b.name, err)
	}
	return nil
}

// Get implements store.Objects.
func (b *Bucket) Get(ctx context.Context, key string) (io.ReadCloser, store.Object, error) {
	if err := store.CheckKey(key); err != nil {
		return nil, store.Object{}, err
	}
	out, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.name, Key: &key})
	if err != nil {
		return nil, store.Object{}, b.failure("read", key, err)
	}
	object := store.Object{Key: key, Size: aws.ToInt64(out.ContentLength), ETag: aws.ToString(out.ETag),
		Modified: aws.ToTime(out.LastModified)}
	return b.whole(ctx, key, out), object, nil
}

// GetRange implements store.Objects.
func (b *Bucket) GetRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := store.CheckKey(key); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, store.Fail("read", key, store.ErrRange, fmt.Errorf("offset %d", offset))
	}
	if length == 0 { // S3 has no empty range, but the object must exist and reach the offset
		object, err := b.Head(ctx, key)
		if err == nil && offset >= object.Size {
			err = store.Fail("read", key, store.ErrRange, fmt.Errorf("offset %d of %d bytes", offset, object.Size))
		}
		return http.NoBody, err
	}
	span := fmt.Sprintf("bytes=%d-", offset)
	if length > 0 && length-1 <= (1<<63-1)-offset {
		span += fmt.Sprint(offset + length - 1)
	}
	out, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.name, Key: &key, Range: &span})
	if err != nil {
		return nil, b.failure("read", key, err)
	}
	if out.ContentRange == nil { // some services answer the whole object instead of refusing a range of an empty one
		out.Body.Close()
		return nil, store.Fail("read", key, store.ErrRange, fmt.Errorf("offset %d of %d bytes", offset, aws.ToInt64(out.ContentLength)))
	}
	n := aws.ToInt64(out.ContentLength)
	return &body{ReadCloser: out.Body, ctx: ctx, bucket: b, key: key, etag: aws.ToString(out.ETag), at: offset, end: offset + n}, nil
}

// Put implements store.Objects.
func (b *Bucket) Put(ctx context.Context, key string, body io.Reader) (store.Object, error) {
	if err := store.CheckKey(key); err != nil {
		return store.Object{}, err
	}
	source := &source{Reader: body}
	out, err := b.manager.UploadObject(ctx, &transfermanager.UploadObjectInput{Bucket: &b.name, Key: &key, Body: source})
	if source.err != nil {
		return store.Object{}, fmt.Errorf("write %s: read the body: %w", key, source.err)
	}
	if err != nil {
		return store.Object{}, b.failure("write", key, err)
	}
	return store.Object{Key: key, Size: source.n, ETag: aws.ToString(out.ETag)}, nil
}

// source counts what is read from a body and remembers its error, which is not the service's.
type source struct {
	io.Reader
	n   int64
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	s.n += int64(n)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// PutIfAbsent implements store.Objects.
func (b *Bucket) PutIfAbsent(ctx context.Context, key string, body io.Reader) (store.Object, error) {
	return b.conditional(ctx, body, &s3.PutObjectInput{Bucket: &b.name, Key: &key, IfNoneMatch: aws.String("*")})
}

// PutIfMatch implements store.Objects.
func (b *Bucket) PutIfMatch(ctx context.Context, key string, body io.Reader, etag string) (store.Object, error) {
	out, err := b.conditional(ctx, body, &s3.PutObjectInput{Bucket: &b.name, Key: &key, IfMatch: &etag})
	if errors.Is(err, store.ErrNotExist) {
		return out, store.Fail("write", key, store.ErrPrecondition, errors.New("the object is gone"))
	}
	return out, err
}

func (b *Bucket) conditional(ctx context.Context, body io.Reader, in *s3.PutObjectInput) (store.Object, error) {
	key := *in.Key
	if err := store.CheckKey(key); err != nil {
		return store.Object{}, err
	}
	data, err := store.ReadConditional(key, body)
	if err != nil {
		return store.Object{}, err
	}
	in.Body = bytes.NewReader(data)
	out, err := b.client.PutObject(ctx, in)
	if err != nil {
		return store.Object{}, b.failure("write", key, err)
	}
	return store.Object{Key: key, Size: int64(len(data)), ETag: aws.ToString(out.ETag)}, nil
}

// Head implements store.Objects.
func (b *Bucket) Head(ctx context.Context, key string) (store.Object, error) {
	if err := store.CheckKey(key); err != nil {
		return store.Object{}, err
	}
	out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: &key})
	if err != nil {
		return store.Object{}, b.unnamed(ctx, "look up", key, err)
	}
	return store.Object{Key: key, Size: aws.ToInt64(out.ContentLength), ETag: aws.ToString(out.ETag),
		Modified: aws.ToTime(out.LastModified)}, nil
}

// List implements store.Objects.
func (b *Bucket) List(ctx context.Context, prefix string) ([]store.Object, error) {
	pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: &prefix})
	var out []store.Object
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, b.failure("list", prefix, err)
		}
		for _, o := range page.Contents {
			object := store.Object{Key: aws.ToString(o.Key), Size: aws.ToInt64(o.Size), ETag: aws.ToString(o.ETag),
				Modified: aws.ToTime(o.LastModified)}
			if store.CheckKey(object.Key) == nil { // services and tools make markers such as "folder/"
				out = append(out, object)
			}
		}
	}
	return out, nil
}

// Delete implements store.Objects.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: &key})
	if err = b.failure("delete", key, err); errors.Is(err, store.ErrNotExist) {
		return nil
	}
	return err
}

// AbortStale gives up uploads in parts, of keys that begin with prefix, that began before a time: their writers died. It
// returns how many.
func (b *Bucket) AbortStale(ctx context.Context, prefix string, before time.Time) (int, error) {
	pages := s3.NewListMultipartUploadsPaginator(b.client, &s3.ListMultipartUploadsInput{Bucket: &b.name, Prefix: &prefix})
	count := 0
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return count, b.failure("list uploads of bucket", b.name, err)
		}
		for _, u := range page.Uploads {
			if u.Initiated != nil && !u.Initiated.Before(before) || !strings.HasPrefix(aws.ToString(u.Key), prefix) {
				continue // some services list all of the bucket
			}
			_, err := b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.name, Key: u.Key, UploadId: u.UploadId})
			if err = b.failure("abort upload", aws.ToString(u.Key), err); err != nil && !errors.Is(err, store.ErrNotExist) {
				return count, err
			}
			count++
		}
	}
	return count, nil
}
