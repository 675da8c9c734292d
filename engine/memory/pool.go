// Package memory is the host allocator of the CPU backends: float32 tensors outside the Go heap.
//
// Memory comes from the system in two ways. Small blocks are cut from arenas by size class and recycled for ever. Large
// blocks (LargeBytes and more) are mappings of their own: a freed one waits in an idle list for the best fit within a
// quarter, and before the pool asks the system for more than its callers have ever held at once (plus Slack) it gives the
// oldest idle mappings back. So the memory of the process follows the peak of live tensors, not the sum over sizes.
package memory

import (
	"fmt"
	"math/bits"
	"sync"
	"unsafe"

	"github.com/sciflux/sciflux/engine"
)

const (
	// Align is the alignment of every block in bytes: a cache line and an AVX-512 register.
	Align = 64
	// LargeBytes is the size from which a block is a mapping of its own.
	LargeBytes = 256 << 10
	// Slack is how much the pool may keep mapped above the peak of live bytes.
	Slack = 32 << 20

	arenaBytes = 1 << 20
	pageBytes  = 4 << 10
	classes    = 64
)

// Pool allocates tensors. It is safe for several goroutines. The zero value is ready for use.
type Pool struct {
	// Limit is how many bytes may be in use at once, 0 for as many as the system gives. Set it before the first Alloc.
	Limit int64

	mu     sync.Mutex
	live   map[unsafe.Pointer]block
	idle   []mapping // large blocks nobody uses, oldest first
	small  [classes][]unsafe.Pointer
	arena  []byte
	mapped int64
	inUse  int64
	peak   int64 // since ResetPeak
	record int64 // ever: bounds what may stay mapped
}

type block struct {
	bytes int64
	class int     // of a small block
	large mapping // nil for a small block
}

type mapping []byte

// Tensor allocates a host tensor with undefined contents. Like Alloc it panics when there is no memory for it.
func (p *Pool) Tensor(shape ...int) *engine.Tensor {
	t := &engine.Tensor{Shape: append([]int(nil), shape...), Host: true}
	n := t.Len()
	if n < 0 {
		panic(fmt.Sprintf("memory: shape %v", shape))
	}
	if n > 0 {
		t.Addr = p.Alloc(int64(n) * 4)
	}
	return t
}

// Release gives a tensor's memory back and clears its address, so that a later use fails at once. Tensors that do not
// come from this pool are left alone.
func (p *Pool) Release(t *engine.Tensor) {
	if t != nil && t.Addr != nil && p.Free(t.Addr) {
		t.Addr = nil
	}
}

// Alloc returns n > 0 bytes with undefined contents, aligned to Align. It panics with an *engine.OutOfMemory when they
// would go beyond the limit or the system has no more; the pool is then as it was before.
func (p *Pool) Alloc(n int64) unsafe.Pointer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.Limit > 0 && n > p.Limit-p.inUse {
		panic(&engine.OutOfMemory{Want: n, Live: p.inUse, Limit: p.Limit})
	}
	if p.live == nil {
		p.live = map[unsafe.Pointer]block{}
	}
	var at unsafe.Pointer
	var b block
	if n < LargeBytes {
		at, b = p.cut(n)
	} else {
		at, b = p.takeLarge(n)
	}
	p.live[at] = b
	p.inUse += b.bytes
	p.peak = max(p.peak, p.inUse)
	p.record = max(p.record, p.inUse)
	return at
}

// Free returns a block of Alloc to the pool and tells whether it was one.
func (p *Pool) Free(at unsafe.Pointer) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, ok := p.live[at]
	if !ok {
		return false
	}
	delete(p.live, at)
	p.inUse -= b.bytes
	if b.large == nil {
		p.small[b.class] = append(p.small[b.class], at)
	} else {
		p.idle = append(p.idle, b.large)
	}
	return true
}

// Usage is the bytes in use now and the highest since the last ResetPeak.
func (p *Pool) Usage() (live, peak int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inUse, p.peak
}

// ResetPeak lets the peak start again from what is in use now.
func (p *Pool) ResetPeak() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.peak = p.inUse
}

// Mapped is how many bytes the pool holds from the system, idle ones included.
func (p *Pool) Mapped() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mapped
}

// Trim gives all idle large blocks back to the system.
func (p *Pool) Trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(0)
}

// class is the size class of a small block and its size: four classes per doubling, never below Align.
func class(n int64) (index int, size int64) {
	n = max(n, Align)
	top := bits.Len64(uint64(n-1)) - 1 // 2^top < n <= 2^(top+1), top >= 5
	step := int64(1) << (top - 2)
	if step < Align {
		step = Align
	}
	size = (n + step - 1) / step * step
	quarter := (size - int64(1)<<top) / max(int64(1)<<(top-2), 1)
	return top*4 + int(quarter) - 20, size
}

func (p *Pool) cut(n int64) (unsafe.Pointer, block) {
	index, size := class(n)
	b := block{bytes: size, class: index}
	if free := p.small[index]; len(free) > 0 {
		at := free[len(free)-1]
		p.small[index] = free[:len(free)-1]
		return at, b
	}
	if int64(len(p.arena)) < size {
		p.arena = p.pages(arenaBytes)
	}
	at := unsafe.Pointer(unsafe.SliceData(p.arena))
	p.arena = p.arena[size:]
	return at, b
}

func (p *Pool) takeLarge(n int64) (unsafe.Pointer, block) {
	n = (n + pageBytes - 1) / pageBytes * pageBytes
	m := p.fit(n)
	if m == nil {
		p.drop(max(p.record, p.inUse+n) + Slack - n)
		m = p.pages(n)
	}
	return unsafe.Pointer(unsafe.SliceData(m)), block{bytes: int64(len(m)), large: m}
}

// fit takes the smallest idle mapping of n to 1.25·n bytes, the most recently used of equals.
func (p *Pool) fit(n int64) mapping {
	best := -1
	for i, m := range p.idle {
		if size := int64(len(m)); size >= n && size <= n+n/4 && (best < 0 || size <= int64(len(p.idle[best]))) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	m := p.idle[best]
	p.idle = append(p.idle[:best], p.idle[best+1:]...)
	return m
}

// drop unmaps idle mappings, oldest first, until at most limit bytes are mapped or none is idle.
func (p *Pool) drop(limit int64) {
	n := 0
	for n < len(p.idle) && p.mapped > limit {
		p.mapped -= int64(len(p.idle[n]))
		unmapPages(p.idle[n])
		n++
	}
	p.idle = append(p.idle[:0], p.idle[n:]...)
}

// pages maps n bytes. When the system has none it gets the idle mappings back first.
func (p *Pool) pages(n int64) []byte {
	m, err := mapPages(n)
	if err != nil && len(p.idle) > 0 {
		p.drop(0)
		m, err = mapPages(n)
	}
	if err != nil {
		panic(&engine.OutOfMemory{Want: n, Live: p.inUse, Limit: p.Limit, Cause: err})
	}
	p.mapped += n
	return m
}
