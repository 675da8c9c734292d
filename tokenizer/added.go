package tokenizer

import (
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"
)

// addedTokens finds added tokens, such as <|endoftext|>, that stand literally in a text: some in the text as it was
// given, some only after it was cleaned, with their own spelling cleaned as well.
type addedTokens struct {
	raw, cleaned *splitter
}

// newAddedTokens sorts tokens by the moment at which they are looked for.
func newAddedTokens(tokens []addedJSON, clean func(string) string) addedTokens {
	var early, late []addedJSON
	for _, token := range tokens {
		if token.Normalized {
			token.Content = clean(token.Content)
			late = append(late, token)
		} else {
			early = append(early, token)
		}
	}
	return addedTokens{newSplitter(early), newSplitter(late)}
}

// each hands the ids of added tokens to token and the cleaned text between them to plain; first tells whether the text
// stands at the very beginning. A function that returns false ends the walk.
func (a addedTokens) each(text string, clean func(string) string, token func(id int32) bool, plain func(text string, first bool) bool) {
	for i, outer := range a.raw.split(text) {
		if outer.added {
			if !token(outer.id) {
				return
			}
			continue
		}
		for k, inner := range a.cleaned.split(clean(outer.text)) {
			if inner.added && !token(inner.id) || !inner.added && !plain(inner.text, i == 0 && k == 0) {
				return
			}
		}
	}
}

// splitter cuts text at tokens.
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
		if token.SingleWord && !standsAlone(text, start, stop) {
			i = stop
			continue
		}
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

// standsAlone tells whether text[start:stop] has no word character on either side.
func standsAlone(text string, start, stop int) bool {
	before, _ := utf8.DecodeLastRuneInString(text[:start])
	after, _ := utf8.DecodeRuneInString(text[stop:])
	return (start == 0 || !isWord(before)) && (stop == len(text) || !isWord(after))
}

// isWord is \w of Unicode's regular expressions: letters, marks, digits, connectors and joiners.
func isWord(r rune) bool {
	return unicode.In(r, unicode.L, unicode.Nl, unicode.Other_Alphabetic, unicode.M, unicode.Nd, unicode.Pc) || r == 0x200c || r == 0x200d
}
