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

// nearest finds the candidate with the smallest edit distance to word, if it is near enough to be a slip.
func nearest(word string, candidates []string) (string, bool) {
	best, bestDistance := "", len(word)/2+1
	for _, c := range candidates {
		d := distance(word, c)
		// A key that was written without its section, or in another one, is as near as its last part.
		if i := strings.LastIndexByte(c, '.'); i >= 0 {
			d = min(d, distance(last(word), c[i+1:])+1)
		}
		if d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best, best != ""
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
