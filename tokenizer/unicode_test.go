package tokenizer

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// nasty draws text that is likely to meet the rules' corners.
func nasty() *rapid.Generator[string] {
	pieces := rapid.OneOf(
		rapid.SampledFrom([]string{
			" ", "  ", "\t", "\r\n", "\u00a0", "\u3000", "\u2028", "\x00", "\x07", "\x85", "\ufffd", "\u200b", "\u200d", "\ufeff", "\u00ad", "\u0378", "\ue000",
			"a", "b", "ap", "apple", "unripe", "A", "É", "e\u0301", "\u0301", "\u0345", "Σ", "ΑΣ", "İ", "ß", "ſ", "ﬁ", "ａ", "…", "果", "か", "사", "🍎", "👩\u200d🔬",
			"'", "'s", "'LL", ".", ",", "!?", "2024", "½", "٣", "▁", "<", "|", "<|endoftext|>", "<|STARTOFTEXT|>", "</s>", "<extra_id_3>", "[MASK]", "[", "##s",
		}),
		rapid.StringN(0, 3, -1),
	)
	return rapid.Custom(func(t *rapid.T) string { return strings.Join(rapid.SliceOfN(pieces, 0, 14).Draw(t, "pieces"), "") })
}

func every(t testing.TB) map[string]Tokenizer {
	return map[string]Tokenizer{
		CLIP: load(t, CLIP, clipFolder()), CLIPFast: load(t, CLIPFast, clipFolder()), T5Fast: load(t, T5Fast, t5Folder()),
		BERT: load(t, BERT, bertFolder()), BERTFast: load(t, BERTFast, bertFolder()),
	}
}

// Cutting to a length is the same as encoding everything and cutting then, for any text, although long texts are not
// encoded to their end.
func TestTruncationIsACut(t *testing.T) {
	all := every(t)
	rapid.Check(t, func(t *rapid.T) {
		text := nasty().Draw(t, "text")
		limit := rapid.IntRange(2, 20).Draw(t, "limit")
		for class, tk := range all {
			whole, cut := tk.Encode(text, 0), tk.Encode(text, limit)
			if len(whole) <= limit {
				if string(bytesOf(whole)) != string(bytesOf(cut)) {
					t.Fatalf("%s: %v with a limit of %d, %v without", class, cut, limit, whole)
				}
				continue
			}
			want := append(append([]int32{}, whole[:limit-1]...), whole[len(whole)-1])
			if string(bytesOf(want)) != string(bytesOf(cut)) {
				t.Fatalf("%s: %v, want %v", class, cut, want)
			}
		}
	})
}

func bytesOf(ids []int32) (out []byte) {
	for _, id := range ids {
		out = append(out, byte(id), byte(id>>8), byte(id>>16))
	}
	return out
}

// Encoding is the same whoever else encodes at the time.
func TestConcurrentUse(t *testing.T) {
	texts := []string{"An unripe apple's 2024", "ＡＢＣ\u0301 果 ΑΣ İ", strings.Repeat("apple a ", 50)}
	for class, tk := range every(t) {
		t.Run(class, func(t *testing.T) {
			want := bytesOf(Batch(tk, texts, 40))
			done := make(chan bool)
			for range 4 {
				go func() {
					same := true
					for range 20 {
						same = same && string(bytesOf(Batch(tk, texts, 40))) == string(want)
					}
					done <- same
				}()
			}
			for range 4 {
				if !<-done {
					t.Error("ids differ")
				}
			}
		})
	}
}

func TestCategories(t *testing.T) {
	for r, want := range map[rune][2]bool{ // category C*, and C* without unassigned
		'a': {}, ' ': {}, '~': {}, 0x1f: {true, true}, 0x7f: {true, true}, 0x85: {true, true}, 0xad: {true, true}, 0x200d: {true, true}, 0xe000: {true, true},
		0x378: {true, false}, 0xfdd0: {true, false}, 0x10fffd: {true, true}, 0xfe0f: {}, '果': {}, 0x2028: {}, '🍎': {}, '\t': {true, true},
	} {
		if got := [2]bool{isOther(r), isControl(r)}; got != want {
			t.Errorf("%U: %v, want %v", r, got, want)
		}
	}
	for r, want := range map[rune]bool{
		0x33ff: false, 0x3400: true, 0x4dbf: true, 0x4dc0: false, 0x4e00: true, 0x9fff: true, 0xa000: false, 0xf900: true, 0xfaff: true, 0xfb00: false,
		0x20000: true, 0x2a6e0: false, 0x2a700: true, 0x2b73f: true, 0x2b740: true, 0x2ceaf: true, 0x2ceb0: false, 0x2f800: true, 0x2fa1f: true, 0x2fa20: false,
		'か': false, '사': false, 'a': false,
	} {
		if got := isCJK(r); got != want {
			t.Errorf("%U: %v, want %v", r, got, want)
		}
	}
	for r := rune(0); r < 0x80; r++ {
		want := strings.ContainsRune("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", r)
		if got := isPunctuation(r); got != want {
			t.Errorf("%q: punctuation %v", r, got)
		}
	}
	if !isPunctuation('—') || !isPunctuation('。') || isPunctuation('果') || isPunctuation('€') {
		t.Error("punctuation beyond ASCII is the category P")
	}
}

// What cleaning promises: no white space but single spaces inside, no control characters, lower case.
func TestCleaningProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := strings.ToValidUTF8(nasty().Draw(t, "text"), "")
		slow, fast := cleanSlow(text), cleanFast(text)
		for _, r := range slow {
			if isOther(r) || r != ' ' && unicode.IsSpace(r) || r == utf8.RuneError {
				t.Fatalf("slow: %U is left in %q", r, slow)
			}
		}
		if strings.Contains(slow, "  ") || strings.TrimSpace(slow) != slow {
			t.Fatalf("slow: spaces in %q", slow)
		}
		if strings.Contains(fast, "  ") {
			t.Fatalf("fast: spaces in %q", fast)
		}
		for name, s := range map[string]string{"slow": slow, "fast": fast} {
			if !utf8.ValidString(s) || strings.IndexFunc(s, func(r rune) bool { return unicode.IsUpper(r) && unicode.ToLower(r) != r }) >= 0 {
				t.Fatalf("%s: %q is not in lower case", name, s)
			}
		}
		if again := cleanSlow(slow); again != slow && !strings.ContainsAny(text, "İΣ") {
			t.Fatalf("slow: cleaning %q again gives %q", slow, again)
		}
	})
}

// Words and gaps together are the text, and each word is of one kind.
func TestWordsPartitionTheText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := strings.ToValidUTF8(nasty().Draw(t, "text"), "")
		for _, slow := range []bool{true, false} {
			for rest := text; rest != ""; {
				n, kind := nextWord(rest, slow)
				if n <= 0 || n > len(rest) {
					t.Fatalf("%d bytes of %q", n, rest)
				}
				word := rest[:n]
				letters, numbers := strings.IndexFunc(word, unicode.IsLetter) >= 0, strings.IndexFunc(word, unicode.IsNumber) >= 0
				if kind == plainWord && (numbers && utf8.RuneCountInString(word) > 1 || strings.IndexFunc(word, unicode.IsSpace) >= 0) {
					t.Fatalf("word %q", word)
				}
				if kind == plainWord && letters && word[0] != '\'' && strings.IndexFunc(word, func(r rune) bool { return !unicode.IsLetter(r) }) >= 0 {
					t.Fatalf("word %q mixes letters and others", word)
				}
				rest = rest[n:]
			}
		}
	})
}

// longestFirst is WordPiece by its definition, over characters.
func longestFirst(ids map[string]int32, word string) []int32 {
	var out []int32
	chars := []rune(word)
	for start := 0; start < len(chars); {
		end := len(chars)
		for ; end > start; end-- {
			key := string(chars[start:end])
			if start > 0 {
				key = "##" + key
			}
			if id, ok := ids[key]; ok {
				out = append(out, id)
				break
			}
		}
		if end == start {
			return []int32{ids["[UNK]"]}
		}
		start = end
	}
	return out
}

func TestWordPieceFollowsTheDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := map[string]int32{"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
		for _, p := range rapid.SliceOf(rapid.StringMatching(`(##)?[abé果]{1,3}`)).Draw(t, "pieces") {
			if _, ok := ids[p]; !ok {
				ids[p] = int32(len(ids))
			}
		}
		b, err := newBERT(ids, config{}, true)
		if err != nil {
			t.Fatal(err)
		}
		word := rapid.StringMatching(`[abé果x]{1,12}`).Draw(t, "word")
		got, want := b.encodeWord(nil, word), longestFirst(ids, word)
		if string(bytesOf(got)) != string(bytesOf(want)) {
			t.Fatalf("%q: %v, want %v", word, got, want)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	text := strings.Repeat("An unripe apple's skin, rusty iron nail; 2024 — café. ", 12)
	for class, tk := range every(b) {
		b.Run(class, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				tk.Encode(text, 0)
			}
		})
	}
}
