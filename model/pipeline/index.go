package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/weights"
)

// readIndex reads model_index.json and returns the class of each part that a FLUX pipeline has.
func readIndex(dir string) (map[string]string, error) {
	var index map[string]json.RawMessage
	if err := weights.ReadConfig(dir, "model_index.json", &index); err != nil {
		return nil, err
	}
	var class string
	if err := json.Unmarshal(index["_class_name"], &class); err != nil || class != "FluxPipeline" {
		return nil, fmt.Errorf("_class_name is %s: only FluxPipeline is supported", index["_class_name"])
	}
	classes := map[string]string{}
	for _, part := range parts {
		var entry []string // library and class, or two nulls for a part that was left out
		if err := json.Unmarshal(index[part.folder], &entry); err != nil || len(entry) != 2 {
			return nil, fmt.Errorf("%s is %s: need a library and a class", part.folder, index[part.folder])
		}
		if !slices.Contains(part.classes, entry[1]) {
			return nil, fmt.Errorf("%s is of class %q: supported are %v", part.folder, entry[1], part.classes)
		}
		classes[part.folder] = entry[1]
	}
	return classes, nil
}

// readScheduler reads scheduler_config.json and refuses settings that change the schedule or the step and that FLUX does
// not use, by name and value: another schedule than the one that was meant is not seen in the numbers.
func readScheduler(dir string) (flow.SchedulerConfig, error) {
	c := flow.DefaultScheduler()
	var file json.RawMessage
	if err := weights.ReadConfig(dir, "scheduler_config.json", &file); err != nil {
		return c, err
	}
	var settings map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(file, &settings), json.Unmarshal(file, &c)); err != nil {
		return c, fmt.Errorf("scheduler_config.json: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if value := string(settings[name]); !supported(name, value) {
			return c, fmt.Errorf("scheduler_config.json sets %s to %s: only FLUX's own schedule is computed, which has %s; "+
				"take the scheduler folder of the original model", name, value, unset(name))
		}
	}
	switch {
	case c.NumTrainTimesteps < 1 || !(c.Shift > 0):
		return c, fmt.Errorf("scheduler_config.json: num_train_timesteps %d and shift %g must be above 0", c.NumTrainTimesteps, c.Shift)
	case c.UseDynamicShifting && c.MaxImageSeqLen == c.BaseImageSeqLen:
		return c, fmt.Errorf("scheduler_config.json: base_image_seq_len and max_image_seq_len are both %d, so the dynamic shift has no slope", c.BaseImageSeqLen)
	}
	return c, nil
}

// supported tells whether a setting leaves FLUX's schedule as it is. All use_…_sigmas are others' schedules (Karras,
// exponential, beta, flow, Lu).
func supported(name, value string) bool {
	switch {
	case name == "time_shift_type":
		return value == `"exponential"` || value == "null"
	case name == "_class_name":
		return value == `"FlowMatchEulerDiscreteScheduler"`
	case name == "invert_sigmas" || name == "stochastic_sampling" || name == "shift_terminal" || strings.HasPrefix(name, "use_") &&
		strings.HasSuffix(name, "_sigmas"):
		return value == "false" || value == "null" || value == "0" || value == "0.0"
	}
	return true
}

// unset is the value that a setting has in FLUX's files.
func unset(name string) string {
	switch name {
	case "time_shift_type":
		return `"exponential"`
	case "shift_terminal":
		return "null"
	case "_class_name":
		return `"FlowMatchEulerDiscreteScheduler"`
	}
	return "false"
}
