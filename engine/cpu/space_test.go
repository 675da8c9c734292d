//go:build cgo && unix

package cpu_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/engine/cpu"
)

// TestWorkingSpaceIsEnough runs every operation with working space that ends before memory nobody may touch: a kernel that
// asked for one value too few ends the process, here one of its own.
func TestWorkingSpaceIsEnough(t *testing.T) {
	if os.Getenv("SCIFLUX_TEST_GUARD") == "" {
		c := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
		c.Env = append(os.Environ(), "SCIFLUX_TEST_GUARD=1")
		if out, err := c.CombinedOutput(); err != nil {
			text := string(out)
			at := text[max(0, strings.LastIndex(text, "space_test.go:")):]
			t.Fatalf("%v at %s\n%s", err, strings.SplitN(at, "\n", 2)[0], text[max(0, len(text)-3000):])
		}
		return
	}
	shapes := append(slices.Clone(sizes), [3]int{70, 520, 72}, [3]int{20, 2100, 328}) // whole panels
	for n := range 45 {
		shapes = append(shapes, [3]int{100, n, 5})
	}
	for name := range backends(t, 2) {
		for _, op := range operations() {
			for _, s := range shapes {
				t.Logf("%s: %s of %v", name, op.name, s)
				e := open(t, name, 0)
				cpu.Guard(t, e)
				b := newBench(e, 3)
				op.run(b, s[0], s[1], s[2])
				b.finish()
			}
		}
	}
}
