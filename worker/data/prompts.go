package data

import (
	"encoding/json"
	"os"

	"github.com/sciflux/sciflux/run"
)

// readPrompts reads a JSON list of {"prompt", "object"}.
func readPrompts(path string) ([]Prompt, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, run.Errorf(run.ClassData, "read prompts", path, "", "%w", err)
	}
	var list []struct {
		Prompt string `json:"prompt"`
		Object string `json:"object"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, run.Errorf(run.ClassData, "read prompts", path, `it must be a JSON list of {"prompt", "object"}`, "%w", err)
	}
	var out []Prompt
	for _, p := range list {
		out = append(out, Prompt{Text: p.Prompt, Object: p.Object, Row: -1})
	}
	return out, nil
}
