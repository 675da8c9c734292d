package lora

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"regexp"
)

// peft is adapter_config.json as far as it changes the arithmetic.
type peft struct {
	Type         string   `json:"peft_type"`
	Rank         int      `json:"r"`
	Alpha        float64  `json:"lora_alpha"`
	Ranks        patterns `json:"rank_pattern"`
	Alphas       patterns `json:"alpha_pattern"`
	RankStable   bool     `json:"use_rslora"`
	DoRA         bool     `json:"use_dora"`
	LoRABias     bool     `json:"lora_bias"`
	Bias         string   `json:"bias"`
	SavedModules []string `json:"modules_to_save"`
}

// patterns is a JSON object from regular expressions to numbers, in the order of the file.
type patterns []pattern

type pattern struct {
	match *regexp.Regexp
	value float64
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *patterns) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("pattern is not an object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		// A key has to match the module's path from its start, alone or after a dot.
		match, err := regexp.Compile(fmt.Sprintf(`^(.*\.)?(%s)$`, key))
		if err != nil {
			return fmt.Errorf("pattern %q: %w", key, err)
		}
		var value float64
		if err := d.Decode(&value); err != nil {
			return fmt.Errorf("pattern %q: %w", key, err)
		}
		*p = append(*p, pattern{match, value})
	}
	return nil
}

// of is the value of the first pattern that matches, or the fallback.
func (p patterns) of(module string, fallback float64) float64 {
	for _, x := range p {
		if x.match.MatchString(module) {
			return x.value
		}
	}
	return fallback
}

func readPEFT(path string) (*peft, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c := &peft{Type: "LORA", Bias: "none", Rank: 8, Alpha: 8}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("%s: %w", peftConfig, err)
	}
	switch {
	case c.Type != "LORA":
		return nil, fmt.Errorf("%s: peft_type %s, only LORA is known", peftConfig, c.Type)
	case c.DoRA:
		return nil, fmt.Errorf("%s: use_dora is set; its weights are no plain LoRA", peftConfig)
	case c.LoRABias || c.Bias != "none" && c.Bias != "":
		return nil, fmt.Errorf("%s: the adapter trains biases (bias %q, lora_bias %v), which are not known", peftConfig, c.Bias, c.LoRABias)
	case len(c.SavedModules) > 0:
		return nil, fmt.Errorf("%s: modules_to_save %v are whole layers, not adapters", peftConfig, c.SavedModules)
	}
	return c, nil
}

// scale is alpha/rank of a module, alpha/√rank with use_rslora.
func (c *peft) scale(module string, rank int, _ float64, _ bool) (float64, error) {
	if r := c.Ranks.of(module, float64(c.Rank)); r != float64(rank) {
		return 0, fmt.Errorf("module %s has rank %d, %s says %v", module, rank, peftConfig, r)
	}
	alpha := c.Alphas.of(module, c.Alpha)
	if c.RankStable {
		return alpha / math.Sqrt(float64(rank)), nil
	}
	return alpha / float64(rank), nil
}
