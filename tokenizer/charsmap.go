package tokenizer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// charsmap is SentencePiece's compiled character map: a double-array trie from byte strings to places in a blob of
// NUL-terminated replacements.
//
// A unit of the trie is a uint32: bits 0-7 and 31 its label, bit 8 tells that a value follows, bits 10-30 an offset,
// which bit 9 multiplies by 256.
type charsmap struct {
	units []uint32
	blob  string
}

// parseCharsmap reads the stored form: the trie's size in bytes (little-endian uint32), the trie, the blob.
func parseCharsmap(data []byte) (*charsmap, error) {
	if len(data) < 4 {
		return nil, errors.New("character map: shorter than its own header")
	}
	size := int64(binary.LittleEndian.Uint32(data))
	if size == 0 || size%4 != 0 || size > int64(len(data)-4) {
		return nil, fmt.Errorf("character map: a trie of %d bytes does not fit into the %d that follow", size, len(data)-4)
	}
	m := &charsmap{units: make([]uint32, size/4), blob: string(data[4+size:])}
	for i := range m.units {
		m.units[i] = binary.LittleEndian.Uint32(data[4+4*i:])
	}
	if !utf8.ValidString(m.blob) {
		return nil, errors.New("character map: replacements are not UTF-8 text")
	}
	return m, nil
}

// replacement looks for the shortest prefix of key that has a replacement, as the fast tokenizers do.
func (m *charsmap) replacement(key string) (string, bool) {
	pos := m.offset(m.units[0])
	for i := 0; i < len(key) && key[i] != 0; i++ {
		pos ^= uint32(key[i])
		if int(pos) >= len(m.units) {
			return "", false
		}
		unit := m.units[pos]
		if unit&(1<<31|0xff) != uint32(key[i]) {
			return "", false
		}
		pos ^= m.offset(unit)
		if unit>>8&1 == 1 {
			return m.text(pos)
		}
	}
	return "", false
}

func (m *charsmap) offset(unit uint32) uint32 { return unit >> 10 << (unit & 0x200 >> 6) }

// text is the replacement whose place in the blob the unit at pos holds.
func (m *charsmap) text(pos uint32) (string, bool) {
	if int(pos) >= len(m.units) {
		return "", false
	}
	start := int(m.units[pos] & 0x7fffffff)
	if start > len(m.blob) {
		return "", false
	}
	text, _, _ := strings.Cut(m.blob[start:], "\x00")
	return text, utf8.ValidString(text)
}

// longestCluster is the size in bytes from which a grapheme cluster is replaced character by character.
const longestCluster = 6

// normalise replaces every grapheme cluster that is short and has a replacement as a whole, and else every character
// that has one. A cluster counts as having one when any prefix of it does; the rest of the cluster is then lost. That
// is what the fast T5 tokenizer does: a combining accent after a full-width letter disappears.
func (m *charsmap) normalise(text string) string {
	var b strings.Builder
	b.Grow(len(text))
	for text != "" {
		n := clusterLength(text)
		if n < longestCluster {
			if to, ok := m.replacement(text[:n]); ok {
				b.WriteString(to)
				text = text[n:]
				continue
			}
		}
		for i, r := range text[:n] {
			char := text[i : i+utf8.RuneLen(r)]
			if to, ok := m.replacement(char); ok {
				char = to
			}
			b.WriteString(char)
		}
		text = text[n:]
	}
	return b.String()
}
