package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// clusterLength is the length in bytes of the extended grapheme cluster at the start of text (UAX #29), as far as the
// character map can tell: rules that only join characters of three bytes and more (hangul syllables, regional
// indicators, emoji sequences, Indic conjuncts) are left out, because clusters of six bytes and more are handled
// character by character in any case.
func clusterLength(text string) int {
	first, n := utf8.DecodeRuneInString(text)
	if first == '\r' && len(text) > 1 && text[1] == '\n' {
		return 2
	}
	if breaksAlways(first) {
		return n
	}
	for prepend := isPrepend(first); n < len(text); {
		r, size := utf8.DecodeRuneInString(text[n:])
		if breaksAlways(r) || !prepend && !extendsCluster(r) {
			break
		}
		prepend = isPrepend(r)
		n += size
	}
	return n
}

// breaksAlways tells whether clusters end before and after r: the class Control with CR and LF.
func breaksAlways(r rune) bool {
	switch {
	case r < 0x80:
		return r < 0x20 || r == 0x7f
	case r == 0x200c || r == 0x200d || r >= 0xe0020 && r <= 0xe007f || isPrepend(r):
		return false
	case r >= 0xe0000 && r <= 0xe0fff:
		return !unicode.Is(unicode.Mn, r)
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// extendsCluster tells whether r joins the cluster before it: the classes Extend, ZWJ and SpacingMark.
func extendsCluster(r rune) bool {
	switch {
	case r < 0x300:
		return false
	case r == 0x200d || r == 0x0e33 || r == 0x0eb3 || r >= 0x1f3fb && r <= 0x1f3ff:
		return true
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Other_Grapheme_Extend):
		return true
	}
	return unicode.Is(unicode.Mc, r) && !unicode.Is(looseMarks, r)
}

// looseMarks are the spacing combining marks that UAX #29 leaves out of SpacingMark.
var looseMarks = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x102b, Hi: 0x102c, Stride: 1}, {Lo: 0x1038, Hi: 0x1038, Stride: 1}, {Lo: 0x1062, Hi: 0x1064, Stride: 1},
		{Lo: 0x1067, Hi: 0x106d, Stride: 1}, {Lo: 0x1083, Hi: 0x1083, Stride: 1}, {Lo: 0x1087, Hi: 0x108c, Stride: 1},
		{Lo: 0x108f, Hi: 0x108f, Stride: 1}, {Lo: 0x109a, Hi: 0x109c, Stride: 1}, {Lo: 0x1a61, Hi: 0x1a61, Stride: 1},
		{Lo: 0x1a63, Hi: 0x1a64, Stride: 1}, {Lo: 0xaa7b, Hi: 0xaa7b, Stride: 1}, {Lo: 0xaa7d, Hi: 0xaa7d, Stride: 1},
	},
	R32: []unicode.Range32{{Lo: 0x11720, Hi: 0x11721, Stride: 1}},
}

// isPrepend tells whether r joins the character after it.
func isPrepend(r rune) bool {
	return r >= 0x600 && unicode.Is(unicode.Prepended_Concatenation_Mark, r) || r == 0xd4e ||
		r >= 0x111c2 && r <= 0x111c3 || r == 0x1193f || r == 0x11941 || r == 0x11a3a || r >= 0x11a84 && r <= 0x11a89 || r == 0x11d46 || r == 0x11f02
}
