package console

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/run"
)

// TestPlain: what files hold reaches a terminal without moving anything on it.
func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"an unripe apple": "an unripe apple", "一个苹果 🍎 é": "一个苹果 🍎 é", "two\nlines": "two\nlines", "": "",
		"\x1b]0;evil\x07": `\x1b]0;evil\a`, "a\rb\tc\x00": `a\rb\tc\x00`, "\u009b31m": `\u009b31m`, "\u202etxt.exe": `\u202etxt.exe`, "\xff": `�`,
	} {
		got := Plain(text)
		if text == "\xff" {
			want = `\ufffd`
			got = strings.ReplaceAll(got, "�", `\ufffd`)
		}
		if got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		for _, r := range Plain(rapid.String().Draw(t, "text")) {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Fatalf("%q", r)
			}
		}
	})
	var b bytes.Buffer
	(&Printer{Out: &b, Err: &b}).Fail(errors.New("no split \x1b[2Jx"), run.ClassData)
	if got := b.String(); got != "sciflux: no split \\x1b[2Jx\n" {
		t.Errorf("%q", got)
	}
}
