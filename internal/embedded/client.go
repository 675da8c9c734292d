package embedded

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/sciflux/sciflux/run"
)

const (
	// startTimeout bounds a start that takes one or two seconds on an idle machine; a busy one may need much more.
	startTimeout   = 2 * time.Minute
	superviseEvery = 500 * time.Millisecond
	// stopTimeout is how long a child may take to end before Stop kills it. Ending takes one second.
	stopTimeout = 20 * time.Second
	// minimumSpace is what a start needs on the disk: an SQLite database that cannot grow fails in odd ways.
	minimumSpace = 256 << 20
	maxLog       = 10 << 20
)

// ErrNotRunning is the error of Attach and Stop when there is no child.
var ErrNotRunning = errors.New("the services are not running")

// Start attaches to the services of a state folder and starts them if they do not run. It returns when they
// answer.
func Start(ctx context.Context, o Options) (*Services, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := prepareDir(o.Dir); err != nil {
		return nil, err
	}
	late := fmt.Errorf("not ready after %v; see %s", startTimeout, state(o.Dir).path("services.log"))
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, late)
	defer cancel()
	d := state(o.Dir)
	lease, err := waitLock(ctx, d.path("clients"), true) // a child that is about to end still holds it
	if err != nil {
		return nil, startFailure(o.Dir, err)
	}
	s, err := d.attachOrSpawn(ctx, o)
	if err != nil {
		_ = lease.release()
		return nil, startFailure(o.Dir, err)
	}
	s.hold(lease)
	return s, nil
}

func startFailure(dir string, err error) error {
	var done *run.Error
	if errors.As(err, &done) {
		return err
	}
	return &run.Error{Class: run.ClassStorage, Op: "start services", Subject: dir, Cause: err,
		Hint: "see services.log there; `sciflux down` stops what is left of them"}
}

func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return &run.Error{Class: run.ClassConfig, Op: "start services", Subject: dir, Cause: err,
			Hint: "choose a state folder that can be written"}
	}
	free, err := FreeSpace(dir)
	if err != nil {
		return startFailure(dir, err)
	}
	if free >= 0 && free < minimumSpace {
		return run.Errorf(run.ClassStorage, "start services", dir, "free some space or choose another state folder",
			"%d MiB left on the disk, %d MiB needed", free>>20, minimumSpace>>20)
	}
	return nil
}

// attachOrSpawn makes sure that one child runs, while other commands may do the same.
func (d state) attachOrSpawn(ctx context.Context, o Options) (*Services, error) {
	starting, err := waitLock(ctx, d.path("starting"), false)
	if err != nil {
		return nil, err
	}
	defer func() { _ = starting.release() }()
	running, err := d.running()
	if err != nil {
		return nil, err
	}
	if !running {
		return d.spawn(ctx, o)
	}
	s, err := d.waitReady(ctx)
	if err != nil {
		return nil, err
	}
	if err := samePorts(o, s); err != nil {
		return nil, err
	}
	if o.Stay && !s.Stay {
		if err := signalStay(s.PID); err != nil {
			return nil, fmt.Errorf("ask process %d to stay: %w", s.PID, err)
		}
	}
	return s, nil
}

// running tells whether a child holds the lock of the folder. It asks for a shared lock, so that two who ask at
// once do not take each other for a child.
func (d state) running() (bool, error) {
	l, err := tryLock(d.path("lock"), true)
	if err != nil || l == nil {
		return l == nil && err == nil, err
	}
	return false, l.release()
}

// pid returns the process that holds the lock, 0 if it is unknown.
func (d state) pid() int {
	text, _ := os.ReadFile(d.path("lock"))
	pid := 0
	_, _ = fmt.Sscan(string(text), &pid)
	return pid
}

// waitReady waits until the child that holds the lock says that it is ready and answers.
func (d state) waitReady(ctx context.Context) (*Services, error) {
	for {
		s, err := d.readServices()
		if err == nil && s.PID != d.pid() {
			err = errors.New("it has not said its addresses yet")
		}
		if err == nil {
			err = s.answers(ctx)
		}
		if err == nil {
			return s, nil
		}
		if running, lockErr := d.running(); lockErr != nil || !running {
			return nil, errors.Join(lockErr, fmt.Errorf("%w any more", ErrNotRunning))
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the folder belongs to process %d, which does not answer (%w): %w", d.pid(), err, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// answers reports whether somebody listens at the addresses of Temporal and S3.
func (s *Services) answers(ctx context.Context) error {
	endpoint, err := url.Parse(s.S3Endpoint)
	if err != nil {
		return err
	}
	dialer := net.Dialer{Timeout: 2 * time.Second}
	for _, address := range []string{s.TemporalAddress, endpoint.Host} {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		conn.Close()
	}
	return nil
}

func samePorts(o Options, s *Services) error {
	for _, c := range []struct {
		what    string
		want    int
		address string
	}{{"Temporal", o.TemporalPort, s.TemporalAddress}, {"the web UI", o.UIPort, s.UIAddress}, {"S3", o.S3Port, s.S3Endpoint}} {
		if c.want != 0 && !strings.HasSuffix(c.address, fmt.Sprintf(":%d", c.want)) {
			return run.Errorf(run.ClassConfig, "start services", o.Dir, "stop them with `sciflux down` or leave the port open",
				"they run already, with %s at %s and not at port %d", c.what, c.address, c.want)
		}
	}
	return nil
}

// Attach returns the running services of a state folder. The error is ErrNotRunning if there are none.
func Attach(ctx context.Context, dir string) (*Services, error) {
	d := state(dir)
	if _, err := os.Stat(d.path("lock")); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("attach to %s: %w", dir, ErrNotRunning)
	}
	if running, err := d.running(); err != nil || !running {
		return nil, fmt.Errorf("attach to %s: %w", dir, errors.Join(err, ErrNotRunning))
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	lease, err := waitLock(ctx, d.path("clients"), true)
	if err != nil {
		return nil, fmt.Errorf("attach to %s: %w", dir, err)
	}
	s, err := d.waitReady(ctx)
	if err != nil {
		_ = lease.release()
		return nil, fmt.Errorf("attach to %s: %w", dir, err)
	}
	s.hold(lease)
	return s, nil
}

// Supervise starts the services again whenever their child dies, until ctx ends or s is closed. They come back
// at their old addresses if nobody has taken the ports meanwhile, so clients that reconnect go on. report, if
// not nil, is told of every death (nil error: they run again) and of every start that failed.
func (s *Services) Supervise(ctx context.Context, o Options, report func(error)) {
	o, err := o.withDefaults()
	if err != nil {
		return
	}
	d := state(o.Dir)
	ticker := time.NewTicker(superviseEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.closed:
			return
		case <-ticker.C:
		}
		if running, err := d.running(); err != nil || running {
			continue
		}
		_, err := d.attachOrSpawn(ctx, o)
		if ctx.Err() != nil {
			return
		}
		if report != nil {
			report(err)
		}
	}
}

// Stop ends the services of a state folder, whoever uses them, and returns when they are gone. The error is
// ErrNotRunning if there are none.
func Stop(ctx context.Context, dir string) error {
	d := state(dir)
	if _, err := os.Stat(d.path("lock")); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("stop %s: %w", dir, ErrNotRunning)
	}
	// While nobody starts a child, the lock names the right process.
	starting, err := waitLock(ctx, d.path("starting"), false)
	if err != nil {
		return fmt.Errorf("stop %s: %w", dir, err)
	}
	defer func() { _ = starting.release() }()
	running, err := d.running()
	if err != nil || !running {
		return fmt.Errorf("stop %s: %w", dir, errors.Join(err, ErrNotRunning))
	}
	pid := d.pid()
	if pid <= 1 {
		return fmt.Errorf("stop %s: the folder is in use, but its lock names no process", dir)
	}
	if err := signalStop(pid, false); err != nil {
		return fmt.Errorf("stop %s: process %d: %w", dir, pid, err)
	}
	patience := time.AfterFunc(stopTimeout, func() { _ = signalStop(pid, true) })
	defer patience.Stop()
	for running {
		select {
		case <-ctx.Done():
			return fmt.Errorf("stop %s: %w", dir, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
		if running, err = d.running(); err != nil {
			return fmt.Errorf("stop %s: %w", dir, err)
		}
	}
	return nil
}

// status is the one line that a child sends when it is ready or has failed.
type status struct {
	Error string    `json:"error,omitempty"`
	Class run.Class `json:"class,omitempty"`
	Hint  string    `json:"hint,omitempty"`
}

// spawn starts a child and waits until it is ready.
func (d state) spawn(ctx context.Context, o Options) (*Services, error) {
	begun := time.Now()
	options, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	command := o.Command
	if len(command) == 0 {
		exe, err := os.Executable()
		if err != nil {
			return nil, err
		}
		command = []string{exe, ServicesCommand}
	}
	log, err := d.openLog()
	if err != nil {
		return nil, err
	}
	defer log.Close()
	statusR, statusW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer statusR.Close()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin = bytes.NewReader(options)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{statusW}
	cmd.Env = append(os.Environ(), o.Env...)
	cmd.Dir = string(d)
	cmd.SysProcAttr = detached()
	err = cmd.Start()
	statusW.Close()
	if err != nil {
		return nil, err
	}
	go func() { _ = cmd.Wait() }() // no zombie stays when the child ends before this process
	if err := awaitStatus(ctx, statusR, d); err != nil {
		_ = cmd.Process.Kill()
		return nil, err
	}
	s, err := d.waitReady(ctx)
	if err == nil {
		s.ReadySeconds = time.Since(begun).Seconds()
	}
	return s, err
}

func awaitStatus(ctx context.Context, r *os.File, d state) error {
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := io.ReadAll(r)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var s status
	if err != nil || json.Unmarshal(line, &s) != nil {
		return fmt.Errorf("the child ended before it was ready: %s", d.logTail())
	}
	if s.Error != "" {
		return &run.Error{Class: s.Class, Op: "start services", Subject: string(d), Cause: errors.New(s.Error), Hint: s.Hint}
	}
	return nil
}

// openLog opens the log of the child; one that has grown too long becomes services.log.1.
func (d state) openLog() (*os.File, error) {
	path := d.path("services.log")
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// logTail returns the last lines of the log.
func (d state) logTail() string {
	text, err := os.ReadFile(d.path("services.log"))
	if err != nil {
		return err.Error()
	}
	const tail = 600
	if len(text) > tail {
		text = text[len(text)-tail:]
	}
	return strings.TrimSpace(string(text))
}
