//go:build linux || darwin || freebsd

package embedded

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lock is a file lock of this process. It ends with the process, however that ends, or with release.
type lock struct{ f *os.File }

// held keeps the files of all locks reachable: the garbage collector closes a file that nobody refers to, and
// a closed file is an open lock.
var held sync.Map

// tryLock takes a lock without waiting; nil means that somebody else has it.
func tryLock(path string, shared bool) (*lock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	how := syscall.LOCK_EX
	if shared {
		how = syscall.LOCK_SH
	}
	err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
			return nil, nil
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	held.Store(f, true)
	return &lock{f}, nil
}

// waitLock takes a lock as soon as it is free.
func waitLock(ctx context.Context, path string, shared bool) (*lock, error) {
	for {
		l, err := tryLock(path, shared)
		if l != nil || err != nil {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for lock %s: %w", path, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (l *lock) release() error {
	held.Delete(l.f)
	return l.f.Close()
}

// write makes text the contents of the lock's file.
func (l *lock) write(text string) error {
	if err := l.f.Truncate(0); err != nil {
		return err
	}
	_, err := l.f.WriteAt([]byte(text), 0)
	return err
}

// detached puts a child into a session of its own: Ctrl-C in the terminal is for the command, which stops the
// services by letting go of them when its checkpoint is written.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func signalStay(pid int) error { return syscall.Kill(pid, syscall.SIGUSR1) }

func signalStop(pid int, force bool) error {
	if force {
		return syscall.Kill(pid, syscall.SIGKILL)
	}
	return syscall.Kill(pid, syscall.SIGTERM)
}

var (
	staySignal  os.Signal = syscall.SIGUSR1
	stopSignals           = []os.Signal{syscall.SIGTERM, syscall.SIGINT}
)

// FreeSpace returns the bytes that an ordinary user can still write below dir, -1 when the file system does not say.
func FreeSpace(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return available(uint64(s.Blocks), uint64(s.Bavail), int64(s.Bsize)), nil
}

// available is what blocks of a size hold. A file system of no blocks at all, as some network and memory ones report, says
// nothing of its room.
func available(blocks, free uint64, size int64) int64 {
	if blocks == 0 || size <= 0 {
		return -1
	}
	return int64(min(free, math.MaxInt64/uint64(size))) * size
}
