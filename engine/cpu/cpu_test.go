package cpu_test

import (
	"testing"

	"github.com/sciflux/sciflux/engine/cpu"
	"github.com/sciflux/sciflux/engine/enginetest"
)

// variants are the ways of computing that this machine and build can be asked for.
func variants() []cpu.Options {
	return []cpu.Options{{Threads: 2}, {Threads: 3, ISA: "base"}, {Threads: 2, GEMM: "onednn"}}
}

func TestAgainstReference(t *testing.T) {
	for _, o := range variants() {
		e, err := cpu.New(o)
		if err != nil {
			t.Logf("%+v not here: %v", o, err)
			continue
		}
		t.Run(e.Name(), func(t *testing.T) { enginetest.Run(t, e) })
	}
}
