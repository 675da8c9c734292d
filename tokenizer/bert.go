package tokenizer

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// longestWord is the number of characters beyond which a word is not looked at: it is unknown.
const longestWord = 100

// bert is WordPiece: clean, cut at white space and round punctuation, longest matching piece from the left.
type bert struct {
	vocabulary
	added        *splitter
	unknown      int32
	longest      int // length in bytes of the longest piece, without its ##
	drop         func(rune) bool
	spaceCJK     bool
	lower        bool
	stripAccents bool
}

func loadBERT(dir string, c config, fast bool) (Tokenizer, error) {
	data, ok, err := readOptional(dir, "vocab.txt")
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errors.New("no vocabulary: vocab.txt is not there")
	}
	ids, err := parseVocabTxt(data)
	if err != nil {
		return nil, fmt.Errorf("vocab.txt: %w", err)
	}
	return newBERT(ids, c, fast)
}

// parseVocabTxt reads one piece per line; its id is the number of lines before it.
func parseVocabTxt(data []byte) (map[string]int32, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not UTF-8 text")
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	ids := make(map[string]int32, len(lines))
	for i, line := range lines {
		ids[strings.TrimSuffix(line, "\r")] = int32(i)
	}
	if len(lines) == 1 && lines[0] == "" {
		return nil, errors.New("no entries")
	}
	return ids, nil
}

func newBERT(ids map[string]int32, c config, fast bool) (*bert, error) {
	v, err := newVocabulary(ids)
	if err != nil {
		return nil, err
	}
	b := &bert{vocabulary: v, drop: isOther, spaceCJK: isSet(c.SplitCJK, true), lower: isSet(c.Lower, true)}
	if fast {
		b.drop = isControl
	}
	b.stripAccents = isSet(c.StripAccents, b.lower)
	added, err := c.added()
	if err != nil {
		return nil, err
	}
	var role [5]int32
	for i, r := range []struct{ role, piece string }{
		{"padding", c.PAD.or("[PAD]")}, {"unknown", c.UNK.or("[UNK]")}, {"start", "[CLS]"}, {"end", "[SEP]"}, {"mask", "[MASK]"},
	} {
		if role[i], err = b.special(r.role, r.piece); err != nil {
			return nil, err
		}
		added = append(added, addedJSON{ID: role[i], Content: r.piece})
	}
	b.pad, b.unknown, b.before, b.after = role[0], role[1], []int32{role[2]}, []int32{role[3]}
	b.added = newSplitter(added)
	for text := range ids {
		b.longest = max(b.longest, len(strings.TrimPrefix(text, "##")))
	}
	return b, nil
}

func isSet(option *bool, standard bool) bool {
	if option == nil {
		return standard
	}
	return *option
}

// Encode implements Tokenizer.
func (b *bert) Encode(text string, maxLength int) []int32 {
	room := b.room(maxLength)
	var ids []int32
	for _, p := range b.added.split(strings.ToValidUTF8(text, "\ufffd")) {
		if p.added {
			ids = append(ids, p.id)
			continue
		}
		for _, word := range splitPunctuation(b.clean(p.text)) {
			if len(ids) >= room {
				break
			}
			ids = b.encodeWord(ids, word)
		}
	}
	return b.frame(ids, maxLength)
}

func (b *bert) clean(text string) string {
	text = cleanText(text, b.drop, b.spaceCJK)
	if b.stripAccents {
		text = strings.Map(func(r rune) rune {
			if unicode.Is(unicode.Mn, r) {
				return -1
			}
			return r
		}, norm.NFD.String(text))
	}
	if b.lower {
		text = lowerEach(text)
	}
	return text
}

// splitPunctuation cuts text at white space and makes every punctuation character a word of its own.
func splitPunctuation(text string) []string {
	var words []string
	from := 0
	flush := func(to int) {
		if to > from {
			words = append(words, text[from:to])
		}
	}
	for i, r := range text {
		width := utf8.RuneLen(r)
		switch {
		case unicode.IsSpace(r):
			flush(i)
			from = i + width
		case isPunctuation(r):
			flush(i)
			words = append(words, text[i:i+width])
			from = i + width
		}
	}
	flush(len(text))
	return words
}

func isPunctuation(r rune) bool {
	return r >= '!' && r <= '/' || r >= ':' && r <= '@' || r >= '[' && r <= '`' || r >= '{' && r <= '~' || unicode.Is(unicode.P, r)
}

// encodeWord appends the longest pieces from the left; a word with a part that is no piece is unknown as a whole.
func (b *bert) encodeWord(dst []int32, word string) []int32 {
	if utf8.RuneCountInString(word) > longestWord {
		return append(dst, b.unknown)
	}
	first := len(dst)
	for start := 0; start < len(word); {
		end, id := b.longestPiece(word, start)
		if end == start {
			return append(dst[:first], b.unknown)
		}
		dst = append(dst, id)
		start = end
	}
	return dst
}

// longestPiece finds the longest piece at start; its end is start if there is none.
func (b *bert) longestPiece(word string, start int) (end int, id int32) {
	for end = min(len(word), start+b.longest); end > start; end-- {
		if end < len(word) && !utf8.RuneStart(word[end]) {
			continue
		}
		key := word[start:end]
		if start > 0 {
			key = "##" + key
		}
		if id, ok := b.ids[key]; ok {
			return end, id
		}
	}
	return start, 0
}
