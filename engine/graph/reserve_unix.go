//go:build unix

package graph

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reserve is n bytes of address space that cannot be read or written.
func reserve(n int) (unsafe.Pointer, error) {
	m, err := unix.Mmap(-1, 0, n, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("reserve address space for graph values: %w", err)
	}
	return unsafe.Pointer(unsafe.SliceData(m)), nil
}
