package pipeline

import (
	"encoding/json"
	"fmt"
	"slices"

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

// readScheduler reads scheduler_config.json and refuses options that change the schedule and that FLUX does not use.
func readScheduler(dir string) (flow.SchedulerConfig, error) {
	file := struct {
		flow.SchedulerConfig
		Invert      bool    `json:"invert_sigmas"`
		Karras      bool    `json:"use_karras_sigmas"`
		Exponential bool    `json:"use_exponential_sigmas"`
		Beta        bool    `json:"use_beta_sigmas"`
		Terminal    float64 `json:"shift_terminal"`
	}{SchedulerConfig: flow.DefaultScheduler()}
	if err := weights.ReadConfig(dir, "scheduler_config.json", &file); err != nil {
		return flow.SchedulerConfig{}, err
	}
	c := file.SchedulerConfig
	switch {
	case file.Invert || file.Karras || file.Exponential || file.Beta || file.Terminal != 0:
		return c, fmt.Errorf("scheduler_config.json asks for inverted, Karras, exponential, beta or terminal-shifted sigmas: only FLUX's schedule is supported; set them to false or null")
	case c.NumTrainTimesteps < 1 || !(c.Shift > 0):
		return c, fmt.Errorf("scheduler_config.json: num_train_timesteps %d and shift %g must be above 0", c.NumTrainTimesteps, c.Shift)
	case c.UseDynamicShifting && c.MaxImageSeqLen == c.BaseImageSeqLen:
		return c, fmt.Errorf("scheduler_config.json: base_image_seq_len and max_image_seq_len are both %d, so the dynamic shift has no slope", c.BaseImageSeqLen)
	}
	return c, nil
}
