package enginetest

import (
	"fmt"
	"slices"
	"sync"
	"unsafe"

	"github.com/sciflux/sciflux/engine"
)

// Strict is be with a guard before every kernel, which panics on what a backend with memory of its own could not compute:
// on tensors that be did not allocate or that were freed (frozen weights, biases and norms may lie anywhere), on views
// outside their tensors, on outputs that overlap inputs where the contract does not allow it, and on tensors that are freed
// twice or in part. It reads addresses and never memory, so be may be a device. It is for tests.
func Strict(be engine.Backend) engine.Backend {
	return &strict{Backend: be, freed: map[*engine.Tensor]bool{}}
}

type strict struct {
	engine.Backend
	mu    sync.Mutex
	live  []block // by address
	freed map[*engine.Tensor]bool
}

// block is the memory of one tensor.
type block struct {
	start, end uintptr
	tensor     *engine.Tensor
}

func addressOf(t *engine.Tensor) uintptr { return uintptr(t.Addr) }

// find is the index of the block that holds an address, or where it would be.
func (s *strict) find(at uintptr) (int, bool) {
	return slices.BinarySearchFunc(s.live, at, func(b block, at uintptr) int {
		switch {
		case b.end <= at:
			return -1
		case b.start > at:
			return 1
		}
		return 0
	})
}

// Alloc implements engine.Backend.
func (s *strict) Alloc(shape ...int) *engine.Tensor {
	t := s.Backend.Alloc(shape...)
	if t.Len() == 0 {
		return t
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i, taken := s.find(addressOf(t))
	if taken {
		panic(fmt.Sprintf("strict: Alloc gives the memory of a tensor %v that is in use", s.live[i].tensor.Shape))
	}
	s.live = slices.Insert(s.live, i, block{addressOf(t), addressOf(t) + uintptr(4*t.Len()), t})
	return t
}

// Free implements engine.Backend. Tensors of others are left alone, as the contract has it.
func (s *strict) Free(t *engine.Tensor) {
	if t == nil || t.Len() == 0 {
		return
	}
	s.mu.Lock()
	if s.freed[t] {
		s.mu.Unlock()
		panic(fmt.Sprintf("strict: a tensor %v is freed twice", t.Shape))
	}
	if i, ok := s.find(addressOf(t)); ok {
		if s.live[i].tensor != t {
			s.mu.Unlock()
			panic(fmt.Sprintf("strict: part %v of a tensor %v is freed", t.Shape, s.live[i].tensor.Shape))
		}
		s.live = slices.Delete(s.live, i, i+1)
		s.freed[t] = true
	}
	s.mu.Unlock()
	s.Backend.Free(t)
}

// operand is a view in a call. An output may be the very view of an input where the contract says so.
type operand struct {
	engine.View
	name    string
	output  bool
	inPlace bool
}

func out(name string, v engine.View) operand { return operand{View: v, name: name, output: true} }
func in(name string, v engine.View) operand  { return operand{View: v, name: name} }

// place is an input that outputs may be.
func place(name string, v engine.View) operand { return operand{View: v, name: name, inPlace: true} }

func tensors(make func(string, engine.View) operand, name string, t *engine.Tensor) operand {
	if t == nil {
		return operand{name: name}
	}
	return make(name, engine.All(t))
}

// check panics when an operand of a kernel is not what it must be.
func (s *strict) check(kernel string, ops ...operand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, o := range ops {
		if o.T == nil || o.Rows == 0 || o.Cols == 0 {
			continue
		}
		if why := s.refuses(o); why != "" {
			panic(fmt.Sprintf("strict: %s: %s, %d×%d of a tensor %v, %s", kernel, o.name, o.Rows, o.Cols, o.T.Shape, why))
		}
		for j, p := range ops {
			same := o.T.Addr == pointer(p) && o.Offset == p.Offset && o.Stride == p.Stride
			if o.output && j != i && !(p.inPlace && same) && overlap(o.View, p.View) {
				panic(fmt.Sprintf("strict: %s: output %s overlaps %s", kernel, o.name, p.name))
			}
		}
	}
}

func pointer(o operand) unsafe.Pointer {
	if o.T == nil {
		return nil
	}
	return o.T.Addr
}

// refuses says what is wrong with an operand, "" for nothing.
func (s *strict) refuses(o operand) string {
	if s.freed[o.T] || o.T.Addr == nil {
		return "was freed"
	}
	i, ok := s.find(addressOf(o.T))
	if !ok {
		return "was not allocated by this backend"
	}
	end := addressOf(o.T) + uintptr(4*(o.Offset+(o.Rows-1)*o.Stride+o.Cols))
	if o.Offset < 0 || o.Stride < o.Cols && o.Rows > 1 || end > s.live[i].end || end > addressOf(o.T)+uintptr(4*o.T.Len()) {
		return "reaches outside it"
	}
	return ""
}

// overlap tells whether two views share a value.
func overlap(a, b engine.View) bool {
	if a.T == nil || b.T == nil || a.Rows*a.Cols == 0 || b.Rows*b.Cols == 0 {
		return false
	}
	first := func(v engine.View) int { return int(addressOf(v.T)/4) + v.Offset }
	for r := range a.Rows {
		start := first(a) + r*a.Stride - first(b) // of row r of a, from the first value of b
		row := 0
		if b.Stride > 0 {
			row = max(0, min(b.Rows-1, start/b.Stride))
		}
		for q := row; q < b.Rows && q*b.Stride < start+a.Cols; q++ {
			if q*b.Stride+b.Cols > start {
				return true
			}
		}
	}
	return false
}
