package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sciflux/sciflux/run"
)

// Options say how the services run.
type Options struct {
	Dir string // folder of all state; made if it is not there

	TemporalPort, UIPort, S3Port int // 0: those of the last time if they are free, else any

	Namespace string        // of Temporal; "sciflux" if empty
	Bucket    string        // "sciflux" if empty
	Retention time.Duration // of closed workflows; 30 days if 0. Counts when the database is made

	Stay    bool   // keep running when no command uses the services any more, until Stop
	Version string // of the program, recorded in services.json

	// Command starts the child: its program and arguments. nil means this binary with the argument
	// ServicesCommand. The child has to call Main.
	Command []string `json:"-"`
	Env     []string `json:"-"` // further environment of the child
}

// ServicesCommand is the hidden sub-command that runs Main.
const ServicesCommand = "services"

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, run.Errorf(run.ClassConfig, "start services", "", "set a state folder", "no folder given")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return o, fmt.Errorf("start services: %w", err)
	}
	o.Dir = dir
	if o.Namespace == "" {
		o.Namespace = "sciflux"
	}
	if o.Bucket == "" {
		o.Bucket = "sciflux"
	}
	if o.Retention == 0 {
		o.Retention = 30 * 24 * time.Hour
	}
	for _, port := range []int{o.TemporalPort, o.UIPort, o.S3Port} {
		if port < 0 || port > 65535 {
			return o, run.Errorf(run.ClassConfig, "start services", fmt.Sprint(port), "use 1 to 65535, or 0 for any free port", "no such port")
		}
	}
	return o, nil
}

// Services are running services and how to reach them. Close it when they are not needed any more: the child
// ends when nobody uses it, unless it was asked to stay.
type Services struct {
	TemporalAddress string `json:"temporal_address"` // host:port
	Namespace       string `json:"namespace"`
	S3Endpoint      string `json:"s3_endpoint"` // URL; path-style
	Region          string `json:"region"`
	Bucket          string `json:"bucket"`
	AccessKey       string `json:"-"`
	SecretKey       string `json:"-"`
	UIAddress       string `json:"ui_address"` // URL

	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Stay    bool      `json:"stay"`
	// ReadySeconds is how long their start took until they answered; 0 when they ran already.
	ReadySeconds float64           `json:"ready_seconds,omitempty"`
	Versions     map[string]string `json:"versions"`
	// SetAside is the database of another version that was put aside at the start, "" if none was. Runs that
	// were in it go on from their manifests with `sciflux resume`.
	SetAside string `json:"set_aside,omitempty"`

	mu     sync.Mutex
	lease  *lock
	closed chan struct{}
}

func (s *Services) hold(lease *lock) { s.lease, s.closed = lease, make(chan struct{}) }

// Close tells the child that this process does not need it any more.
func (s *Services) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease == nil {
		return nil
	}
	close(s.closed)
	err := s.lease.release()
	s.lease = nil
	return err
}

// state is the folder of the services.
type state string

func (d state) path(name string) string { return filepath.Join(string(d), name) }

type credentials struct {
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
}

// readServices reads services.json and credentials.json.
func (d state) readServices() (*Services, error) {
	var s Services
	if err := readJSON(d.path("services.json"), &s); err != nil {
		return nil, err
	}
	var c credentials
	if err := readJSON(d.path("credentials.json"), &c); err != nil {
		return nil, err
	}
	s.AccessKey, s.SecretKey = c.AccessKey, c.SecretKey
	return &s, nil
}

func readJSON(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// writeJSON replaces a file so that readers see the old or the new one.
func writeJSON(path string, mode os.FileMode, value any) error {
	text, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(append(text, '\n'))
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
