package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/sciflux/sciflux/store"
)

func errorCode(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func responseOf(err error) (status int, header http.Header) {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) && response.Response != nil {
		return response.HTTPStatusCode(), response.Response.Header
	}
	return 0, http.Header{}
}

// plain says what a service answered, or why it did not, without the SDK's words about its own doing.
func plain(err error) error {
	var silent *silence
	if errors.As(err, &silent) {
		return silent
	}
	status, header := responseOf(err)
	var api smithy.APIError
	if status != 0 && errors.As(err, &api) {
		text := fmt.Sprintf("answer %d %s", status, api.ErrorCode())
		if m := api.ErrorMessage(); m != "" && m != api.ErrorCode() {
			text += ": " + m
		}
		if id := header.Get("X-Amz-Request-Id"); id != "" {
			text += " (request " + id + ")"
		}
		return errors.New(text)
	}
	var sent *url.Error
	if errors.As(err, &sent) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return sent.Err
	}
	return err
}

// kindOf says what an error code stands for, whatever the status.
var kindOf = map[string]error{
	"NoSuchBucket":                 store.ErrDenied, // a wrong setting, not a missing object
	"ObjectParentIsFile":           store.ErrKey,
	"ExistingObjectIsDirectory":    store.ErrKey,
	"KeyTooLongError":              store.ErrKey,
	"EntityTooLarge":               store.ErrKey,
	"XMinioStorageFull":            store.ErrNoSpace,
	"QuotaExceeded":                store.ErrNoSpace,
	"BadDigest":                    store.ErrUnavailable, // damaged on the way: sending again can succeed
	"RequestTimeTooSkewed":         store.ErrClock,
	"ExpiredToken":                 store.ErrExpired,
	"ExpiredTokenException":        store.ErrExpired,
	"TokenRefreshRequired":         store.ErrExpired,
	"PermanentRedirect":            store.ErrRegion,
	"TemporaryRedirect":            store.ErrUnavailable,
	"AuthorizationHeaderMalformed": store.ErrRegion,
	"IllegalLocationConstraint":    store.ErrRegion,
	"NotImplemented":               store.ErrUnsupported,
	"InvalidArgument":              store.ErrUnsupported,
	"InvalidRequest":               store.ErrUnsupported,
	"MethodNotAllowed":             store.ErrUnsupported,
	"InvalidToken":                 store.ErrDenied,
	"OperationAborted":             store.ErrUnavailable,
	"InvalidBucketName":            store.ErrDenied,
}

// kindOfStatus counts where the code says nothing.
var kindOfStatus = map[int]error{
	http.StatusMovedPermanently:             store.ErrRegion,
	http.StatusNotFound:                     store.ErrNotExist,
	http.StatusPreconditionFailed:           store.ErrPrecondition,
	http.StatusConflict:                     store.ErrPrecondition,
	http.StatusRequestedRangeNotSatisfiable: store.ErrRange,
	http.StatusForbidden:                    store.ErrDenied,
	http.StatusUnauthorized:                 store.ErrDenied,
	http.StatusInsufficientStorage:          store.ErrNoSpace,
	http.StatusNotImplemented:               store.ErrUnsupported,
	http.StatusMethodNotAllowed:             store.ErrUnsupported,
}

// failure sorts an error of the service; nil stays nil. Keys that have run out are read again before the next request.
func (b *Bucket) failure(op, key string, err error) error {
	if err == nil {
		return nil
	}
	status, header := responseOf(err)
	kind, known := kindOf[errorCode(err)]
	if !known {
		kind, known = kindOfStatus[status]
	}
	if !known {
		kind = store.ErrUnavailable
	}
	switch kind {
	case store.ErrExpired:
		b.keys.Invalidate()
	case store.ErrNotExist, store.ErrPrecondition, store.ErrRange:
		return store.Fail(op, key, kind, nil)
	case store.ErrRegion:
		if region := header.Get("X-Amz-Bucket-Region"); region != "" {
			return store.Fail(op, key, kind, fmt.Errorf("the bucket is in region %s: set store.region to %s", region, region))
		}
	}
	return store.Fail(op, key, kind, plain(err))
}

// unnamed asks once more, with a request whose answer has a body, when the answer to a HEAD had none that says what is wrong.
func (b *Bucket) unnamed(ctx context.Context, op, key string, err error) error {
	status, _ := responseOf(err)
	if status != http.StatusBadRequest && status != http.StatusForbidden {
		return b.failure(op, key, err)
	}
	one := &s3.ListObjectsV2Input{Bucket: &b.name, MaxKeys: aws.Int32(1)}
	if _, why := b.client.ListObjectsV2(ctx, one); why != nil {
		err = why
	}
	return b.failure(op, key, err)
}
