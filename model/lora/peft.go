package lora

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/sciflux/sciflux/store/safetensors"
)

// headerKey is where diffusers (since 0.34) and SimpleTuner keep what peft keeps in adapter_config.json: JSON with every
// key behind the name of its model, transformer.r, or bare.
const headerKey = "lora_adapter_metadata"

// maxConfig bounds a config: that of FLUX with a rank and an alpha of its own for each of its layers has 100 kB.
const maxConfig = 4 << 20

// peft is a LoraConfig as far as it changes what the factors mean.
type peft struct {
	place    string        // where it stands, for errors
	matching time.Duration // spent on patterns

	Type           string   `json:"peft_type"`
	Rank           float64  `json:"r"`
	Alpha          float64  `json:"lora_alpha"`
	Ranks          patterns `json:"rank_pattern"`
	Alphas         patterns `json:"alpha_pattern"`
	RankStabilised bool     `json:"use_rslora"`
	Bias           string   `json:"bias"`
}

// variants are the settings that make of A and B something else than a change of one linear layer of the unchanged base.
// One counts when it is set: neither absent nor null, false, 0 or empty.
var variants = map[string]string{
	"use_dora":                "DoRA rescales whole weights; merge it into its base, or train plain LoRA",
	"use_qalora":              "QALoRA pools the input of A; merge it into its base",
	"use_bdlora":              "the factors are block-diagonal; merge it into its base",
	"alora_invocation_tokens": "aLoRA acts on some tokens only; there is no plain LoRA of it",
	"layer_replication":       "it repeats layers of the base; train it on the base as it is",
	"lora_bias":               "biases are trained too; train with lora_bias false",
	"modules_to_save":         "these are whole layers, not adapters; train without them",
	"target_parameters":       "these are no linear layers; leave them out of the training",
	"trainable_token_indices": "these are embeddings, not adapters; train without them",
	"megatron_config":         "its factors are split between machines; save it as one",
	"monteclora_config":       "MonteCLoRA samples its factors; train plain LoRA",
	"arrow_config":            "Arrow chooses between adapters for each token; give one of them",
	"kasa_config":             "KaSA truncates the base and scales between A and B; merge it into its base",
}

// baseChanging are the initialisations that change the base weights, so that the factors belong to another base.
var baseChanging = []string{"pissa", "olora", "corda", "lora_ga", "loftq"}

// harmlessInit leave the base as it is: whatever A and B start from, the change is scale·B·A.
var harmlessInit = []string{"", "gaussian", "eva", "orthogonal", "mica"}

// harmless are the settings that say nothing about the arithmetic, or what their own checks above look at.
var harmless = []string{
	"alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying", "eva_config", "exclude_modules",
	"fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha", "lora_dropout",
	"lora_ga_config", "megatron_core", "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config",
	"target_modules", "task_type", "use_rslora", "velora_config",
}

// readPEFT reads adapter_config.json.
func readPEFT(path string) (*peft, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, err
	}
	fields, err := settings(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", PEFTConfigFile, err)
	}
	return newPEFT(fields, PEFTConfigFile)
}

// headerPEFT reads what the header of a file says about the transformer; nil when it says nothing.
func headerPEFT(file safetensors.Source) (*peft, error) {
	text := headerText(file, headerKey)
	if text == "" {
		return nil, nil
	}
	all, err := settings([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("%s in the header: %w", headerKey, err)
	}
	own, bare := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	for key, value := range all {
		if name, ok := strings.CutPrefix(key, "transformer."); ok {
			own[name] = value
		} else if !strings.Contains(key, ".") {
			bare[key] = value
		}
	}
	switch {
	case len(own) > 0:
		return newPEFT(own, headerKey+" in the header")
	case len(bare) > 0:
		return newPEFT(bare, headerKey+" in the header")
	}
	return nil, nil // of the text encoders alone
}

// headerText is a value of the file's header.
func headerText(file safetensors.Source, key string) string {
	if f, ok := file.(interface{ Metadata() map[string]string }); ok {
		return f.Metadata()[key]
	}
	return ""
}

// settings reads a JSON object.
func settings(text []byte) (map[string]json.RawMessage, error) {
	if len(text) > maxConfig {
		return nil, fmt.Errorf("longer than %d bytes", maxConfig)
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, fmt.Errorf("no JSON object: %w", err)
	}
	return fields, nil
}

func newPEFT(fields map[string]json.RawMessage, place string) (*peft, error) {
	text, err := json.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", place, err)
	}
	if err := refuseVariants(fields); err != nil {
		return nil, fmt.Errorf("%s: %w", place, err)
	}
	c := &peft{Type: "LORA", Bias: "none", Rank: 8, Alpha: 8} // peft's own defaults
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("%s: %w", place, err)
	}
	c.place = place
	switch {
	case c.Type != "LORA" && c.Type != "":
		return nil, fmt.Errorf("%s: peft_type %s, only LORA is known; merge it into its base, or train LoRA", place, c.Type)
	case c.Bias != "none" && c.Bias != "":
		return nil, fmt.Errorf("%s: bias %q, biases are trained too; train with bias none", place, c.Bias)
	}
	return c, nil
}

// refuseVariants names every setting that makes it something else than plain LoRA.
func refuseVariants(fields map[string]json.RawMessage) error {
	keys := make([]string, 0, len(fields))
	for key := range fields {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		var value any
		if err := json.Unmarshal(fields[key], &value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if key == "init_lora_weights" {
			if err := refuseInit(value); err != nil {
				return err
			}
		}
		if !isSet(value) || slices.Contains(harmless, key) {
			continue
		}
		if why, ok := variants[key]; ok {
			return fmt.Errorf("%s is %s: %s", key, shorten(fields[key]), why)
		}
		// What this program does not know may change the arithmetic when it is a switch or a set of options; names and
		// numbers are left.
		switch value.(type) {
		case bool, map[string]any:
			return fmt.Errorf("%s is %s, which is not known here and may be no plain LoRA; merge it into its base, or train without",
				key, shorten(fields[key]))
		}
	}
	return nil
}

func refuseInit(value any) error {
	name, ok := value.(string)
	if !ok {
		return nil
	}
	lower := strings.ToLower(name)
	if slices.Contains(harmlessInit, lower) {
		return nil
	}
	if slices.ContainsFunc(baseChanging, func(kind string) bool { return strings.HasPrefix(lower, kind) }) {
		return fmt.Errorf("init_lora_weights %s: the factors belong to a changed base; make plain LoRA of it with peft's "+
			"save_pretrained(path_initial_model_for_weight_conversion=…), or merge it into its own base", name)
	}
	return fmt.Errorf("init_lora_weights %q is not known; known are true, false, gaussian, eva, orthogonal, mica", name)
}

// isSet tells whether a setting says anything: neither null, false, 0 nor empty.
func isSet(value any) bool {
	switch v := value.(type) {
	case nil:
		return false
	case bool:
		return v
	case float64:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return true
}

func shorten(text []byte) string {
	const most = 80
	if len(text) > most {
		return string(text[:most]) + "…"
	}
	return string(text)
}

// module is a module of the given path and rank with the alpha that the config says.
func (c *peft) module(path string, rank int) (Module, error) {
	want, err := c.value(c.Ranks, path, c.Rank)
	if err != nil {
		return Module{}, err
	}
	if want != float64(rank) {
		return Module{}, fmt.Errorf("module %s has rank %d, %s says %v", path, rank, c.place, want)
	}
	alpha, err := c.value(c.Alphas, path, c.Alpha)
	if err != nil {
		return Module{}, err
	}
	m := Module{Rank: rank, Alpha: alpha, RankStabilised: c.RankStabilised}
	if !finite(m.Scale()) {
		return Module{}, fmt.Errorf("module %s: %s gives alpha %v, which is no finite scale", path, c.place, alpha)
	}
	return m, nil
}

// value is what the first pattern that matches says, else the fallback.
func (c *peft) value(ps patterns, path string, fallback float64) (float64, error) {
	if c.matching > maxMatching {
		return 0, fmt.Errorf("%s: its patterns take longer than %v; write simpler ones", c.place, maxMatching)
	}
	start := time.Now()
	v, err := ps.of(path, fallback)
	c.matching += time.Since(start)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", c.place, err)
	}
	return v, nil
}
