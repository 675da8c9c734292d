package configs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLoRALists: the same lists from a file, a variable and a flag, and out of the resolved config again.
func TestLoRALists(t *testing.T) {
	want := LoRA{Targets: []string{"all-linear"}, Exclude: []string{"proj_mlp", "ff.net.2"}, Blocks: []string{"transformer_blocks.0-18",
		"single_transformer_blocks.3"},
		Rank: 16, Alpha: 16, RSLoRA: true, RankPattern: []string{`^(?!single).*to_q=32`,
			"attn.to_k = 8"}, AlphaPattern: []string{"to_q=0.5"}, Init: "gaussian"}
	text := "lora:\n  targets: [all-linear]\n  exclude: [proj_mlp, ff.net.2]\n  blocks: [transformer_blocks.0-18, single_transformer_blocks.3]\n" +
		"  rslora: true\n  rank_pattern: ['^(?!single).*to_q=32', attn.to_k = 8]\n  alpha_pattern: [to_q=0.5]\n"
	for name, src := range map[string]Sources{
		"file": {Name: file(t, text)},
		"environment": {Environ: []string{"SCIFLUX_LORA_TARGETS=all-linear", "SCIFLUX_LORA_EXCLUDE=proj_mlp,ff.net.2",
			"SCIFLUX_LORA_RSLORA=true",
			"SCIFLUX_LORA_BLOCKS=transformer_blocks.0-18, single_transformer_blocks.3", `SCIFLUX_LORA_RANK_PATTERN=['^(?!single).*to_q=32', attn.to_k = 8]`, "SCIFLUX_LORA_ALPHA_PATTERN=to_q=0.5"}},
		"flags": {Set: []string{"lora.targets=all-linear", "lora.exclude=proj_mlp, ff.net.2", "lora.rslora=true",
			"lora.blocks=transformer_blocks.0-18,single_transformer_blocks.3",
			"lora.rank_pattern='^(?!single).*to_q=32', attn.to_k = 8", "lora.alpha_pattern=to_q=0.5"}},
	} {
		c, err := Load(src)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		again, err := Parse(c.Resolved())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, got := range []LoRA{c.LoRA, again.LoRA} {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
		if c.Hash() == Default().Hash() {
			t.Errorf("%s: the hash does not see the lists", name)
		}
	}
}

// TestLoRAListsAreChecked: an entry without its form is named with its key.
func TestLoRAListsAreChecked(t *testing.T) {
	for set, words := range map[string][]string{
		"lora.blocks=transformer_blocks":     {"lora.blocks", `"transformer_blocks"`, "0-18"},
		"lora.blocks=transformer_blocks.5-3": {"lora.blocks", "ends before it begins"},
		"lora.blocks=transformer_blocks.-3":  {"lora.blocks", "no range"},
		`lora.exclude=[""]`:                  {"lora.exclude", "empty"},
		"lora.rank_pattern=to_q":             {"lora.rank_pattern", `"to_q"`, "PATTERN=RANK"},
		"lora.rank_pattern=to_q=1.5":         {"lora.rank_pattern", "to_q=1.5"},
		"lora.rank_pattern=to_q=0":           {"lora.rank_pattern", "to_q=0"},
		"lora.rank_pattern==4":               {"lora.rank_pattern", "=4"},
		"lora.alpha_pattern=to_q=-1":         {"lora.alpha_pattern", "to_q=-1"},
		"lora.alpha_pattern=to_q=nan":        {"lora.alpha_pattern", "to_q=nan"},
		"lora.alpha_pattern=to_q=Inf":        {"lora.alpha_pattern", "to_q=Inf"},
	} {
		_, err := Load(Sources{Set: []string{set}})
		for _, w := range words {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: error %v, want %q in it", set, err, w)
			}
		}
	}
	for _, set := range []string{"lora.rank_pattern=to_q=4", "lora.alpha_pattern=a=b=0.5", "lora.blocks=transformer_blocks.0",
		"lora.exclude="} {
		if _, err := Load(Sources{Set: []string{set}}); err != nil {
			t.Errorf("%s: %v", set, err)
		}
	}
}
