package recipe

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/worker/data"
)

// elsewhere are keys that change a result outside of the recipe, and the test that holds what they do.
var elsewhere = map[string]string{
	"model.pipeline": "TestOtherInputsStopAResume", "model.adapter": "TestOtherInputsStopAResume", "model.dtype": "TestMatricesAreKeptAsConfigured",
	"model.compute": "TestBlocksComputeAsConfigured", "reward.sciscore": "TestPicturesAreScoredForTheirPrompt", "reward.batch": "the scorer's last bits",
	"data.source": "TestOtherInputsStopAResume", "data.train_split": "TestSplitsAreTheOnesAskedFor", "data.train_tuples": "TestSplitsAreTheOnesAskedFor",
	"data.resolution": "TestPicturesReachTheAutoencoderAsStored", "data.prompts": "TestPromptsOfAFile", "eval.splits": "TestSplitsAreTheOnesAskedFor",
	"eval.tuples": "TestSplitsAreTheOnesAskedFor", "oft.mask.policy": "TestPicturesWithoutASubject", "oft.mask.on_empty": "TestPicturesWithoutASubject",
	"oft.mask.detector": "no detector is supported yet", "sft.steps": "run.NewPlan", "oft.epochs": "run.NewPlan", "compare.same_time_sft": "run.NewPlan",
	"sft.ema": "TestGoldenSteps", "oft.ema": "TestGoldenSteps", "oft.accumulate_pairs": "TestGoldenSteps", "oft.forms.sigmas": "TestRecipesAreAsWritten (paper)",
}

// company are values beside which a key says something.
var company = map[string][]string{
	"sft.density.kind":  {"sft.density.mean=0", "sft.density.std=1"},
	"sft.density.scale": {"sft.density.kind=mode", "sft.density.mean=0", "sft.density.std=1"},
	"oft.updates":       {"oft.noisy_steps=4", "oft.updates=2"},
	"oft.eta":           {"oft.forms.step=cps"},
	"oft.trust":         {"oft.eps_clamp=0.1"},
	"oft.kl_limit":      {"oft.trust=kl_mask", "oft.eps_clamp=0.1"},
}

// window is a window of noise that moves, for the keys of it.
var window = []string{"oft.steps=8", "oft.noisy_steps=0", "oft.noise_window.size=2", "oft.noise_window.high=4", "oft.noise_window.strategy=progressive"}

// settings are the file and the values beside which a key says something.
func settings(f configs.Field) (file string, set []string) {
	switch {
	case strings.HasPrefix(f.Path, "oft.noise_window."):
		return "unusual.yaml", window
	case f.Path == "oft.method":
		return "forward.yaml", []string{"oft.nft.beta=1", "oft.nft.weight_min=1e-5", "oft.nft.old.flat=0", "oft.nft.old.ramp=0.001", "oft.nft.old.cap=0.5"}
	case f.Methods == nil || slices.Contains(f.Methods, "dpo"):
		return "unusual.yaml", company[f.Path]
	case slices.Contains(f.Methods, "nft"):
		return "forward.yaml", map[string][]string{"oft.times.count": {"oft.updates=1"},
			"oft.advantage.deviation": {"oft.advantage.kind=zscore", "oft.advantage.clip=5"},
			"oft.advantage.scope":     {"oft.advantage.kind=zscore", "oft.advantage.clip=5"}}[f.Path]
	}
	alone := append([]string{"oft.method=" + f.Methods[0]}, map[string][]string{"oft.dgpo.clip": {"oft.dgpo.clip=0.01"}, "oft.awm.old.cap": {"oft.awm.old.cap=0.1"}}[f.Path]...)
	alone = append(alone, "oft.nft.beta=1", "oft.nft.weight_min=1e-5", "oft.nft.old.flat=0", "oft.nft.old.ramp=0.001", "oft.nft.old.cap=0.5")
	if f.Methods[0] == "dpo_flow" {
		alone = append(alone, "oft.advantage.kind=zscore", "oft.advantage.deviation=population", "oft.advantage.scope=group", "oft.advantage.clip=5")
	}
	return "forward.yaml", alone
}

// TestEveryKeyReachesTheRecipe: a key that says it changes a result, changed alone, changes what training, sampling or
// measuring are handed, or is held elsewhere by name; a key that says it does not, changes nothing of it.
func TestEveryKeyReachesTheRecipe(t *testing.T) {
	rows := sixRows(t)
	for _, f := range configs.Fields() {
		if f.Path == "preset" || strings.HasPrefix(f.Path, "stop.") || elsewhere[f.Path] != "" {
			continue
		}
		file, set := settings(f)
		base := accountOf(t, rows, file, set)
		moved, tried := false, 0
		for _, value := range otherValues(t, f, file, set) {
			other, err := configs.Load(configs.Sources{Name: filepath.Join("testdata", file), Set: append(slices.Clone(set), f.Path+"="+value)})
			if err != nil {
				continue // not allowed
			}
			tried++
			moved = moved || !bytes.Equal(base, accountOfConfig(t, rows, other))
		}
		if result := f.Changes == "result"; tried == 0 && result || tried > 0 && moved != result {
			t.Errorf("%s changes %s; of %d other values the recipe moved: %v", f.Path, f.Changes, tried, moved)
		}
	}
}

func accountOf(t *testing.T, rows, file string, set []string) []byte {
	t.Helper()
	cfg, err := configs.Load(configs.Sources{Name: filepath.Join("testdata", file), Set: set})
	if err != nil {
		t.Fatal(err)
	}
	return accountOfConfig(t, rows, cfg)
}

func accountOfConfig(t *testing.T, rows string, cfg configs.Config) []byte {
	t.Helper()
	r := Recipe{Config: cfg, Seed: cfg.Seed, Facts: Facts{Channels: 5, TextLength: 77, Grid: flow.Grid{Rows: 2, Columns: 3}, Scheduler: flow.SchedulerConfig{
		NumTrainTimesteps: 1000, Shift: 1.4, BaseShift: 0.6, MaxShift: 1.3, BaseImageSeqLen: 4, MaxImageSeqLen: 9}}}
	cfg.Data.Source, cfg.Data.Resolution = rows, 16
	set, err := data.Open(t.Context(), cfg, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = set.Close() }()
	return readable(t, account{t, r, set}.all())
}

// otherValues are values of a key unlike the one that the config has, as text.
func otherValues(t *testing.T, f configs.Field, file string, set []string) []string {
	t.Helper()
	if f.Enum != nil {
		return f.Enum
	}
	cfg, err := configs.Load(configs.Sources{Name: filepath.Join("testdata", file), Set: set})
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := yaml.Unmarshal([]byte(cfg.Resolved()), &tree); err != nil {
		t.Fatal(err)
	}
	var at any = tree
	for _, name := range strings.Split(f.Path, ".") {
		at = at.(map[string]any)[name]
		if at == nil {
			return []string{"other", "3", "[x]"}
		}
	}
	switch v := at.(type) {
	case bool:
		return []string{fmt.Sprint(!v)}
	case int:
		return []string{fmt.Sprint(v + 1), fmt.Sprint(2*v + 7), "0", "1"}
	case float64:
		return []string{fmt.Sprint(v * 1.5), fmt.Sprint(v / 2), fmt.Sprint(v + 0.25)}
	case []any:
		return []string{map[string]string{"lora.targets": "[attn.to_q, proj_out]", "lora.exclude": "[attn.to_v]", "lora.blocks": "[transformer_blocks.0-0]", "lora.rank_pattern": "[proj_out=1]",
			"lora.alpha_pattern": "[proj_out=2]", "sft.betas": "[0.5, 0.6]", "oft.betas": "[0.5, 0.6]"}[f.Path]}
	}
	return []string{"other", "3", "none"}
}
