package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/internal/embedded"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/store/s3"
	"github.com/sciflux/sciflux/workflows"
)

// site is the pair of services that a run lives on, reached as the config says.
type site struct {
	cfg      configs.Config
	dir      string             // state folder
	services *embedded.Services // nil when the config names both services
	objects  store.Objects
	bucket   string // where objects are, for people: s3://bucket/ or a folder
	client   client.Client
	runs     workflows.Runs
	log      *slog.Logger
	tell     func(string)                                      // told what the store waits for
	probe    func(context.Context) (warning string, err error) // tries what a run depends on; nil where nothing is in doubt

	closers []func() error
}

// reachTime bounds the first contact with a service, so that a wrong address is an error and not a wait.
const reachTime = 10 * time.Second

// connect reaches the services of a config and starts the embedded ones if it needs them and they do not run.
func (a *app) connect(ctx context.Context, cfg configs.Config, log *slog.Logger) (_ *site, err error) {
	dir, err := a.stateDir()
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &site{cfg: cfg, dir: dir, log: log, tell: func(text string) {
		log.Warn(text)
		a.print.Note("%s", text)
	}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if cfg.Store.Kind != "embedded" { // what the user has to provide is looked at before anything is started
		if err = s.openStore(ctx); err != nil {
			return nil, err
		}
	}
	if cfg.Temporal.Address == "" || cfg.Store.Kind == "embedded" {
		if s.services, err = embedded.Start(ctx, a.serviceOptions(cfg, dir)); err != nil {
			return nil, err
		}
		s.closers = append(s.closers, s.services.Close)
		if old := s.services.SetAside; old != "" {
			a.print.Note("the database of another version was put aside as %s; `sciflux resume RUN` continues its runs from their checkpoints", old)
		}
	}
	if cfg.Store.Kind == "embedded" {
		if err = s.openStore(ctx); err != nil {
			return nil, err
		}
	}
	err = s.dial(ctx)
	return s, err
}

// servicesDir is where the embedded services keep their state.
func servicesDir(state string) string { return filepath.Join(state, "services") }

func (a *app) serviceOptions(cfg configs.Config, dir string) embedded.Options {
	return embedded.Options{Dir: servicesDir(dir), Namespace: cfg.Temporal.Namespace, Bucket: cfg.Store.Bucket, Version: a.version}
}

// openStore opens the object store and checks that it answers.
func (s *site) openStore(ctx context.Context) error {
	c := s.cfg.Store
	options := s3.Options{Endpoint: c.Endpoint, Region: c.Region, Bucket: c.Bucket, PathStyle: c.PathStyle}
	switch c.Kind {
	case "disk":
		disk, err := store.OpenDisk(c.Path)
		if err != nil {
			return err
		}
		s.objects, s.bucket = disk, c.Path+string(filepath.Separator)
		s.closers = append(s.closers, disk.Close)
		return nil
	case "embedded":
		e := s.services
		options = s3.Options{Endpoint: e.S3Endpoint, Region: e.Region, Bucket: e.Bucket, Keys: s3.Keys{Access: e.AccessKey, Secret: e.SecretKey}.Static(), PathStyle: true}
	default:
		options.Keys = s.keys
	}
	options.Tell = s.tell
	bucket, err := s3.Open(ctx, options)
	if err == nil && c.Kind == "s3" {
		err = checkBucket(ctx, options)
		s.probe = bucket.Probe
	}
	if err != nil {
		return atStart(err, options)
	}
	stop := context.AfterFunc(ctx, bucket.Leave) // who interrupts does not wait for a store that is silent
	s.closers = append(s.closers, func() error { stop(); return nil })
	s.objects, s.bucket = bucket, "s3://"+options.Bucket+"/"
	return nil
}

// keys reads the credentials that the config names. Where it names nothing but the usual variables and they are not set,
// there is no key, and AWS's own places are asked.
func (s *site) keys() (k s3.Keys, err error) {
	c := s.cfg.Store
	for _, one := range []struct {
		secret configs.Secret
		name   string
		into   *string
	}{{c.AccessKey, "store.access_key", &k.Access}, {c.SecretKey, "store.secret_key", &k.Secret}, {c.SessionToken, "store.session_token", &k.Session}} {
		usual := one.secret == configs.Secret{Env: "AWS_ACCESS_KEY_ID"} || one.secret == configs.Secret{Env: "AWS_SECRET_ACCESS_KEY"}
		value, err := one.secret.Value(one.name)
		if err != nil && !usual {
			return k, &run.Error{Class: run.ClassConfig, Op: "open store", Subject: c.Endpoint, Cause: err}
		}
		*one.into = value
	}
	if k.Access != "" && k.Secret == "" {
		return k, run.Errorf(run.ClassConfig, "open store", c.Endpoint, "set AWS_SECRET_ACCESS_KEY, or name a variable or file in store.secret_key",
			"there is an access key and no secret key")
	}
	return k, nil
}

// checkBucket asks for the bucket once, without the patience that a running job has.
func checkBucket(ctx context.Context, o s3.Options) error {
	ctx, cancel := context.WithTimeoutCause(ctx, reachTime, fmt.Errorf("no answer for %v", reachTime))
	defer cancel()
	o.Attempts = 1
	bucket, err := s3.Open(ctx, o)
	if err == nil {
		err = bucket.Check(ctx)
	}
	if err != nil && ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	return err
}

// atStart is the error of a store that a run could not begin on: what would be waited for in the middle of a run has to be
// put right first.
func atStart(err error, o s3.Options) error {
	subject := o.Bucket + " at " + cmp.Or(o.Endpoint, "Amazon S3")
	var classified *run.Error
	switch {
	case errors.Is(err, store.ErrNotExist): // the answer has no body that would say which
		return run.Errorf(run.ClassConfig, "reach store", subject, "create the bucket, or check store.bucket and the credentials in store.access_key and store.secret_key",
			"no such bucket, or an access key that the service does not know")
	case !errors.As(err, &classified):
		return &run.Error{Class: run.ClassStorage, Op: "reach store", Subject: subject, Cause: err, Hint: "check store.endpoint and that the service runs"}
	case errors.Is(err, store.ErrExpired), errors.Is(err, store.ErrClock):
		classified.Class = run.ClassConfig
	case classified.Class != run.ClassConfig:
		classified.Hint = "check store.endpoint and that the service runs"
	}
	if classified.Op != "open store" {
		classified.Subject = subject
	}
	return err
}

// probeStore tries, before anything is computed, what a run depends on.
func (s *site) probeStore(ctx context.Context) error {
	if s.probe == nil {
		return nil
	}
	warning, err := s.probe(ctx)
	if err != nil {
		return atStart(err, s3.Options{Bucket: s.cfg.Store.Bucket, Endpoint: s.cfg.Store.Endpoint})
	}
	if warning != "" {
		s.tell("warning: store: " + warning)
	}
	return nil
}

// dial reaches Temporal and its namespace.
func (s *site) dial(ctx context.Context) error {
	options, err := s.temporalOptions()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	c, err := client.DialContext(ctx, options)
	if err != nil {
		return run.Errorf(run.ClassStorage, "reach temporal", options.HostPort, "check temporal.address and that the service runs", "%w", err)
	}
	s.client, s.runs = c, workflows.Runs{Client: c}
	s.closers = append(s.closers, func() error { c.Close(); return nil })
	if s.services != nil && s.cfg.Temporal.Address == "" {
		return nil // its start has waited for the namespace
	}
	_, err = c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: options.Namespace})
	if err != nil {
		return run.Errorf(run.ClassConfig, "find temporal namespace", options.Namespace, "create it, or set temporal.namespace", "%w", err)
	}
	return nil
}

func (s *site) temporalOptions() (client.Options, error) {
	c := s.cfg.Temporal
	o := client.Options{HostPort: c.Address, Namespace: c.Namespace, Logger: sdklog.NewStructuredLogger(s.log)}
	if c.Address == "" {
		o.HostPort, o.Namespace = s.services.TemporalAddress, s.services.Namespace
		return o, nil
	}
	key, err := c.APIKey.Value("temporal.api_key")
	if err != nil {
		return o, &run.Error{Class: run.ClassConfig, Op: "reach temporal", Subject: c.Address, Cause: err}
	}
	if key != "" {
		o.Credentials = client.NewAPIKeyStaticCredentials(key)
	}
	if c.TLS != (configs.TLS{}) || key != "" {
		o.ConnectionOptions.TLS, err = tlsConfig(c.TLS)
	}
	return o, err
}

func tlsConfig(c configs.TLS) (*tls.Config, error) {
	t := &tls.Config{ServerName: c.ServerName, MinVersion: tls.VersionTLS12}
	fail := func(path string, err error) (*tls.Config, error) {
		return nil, run.Errorf(run.ClassConfig, "read", path, "check the paths in temporal.tls", "%w", err)
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return fail(c.CAFile, err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return fail(c.CAFile, errors.New("no certificate in PEM"))
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return fail(c.CertFile, err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// uri names the place of a key for people.
func (s *site) uri(key string) string { return s.bucket + key }

// close releases everything in reverse order.
func (s *site) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		if err := s.closers[i](); err != nil {
			s.log.Warn("close", "error", err)
		}
	}
	s.closers = nil
}

// runDir is the folder of a run's config, log and copies of its results.
func runDir(state, name string) string { return filepath.Join(state, "runs", name) }

// openLog opens the log of a run for appending.
func openLog(state, name string) (*slog.Logger, io.Closer, error) {
	dir := runDir(state, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, run.Errorf(run.ClassConfig, "make run folder", dir, "choose a state folder that can be written", "%w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "worker.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, nil, fmt.Errorf("open log of run %s: %w", name, err)
	}
	return slog.New(slog.NewTextHandler(f, nil)), f, nil
}
