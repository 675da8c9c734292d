package memory

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/engine"
)

// held is a block that a test holds, marked with its own byte.
type held struct {
	at   unsafe.Pointer
	n    int64
	mark byte
}

func (h held) bytes() []byte { return unsafe.Slice((*byte)(h.at), h.n) }

func (h held) write() {
	b := h.bytes()
	b[0], b[len(b)/2], b[len(b)-1] = h.mark, h.mark, h.mark
}

func (h held) intact() bool {
	b := h.bytes()
	return b[0] == h.mark && b[len(b)/2] == h.mark && b[len(b)-1] == h.mark
}

// TestBlocksNeverOverlap: whatever is allocated and freed in whatever order, blocks in use are aligned, apart from each
// other and keep their contents; usage counts them; what is mapped stays near the most that was ever in use.
func TestBlocksNeverOverlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &Pool{}
		var in []held
		for i := range rapid.IntRange(1, 60).Draw(t, "operations") {
			if len(in) > 0 && rapid.Bool().Draw(t, "free") {
				k := rapid.IntRange(0, len(in)-1).Draw(t, "which")
				if !in[k].intact() {
					t.Fatalf("block of %d bytes was overwritten", in[k].n)
				}
				if !p.Free(in[k].at) {
					t.Fatal("a block in use is not known")
				}
				in = slices.Delete(in, k, k+1)
				continue
			}
			n := rapid.OneOf(rapid.Int64Range(1, 5000), rapid.Int64Range(LargeBytes-3, LargeBytes+3), rapid.Int64Range(LargeBytes,
				8*LargeBytes)).Draw(t, "bytes")
			h := held{p.Alloc(n), n, byte(i)}
			if uintptr(h.at)%Align != 0 {
				t.Fatalf("block of %d bytes at %v is not aligned", n, h.at)
			}
			h.write()
			in = append(in, h)
		}
		check(t, p, in)
	})
}

func check(t *rapid.T, p *Pool, in []held) {
	slices.SortFunc(in, func(a, b held) int {
		if uintptr(a.at) < uintptr(b.at) {
			return -1
		}
		return 1
	})
	var wanted int64
	for i, h := range in {
		wanted += h.n
		if !h.intact() {
			t.Fatalf("block of %d bytes was overwritten", h.n)
		}
		if i > 0 && uintptr(in[i-1].at)+uintptr(in[i-1].n) > uintptr(h.at) {
			t.Fatal("two blocks overlap")
		}
	}
	live, peak := p.Usage()
	// Rounding up wastes at most a quarter of a reused mapping and a quarter and a cache line of a small block.
	if live < wanted || live > wanted+wanted/3+int64(len(in))*(Align+pageBytes) || peak < live {
		t.Fatalf("%d bytes in use, peak %d, of %d asked for", live, peak, wanted)
	}
	if p.Mapped() > p.record+Slack+2*arenaBytes {
		t.Fatalf("%d bytes mapped, never more than %d in use", p.Mapped(), p.record)
	}
}

func TestClassesHoldWhatTheyPromise(t *testing.T) {
	sizes := map[int]int64{}
	last := -1
	for n := int64(1); n < LargeBytes; n += 7 {
		index, size := class(n)
		if index < 0 || index >= classes || size < n || size%Align != 0 || n > 512 && size > n+n/4+Align {
			t.Fatalf("%d bytes: class %d of %d bytes", n, index, size)
		}
		if was, ok := sizes[index]; ok && was != size {
			t.Fatalf("class %d has blocks of %d and of %d bytes", index, was, size)
		}
		if index < last {
			t.Fatalf("%d bytes: class %d after class %d", n, index, last)
		}
		sizes[index], last = size, index
	}
}

// TestSmallBlocksAreRecycled: steps that allocate and free the same sizes map no more memory after the first.
func TestSmallBlocksAreRecycled(t *testing.T) {
	p := &Pool{}
	round := func() {
		var in []unsafe.Pointer
		for n := int64(64); n < LargeBytes; n *= 2 {
			in = append(in, p.Alloc(n))
		}
		for _, at := range in {
			p.Free(at)
		}
	}
	round()
	first := p.Mapped()
	for range 100 {
		round()
	}
	if p.Mapped() != first {
		t.Errorf("%d bytes mapped after 100 rounds, %d after one", p.Mapped(), first)
	}
}

// TestIdleMappingsGoBeforeTheProcessGrows: a pool that held one big block maps a bigger one instead of it, not beside it.
func TestIdleMappingsGoBeforeTheProcessGrows(t *testing.T) {
	p := &Pool{}
	const big = 3 * Slack
	p.Free(p.Alloc(big))
	if p.Mapped() < big {
		t.Fatalf("an idle mapping was dropped without need: %d bytes", p.Mapped())
	}
	at := p.Alloc(2 * big)
	if p.Mapped() > 2*big+Slack {
		t.Errorf("%d bytes mapped for %d", p.Mapped(), 2*big)
	}
	p.Free(at)
	p.Trim()
	if p.Mapped() != 0 {
		t.Errorf("%d bytes mapped after Trim", p.Mapped())
	}
}

func TestTensors(t *testing.T) {
	p := &Pool{}
	x := p.Tensor(2, 3)
	if !x.Host || x.Len() != 6 || len(x.Floats()) != 6 {
		t.Errorf("%+v", x)
	}
	empty := p.Tensor(0, 5)
	if empty.Addr != nil || len(empty.Floats()) != 0 {
		t.Error("an empty tensor has memory")
	}
	foreign := engine.Wrap(make([]float32, 4), 4)
	p.Release(foreign)
	p.Release(nil)
	p.Release(empty)
	if foreign.Addr == nil {
		t.Error("a tensor of somebody else lost its memory")
	}
	at := x.Addr
	p.Release(x)
	p.Release(x) // twice is once
	if x.Addr != nil || p.Free(at) {
		t.Error("a released tensor still has its memory")
	}
	if live, peak := p.Usage(); live != 0 || peak == 0 {
		t.Errorf("%d bytes in use, peak %d", live, peak)
	}
	p.ResetPeak()
	if _, peak := p.Usage(); peak != 0 {
		t.Errorf("peak %d after its reset", peak)
	}
}

// full is the OutOfMemory that an allocation panics with.
func full(p *Pool, n int64) (o *engine.OutOfMemory) {
	var err error
	func() {
		defer engine.Guard(&err)
		p.Free(p.Alloc(n))
	}()
	errors.As(err, &o)
	return o
}

// TestLimit: a pool never has more in use than its limit, small blocks and large ones alike, says what was asked for, and
// goes on as before when there is room again.
func TestLimit(t *testing.T) {
	const limit = 4 * LargeBytes
	p := &Pool{Limit: limit}
	var in []unsafe.Pointer
	for _, n := range []int64{LargeBytes, 100, LargeBytes, 5000, LargeBytes} {
		in = append(in, p.Alloc(n))
	}
	live, _ := p.Usage()
	mapped := p.Mapped()
	for _, n := range []int64{LargeBytes, limit, limit - live + 1, 1 << 50} {
		if o := full(p, n); o == nil || o.Want != n || o.Live != live || o.Limit != limit || o.Cause != nil {
			t.Errorf("%d bytes beside %d: %+v", n, live, o)
		}
	}
	if after, _ := p.Usage(); after != live || p.Mapped() != mapped {
		t.Errorf("%d bytes in use and %d mapped after failures, %d and %d before", after, p.Mapped(), live, mapped)
	}
	if o := full(p, 6000); o != nil {
		t.Errorf("what fits is refused: %v", o)
	}
	for _, at := range in {
		p.Free(at)
	}
	if o := full(p, limit); o != nil {
		t.Errorf("the whole limit is refused to an empty pool: %v", o)
	}
}

// TestWhatTheSystemRefuses: more than any address space is a typed error with the system's word, after the idle mappings
// were given back, and the pool goes on.
func TestWhatTheSystemRefuses(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("blocks are of the Go heap there, whose end ends the process")
	}
	p := &Pool{}
	p.Free(p.Alloc(8 * LargeBytes))
	if o := full(p, 1<<60); o == nil || o.Cause == nil || o.Want < 1<<60 {
		t.Errorf("%+v", o)
	}
	if n := p.Mapped(); n != 0 {
		t.Errorf("%d bytes stay mapped and idle", n)
	}
	if o := full(p, 8*LargeBytes); o != nil {
		t.Error(o)
	}
}

// TestSystemKnowsTheMachine: what the process could have is more than it uses here and less than any machine has.
func TestSystemKnowsTheMachine(t *testing.T) {
	if n := System(); n != 0 && (n < 64<<20 || n > 1<<50) {
		t.Errorf("%d bytes", n)
	} else if n == 0 && runtime.GOOS == "linux" {
		t.Error("unknown on Linux")
	}
}

func TestGoroutinesShareAPool(t *testing.T) {
	p := &Pool{}
	var wait sync.WaitGroup
	for g := range 8 {
		wait.Go(func() {
			for i := range 200 {
				h := held{p.Alloc(int64(1 + (i*7919+g)%(2*LargeBytes))), int64(1 + (i*7919+g)%(2*LargeBytes)), byte(g)}
				h.write()
				if !h.intact() || !p.Free(h.at) {
					t.Error("a block was shared")
					return
				}
			}
		})
	}
	wait.Wait()
	if live, _ := p.Usage(); live != 0 {
		t.Errorf("%d bytes still in use", live)
	}
}
