//go:build !(linux || darwin || freebsd)

package embedded

import (
	"context"
	"errors"
	"os"
	"syscall"
)

// The services need file locks that end with their process. Elsewhere, Temporal and S3 have to be given.

var errSystem = errors.New("the built-in services run on Linux, macOS and FreeBSD; give the addresses of a Temporal and an S3 service")

type lock struct{}

func tryLock(string, bool) (*lock, error)                   { return nil, errSystem }
func waitLock(context.Context, string, bool) (*lock, error) { return nil, errSystem }
func (*lock) release() error                                { return nil }
func (*lock) write(string) error                            { return errSystem }
func detached() *syscall.SysProcAttr                        { return nil }
func signalStay(int) error                                  { return errSystem }
func signalStop(int, bool) error                            { return errSystem }

// FreeSpace is not known here.
func FreeSpace(string) (int64, error) { return 0, errSystem }

var (
	staySignal  os.Signal = os.Interrupt
	stopSignals           = []os.Signal{os.Interrupt}
)
