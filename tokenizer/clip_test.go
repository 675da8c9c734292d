package tokenizer

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestByteSymbols(t *testing.T) {
	for b, want := range map[int]string{'!': "!", '~': "~", 0xa1: "¡", 0xff: "ÿ", 0: "Ā", ' ': "Ġ", 0x7f: "ġ", 0xa0: "ł", 0xad: "Ń"} {
		if byteSymbols[b] != want {
			t.Errorf("byte %#x is %q, want %q", b, byteSymbols[b], want)
		}
	}
	seen := map[string]bool{}
	for _, s := range byteSymbols {
		seen[s] = true
	}
	if len(seen) != 256 {
		t.Errorf("%d different symbols for 256 bytes", len(seen))
	}
}

func TestCLIPWords(t *testing.T) {
	slow, fast := load(t, CLIP, clipFolder()), load(t, CLIPFast, clipFolder())
	for _, tc := range []struct{ text, slow, fast string }{
		{"", "", ""},
		{"Apple", "apple</w>", ""},
		{"apple's", "apple</w> 's</w>", ""},
		{"APPLE'S", "apple</w> 's</w>", ""},
		{"  apple\u00a0\tre ", "apple</w> r e</w>", ""},
		{"2024", "2</w> 0</w> 2</w> 4</w>", ""},
		{"re!?do", "r e</w> ! ?</w> d o</w>", ""},
		{"a<|endoftext|>re", "a</w> <|endoftext|> r e</w>", ""},
		{"a<|ENDOFTEXT|>re", "a</w> <|endoftext|> r e</w>", ""},
		{"!<|ENDOFTEXT|>re", "! < |</w> e n do f t e x t</w> | ></w> r e</w>", "!</w> <|endoftext|> r e</w>"}, // the run "!<|" comes first
		{"<|ENDOFTEXT|>", "<|endoftext|>", ""},
		{"a\u200db", "a b</w>", "a</w> â Ģ į</w> b</w>"},
		{"\ufffd\x00a", "a</w>", "ï ¿ ½ Ā</w> a</w>"},
		{"果a果", "æ ŀ ľ</w> a</w> æ ŀ ľ</w>", "æ ŀ ľ a æ ŀ ľ</w>"},
		{"ΑΣ", "Î ± Ï Ĥ</w>", "Î ± Ï ĥ</w>"},
		{"İ", "i</w> Ì ĩ</w>", ""}, // the dot above is no letter
		{"'ſ", "' Å ¿</w>", "'</w> Å ¿</w>"},
		{"\u0345+\u0345", "+</w>", "Í ħ + Í ħ</w>"},
		{"e\u0301", "Ã ©</w>", ""},
		{"\xff", "", "ï ¿ ½</w>"},
	} {
		if tc.fast == "" {
			tc.fast = tc.slow
		}
		for _, c := range []struct {
			class string
			tk    Tokenizer
			want  string
		}{{CLIP, slow, tc.slow}, {CLIPFast, fast, tc.fast}} {
			want := strings.TrimSpace(clipStart+" "+c.want) + " " + clipEnd
			if got := spell(t, c.tk, c.tk.Encode(tc.text, 0)); got != want {
				t.Errorf("%s %+q\n got %s\nwant %s", c.class, tc.text, got, want)
			}
		}
	}
}

func TestLower(t *testing.T) {
	for _, tc := range []struct{ text, full, each string }{
		{"AbÇİẞ", "abçi\u0307ß", ""},
		{"ΑΣ", "ας", "ασ"},
		{"ΑΣ.", "ας.", "ασ."},
		{"Α.Σ", "α.ς", "α.σ"},
		{"ΑΣ'Α", "ασ'α", ""},
		{"Σ", "σ", ""},
		{"1Σ", "1σ", ""},
		{"Α\u0301Σ\u0301", "α\u0301ς\u0301", "α\u0301σ\u0301"},
		{"ΣΣ Σ", "σς σ", "σσ σ"},
	} {
		if tc.each == "" {
			tc.each = tc.full
		}
		if got := lowerFull(tc.text); got != tc.full {
			t.Errorf("full %q: %+q, want %+q", tc.text, got, tc.full)
		}
		if got := lowerEach(tc.text); got != tc.each {
			t.Errorf("each %q: %+q, want %+q", tc.text, got, tc.each)
		}
	}
}

// mergeByRounds is the definition of BPE: find the pair of lowest rank, merge all of its places from left to right.
func mergeByRounds(symbols []string, ranks map[[2]string]int) []string {
	for {
		best, found := [2]string{}, false
		for i := range len(symbols) - 1 {
			pair := [2]string{symbols[i], symbols[i+1]}
			if r, ok := ranks[pair]; ok && (!found || r < ranks[best]) {
				best, found = pair, true
			}
		}
		if !found {
			return symbols
		}
		var next []string
		for i := 0; i < len(symbols); i++ {
			if i+1 < len(symbols) && symbols[i] == best[0] && symbols[i+1] == best[1] {
				next = append(next, best[0]+best[1])
				i++
			} else {
				next = append(next, symbols[i])
			}
		}
		symbols = next
	}
}

// The queue gives what the definition gives, for merge lists in any order, also with parts outside the vocabulary.
func TestMergesFollowTheDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		symbol := rapid.StringMatching(`[ab]{1,3}(</w>)?`)
		var merges [][2]string
		ranks := map[[2]string]int{}
		for i := range rapid.IntRange(0, 12).Draw(t, "merges") {
			pair := [2]string{rapid.StringMatching(`[ab]{1,3}`).Draw(t, "left"), symbol.Draw(t, "right")}
			merges = append(merges, pair)
			ranks[pair] = i
		}
		vocab, names := map[string]int32{}, map[int32]string{}
		add := func(s string) {
			if _, ok := vocab[s]; !ok {
				vocab[s], names[int32(len(vocab))] = int32(len(vocab)), s
			}
		}
		add("unknown")
		for _, s := range []string{"a", "b", "a</w>", "b</w>"} {
			add(s)
		}
		for _, m := range merges {
			if rapid.Bool().Draw(t, "in vocabulary") {
				add(m[0] + m[1])
			}
		}
		p, err := newBPE(vocab, merges, 0, false)
		if err != nil {
			t.Fatal(err)
		}
		word := rapid.StringMatching(`[ab]{1,24}`).Draw(t, "word")
		symbols := strings.Split(word, "")
		symbols[len(symbols)-1] += endOfWord
		var want []int32
		for _, s := range mergeByRounds(symbols, ranks) {
			want = append(want, vocab[s]) // 0, unknown, if absent
		}
		if got := p.encode(nil, word); !slices.Equal(got, want) {
			t.Fatalf("%q with %v: %v, want %v", word, merges, got, want)
		}
	})
}

// A word without any break must not take quadratic time: 200,000 letters would then need minutes.
func TestLongWordIsFast(t *testing.T) {
	tk := load(t, CLIP, clipFolder())
	ids := tk.Encode(strings.Repeat("ap", 100_000), 0)
	if len(ids) != 2+100_001 {
		t.Errorf("%d ids", len(ids))
	}
	if got := tk.Encode(strings.Repeat("a ", 100_000), 5); len(got) != 5 {
		t.Errorf("%d ids", len(got))
	}
}

func TestCLIPFromTokenizerJSON(t *testing.T) {
	var vocab map[string]int32
	if err := json.Unmarshal([]byte(clipVocab(clipMerges)), &vocab); err != nil {
		t.Fatal(err)
	}
	for _, spelling := range []string{"line", "pair"} {
		var merges []any
		for _, line := range strings.Split(strings.TrimSpace(clipMerges), "\n")[1:] {
			if spelling == "line" {
				merges = append(merges, line)
			} else {
				merges = append(merges, strings.Fields(line))
			}
		}
		model := map[string]any{"type": "BPE", "vocab": vocab, "merges": merges, "end_of_word_suffix": endOfWord}
		normalizer := map[string]any{"type": "Sequence", "normalizers": []any{map[string]any{"type": "NFC"}, map[string]any{"type": "Replace",
			"pattern": map[string]any{"Regex": `\s+`}, "content": " "}, map[string]any{"type": "Lowercase"}}}
		data, err := json.Marshal(map[string]any{"model": model, "normalizer": normalizer, "added_tokens": []addedJSON{{ID: vocab[clipEnd], Content: clipEnd, Normalized: false}}})
		if err != nil {
			t.Fatal(err)
		}
		whole, pair := load(t, CLIPFast, map[string]string{"tokenizer.json": string(data)}), load(t, CLIPFast, clipFolder())
		text := "Apples' apple <|endoftext|> 2024"
		if a, b := whole.Encode(text, 0), pair.Encode(text, 0); !slices.Equal(a, b) {
			t.Errorf("%s: %v, want %v", spelling, a, b)
		}
		// a token that is marked as not normalised is looked for before lowercasing
		if got := spell(t, whole, whole.Encode("<|ENDOFTEXT|>", 0)); strings.Count(got, clipEnd) != 1 {
			t.Errorf("%s: %s", spelling, got)
		}
	}
}

func TestCLIPPadding(t *testing.T) {
	files := clipFolder()
	files["tokenizer_config.json"] = `{"tokenizer_class":"CLIPTokenizer","pad_token":"!","added_tokens_decoder":{"33":{"content":"!"}}}`
	tk := load(t, "", files)
	bang, _ := tk.ID("!")
	ids := tk.Pad(tk.Encode("a", 6), 6)
	if got := ids[3:]; !slices.Equal(got, []int32{bang, bang, bang}) {
		t.Errorf("padded with %v, want %d", got, bang)
	}
	// the slow class cuts out every added token, so the "!" after a letter does not end a word
	if got := spell(t, tk, tk.Encode("a!", 0)); got != clipStart+" a</w> ! "+clipEnd {
		t.Error(got)
	}
}
