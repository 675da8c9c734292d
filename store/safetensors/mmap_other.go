//go:build !unix

package safetensors

import (
	"io"
	"os"
)

// mapFile reads size bytes of f, where the system has no mmap.
func mapFile(f *os.File, size int64) ([]byte, func() error, error) {
	data := make([]byte, size)
	_, err := io.ReadFull(io.NewSectionReader(f, 0, size), data)
	return data, func() error { return nil }, err
}
