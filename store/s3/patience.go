package s3

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const (
	usualPatience = 30 * time.Second // of a service that works; busy ones answer within seconds
	leavingTime   = 5 * time.Second  // the patience of a process that wants to end
	connectTime   = 10 * time.Second
	tellEvery     = 10 * time.Second // one text is told once in that time, however many requests meet it
	longestPause  = 5 * time.Second  // between two attempts of a request
)

// patience bounds how long a service may be silent: when it accepts a connection, takes a request, begins an answer or
// goes on with one. Nothing bounds how long a transfer takes that moves.
type patience struct {
	tell func(string) // may be nil

	mu      sync.Mutex
	limit   time.Duration
	leaving bool
	conns   map[*waiting]struct{}
	told    map[string]time.Time
}

func newPatience(limit time.Duration, tell func(string)) *patience {
	if limit <= 0 {
		limit = usualPatience
	}
	return &patience{tell: tell, limit: limit, conns: map[*waiting]struct{}{}, told: map[string]time.Time{}}
}

// leave makes the patience that of a process which wants to end, also for requests under way.
func (p *patience) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaving, p.limit = true, min(p.limit, leavingTime)
	for c := range p.conns {
		_ = c.SetDeadline(time.Now().Add(p.limit)) // one that was closed meanwhile waits for nothing
	}
}

func (p *patience) now() (limit time.Duration, leaving bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limit, p.leaving
}

// say tells people what is waited for.
func (p *patience) say(trouble any) {
	text := fmt.Sprintf("store: %v, trying again", trouble)
	p.mu.Lock()
	last, known := p.told[text]
	fresh := !known || time.Since(last) >= tellEvery
	if fresh {
		p.told[text] = time.Now()
	}
	p.mu.Unlock()
	if fresh && p.tell != nil {
		p.tell(text)
	}
}

// client sends requests over connections of this patience.
func (p *patience) client() *http.Client {
	limit, _ := p.now()
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: p.dial, TLSHandshakeTimeout: limit, ExpectContinueTimeout: time.Second,
			MaxIdleConnsPerHost: 16, IdleConnTimeout: limit / 2, // below the limit: an idle connection is no silent one
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // signatures name the host
	}
}

func (p *patience) dial(ctx context.Context, network, address string) (net.Conn, error) {
	limit, _ := p.now()
	dialer := net.Dialer{Timeout: min(limit, connectTime)}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &waiting{Conn: conn, host: address, patience: p}
	p.mu.Lock()
	p.conns[c] = struct{}{}
	p.mu.Unlock()
	return c, nil
}

// waiting is a connection that fails when nothing moves on it for the limit.
type waiting struct {
	net.Conn
	host     string
	patience *patience

	mu     sync.Mutex
	asked  bool     // something was sent and no answer to it has begun
	silent *silence // why the transport closed it
}

// Read implements net.Conn.
func (c *waiting) Read(b []byte) (int, error) {
	limit, _ := c.patience.now()
	_ = c.SetReadDeadline(time.Now().Add(limit))
	n, err := c.Conn.Read(b)
	return n, c.moved(n, err, false)
}

// Write implements net.Conn.
func (c *waiting) Write(b []byte) (int, error) {
	limit, _ := c.patience.now()
	_ = c.SetDeadline(time.Now().Add(limit)) // the answer may take as long, counted from here
	n, err := c.Conn.Write(b)
	return n, c.moved(n, err, true)
}

func (c *waiting) moved(n int, err error, asked bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.asked || asked
	if n > 0 {
		c.asked = asked
	}
	if err != nil && c.silent != nil { // the other direction noticed first
		return c.silent
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	limit, _ := c.patience.now()
	c.silent = &silence{host: c.host, limit: limit}
	if was {
		c.patience.say(c.silent)
	}
	return c.silent
}

// Close implements net.Conn.
func (c *waiting) Close() error {
	c.patience.mu.Lock()
	delete(c.patience.conns, c)
	c.patience.mu.Unlock()
	return c.Conn.Close()
}

// silence is the error of a service that accepts and does not answer. It is a net.Error.
type silence struct {
	host  string
	limit time.Duration
}

// Error implements error.
func (s *silence) Error() string { return fmt.Sprintf("no answer from %s for %v", s.host, s.limit) }

// Timeout implements net.Error.
func (s *silence) Timeout() bool { return true }

// Temporary implements net.Error.
func (s *silence) Temporary() bool { return true }

// retryer tries again as the SDK does, tells of it, and stops when the process wants to end.
type retryer struct {
	aws.RetryerV2
	patience *patience
	host     string
}

// IsErrorRetryable implements aws.Retryer.
func (r *retryer) IsErrorRetryable(err error) bool {
	_, leaving := r.patience.now()
	return !leaving && r.RetryerV2.IsErrorRetryable(err)
}

// RetryDelay implements aws.Retryer.
func (r *retryer) RetryDelay(attempt int, err error) (time.Duration, error) {
	var silent *silence
	if !errors.As(err, &silent) { // that has been told by the connection
		r.patience.say(fmt.Errorf("%s: %w", r.host, plain(err)))
	}
	return r.RetryerV2.RetryDelay(attempt, err)
}
