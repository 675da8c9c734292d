package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/cmd/sciflux/internal/console"
)

// TestFullDiskIsToldOnce: services that cannot write say nothing to the user by themselves.
func TestFullDiskIsToldOnce(t *testing.T) {
	var out bytes.Buffer
	w := &watch{app: &app{print: &console.Printer{Out: &out, Err: &out}}, site: &site{dir: "/state"}}
	for _, step := range []struct {
		free int64
		want string // "": nothing
	}{
		{fullBelow, ""}, {fullBelow - 1, "16.0 MiB free in /state; the run waits"}, {0, ""}, {fullBelow, "16.0 MiB free in /state; the run goes on"}, {1 << 40, ""},
		{0, "0 B free in /state; the run waits"},
	} {
		out.Reset()
		w.tellDisk(step.free)
		if got := out.String(); (got == "") != (step.want == "") || !strings.Contains(got, step.want) {
			t.Errorf("%d bytes free: printed %q, want %q", step.free, got, step.want)
		}
	}
}
