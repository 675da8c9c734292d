package embedded

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	"go.temporal.io/server/common/headers"

	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store/s3"
)

// statusFile is the descriptor on which a child says that it is ready or has failed.
const statusFile = 3

// staleUpload is the age after which an upload in parts belongs to a process that died.
const staleUpload = 24 * time.Hour

// gatewayPatience is how long the gateway may wait for clients that keep idle connections. Whatever it has
// acknowledged is on the disk, so leaving it costs nothing.
const gatewayPatience = 2 * time.Second

// watchEvery is how often a child looks whether anybody still uses it.
const watchEvery = 200 * time.Millisecond

// Main is the body of the child process that Start makes: it reads Options from standard input, serves until
// it is told to stop or nobody uses it, and reports on descriptor 3.
func Main(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, stopSignals...)
	defer stop()
	report := os.NewFile(statusFile, "status")
	var o Options
	err := json.NewDecoder(os.Stdin).Decode(&o)
	if err == nil {
		err = Serve(ctx, o, func(*Services) { sendStatus(report, nil) })
	}
	if err != nil {
		sendStatus(report, err)
		return fmt.Errorf("services: %w", err)
	}
	return nil
}

// sendStatus reports once; the end of the file tells that nothing follows.
func sendStatus(report *os.File, err error) {
	var s status
	var classified *run.Error
	switch {
	case errors.As(err, &classified):
		s = status{Error: classified.Subject + ": " + fmt.Sprint(classified.Cause), Class: classified.Class, Hint: classified.Hint}
	case err != nil:
		s = status{Error: err.Error(), Class: run.ClassStorage, Hint: "see services.log in the state folder"}
	}
	_ = json.NewEncoder(report).Encode(s) // fails after the first report, when the file is closed
	report.Close()
}

// Serve runs the services of a folder in this process until ctx ends or, unless o.Stay, nobody uses them any
// more. It calls ready when they answer. Only one Serve can run in a process, and it changes the working
// directory.
func Serve(ctx context.Context, o Options, ready func(*Services)) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	if err := prepareDir(o.Dir); err != nil {
		return err
	}
	d := state(o.Dir)
	own, err := d.own(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = own.release() }()
	keys, err := d.credentials()
	if err != nil {
		return err
	}
	last, _ := d.readServices() // of the child before; there may be none
	p, err := choosePorts(o, last)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	running, err := d.startAll(ctx, o, p, keys)
	if err != nil {
		return errors.Join(err, running.stop())
	}
	s := describe(o, p, keys, running.setAside)
	if err := writeJSON(d.path("services.json"), 0o600, s); err != nil {
		return errors.Join(err, running.stop())
	}
	done := make(chan struct{})
	defer close(done)
	go d.watch(ctx, cancel, s, done)
	ready(s)
	select {
	case <-ctx.Done():
		err = nil
	case err = <-running.gateway.done:
		running.gateway.done <- err
		err = fmt.Errorf("the S3 gateway ended: %w", errors.Join(err, errors.New("unexpectedly")))
	}
	return errors.Join(err, running.stop())
}

// own takes the folder for this process.
func (d state) own(ctx context.Context) (*lock, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	own, err := waitLock(ctx, d.path("lock"), false)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, run.Errorf(run.ClassConfig, "start services", string(d), "use another state folder, or stop it with `sciflux down`",
			"the folder is in use by process %d", d.pid())
	}
	if err != nil {
		return nil, err
	}
	return own, own.write(fmt.Sprintf("%d\n", os.Getpid()))
}

// credentials returns the keys of the S3 gateway, made at the first start.
func (d state) credentials() (credentials, error) {
	var c credentials
	path := d.path("credentials.json")
	err := readJSON(path, &c)
	if errors.Is(err, fs.ErrNotExist) {
		c = credentials{AccessKey: "sciflux-" + rand.Text()[:12], SecretKey: rand.Text() + rand.Text()}
		return c, writeJSON(path, 0o600, c)
	}
	var cause *fs.PathError
	switch {
	case errors.As(err, &cause):
		return c, err
	case err != nil || c.AccessKey == "" || c.SecretKey == "":
		return c, run.Errorf(run.ClassConfig, "read", path, "delete the file: new keys are made, and no object needs the old ones",
			"it was cut short or changed")
	}
	return c, os.Chmod(path, 0o600)
}

// running is what has been started.
type running struct {
	setAside    string
	temporal    interface{ Stop() error }
	ui          interface{ Stop() }
	gateway     *gateway
	stopGateway context.CancelFunc
}

func (d state) startAll(ctx context.Context, o Options, p ports, keys credentials) (*running, error) {
	r := &running{}
	// Not a child of ctx: the gateway has to outlive the web UI when all of them stop.
	gatewayCtx, stopGateway := context.WithCancel(context.WithoutCancel(ctx))
	r.stopGateway = stopGateway
	errs := make(chan error, 1)
	go func() { // the gateway while Temporal starts
		var err error
		r.gateway, err = startGateway(gatewayCtx, d.path("s3"), p.s3, keys)
		if err == nil {
			err = prepareBucket(ctx, o.Bucket, p.s3, keys)
		}
		errs <- err
	}()
	server, setAside, err := startTemporal(d.path("temporal"), o, p)
	if err == nil {
		r.temporal, r.setAside = server, setAside
		err = awaitNamespace(ctx, address(p.temporal), o.Namespace)
	}
	err = errors.Join(err, <-errs)
	if err != nil {
		return r, err
	}
	ui, err := startUI(ctx, p.ui, address(p.temporal), o.Namespace)
	if err == nil {
		r.ui = ui
	}
	return r, err
}

// stop ends what runs, in the order in which nobody misses what he needs.
func (r *running) stop() error {
	var errs []error
	if r.ui != nil {
		r.ui.Stop()
	}
	r.stopGateway()
	patience := time.After(gatewayPatience)
	if r.temporal != nil {
		errs = append(errs, r.temporal.Stop())
	}
	if r.gateway != nil {
		select {
		case err := <-r.gateway.done:
			errs = append(errs, err)
		case <-patience:
		}
	}
	return errors.Join(errs...)
}

// prepareBucket makes the bucket and clears uploads of processes that died.
func prepareBucket(ctx context.Context, name string, port int, keys credentials) error {
	bucket, err := s3.Open(ctx, s3.Options{Endpoint: "http://" + address(port), Region: region, Bucket: name,
		Keys: s3.Keys{Access: keys.AccessKey, Secret: keys.SecretKey}.Static(), PathStyle: true, Attempts: 2})
	if err != nil {
		return err
	}
	if err := bucket.Create(ctx); err != nil {
		return err
	}
	if _, err := bucket.AbortStale(ctx, "", time.Now().Add(-staleUpload)); err != nil {
		slog.Warn("stale uploads stay until the next start", "error", err)
	}
	return nil
}

func describe(o Options, p ports, keys credentials, setAside string) *Services {
	return &Services{
		TemporalAddress: address(p.temporal), Namespace: o.Namespace, UIAddress: "http://" + address(p.ui),
		S3Endpoint: "http://" + address(p.s3), Region: region, Bucket: o.Bucket, AccessKey: keys.AccessKey, SecretKey: keys.SecretKey,
		PID: os.Getpid(), Started: time.Now().UTC(), Stay: o.Stay, SetAside: setAside, Versions: versions(o.Version),
	}
}

func versions(program string) map[string]string {
	v := map[string]string{"sciflux": program, "temporal": headers.ServerVersion}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			switch m.Path {
			case "github.com/temporalio/ui-server/v2":
				v["temporal-ui"] = m.Version
			case "github.com/versity/versitygw":
				v["versitygw"] = m.Version
			}
		}
	}
	return v
}

// watch cancels when nobody uses the services any more, unless they are asked to stay. From then on it holds
// the clients' lock until done is closed, so that whoever comes meanwhile waits and starts anew.
func (d state) watch(ctx context.Context, cancel context.CancelCauseFunc, s *Services, done <-chan struct{}) {
	stays := s.Stay
	stay := make(chan os.Signal, 1)
	signal.Notify(stay, staySignal)
	defer signal.Stop(stay)
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-stay:
			stays = true
			if err := d.noteStay(); err != nil {
				slog.Error("cannot note that the services stay", "error", err)
			}
		case <-ticker.C:
			if stays {
				continue
			}
			unused, err := tryLock(d.path("clients"), false)
			if err != nil || unused == nil {
				continue
			}
			cancel(errors.New("nobody uses the services any more"))
			<-done
			_ = unused.release()
			return
		}
	}
}

// noteStay makes services.json say that the child stays.
func (d state) noteStay() error {
	s, err := d.readServices()
	if err != nil {
		return err
	}
	s.Stay = true
	return writeJSON(d.path("services.json"), 0o600, s)
}
