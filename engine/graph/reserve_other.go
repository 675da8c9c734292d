//go:build !unix

package graph

import "unsafe"

// reserved keeps the memory alive; without a system call for it, it is readable here.
var reserved []byte

func reserve(n int) (unsafe.Pointer, error) {
	reserved = make([]byte, n)
	return unsafe.Pointer(unsafe.SliceData(reserved)), nil
}
