package tokenizer

import (
	"sort"
	"strings"
	"unicode"
)

// splitter finds added tokens, such as <|endoftext|>, that stand literally in a text.
type splitter struct {
	byFirst [256][]addedJSON // by first byte, longest first: the leftmost longest match wins
}

func newSplitter(tokens []addedJSON) *splitter {
	s := &splitter{}
	for _, t := range tokens {
		if t.Content != "" {
			s.byFirst[t.Content[0]] = append(s.byFirst[t.Content[0]], t)
		}
	}
	for i := range s.byFirst {
		list := s.byFirst[i]
		sort.SliceStable(list, func(a, b int) bool { return len(list[a].Content) > len(list[b].Content) })
	}
	return s
}

// part is a stretch of text between added tokens, or an added token.
type part struct {
	text  string
	id    int32
	added bool
}

// split cuts text into parts; empty stretches are left out.
func (s *splitter) split(text string) []part {
	var parts []part
	from := 0
	for i := 0; i < len(text); {
		token, ok := s.at(text[i:])
		if !ok {
			i++
			continue
		}
		start, stop := i, i+len(token.Content)
		if token.LStrip {
			start = max(from, len(strings.TrimRightFunc(text[:start], unicode.IsSpace)))
		}
		if token.RStrip {
			stop = len(text) - len(strings.TrimLeftFunc(text[stop:], unicode.IsSpace))
		}
		if start > from {
			parts = append(parts, part{text: text[from:start]})
		}
		parts = append(parts, part{id: token.ID, added: true})
		from, i = stop, stop
	}
	if from < len(text) {
		parts = append(parts, part{text: text[from:]})
	}
	return parts
}

func (s *splitter) at(text string) (addedJSON, bool) {
	for _, t := range s.byFirst[text[0]] {
		if strings.HasPrefix(text, t.Content) {
			return t, true
		}
	}
	return addedJSON{}, false
}
