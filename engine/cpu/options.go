// Package cpu is the fast backend of every machine: C kernels for the processor's instruction set, chosen at run time,
// worked on by a fixed team of goroutines. Tiles and reduction orders depend on shapes alone, so results are the same bits
// for any number of threads. Built without cgo it computes in plain Go.
package cpu

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"

	"github.com/sciflux/sciflux/engine/memory"
)

// Options choose how the backend computes; the zero value is right for almost everyone.
type Options struct {
	Threads int    // goroutines that compute; 0: GOMAXPROCS
	GEMM    string // "own", "onednn"; empty: SCIFLUX_GEMM, else the better one for the instruction set
	ISA     string // "base", "avx2", "avx512"; empty: SCIFLUX_ISA, else the best there is
	Limit   int64  // bytes of tensors and working space in use at once; 0: what the machine or the control group has
}

func (o Options) threads() (int, error) {
	if o.Threads < 0 {
		return 0, fmt.Errorf("cpu threads %d: want 1 or more, or 0 for all cores", o.Threads)
	}
	if o.Threads == 0 {
		return runtime.GOMAXPROCS(0), nil
	}
	return o.Threads, nil
}

func (o Options) limit() int64 {
	if o.Limit == 0 {
		return memory.System()
	}
	return o.Limit
}

func (o Options) gemm() string { return orEnv(o.GEMM, "SCIFLUX_GEMM") }
func (o Options) isa() string  { return orEnv(o.ISA, "SCIFLUX_ISA") }

func orEnv(value, name string) string {
	if value != "" {
		return value
	}
	return os.Getenv(name)
}

// Description is what a machine computes with.
type Description struct {
	ISA     string // "avx512", "avx2", "sse2", "portable" (other processors), "go" (built without cgo)
	OneDNN  string // version of the library found, empty for none
	GEMM    string // "own" or "onednn": what New chooses
	AMX     bool   // products whose operands are bfloat16 run on the processor's matrix unit
	Threads int
}

// String is the description on one line.
func (d Description) String() string {
	parts := []string{d.ISA, fmt.Sprintf("%d threads", d.Threads), "gemm " + d.GEMM}
	if d.AMX {
		parts = append(parts, "bf16 by AMX")
	}
	if d.OneDNN != "" {
		parts = append(parts, "oneDNN "+d.OneDNN+" found")
	}
	return strings.Join(parts, ", ")
}

// teams are shared by all backends of the process, so that several never crowd the machine.
var teams = struct {
	sync.Mutex
	of map[int]*team
}{of: map[int]*team{}}

func teamOf(size int) *team {
	teams.Lock()
	defer teams.Unlock()
	if teams.of[size] == nil {
		teams.of[size] = newTeam(size)
	}
	return teams.of[size]
}

func transfer(dst, src []float32) {
	if len(dst) != len(src) {
		panic(fmt.Sprintf("cpu: copy %d values to %d", len(src), len(dst)))
	}
	copy(dst, src)
}
