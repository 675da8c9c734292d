package configs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// file writes a config file and returns its path.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "my.yaml")
	write(t, path, text)
	return path
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// problemsOf loads and returns the problems, failing when there is none.
func problemsOf(t *testing.T, src Sources) []Problem {
	t.Helper()
	_, err := Load(src)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("loaded without problem; err %v", err)
	}
	return e.Problems
}

func TestLayersOverrideInOrder(t *testing.T) {
	// Each layer sets lr and one key that no higher layer touches.
	path := file(t, "preset: world\nsft:\n  lr: 2e-3\n  batch: 7\noft: {epochs: 5}\n")
	c, err := Load(Sources{Name: path,
		Environ: []string{"SCIFLUX_SFT_LR=3e-3", "SCIFLUX_OFT_EPOCHS=6", "SCIFLUX_LORA_RANK=4", "HOME=/x"},
		Set:     []string{"sft.lr=4e-3", "oft.mask.policy=full"}})
	if err != nil {
		t.Fatal(err)
	}
	if c.SFT.LR != 4e-3 || c.OFT.Epochs != 6 || c.SFT.Batch != 7 || c.LoRA.Rank != 4 || c.OFT.Mask.Policy != "full" {
		t.Errorf("lr %v epochs %d batch %d rank %d mask %s", c.SFT.LR, c.OFT.Epochs, c.SFT.Batch, c.LoRA.Rank, c.OFT.Mask.Policy)
	}
	world, err := Load(Sources{Name: "world"})
	if err != nil {
		t.Fatal(err)
	}
	if c.OFT.PromptsPerEpoch != world.OFT.PromptsPerEpoch || c.OFT.PromptsPerEpoch == Default().OFT.PromptsPerEpoch {
		t.Errorf("prompts_per_epoch %d: the preset below the file is lost", c.OFT.PromptsPerEpoch)
	}
	if c.SFT.Eps != 1e-8 {
		t.Errorf("eps %v: the default below the preset is lost", c.SFT.Eps)
	}
	if c.Name != "my" || c.Preset != "world" {
		t.Errorf("name %q preset %q", c.Name, c.Preset)
	}
}

func TestStagesKeepTheirOwnOptimiserDefaults(t *testing.T) {
	c := Default()
	if c.SFT.LR != 2e-5 || c.OFT.LR != 3e-4 {
		t.Errorf("default rates %v and %v, the authors have 2e-5 and 3e-4", c.SFT.LR, c.OFT.LR)
	}
	if c.Stop.ClampSaturation.Limit != 0.9 || c.Stop.DeadMasks.Limit != 0.5 {
		t.Errorf("limits %v %v", c.Stop.ClampSaturation.Limit, c.Stop.DeadMasks.Limit)
	}
}

func TestProblemsNamePathPlaceAndCure(t *testing.T) {
	for _, tc := range []struct {
		name, text  string
		env, set    []string
		path, where string
		words       []string
	}{
		{name: "misspelt key", text: "sft:\n  learning_rte: 1\n", path: "sft.learning_rte", where: "my.yaml:2", words: []string{"unknown key", "did you mean sft."}},
		{name: "name from another trainer", text: "oft:\n  learning_rate: 1\n", path: "oft.learning_rate", where: "my.yaml:2", words: []string{"did you mean oft.lr?"}},
		{name: "key without its section", text: "rank: 8\n", path: "rank", where: "my.yaml:1", words: []string{"did you mean lora.rank?"}},
		{name: "deep key", text: "oft:\n  mask:\n    polcy: none\n", path: "oft.mask.polcy", where: "my.yaml:3", words: []string{"did you mean oft.mask.policy?"}},
		{name: "section", text: "lorra: {rank: 1}\n", path: "lorra", where: "my.yaml:1", words: []string{"did you mean lora?"}},
		{name: "key twice", text: "sft:\n  steps: 1\n  steps: 2\n", path: "sft.steps", where: "my.yaml:3", words: []string{"twice", "line 2"}},
		{name: "section twice", text: "sft: {steps: 1}\nseed: 2\nsft: {batch: 2}\n", path: "sft", where: "my.yaml:3", words: []string{"twice"}},
		{name: "text for number", text: "sft: {lr: fast}\n", path: "sft.lr", where: "my.yaml:1", words: []string{"expected number", `"fast"`}},
		{name: "quoted number", text: "sft: {lr: '1e-4'}\n", path: "sft.lr", where: "my.yaml:1", words: []string{"expected number"}},
		{name: "fraction for integer", text: "sft: {steps: 1.5}\n", path: "sft.steps", where: "my.yaml:1", words: []string{"expected integer", "1.5"}},
		{name: "number for text", text: "name: 12\n", path: "name", where: "my.yaml:1", words: []string{"expected text", "12"}},
		{name: "bare duration", text: "worker: {hang_after: 30}\n", path: "worker.hang_after", where: "my.yaml:1", words: []string{"30s"}},
		{name: "not a number", text: "sft: {lr: .nan}\n", path: "sft.lr", where: "my.yaml:1", words: []string{"expected number"}},
		{name: "infinite", text: "sft: {lr: .inf}\n", path: "sft.lr", where: "my.yaml:1", words: []string{"expected number"}},
		{name: "list length", text: "sft: {betas: [0.9]}\n", path: "sft.betas", where: "my.yaml:1", words: []string{"list of 2 numbers"}},
		{name: "list element", text: "lora: {targets: [to_k, 3]}\n", path: "lora.targets", where: "my.yaml:1", words: []string{"element 1", "expected text"}},
		{name: "section for value", text: "sft: {lr: {a: 1}}\n", path: "sft.lr", where: "my.yaml:1", words: []string{"a section"}},
		{name: "value for section", text: "sft: 3\n", path: "sft", where: "my.yaml:1", words: []string{"expected a section"}},
		{name: "no value", text: "sft: {lr: }\n", path: "sft.lr", where: "my.yaml:1", words: []string{"got nothing"}},
		{name: "negative seed", text: "seed: -3\n", path: "seed", where: "my.yaml:1", words: []string{"from 0 on"}},
		{name: "broken YAML", text: "sft: [\n", where: "my.yaml:1", words: []string{"fix the YAML"}},
		{name: "lost indentation", text: "preset: world\nsft:\n  lr: 1e-4\n bad\n", where: "my.yaml:4", words: []string{"did not find expected key"}},
		{name: "tab", text: "sft:\n\tlr: 1\n", where: "my.yaml:2", words: []string{"cannot start any token"}},
		{name: "text that never ends", text: "seed: 1\nlora:\n  targets: [a,\n    b]\nname: \"x\n", where: "my.yaml:5", words: []string{"fix the YAML"}},
		{name: "no YAML", text: "\x00\x01", where: "my.yaml:1", words: []string{"control characters"}},
		{name: "two documents", text: "seed: 1\n---\nseed: 2\n", where: "my.yaml", words: []string{"one document"}},
		{name: "secret in file", text: "store:\n  secret_access_key: abc\n", path: "store.secret_access_key", where: "my.yaml:2", words: []string{"never written", "env"}},
		{name: "secret as plain value", text: "store:\n  secret_key: abc\n", path: "store.secret_key", where: "my.yaml:2", words: []string{"section"}},
		{name: "unknown preset", text: "preset: word\n", path: "preset", where: "my.yaml", words: []string{"did you mean world?"}},
		{name: "bound", text: "lora: {rank: 0}\n", path: "lora.rank", where: "my.yaml:1", words: []string{"0 is not allowed", "above 0"}},
		{name: "bound in list", text: "sft: {betas: [0.9, 1.0]}\n", path: "sft.betas", where: "my.yaml:1", words: []string{"below 1"}},
		{name: "choice", text: "oft: {forms: {step: exat}}\n", path: "oft.forms.step", where: "my.yaml:1", words: []string{"did you mean exact?", "paper, corrected, exact"}},
		{name: "environment type", env: []string{"SCIFLUX_SFT_STEPS=many"}, path: "sft.steps", where: "SCIFLUX_SFT_STEPS", words: []string{"expected integer"}},
		{name: "environment name", env: []string{"SCIFLUX_SFT_STEPSS=3"}, where: "SCIFLUX_SFT_STEPSS", words: []string{"SCIFLUX_SFT_STEPS?"}},
		{name: "environment bound", env: []string{"SCIFLUX_SFT_BATCH=0"}, path: "sft.batch", where: "SCIFLUX_SFT_BATCH", words: []string{"above 0"}},
		{name: "set unknown", set: []string{"sft.stepps=3"}, path: "sft.stepps", where: "--set sft.stepps", words: []string{"did you mean sft.steps?"}},
		{name: "set without value", set: []string{"sft.steps"}, where: "--set sft.steps", words: []string{"path=value"}},
		{name: "set section", set: []string{"sft=3"}, path: "sft", where: "--set sft", words: []string{"is a section"}},
		{name: "set preset", set: []string{"preset=world"}, path: "preset", where: "--set preset", words: []string{"later layer"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			src := Sources{Environ: tc.env, Set: tc.set}
			if tc.text != "" {
				src.Name = file(t, tc.text)
			}
			found := problemsOf(t, src)
			if len(found) != 1 {
				t.Fatalf("%d problems, want 1: %v", len(found), found)
			}
			p := found[0]
			if p.Path != tc.path || !strings.HasSuffix(p.Where, tc.where) {
				t.Errorf("path %q where %q, want %q %q", p.Path, p.Where, tc.path, tc.where)
			}
			for _, w := range tc.words {
				if !strings.Contains(p.String(), w) {
					t.Errorf("%q does not say %q", p.String(), w)
				}
			}
		})
	}
}

func TestAllProblemsAreReportedTogether(t *testing.T) {
	path := file(t, "sft: {stps: 1, lr: fast}\noft: {s_churn: 0}\nlora: {rank: -1}\n")
	found := problemsOf(t, Sources{Name: path, Set: []string{"data.resolution=50"}})
	var paths []string
	for _, p := range found {
		paths = append(paths, p.Path)
	}
	want := []string{"sft.stps", "sft.lr", "lora.rank", "oft.s_churn", "data.resolution"}
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Error(diff)
	}
	err := &Error{Problems: found}
	if n := strings.Count(err.Error(), "\n"); n != len(want) {
		t.Errorf("%d lines after the first, want %d:\n%v", n, len(want), err)
	}
}

func TestNeitherPresetNorFile(t *testing.T) {
	p := problemsOf(t, Sources{Name: "wrld"})[0].String()
	for _, w := range []string{`"wrld"`, "did you mean world?", "flux-dev-paper"} {
		if !strings.Contains(p, w) {
			t.Errorf("%q does not say %q", p, w)
		}
	}
}

func TestTextOfEnvironmentTakesTheFieldsType(t *testing.T) {
	c, err := Load(Sources{Environ: []string{"SCIFLUX_NAME=123", "SCIFLUX_SFT_LR=5e-5", "SCIFLUX_SFT_BETAS=0.8,0.9",
		"SCIFLUX_LORA_TARGETS=to_q, to_k", "SCIFLUX_WORKER_HANG_AFTER=90s", "SCIFLUX_DATA_CACHE_TEXT=false", "SCIFLUX_STATE_DIR=/x", "SCIFLUX_STORE_REGION="}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "123" || c.SFT.LR != 5e-5 || c.SFT.Betas != [2]float64{0.8, 0.9} || c.Worker.HangAfter != 90*time.Second || c.Data.CacheText {
		t.Errorf("%+v", c)
	}
	if diff := cmp.Diff([]string{"to_q", "to_k"}, c.LoRA.Targets); diff != "" {
		t.Error(diff)
	}
	if c.Store.Region != "us-east-1" {
		t.Errorf("region %q: an empty variable must count as unset", c.Store.Region)
	}
}

func TestEmptyFileAndEmptySectionSetNothing(t *testing.T) {
	for _, text := range []string{"", "# only a comment\n", "sft:\n", "sft: {}\n"} {
		c, err := Load(Sources{Name: file(t, text)})
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		c.Name = ""
		if diff := cmp.Diff(Default(), c); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

func TestAnchorsResolve(t *testing.T) {
	c, err := Load(Sources{Name: file(t, "sft: {lr: &r 7e-4}\noft: {lr: *r}\n")})
	if err != nil || c.OFT.LR != 7e-4 {
		t.Errorf("lr %v err %v", c.OFT.LR, err)
	}
}

// Whatever bytes a file holds, loading ends with a config or with problems, and never with a panic.
func TestAnyFileLoadsOrComplains(t *testing.T) {
	path := filepath.Join(t.TempDir(), "any.yaml")
	rapid.Check(t, func(r *rapid.T) {
		lines := rapid.SliceOf(rapid.SampledFrom([]string{"sft:", "  lr: 1", "  steps: [", "oft: {", "}", "- a", "seed: 5", "&a", "*a", "  betas: [1,2]", "!!x y", "\t", "? k", ": v", "--- ", "..."})).Draw(r, "lines")
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			r.Fatal(err)
		}
		_, err := Load(Sources{Name: path})
		var e *Error
		if err != nil && !errors.As(err, &e) {
			r.Fatalf("error %T is not a config error: %v", err, err)
		}
	})
}
