package tokenizer

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// plain draws words of small ASCII letters and digits, which no rule of any tokenizer changes.
func plain() *rapid.Generator[string] {
	return rapid.StringMatching("[a-z0-9]{1,7}( [a-z0-9]{1,7}){0,5}")
}

// TestBatchesAreRows: row i of a batch is the padded encoding of text i, whatever stands beside it, and every row has the length
// asked for.
func TestBatchesAreRows(t *testing.T) {
	all := every(t)
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfN(nasty(), 0, 5).Draw(t, "texts")
		length := rapid.IntRange(1, 24).Draw(t, "length")
		for class, tk := range all {
			got := Batch(tk, texts, length)
			if len(got) != len(texts)*length {
				t.Fatalf("%s: %d ids, want %d rows of %d", class, len(got), len(texts), length)
			}
			for i, text := range texts {
				ids := tk.Encode(text, length)
				row := got[i*length : (i+1)*length]
				if !slices.Equal(row[:len(ids)], ids) {
					t.Fatalf("%s: row %d is %v, alone %v", class, i, row, ids)
				}
				pad := tk.Pad(nil, 1)[0]
				if slices.ContainsFunc(row[len(ids):], func(id int32) bool { return id != pad }) {
					t.Fatalf("%s: row %d is padded with %v, want %d", class, i, row[len(ids):], pad)
				}
			}
		}
	})
}

// TestPadding: never shortens, never changes its argument, and padding twice is padding to the longer length.
func TestPadding(t *testing.T) {
	all := every(t)
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOfN(rapid.Int32Range(0, 9), 0, 12).Draw(t, "ids")
		a, b := rapid.IntRange(0, 20).Draw(t, "a"), rapid.IntRange(0, 20).Draw(t, "b")
		before := slices.Clone(ids)
		for class, tk := range all {
			once, twice := tk.Pad(ids, max(a, b)), tk.Pad(tk.Pad(ids, a), b)
			if !slices.Equal(once, twice) || len(once) != max(a, b, len(ids)) || !slices.Equal(ids, before) {
				t.Fatalf("%s: %v to %d and %d: %v, %v", class, ids, a, b, once, twice)
			}
			if len(once) > 0 && len(ids) > 0 {
				once[0] = 99
				if ids[0] == 99 {
					t.Fatalf("%s: padding shares the memory of its argument", class)
				}
			}
		}
	})
}

// inner are the ids of a text without the special tokens at its ends.
func inner(tk Tokenizer, text string) []int32 {
	ids, frame := tk.Encode(text, 0), tk.Encode("", 0)
	if _, ok := tk.(*t5); ok { // only an end token
		return ids[:len(ids)-len(frame)]
	}
	return ids[1 : len(ids)-1]
}

// TestWordsAreIndependent: CLIP and BERT cut text at spaces first, so the ids of a text are those of its words in order, and more
// white space of any kind changes nothing.
func TestWordsAreIndependent(t *testing.T) {
	all := every(t)
	rapid.Check(t, func(t *rapid.T) {
		text := plain().Draw(t, "text")
		space := rapid.SampledFrom([]string{"  ", "\t", "\n ", " \r\n", "\u00a0"}).Draw(t, "space")
		for class, tk := range all {
			if _, ok := tk.(*t5); ok {
				continue
			}
			var words []int32
			for _, w := range strings.Fields(text) {
				words = append(words, inner(tk, w)...)
			}
			if got := inner(tk, text); !slices.Equal(got, words) {
				t.Fatalf("%s: %q gives %v, its words %v", class, text, got, words)
			}
			if got := inner(tk, space+strings.ReplaceAll(text, " ", space)+space); !slices.Equal(got, words) {
				t.Fatalf("%s: %q with %q between gives %v, want %v", class, text, space, got, words)
			}
		}
	})
}

// TestCLIPLosesNothing: byte-level symbols put together are the text's bytes, words ended by their mark; so any two different
// plain texts have different ids.
func TestCLIPLosesNothing(t *testing.T) {
	bytesFor := map[string]byte{}
	for b, s := range byteSymbols {
		bytesFor[s] = byte(b)
	}
	for class, tk := range every(t) {
		c, ok := tk.(*clip)
		if !ok {
			continue
		}
		names := map[int32]string{}
		for name, id := range c.ids {
			names[id] = name
		}
		rapid.Check(t, func(t *rapid.T) {
			text := rapid.OneOf(plain(), rapid.StringMatching("[a-zäöüßéñ果🍎]{1,9}( [a-zäöüßéñ果🍎]{1,9}){0,4}")).Draw(t, "text")
			var out strings.Builder
			for _, id := range inner(tk, text) {
				name, end := strings.CutSuffix(names[id], endOfWord)
				for _, r := range name {
					out.WriteByte(bytesFor[string(r)])
				}
				if end {
					out.WriteByte(' ')
				}
			}
			got := strings.ReplaceAll(out.String(), " ", "")
			if want := strings.ReplaceAll(text, " ", ""); got != want {
				t.Fatalf("%s: %q comes back as %q", class, want, got)
			}
		})
	}
}

// TestCaseIsFolded by CLIP and BERT, kept by T5.
func TestCaseIsFolded(t *testing.T) {
	for class, tk := range every(t) {
		_, keeps := tk.(*t5)
		for _, text := range []string{"apple", "an unripe apple", "ab aa a"} {
			if same := slices.Equal(tk.Encode(text, 0), tk.Encode(strings.ToUpper(text), 0)); same == keeps {
				t.Errorf("%s: %q in capitals has the same ids: %v", class, text, same)
			}
		}
	}
}

// TestVocabularyLooksUp: every entry has the id of the file, nothing else has one, and Size is one more than the largest.
func TestVocabularyLooksUp(t *testing.T) {
	tk := load(t, BERT, bertFolder())
	for i, line := range strings.Split(strings.TrimSpace(bertVocab), "\n") {
		if id, ok := tk.ID(line); !ok || int(id) != i {
			t.Errorf("%q has id %d, %v; want %d", line, id, ok, i)
		}
	}
	for _, absent := range []string{"", "nothing", "[pad]", "apple "} {
		if id, ok := tk.ID(absent); ok {
			t.Errorf("%q has id %d", absent, id)
		}
	}
	if want := strings.Count(bertVocab, "\n"); tk.Size() != want {
		t.Errorf("size %d, want %d", tk.Size(), want)
	}
	v, err := newVocabulary(map[string]int32{"a": 0, "far": 900})
	if err != nil || v.Size() != 901 {
		t.Errorf("ids with gaps: size %d, %v", v.size, err)
	}
	for _, id := range []int32{-1, maxID + 1} {
		if _, err := newVocabulary(map[string]int32{"bad": id}); err == nil || !strings.Contains(err.Error(), `"bad"`) {
			t.Errorf("id %d: %v", id, err)
		}
	}
}

// TestFrames: the special tokens stay as long as they fit; with less room the cut is at the end.
func TestFrames(t *testing.T) {
	v := vocabulary{before: []int32{1}, after: []int32{2}, pad: 0}
	ids := []int32{7, 8, 9}
	for limit, want := range map[int][]int32{0: {1, 7, 8, 9, 2}, 1: {1}, 2: {1, 2}, 3: {1, 7, 2}, 4: {1, 7, 8, 2}, 5: {1, 7, 8, 9, 2}, 50: {1, 7, 8, 9, 2}} {
		if got := v.frame(ids, limit); !slices.Equal(got, want) {
			t.Errorf("limit %d: %v, want %v", limit, got, want)
		}
	}
	if v.room(0) < 1<<30 || v.room(1) != 0 || v.room(10) != 8 {
		t.Errorf("room for %d, %d, %d", v.room(0), v.room(1), v.room(10))
	}
}

// TestUnreadableFiles: a folder in the place of a file is an error of that file, not a file that is not there.
func TestUnreadableFiles(t *testing.T) {
	for class, name := range map[string]string{CLIP: "vocab.json", T5Fast: "spiece.model", BERT: "vocab.txt", CLIPFast: "tokenizer_config.json", BERTFast: "special_tokens_map.json"} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := Load(dir, class)
		if err == nil || errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
