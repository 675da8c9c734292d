//go:build linux

package cpu_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/cpu"
)

// TestOneDNNStartsNoThreads: products of oneDNN run on the threads that call it, though OpenMP is told to use many. The
// setting is read when the library is loaded, so the test runs itself in a process of its own.
func TestOneDNNStartsNoThreads(t *testing.T) {
	e, err := cpu.New(cpu.Options{GEMM: "onednn", Threads: 2})
	if err != nil {
		t.Skip(err)
	}
	const many = 60
	if os.Getenv("SCIFLUX_TEST_OPENMP") == "" {
		c := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
		c.Env = append(os.Environ(), "SCIFLUX_TEST_OPENMP=1", fmt.Sprint("OMP_NUM_THREADS=", many))
		if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	w := &engine.Weight{Out: 600, In: 300, Stride: 300, F32: make([]float32, 600*300)}
	var wait sync.WaitGroup
	for range 3 {
		wait.Go(func() {
			x, y := e.Alloc(400, 300), e.Alloc(400, 600)
			for range 20 {
				e.Linear(engine.All(y), engine.All(x), w, nil, 0)
			}
		})
	}
	wait.Wait()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Skip(err)
	}
	if len(tasks) >= many {
		t.Errorf("%d threads after products on three goroutines", len(tasks))
	}
}
