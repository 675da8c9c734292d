package s3

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/smithy-go/logging"

	"github.com/sciflux/sciflux/store"
)

// keysEvery is how often the keys are asked for again: who renews temporary ones writes them where they were.
const keysEvery = time.Minute

// errNoKeys names what people have to set.
var errNoKeys = errors.New("there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name variables or files in store.access_key and store.secret_key")

// credentialsOf is where the keys of a bucket come from.
func credentialsOf(ctx context.Context, o Options) (*aws.CredentialsCache, error) {
	if o.Keys != nil {
		first, err := o.Keys()
		if err != nil {
			return nil, store.Fail("open bucket", o.Bucket, store.ErrDenied, err)
		}
		if first.Access != "" {
			return aws.NewCredentialsCache(renewed(o.Keys)), nil
		}
	}
	// The metadata service of a cloud machine has keys for Amazon alone; elsewhere asking it only takes time.
	metadata := imds.ClientDisabled
	if amazon(o.Endpoint) {
		metadata = imds.ClientDefaultEnableState
	}
	found, err := config.LoadDefaultConfig(ctx, config.WithRegion(o.Region), config.WithLogger(logging.Nop{}), config.WithEC2IMDSClientEnableState(metadata))
	if err == nil {
		_, err = found.Credentials.Retrieve(ctx)
	}
	if ctx.Err() != nil {
		return nil, store.Fail("open bucket", o.Bucket, store.ErrUnavailable, context.Cause(ctx))
	}
	if err != nil {
		return nil, store.Fail("open bucket", o.Bucket, store.ErrDenied, errNoKeys)
	}
	return aws.NewCredentialsCache(found.Credentials), nil
}

func amazon(endpoint string) bool {
	u, err := url.Parse(endpoint)
	return endpoint == "" || err == nil && strings.HasSuffix(u.Hostname(), ".amazonaws.com")
}

func renewed(keys func() (Keys, error)) aws.CredentialsProviderFunc {
	return func(context.Context) (aws.Credentials, error) {
		k, err := keys()
		if err != nil {
			return aws.Credentials{}, err
		}
		return aws.Credentials{AccessKeyID: k.Access, SecretAccessKey: k.Secret, SessionToken: k.Session, Source: "sciflux",
			CanExpire: true, Expires: time.Now().Add(keysEvery)}, nil
	}
}
