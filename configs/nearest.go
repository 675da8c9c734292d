package configs

import (
	"math"
	"strings"
)

// nearest finds the candidate with the smallest edit distance to word; the first of equal ones. ok is false when even
// that is too far to be a slip.
func nearest(word string, candidates []string) (best string, ok bool) {
	best, off := nearestOf(word, candidates)
	return best, off <= max(2, len(word)/3)
}

// nearestOf is nearest with the distance itself, which is very large where there are no candidates.
func nearestOf(word string, candidates []string) (best string, off int) {
	off = math.MaxInt
	for _, c := range candidates {
		if d := distance(word, c); d < off {
			best, off = c, d
		}
	}
	return best, off
}

// otherNames are what keys are called in other trainers, by the last part of the path.
var otherNames = map[string]string{
	"learning_rate": "lr", "batch_size": "batch", "train_batch_size": "batch", "max_train_steps": "steps", "max_steps": "steps",
	"gradient_accumulation_steps": "accumulate", "lora_alpha": "alpha", "r": "rank", "target_modules": "targets",
	"lr_warmup_steps": "warmup_steps", "max_norm": "max_grad_norm", "num_epochs": "epochs", "ema_decay": "ema",
	"num_inference_steps": "steps", "guidance_scale": "guidance", "model_name": "pipeline", "base_model": "pipeline",
	"clip_range": "eps_clamp", "clip_eps": "eps_clamp", "num_threads": "threads",
}

// closeEnough is the likeness from which a key of the section that was named is preferred to one elsewhere.
const closeEnough = 0.5

// nearestKey finds the key that was probably meant. A name much like it in the same section comes first, then the same
// name in another section; the likeness of the sections decides between equal names. The first of equal ones counts.
func nearestKey(path string, keys []string) string {
	name, parent := strings.ToLower(last(path)), parentOf(path)
	best, bestScore := "", -1.0
	for _, k := range keys {
		like, kParent := likeness(name, last(k)), parentOf(k)
		for other, known := range otherNames {
			if known == last(k) {
				// The largest of all, so the order of the map does not matter; the key's own name comes first.
				like = max(like, 0.99*letters(strings.Join(words(name), ""), strings.Join(words(other), "")))
			}
		}
		score := 3 * like
		switch {
		case parent == kParent && parent != "" && like >= closeEnough:
			score += 2
		case parent == kParent:
			score++
		case parent != "" && kParent != "":
			score += likeness(parent, kParent)
		}
		if score > bestScore {
			best, bestScore = k, score
		}
	}
	return best
}

func last(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

// parentOf is the section of a key, empty at the top.
func parentOf(path string) string {
	return strings.TrimSuffix(strings.TrimSuffix(path, last(path)), ".")
}

// likeness says how alike two names are, 0..1: by their letters, by the words they share, as one the other's initials, or
// as one the other with a single slip. Words are told apart by underscores, hyphens and dots.
func likeness(a, b string) float64 {
	const fewest = 5 // letters of a name in which one slip leaves no doubt
	wordsA, wordsB := words(a), words(b)
	joinedA, joinedB := strings.Join(wordsA, ""), strings.Join(wordsB, "")
	like := max(letters(joinedA, joinedB), shared(wordsA, wordsB))
	if min(len(joinedA), len(joinedB)) >= fewest && distance(joinedA, joinedB) == 1 {
		like = max(like, 0.95)
	}
	if abbreviates(wordsA, wordsB) || abbreviates(wordsB, wordsA) {
		like = max(like, 0.8)
	}
	return like
}

func words(name string) []string {
	return strings.FieldsFunc(name, func(r rune) bool { return r == '_' || r == '-' || r == '.' || r == ' ' })
}

// letters is the share of letters that need no change.
func letters(a, b string) float64 {
	n := max(len(a), len(b))
	if n == 0 {
		return 1
	}
	return 1 - float64(distance(a, b))/float64(n)
}

// shared is the part of all letters that stands in words which both have, each word used once. A word that begins the
// other counts nearly, one with a slip in it less.
func shared(a, b []string) float64 {
	var sum, total float64
	for _, w := range append(append([]string(nil), a...), b...) {
		total += float64(len(w))
	}
	if total == 0 {
		return 0
	}
	used := make([]bool, len(b))
	for _, w := range a {
		at, most := -1, 0.0
		for j, v := range b {
			if s := sameWord(w, v); !used[j] && s > most {
				at, most = j, s
			}
		}
		if at >= 0 {
			used[at] = true
			sum += most * float64(len(w)+len(b[at]))
		}
	}
	return sum / total
}

func sameWord(a, b string) float64 {
	const fewest = 3 // letters of a beginning that says something
	switch {
	case a == b:
		return 1
	case min(len(a), len(b)) >= fewest && (strings.HasPrefix(a, b) || strings.HasPrefix(b, a)):
		return 0.9
	}
	if s := letters(a, b); s >= 0.7 {
		return s * s
	}
	return 0
}

// abbreviates reports whether a is one word of the initials of b's two words or more.
func abbreviates(a, b []string) bool {
	if len(a) != 1 || len(b) < 2 || len(a[0]) != len(b) {
		return false
	}
	for i, w := range b {
		if a[0][i] != w[0] {
			return false
		}
	}
	return true
}

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
