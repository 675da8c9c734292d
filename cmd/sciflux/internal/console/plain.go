package console

import (
	"strconv"
	"strings"
	"unicode"
)

// Plain is text from a file as a terminal may show it: what moves the cursor, changes colours or the reading direction, or
// cannot be seen is written as its escape (\x1b). Ends of lines are kept.
func Plain(text string) string {
	if !strings.ContainsFunc(text, unseen) {
		return text
	}
	var out strings.Builder
	for _, r := range text {
		if !unseen(r) {
			out.WriteRune(r)
			continue
		}
		q := strconv.QuoteRune(r)
		out.WriteString(q[1 : len(q)-1])
	}
	return out.String()
}

func unseen(r rune) bool { return r != '\n' && (!unicode.IsPrint(r) || r == unicode.ReplacementChar) }
