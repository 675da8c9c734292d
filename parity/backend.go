package parity

import (
	"fmt"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/cpu"
)

// Backend is the machine that the options ask for.
func (o Options) Backend() (engine.Backend, error) {
	if o.Device != "" && o.Device != "cpu" {
		return nil, fmt.Errorf("device %q: this build computes on cpu only", o.Device)
	}
	return cpu.New(cpu.Options{})
}
