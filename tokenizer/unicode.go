package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// isOther tells whether r is of a category C*: control, format, private use, surrogate or not assigned.
func isOther(r rune) bool {
	if r < 0x7f {
		return r < 0x20
	}
	return !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z)
}

// isControl is isOther without code points that are not assigned.
func isControl(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs) }

// isCJK tells whether r is an ideograph that stands for a word of its own; kana and hangul are not.
func isCJK(r rune) bool {
	if r < 0x3400 {
		return false
	}
	return r <= 0x4dbf || r >= 0x4e00 && r <= 0x9fff || r >= 0xf900 && r <= 0xfaff ||
		r >= 0x20000 && r <= 0x2a6df || r >= 0x2a700 && r <= 0x2b73f || r >= 0x2b740 && r <= 0x2b81f ||
		r >= 0x2b820 && r <= 0x2ceaf || r >= 0x2f800 && r <= 0x2fa1f
}

// cleanText drops NUL, U+FFFD and what drop says, except tab, line feed and carriage return, which become spaces as all
// of Zs does, and puts a space on each side of an ideograph if spaceCJK is set.
func cleanText(text string, drop func(rune) bool, spaceCJK bool) string {
	var b strings.Builder
	b.Grow(len(text))
	for _, r := range text {
		switch {
		case r == '\t' || r == '\n' || r == '\r':
			b.WriteByte(' ')
		case r == 0 || r == utf8.RuneError || drop(r):
		case r == ' ' || r > 0x7f && unicode.Is(unicode.Zs, r):
			b.WriteByte(' ')
		case spaceCJK && isCJK(r):
			b.WriteByte(' ')
			b.WriteRune(r)
			b.WriteByte(' ')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// lowerEach lowercases one code point at a time: İ becomes i and a combining dot, Σ always σ.
func lowerEach(text string) string {
	return lower(text, false)
}

// lowerFull lowercases by Unicode's full rules, in which Σ at the end of a word becomes ς.
func lowerFull(text string) string {
	return lower(text, true)
}

func lower(text string, finalSigma bool) string {
	var b strings.Builder
	b.Grow(len(text))
	for i, r := range text {
		switch {
		case r < 0x80:
			if 'A' <= r && r <= 'Z' {
				r += 'a' - 'A'
			}
			b.WriteByte(byte(r))
		case r == 'İ':
			b.WriteString("i\u0307")
		case r == 'Σ' && finalSigma && endsWord(text, i):
			b.WriteRune('ς')
		default:
			b.WriteRune(unicode.ToLower(r))
		}
	}
	return b.String()
}

// endsWord tells whether the Σ at byte i follows a cased letter and precedes none, case-ignorable characters skipped.
func endsWord(text string, i int) bool {
	before := strings.TrimRightFunc(text[:i], isCaseIgnorable)
	last, _ := utf8.DecodeLastRuneInString(before)
	after := strings.TrimLeftFunc(text[i+len("Σ"):], isCaseIgnorable)
	next, _ := utf8.DecodeRuneInString(after)
	return before != "" && isCased(last) && (after == "" || !isCased(next))
}

func isCased(r rune) bool {
	return unicode.In(r, unicode.Lu, unicode.Ll, unicode.Lt, unicode.Other_Lowercase, unicode.Other_Uppercase)
}

func isCaseIgnorable(r rune) bool {
	switch r {
	case '\'', '.', ':', 0xb7, 0x387, 0x55f, 0x5f4, 0x2018, 0x2019, 0x2024, 0x2027, 0xfe13, 0xfe52, 0xfe55, 0xff07, 0xff0e, 0xff1a:
		return true
	}
	return unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf, unicode.Lm, unicode.Sk)
}
