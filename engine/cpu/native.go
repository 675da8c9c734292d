//go:build cgo

package cpu

/*
#cgo CFLAGS: -O3 -std=gnu11 -Wall
#cgo LDFLAGS: -lm
#cgo linux LDFLAGS: -ldl -lm
#include <stdlib.h>
#include "kernels.h"
#include "onednn.h"

#cgo noescape call_product
#cgo nocallback call_product
#cgo noescape call_pack
#cgo nocallback call_pack
#cgo noescape call_pack_left
#cgo nocallback call_pack_left
#cgo noescape call_widen
#cgo nocallback call_widen
#cgo noescape call_narrow
#cgo nocallback call_narrow
#cgo noescape call_thin
#cgo nocallback call_thin
#cgo noescape call_attend_scratch
#cgo nocallback call_attend_scratch
#cgo noescape call_attend
#cgo nocallback call_attend
#cgo noescape call_convolve_scratch
#cgo nocallback call_convolve_scratch
#cgo noescape call_convolve
#cgo nocallback call_convolve
#cgo noescape call_group_norm
#cgo nocallback call_group_norm
#cgo noescape call_adamw
#cgo nocallback call_adamw
#cgo noescape call_sum_squares
#cgo nocallback call_sum_squares
#cgo noescape onednn_gemm
#cgo nocallback onednn_gemm

static void call_product(const kernels *k, const product_args *g) { k->product(g); }
static void call_pack(const kernels *k, const pack_args *g) { k->pack(g); }
static void call_pack_left(const kernels *k, const pack_args *g) { k->pack_left(g); }
static void call_widen(const kernels *k, const pack_args *g) { k->widen(g); }
static void call_narrow(const kernels *k, const pack_args *g) { k->narrow(g); }
static void call_thin(const kernels *k, const thin_args *g) { k->thin(g); }
static long call_attend_scratch(const kernels *k, const attend_args *g, int back) { return k->attend_scratch(g, back); }
static void call_attend(const kernels *k, const attend_args *g, int back, long head, addr scratch) {
  if (back)
    k->attend_back(g, head, (float *)scratch);
  else
    k->attend(g, head, (float *)scratch);
}
static long call_convolve_scratch(const kernels *k, const conv_args *g) { return k->convolve_scratch(g); }
static void call_convolve(const kernels *k, const conv_args *g, addr scratch) { k->convolve(g, (float *)scratch); }
static void call_group_norm(const kernels *k, const group_args *g) { k->group_norm(g); }
static void call_adamw(const kernels *k, const adamw_args *g) { k->adamw(g); }
static double call_sum_squares(const kernels *k, addr x, long n) { return k->sum_squares((const float *)x, n); }
*/
import "C"

import (
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/memory"
)

// Backend runs the C kernels of the best instruction set the processor has.
type Backend struct {
	kernels *C.kernels
	isa     string
	onednn  bool // dnnl_sgemm multiplies
	amx     bool // dnnl_gemm_bf16bf16f32 multiplies where operands are bfloat16, by the processor's matrix unit
	team    *team
	pool    memory.Pool
	scratch scratch
}

var _ engine.Backend = (*Backend)(nil)

// library is what this process found of oneDNN.
var library = sync.OnceValue(func() string {
	var v C.onednn_version
	if C.onednn_open(&v) == 0 {
		return ""
	}
	return fmt.Sprintf("%d.%d.%d", v.major, v.minor, v.patch)
})

// matrixUnit reports whether this process may use AMX for bfloat16 and oneDNN offers the product that does.
var matrixUnit = sync.OnceValue(func() bool { return library() != "" && C.onednn_amx() != 0 })

// New makes the backend of this machine. Its results depend on the instruction set and on who multiplies, both part of
// Name, and on nothing else.
func New(o Options) (engine.Backend, error) {
	threads, err := o.threads()
	if err != nil {
		return nil, err
	}
	e := &Backend{team: teamOf(threads), pool: memory.Pool{Limit: o.limit()}}
	e.scratch = scratch{alloc: e.pool.Alloc, release: e.pool.Free}
	if e.kernels, e.isa, err = chooseKernels(o.isa()); err != nil {
		return nil, err
	}
	if e.onednn, err = chooseGEMM(o.gemm(), e.isa); err != nil {
		return nil, err
	}
	e.amx = chooseAMX(o.gemm(), e.isa)
	return e, nil
}

func chooseKernels(wanted string) (*C.kernels, string, error) {
	name := C.CString(wanted)
	defer C.free(unsafe.Pointer(name))
	var found *C.char
	k := C.choose(name, &found)
	isa := C.GoString(found)
	if wanted != "" && wanted != isa && wanted != "base" {
		return nil, "", fmt.Errorf("cpu instruction set %q: this processor gives %q; leave SCIFLUX_ISA unset", wanted, isa)
	}
	return k, isa, nil
}

// chooseGEMM decides by what is there, never by a measurement: a resumed run must multiply as the interrupted one did.
// Our kernels equal oneDNN's on AVX2 (within 5 %) and need no widened copy of bfloat16 panels, so they go first there; on
// AVX-512 oneDNN's long-tuned kernels do.
func chooseGEMM(wanted, isa string) (onednn bool, err error) {
	switch wanted {
	case "own":
		return false, nil
	case "onednn":
		if library() == "" {
			return false, fmt.Errorf("gemm %q: libdnnl.so.3 or libdnnl.so.2 not found; install oneDNN or choose own", wanted)
		}
		return true, nil
	case "":
		return isa == "avx512" && library() != "", nil
	}
	return false, fmt.Errorf("gemm %q: unknown; choose own or onednn", wanted)
}

// chooseAMX decides who multiplies bfloat16 operands.
func chooseAMX(wanted, isa string) bool { return wanted != "own" && isa == "avx512" && matrixUnit() }

// Describe tells what this machine computes with.
func Describe() Description {
	d := Description{Threads: runtime.GOMAXPROCS(0), OneDNN: library(), GEMM: "own"}
	o := Options{}
	_, isa, err := chooseKernels(o.isa())
	if err != nil {
		_, isa, _ = chooseKernels("")
	}
	d.ISA = isa
	if on, err := chooseGEMM(o.gemm(), isa); err == nil && on {
		d.GEMM = "onednn"
	}
	d.AMX = chooseAMX(o.gemm(), isa)
	return d
}

// Name implements engine.Backend.
func (e *Backend) Name() string {
	switch {
	case e.amx:
		return "cpu " + e.isa + " amx onednn " + library()
	case e.onednn:
		return "cpu " + e.isa + " onednn " + library()
	}
	return "cpu " + e.isa + " own"
}

// Fast implements engine.Backend: bfloat16 where the matrix unit multiplies. Without one, rounding costs more than it saves.
func (e *Backend) Fast() engine.DType {
	if e.amx {
		return engine.BFloat16
	}
	return engine.Float32
}

// Alloc implements engine.Backend.
func (e *Backend) Alloc(shape ...int) *engine.Tensor { return e.pool.Tensor(shape...) }

// Free implements engine.Backend.
func (e *Backend) Free(t *engine.Tensor) { e.pool.Release(t) }

// Memory implements engine.Backend. Working space of kernels counts.
func (e *Backend) Memory() (live, peak int64) { return e.pool.Usage() }

// ResetPeak implements engine.Backend.
func (e *Backend) ResetPeak() { e.pool.ResetPeak() }

// Upload implements engine.Backend.
func (*Backend) Upload(dst *engine.Tensor, src []float32) { transfer(dst.Floats(), src) }

// Download implements engine.Backend.
func (*Backend) Download(dst []float32, src *engine.Tensor) { transfer(dst, src.Floats()) }

// scratch lends working space to tasks. Blocks are kept for the next task and grow to the largest need.
type scratch struct {
	alloc   func(bytes int64) unsafe.Pointer
	release func(unsafe.Pointer) bool
	mu      sync.Mutex
	free    []space
}

type space struct {
	at     unsafe.Pointer
	floats int
}

// addr is where the space begins, for C.
func (s space) addr() C.addr { return C.addr(uintptr(s.at)) }

func (e *Backend) take(floats int) space {
	e.scratch.mu.Lock()
	var s space
	if n := len(e.scratch.free); n > 0 {
		s = e.scratch.free[n-1]
		e.scratch.free = e.scratch.free[:n-1]
	}
	e.scratch.mu.Unlock()
	if s.floats < floats {
		if s.at != nil {
			e.scratch.release(s.at)
		}
		s = space{e.scratch.alloc(int64(floats) * 4), floats}
	}
	return s
}

func (e *Backend) give(s space) {
	e.scratch.mu.Lock()
	e.scratch.free = append(e.scratch.free, s)
	e.scratch.mu.Unlock()
}

// address is a slice's first element for C, 0 for an empty slice. The slice must outlive the call.
func address[E any](s []E) C.addr { return C.addr(uintptr(unsafe.Pointer(unsafe.SliceData(s)))) }

// origin checks a view and returns the address of its first value, 0 when it has none.
func origin(op string, v engine.View) C.addr {
	values, err := v.Values()
	if err != nil {
		panic(fmt.Sprintf("cpu: %s: %v", op, err))
	}
	return address(values)
}

// want panics unless the view is rows×cols.
func want(op string, v engine.View, rows, cols int) {
	if v.Rows != rows || v.Cols != cols {
		panic(fmt.Sprintf("cpu: %s of a %d×%d view, want %d×%d", op, v.Rows, v.Cols, rows, cols))
	}
}

func (e *Backend) productC(g *C.product_args) { C.call_product(e.kernels, g) }
func (e *Backend) thinC(g *C.thin_args)       { C.call_thin(e.kernels, g) }

func (e *Backend) packC(g *C.pack_args, left bool) {
	if left {
		C.call_pack_left(e.kernels, g)
	} else {
		C.call_pack(e.kernels, g)
	}
}

// convert makes a dense copy of a matrix in the other type: bfloat16 of float32 values when narrow, else the reverse.
func (e *Backend) convert(team *team, narrow bool, dst, src C.addr, stride, rows, cols int) {
	const chunk = 64
	to, from := 4, 2 // bytes of a value
	if narrow {
		to, from = 2, 4
	}
	team.do(ceil(rows, chunk), func(task int) {
		i := task * chunk
		g := C.pack_args{
			dst: dst + C.addr(to*i*cols), src: src + C.addr(from*i*stride), stride: C.long(stride), n: C.long(cols),
			k: C.long(min(chunk, rows-i)),
		}
		if narrow {
			C.call_narrow(e.kernels, &g)
		} else {
			C.call_widen(e.kernels, &g)
		}
	})
}

func (e *Backend) attendScratch(g *C.attend_args, back bool) int {
	return int(C.call_attend_scratch(e.kernels, g, flag(back)))
}

func (e *Backend) attendC(g *C.attend_args, back bool, head int, s space) {
	C.call_attend(e.kernels, g, flag(back), C.long(head), s.addr())
}

func (e *Backend) convolveScratch(g *C.conv_args) int {
	return int(C.call_convolve_scratch(e.kernels, g))
}

func (e *Backend) convolveC(g *C.conv_args, s space) {
	C.call_convolve(e.kernels, g, s.addr())
}

func (e *Backend) groupNormC(g *C.group_args) { C.call_group_norm(e.kernels, g) }
func (e *Backend) adamwC(g *C.adamw_args)     { C.call_adamw(e.kernels, g) }

func (e *Backend) sumSquaresC(x C.addr, n int) float64 {
	return float64(C.call_sum_squares(e.kernels, x, C.long(n)))
}

// onednnC multiplies on the calling thread. The library only fails on arguments that cannot come from here.
func (e *Backend) onednnC(g *C.onednn_args) {
	if rc := C.onednn_gemm(g); rc != 0 {
		panic(fmt.Sprintf("cpu: dnnl_sgemm: status %d", rc))
	}
}
