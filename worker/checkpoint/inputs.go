package checkpoint

import (
	"fmt"
	"maps"
	"slices"

	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/worker/opened"
)

// SameInputs compares the identities that a manifest holds with those of the opened run, in the order of their keys. What a
// manifest does not hold is not compared.
func SameInputs(r *opened.Run, m store.Manifest) error {
	for _, key := range slices.Sorted(maps.Keys(m.Inputs)) {
		if was, is := m.Inputs[key], r.Inputs[key]; was != is {
			return run.Errorf(classOf(key), "continue run "+r.Job.Run+" with", key, "put back what the run began with, or start a new run under another name",
				"its content is %s; %s step %d came from %s", short(is), m.Stage, m.Step, short(was))
		}
	}
	return nil
}

// classOf is the class of a failure at an input.
func classOf(key string) run.Class {
	if key == "data.source" || key == "data.prompts" || key == "eval.splits" {
		return run.ClassData
	}
	return run.ClassModel
}

// short is the beginning of an identity.
func short(identity string) string {
	if identity == "" {
		return "nothing"
	}
	return fmt.Sprintf("%.12s", identity)
}
