package pipeline

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/flow"
)

// TestSchedulerSettings: FLUX's own files are read, with whatever newer libraries add to them; a setting that asks for
// another schedule or step is refused by name and value.
func TestSchedulerSettings(t *testing.T) {
	read := func(text string) (flow.SchedulerConfig, error) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "scheduler_config.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return readScheduler(dir)
	}
	dev := flow.DefaultScheduler()
	dev.Shift, dev.UseDynamicShifting = 3, true
	for _, text := range []string{
		`{"_class_name": "FlowMatchEulerDiscreteScheduler", "_diffusers_version": "0.31.0", "base_image_seq_len": 256,
			"base_shift": 0.5, "max_image_seq_len": 4096, "max_shift": 1.15,
			"num_train_timesteps": 1000, "shift": 3.0, "use_dynamic_shifting": true}`,
		`{"shift": 3.0, "use_dynamic_shifting": true, "invert_sigmas": false, "shift_terminal": null, "use_karras_sigmas": false,
			"use_exponential_sigmas": false, "use_beta_sigmas": false,
			"time_shift_type": "exponential", "stochastic_sampling": false}`,
		`{"shift": 3.0, "use_dynamic_shifting": true, "time_shift_type": null, "use_flow_sigmas": null, "shift_terminal": 0.0}`,
	} {
		if c, err := read(text); err != nil || c != dev {
			t.Errorf("%s: %+v, %v", text, c, err)
		}
	}
	for text, says := range map[string]string{
		`{"time_shift_type": "linear"}`:             `time_shift_type to "linear": only FLUX's own schedule is computed, which has "exponential"`,
		`{"stochastic_sampling": true}`:             "stochastic_sampling to true",
		`{"use_flow_sigmas": true}`:                 "use_flow_sigmas to true",
		`{"use_karras_sigmas": true}`:               "use_karras_sigmas to true",
		`{"use_exponential_sigmas": true}`:          "use_exponential_sigmas to true",
		`{"use_beta_sigmas": true}`:                 "use_beta_sigmas to true",
		`{"use_lu_sigmas": 1}`:                      "use_lu_sigmas to 1",
		`{"invert_sigmas": true}`:                   "invert_sigmas to true",
		`{"shift_terminal": 0.02}`:                  "shift_terminal to 0.02: only FLUX's own schedule is computed, which has null",
		`{"_class_name": "EulerDiscreteScheduler"}`: `_class_name to "EulerDiscreteScheduler"`,
		`{"num_train_timesteps": 0}`:                "num_train_timesteps 0",
		`{"shift": "three"}`:                        "cannot unmarshal",
		`[]`:                                        "cannot unmarshal",
	} {
		if _, err := read(text); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "scheduler_config.json") {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}
