package configs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A variable that was meant for a key and misses it is told, wherever the slip is.
func TestMisspelledVariables(t *testing.T) {
	for name, want := range map[string]string{
		"SCIFLUX_SFT_LEARNRATE": "SCIFLUX_SFT_LR", "SCIFLUX_SFT_LEARNING_RATE": "SCIFLUX_SFT_LR", "SCIFLUX_OFT_MASK_POLCY": "SCIFLUX_OFT_MASK_POLICY",
		"SCIFLUX_STORE_ACCESS_KEY_ENVV": "SCIFLUX_STORE_ACCESS_KEY_ENV", "SCIFLUX_WORKER_THREAD": "SCIFLUX_WORKER_THREADS",
		"SCIFLUX_SEDD": "SCIFLUX_SEED", "SCIFLUX_STF_LR": "SCIFLUX_SFT_LR", "SCIFLUX_EVL_TUPLES": "SCIFLUX_EVAL_TUPLES", "SCIFLUX_MODELPIPELINE": "SCIFLUX_MODEL_PIPELINE",
		"SCIFLUX_WORKERS_THREADS": "SCIFLUX_WORKER_THREADS", "SCIFLUX_TEMPORL_ADDRESS": "SCIFLUX_TEMPORAL_ADDRESS", "SCIFLUX_NAM": "SCIFLUX_NAME",
		"SCIFLUX_LR": "SCIFLUX_SFT_LR", "SCIFLUX_THREADS": "SCIFLUX_WORKER_THREADS", "SCIFLUX_LEARNING_RATE": "SCIFLUX_SFT_LR", "SCIFLUX_STATE_DRI": "SCIFLUX_STATE_DIR",
	} {
		p := problemsOf(t, Sources{Environ: []string{name + "=1"}})
		if len(p) != 1 || p[0].Where != name || !strings.Contains(p[0].String(), "did you mean "+want+"?") {
			t.Errorf("%s: %v, want %s", name, p, want)
		}
	}
}

// Any one slip in the variable of a key is told.
func TestOneSlipInAVariableIsTold(t *testing.T) {
	known := map[string]bool{}
	var names []string
	for _, f := range Fields() {
		known[envName(f.Path)], names = true, append(names, envName(f.Path))
	}
	rapid.Check(t, func(r *rapid.T) {
		name := rapid.SampledFrom(names).Draw(r, "name")
		i := rapid.IntRange(len(envPrefix), len(name)-2).Draw(r, "at")
		slipped := rapid.SampledFrom([]string{name[:i] + name[i+1:], name[:i] + name[i:i+1] + name[i:], name[:i] + name[i+1:i+2] + name[i:i+1] + name[i+2:]}).Draw(r, "slipped")
		if known[slipped] {
			return
		}
		l := newLoader()
		if l.environ([]string{slipped + "=1"}); len(l.problems) != 1 {
			r.Fatalf("%s: %v", slipped, l.problems)
		}
	})
}

// Variables that other parts of the program and its tests read, and those of other people, set no key and are let be.
func TestVariablesOfOthers(t *testing.T) {
	names := []string{"SCIFLUX_PATH", "SCIFLUX_HOME", "SCIFLUX_ENV", "SCIFLUX_FILE", "SCIFLUX_BIN", "SCIFLUX_CI", "SCIFLUX_TOKEN", "SCIFLUX_DEBUG", "SCIFLUX_IMAGE"}
	written := regexp.MustCompile(`"(SCIFLUX_[A-Z_]+)"`)
	for _, pattern := range []string{"../*/*.go", "../*/*/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, path := range files {
			if filepath.Dir(path) == "../configs" {
				continue
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range written.FindAllStringSubmatch(string(text), -1) {
				names = append(names, m[1])
			}
		}
	}
	if len(names) < 20 {
		t.Fatalf("%d names: the pattern is broken", len(names))
	}
	for _, name := range names {
		l := newLoader()
		if l.environ([]string{name + "=1"}); len(l.problems) > 0 {
			t.Errorf("%v", l.problems)
		}
	}
}
