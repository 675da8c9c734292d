//go:build cgo && unix

package cpu

import (
	"fmt"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sciflux/sciflux/engine"
)

// Guard makes working space of e end where a page begins that nobody may touch, so that a kernel that uses one value more
// than it asked for ends the process. A test that wants every space exact makes a backend for each call.
func Guard(t *testing.T, b engine.Backend) {
	e := b.(*Backend)
	page := int64(unix.Getpagesize())
	var mu sync.Mutex
	mapped := map[unsafe.Pointer][]byte{}
	e.scratch.alloc = func(n int64) unsafe.Pointer {
		whole := (n + page - 1) / page * page
		m, err := unix.Mmap(-1, 0, int(whole+page), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err == nil {
			err = unix.Mprotect(m[whole:], unix.PROT_NONE)
		}
		if err != nil {
			panic(err)
		}
		at := unsafe.Pointer(&m[whole-n])
		mu.Lock()
		defer mu.Unlock()
		mapped[at] = m
		return at
	}
	e.scratch.release = func(at unsafe.Pointer) bool {
		mu.Lock()
		defer mu.Unlock()
		m, ok := mapped[at]
		delete(mapped, at)
		if !ok || unix.Munmap(m) != nil {
			panic(fmt.Sprintf("working space at %v was not lent", at))
		}
		return ok
	}
	t.Cleanup(func() {
		for at := range mapped {
			e.scratch.release(at)
		}
	})
}
