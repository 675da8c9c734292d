package cpu_test

import (
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/cpu"
	"github.com/sciflux/sciflux/engine/enginetest"
)

// variants are the ways of computing that a machine and a build may be asked for.
var variants = []cpu.Options{
	{}, {ISA: "base"}, {ISA: "avx2", GEMM: "own"}, {ISA: "avx512", GEMM: "own"}, {GEMM: "own"}, {GEMM: "onednn"},
}

// backends are the different ones among them that exist here.
func backends(t testing.TB, threads int) map[string]engine.Backend {
	found := map[string]engine.Backend{}
	for _, o := range variants {
		o.Threads = threads
		if e, err := cpu.New(o); err == nil {
			found[e.Name()] = e
		} else if o == (cpu.Options{Threads: threads}) {
			t.Fatal(err)
		}
	}
	return found
}

// open makes another backend of a name, with a limit.
func open(t testing.TB, name string, limit int64) engine.Backend {
	for _, o := range variants {
		o.Threads, o.Limit = 2, limit
		if e, err := cpu.New(o); err == nil && e.Name() == name {
			return e
		}
	}
	t.Fatalf("no backend %q", name)
	return nil
}

// TestVariants names the ways of computing that cannot be tested here. Those that SCIFLUX_CI lists by words of their names,
// as in "avx2,onednn", must be there.
func TestVariants(t *testing.T) {
	names := strings.Join(slices.Collect(maps.Keys(backends(t, 1))), ", ")
	for _, o := range variants {
		t.Run(fmt.Sprintf("isa=%s gemm=%s", o.ISA, o.GEMM), func(t *testing.T) {
			if _, err := cpu.New(o); err != nil {
				t.Skipf("not tested here: %v", err)
			}
		})
	}
	for _, word := range strings.FieldsFunc(os.Getenv("SCIFLUX_CI"), func(r rune) bool { return r == ',' || r == ' ' }) {
		if !slices.Contains(strings.Fields(strings.ReplaceAll(names, ",", "")), word) {
			t.Errorf("SCIFLUX_CI asks for %s; this machine and build have %s", word, names)
		}
	}
}

func TestAgainstReference(t *testing.T) {
	for name, e := range backends(t, 2) {
		t.Run(name, func(t *testing.T) { enginetest.Run(t, e) })
	}
}

func TestMemoryLimits(t *testing.T) {
	for name := range backends(t, 2) {
		t.Run(name, func(t *testing.T) {
			enginetest.Limits(t, func(limit int64) engine.Backend { return open(t, name, limit) })
		})
	}
}

func TestThreadsAndRepetitionsChangeNoBit(t *testing.T) {
	one := backends(t, 1)
	for _, threads := range []int{1, 2, 3} {
		for name, e := range backends(t, threads) {
			want, got := enginetest.Prints(one[name]), enginetest.Prints(e)
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s, %d threads (-one thread +%d):\n%s", name, threads, threads, d)
			}
		}
	}
}

func TestCallersDoNotDisturbEachOther(t *testing.T) {
	e, err := cpu.New(cpu.Options{Threads: 3})
	if err != nil {
		t.Fatal(err)
	}
	want := enginetest.Prints(e)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			if d := cmp.Diff(want, enginetest.Prints(e)); d != "" {
				t.Errorf("beside other callers (-alone +beside):\n%s", d)
			}
		})
	}
	wait.Wait()
}

func TestOptionsThatCannotBeMet(t *testing.T) {
	for want, o := range map[string]cpu.Options{
		"threads -1": {Threads: -1}, `gemm "blas"`: {GEMM: "blas"}, `instruction set "sve9"`: {ISA: "sve9"},
	} {
		if _, err := cpu.New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want one about %s", o, err, want)
		}
	}
}

func TestDescribeNamesWhatNewChooses(t *testing.T) {
	e, err := cpu.New(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := cpu.Describe()
	if !strings.Contains(e.Name(), d.ISA) || d.Threads < 1 || (d.GEMM == "onednn") != strings.Contains(e.Name(), "onednn") {
		t.Errorf("%q described as %v", e.Name(), d)
	}
	if got := e.Fast() == engine.BFloat16; got != d.AMX || got != strings.Contains(e.Name(), "amx") {
		t.Errorf("%q, described as %v, is fastest in %s", e.Name(), d, e.Fast())
	}
}

func TestShapesThatDoNotFitPanic(t *testing.T) {
	e, err := cpu.New(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a, b := engine.All(e.Alloc(2, 3)), engine.All(e.Alloc(3, 2))
	w := &engine.Weight{Out: 3, In: 3, Stride: 3, F32: make([]float32, 9)}
	outside := engine.View{T: a.T, Offset: 1, Rows: 2, Cols: 3, Stride: 3}
	for name, f := range map[string]func(){
		"add of two shapes":      func() { e.Add(a, a, b) },
		"view beyond its tensor": func() { e.Zero(outside) },
		"linear input":           func() { e.Linear(a, b, w, nil, 0) },
		"bias length":            func() { e.Linear(a, a, w, make([]float32, 2), 0) },
		"short weight":           func() { e.Linear(a, a, &engine.Weight{Out: 3, In: 3, Stride: 3, F32: make([]float32, 8)}, nil, 0) },
		"inner sizes":            func() { e.MatMul(a, a, false, a, false, 1, 0) },
		"rows per sample":        func() { e.GateAdd(b, b, b, a, 2) },
		"freed tensor": func() {
			x := e.Alloc(4)
			v := engine.All(x)
			e.Free(x)
			e.Zero(v)
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		})
	}
}

func TestNaNStaysVisible(t *testing.T) {
	for name, e := range backends(t, 2) {
		x := e.Alloc(3, 40)
		v := make([]float32, 120)
		v[50] = float32(math.NaN())
		e.Upload(x, v)
		y := e.Alloc(3, 40)
		w := &engine.Weight{Out: 40, In: 40, Stride: 40, F32: make([]float32, 1600)}
		a := &engine.Attention{Layout: engine.Layout{B: 1, T: 3}, Heads: 1, Dim: 40, Scale: 1}
		for kernel, f := range map[string]func(y, x engine.View){
			"linear":     func(y, x engine.View) { e.Linear(y, x, w, nil, 0) },
			"layer norm": func(y, x engine.View) { e.LayerNorm(y, x, nil, nil, 1e-5) },
			"rms norm":   func(y, x engine.View) { e.RMSNorm(y, x, nil, 1e-5) },
			"attend":     func(y, x engine.View) { e.Attend(y, x, x, x, a) },
		} {
			f(engine.All(y), engine.All(x))
			bad := 0
			for _, got := range y.Floats()[40:80] {
				if got != got {
					bad++
				}
			}
			if bad == 0 {
				t.Errorf("%s: %s of a row with a NaN has none", name, kernel)
			}
		}
		if s := e.SumSquares(x); s == s {
			t.Errorf("%s: sum of squares hides a NaN: %g", name, s)
		}
	}
}
