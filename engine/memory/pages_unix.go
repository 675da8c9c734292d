//go:build unix

package memory

import "golang.org/x/sys/unix"

func mapPages(n int64) ([]byte, error) {
	return unix.Mmap(-1, 0, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
}

// unmapPages cannot fail on a mapping that mapPages made.
func unmapPages(m []byte) { _ = unix.Munmap(m) }
