//go:build !unix

package memory

import "unsafe"

// mapPages has no system call of its own here: Go does not move heap memory, and the pool keeps the slice alive.
func mapPages(n int64) ([]byte, error) {
	m := make([]byte, n+Align)
	skip := (Align - int(uintptr(unsafe.Pointer(unsafe.SliceData(m)))%Align)) % Align
	return m[skip : skip+int(n) : skip+int(n)], nil
}

func unmapPages([]byte) {}
