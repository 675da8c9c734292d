package configs

import (
	"fmt"
	"strings"
)

// Problem is one thing wrong with a config.
type Problem struct {
	Path  string // full key
	Where string // file and line, variable or flag that set it; empty for a default
	Text  string // what is wrong
	Cure  string // what to do
}

// String is one line: path, place, what is wrong, cure.
func (p Problem) String() string {
	s := p.Path + ": " + p.Text
	if p.Path == "" {
		s = p.Text
	}
	if p.Where != "" {
		s = p.Where + ": " + s
	}
	if p.Cure != "" {
		s += "; " + p.Cure
	}
	return s
}

// Error is everything wrong with a config at once.
type Error struct {
	Problems []Problem
}

// Error lists the problems, one a line when there are several.
func (e *Error) Error() string {
	if len(e.Problems) == 1 {
		return "config: " + e.Problems[0].String()
	}
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = "  " + p.String()
	}
	return fmt.Sprintf("config: %d problems:\n%s", len(lines), strings.Join(lines, "\n"))
}

// problems collects what is wrong.
type problems []Problem

func (ps *problems) add(path, where, cure, format string, args ...any) {
	*ps = append(*ps, Problem{Path: path, Where: where, Text: fmt.Sprintf(format, args...), Cure: cure})
}

func (ps problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	return &Error{Problems: ps}
}

// nearest finds the candidate with the smallest edit distance to word; the first of equal ones. ok is false when even
// that is too far to be a slip.
func nearest(word string, candidates []string) (best string, ok bool) {
	bestDistance := -1
	for _, c := range candidates {
		if d := distance(word, c); bestDistance < 0 || d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best, bestDistance >= 0 && bestDistance <= max(2, len(word)/3)
}

// otherNames are what keys are called in other trainers, by the last part of the path.
var otherNames = map[string]string{
	"learning_rate": "lr", "batch_size": "batch", "train_batch_size": "batch", "max_train_steps": "steps", "max_steps": "steps",
	"gradient_accumulation_steps": "accumulate", "lora_alpha": "alpha", "r": "rank", "target_modules": "targets",
	"lr_warmup_steps": "warmup_steps", "max_norm": "max_grad_norm", "num_epochs": "epochs", "ema_decay": "ema",
	"num_inference_steps": "steps", "guidance_scale": "guidance", "model_name": "pipeline", "base_model": "pipeline",
}

// nearestKey finds the key that was probably meant: one of the same name in another section, one known by another name,
// else the one with the fewest changed letters, where its own section counts as near.
func nearestKey(path string, keys []string) string {
	name, parent := last(path), strings.TrimSuffix(path, last(path))
	if known, ok := otherNames[name]; ok {
		name = known
	}
	best, bestDistance := "", 0
	for _, k := range keys {
		kName, kParent := last(k), strings.TrimSuffix(k, last(k))
		d := 3*distance(name, kName) + distance(parent, kParent)
		if best == "" || d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

func last(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

// distance is the number of inserted, deleted, replaced or swapped neighbouring letters between a and b.
func distance(a, b string) int {
	prev2, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], prev2[j-2]+1)
			}
		}
		prev2, prev, row = prev, row, prev2
	}
	return prev[len(b)]
}
