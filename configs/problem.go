package configs

import (
	"fmt"
	"strings"
	"unicode"
)

// Problem is one thing wrong with a config.
type Problem struct {
	Path  string // full key
	Where string // file and line, variable or flag that set it; empty for a default
	Text  string // what is wrong
	Cure  string // what to do
}

// String is one line: path, place, what is wrong, cure. Control characters of the user's text become spaces.
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
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
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
