package embedded

import (
	"fmt"
	"net"
	"net/url"
	"strconv"

	"github.com/sciflux/sciflux/run"
)

const loopback = "127.0.0.1"

// ports are what the services listen on.
type ports struct {
	temporal, ui, s3                          int // those that people know
	temporalHTTP, history, matching, internal int // between the parts of the Temporal server
}

// choosePorts takes the configured ports, else those of the last time, else any that are free. A configured
// port that is taken is an error.
func choosePorts(o Options, last *Services) (ports, error) {
	var p ports
	var held []net.Listener // all at once, so that no port is chosen twice
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	for _, want := range []struct {
		port       *int
		what       string
		configured int
		last       int
	}{
		{&p.temporal, "Temporal", o.TemporalPort, lastPort(last, func(s *Services) string { return s.TemporalAddress })},
		{&p.ui, "the web UI", o.UIPort, lastPort(last, func(s *Services) string { return hostOf(s.UIAddress) })},
		{&p.s3, "S3", o.S3Port, lastPort(last, func(s *Services) string { return hostOf(s.S3Endpoint) })},
		{&p.temporalHTTP, "", 0, 0}, {&p.history, "", 0, 0}, {&p.matching, "", 0, 0}, {&p.internal, "", 0, 0},
	} {
		l, err := listen(want.configured)
		if err != nil {
			return p, run.Errorf(run.ClassConfig, "start services", fmt.Sprintf("port %d for %s", want.configured, want.what),
				"stop the program that uses it, choose another port, or leave the port open", "%w", err)
		}
		if want.configured == 0 && want.last != 0 {
			if again, err := listen(want.last); err == nil {
				l.Close()
				l = again
			}
		}
		held = append(held, l)
		*want.port = l.Addr().(*net.TCPAddr).Port
	}
	return p, nil
}

func listen(port int) (net.Listener, error) { return net.Listen("tcp", address(port)) }

func address(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

func lastPort(s *Services, address func(*Services) string) int {
	if s == nil {
		return 0
	}
	_, text, err := net.SplitHostPort(address(s))
	if err != nil {
		return 0
	}
	port, err := strconv.Atoi(text)
	if err != nil || port < 1 || port > 65535 {
		return 0
	}
	return port
}
