package tokenizer

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestT5Text(t *testing.T) {
	tk := load(t, T5Fast, t5Folder())
	for text, want := range map[string]string{
		"":                      "",
		"   ":                   "",
		"\n\u3000":              "",
		"a":                     "▁a",
		"ab":                    "▁ab",
		"  ab  a ":              "▁ab ▁a",
		"ab a":                  "▁ab ▁a",
		"ab   a":                "▁ab ▁a",
		"b":                     "▁ b",
		"x":                     "▁ <unk>",
		"xyz":                   "▁ <unk>", // neighbouring unknowns are one
		"xax":                   "▁ <unk> a <unk>",
		"a</s>b":                "▁a </s> ▁ b",
		"a <extra_id_7> ab":     "▁a <extra_id_7> ▁ab",
		"<extra_id_100>":        "▁ <unk> a <unk>", // no such piece, and the a inside is one
		"<pad><unk>":            "<pad> <unk>",
		"ａb":                    "▁ab",
		"ａ\u0301b":              "▁ab", // the accent goes with the cluster
		"e\u0301":               "▁ é",
		"é":                     "▁ é",
		"a\u00adb":              "▁ab",
		"a▁b":                   "▁a ▁ b",
		"▁▁a":                   "▁ ▁a",
		"a\x00":                 "▁a <unk>",
		"abc":                   "▁ab c", // −9; ▁a bc is −10.75
		"aaa":                   "▁a aa", // −9.25; ▁a a a is the same, the arc found first stays
		"\xffa":                 "▁ <unk> a",
		strings.Repeat("a ", 3): "▁a ▁a ▁a",
	} {
		want := strings.TrimSpace(want + " </s>")
		if got := spell(t, tk, tk.Encode(text, 0)); got != want {
			t.Errorf("%+q\n got %s\nwant %s", text, got, want)
		}
	}
	if id, ok := tk.ID("<extra_id_0>"); !ok || int(id) != len(t5Pieces)+99 || tk.Size() != len(t5Pieces)+100 {
		t.Errorf("<extra_id_0> is %d of %d", id, tk.Size())
	}
	if id, _ := tk.ID("<extra_id_99>"); int(id) != len(t5Pieces) {
		t.Errorf("<extra_id_99> is %d", id)
	}
}

func TestT5WithoutCharacterMap(t *testing.T) {
	tk := load(t, T5Fast, map[string]string{
		"spiece.model":          spieceFile(t5Pieces, 2, nil),
		"tokenizer_config.json": `{"extra_ids": 3}`,
	})
	if got := spell(t, tk, tk.Encode("ａ\u3000 a", 0)); got != "▁ <unk> ▁a </s>" {
		t.Error(got)
	}
	if _, ok := tk.ID("<extra_id_3>"); ok || tk.Size() != len(t5Pieces)+3 {
		t.Errorf("three extra ids were asked for, size %d", tk.Size())
	}
}

// t5JSONFile writes the same model as tokenizer.json.
func t5JSONFile(t testing.TB, words any) string {
	t.Helper()
	var vocab [][2]any
	for _, p := range t5Pieces {
		vocab = append(vocab, [2]any{p.text, float64(float32(p.score))})
	}
	var added []addedJSON
	for id, text := range []string{"<pad>", "</s>", "<unk>"} {
		added = append(added, addedJSON{ID: int32(id), Content: text})
	}
	for k := 99; k >= 0; k-- {
		text := "<extra_id_" + string(rune('0'+k/10)) + string(rune('0'+k%10)) + ">"
		if k < 10 {
			text = "<extra_id_" + string(rune('0'+k)) + ">"
		}
		added = append(added, addedJSON{ID: int32(len(vocab)), Content: text})
		vocab = append(vocab, [2]any{text, 0.0})
	}
	steps := []any{
		map[string]any{"type": "Precompiled", "precompiled_charsmap": base64.StdEncoding.EncodeToString(buildCharsmap(t5Map))},
		map[string]any{"type": "Strip", "strip_left": false, "strip_right": true},
		map[string]any{"type": "Replace", "pattern": map[string]string{"Regex": " {2,}"}, "content": "▁"},
	}
	data, err := json.Marshal(map[string]any{
		"added_tokens": added, "normalizer": map[string]any{"type": "Sequence", "normalizers": steps}, "pre_tokenizer": words,
		"model": map[string]any{"type": "Unigram", "unk_id": 2, "vocab": vocab},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func metaspace(scheme string) map[string]any {
	return map[string]any{"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true}
}

// Both files of one vocabulary give the same ids for any text.
func TestT5FilesAgree(t *testing.T) {
	binary := load(t, T5Fast, t5Folder())
	text := load(t, T5Fast, map[string]string{"tokenizer.json": t5JSONFile(t, metaspace("always"))})
	if binary.Size() != text.Size() {
		t.Fatalf("sizes %d and %d", binary.Size(), text.Size())
	}
	rapid.Check(t, func(t *rapid.T) {
		s := strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{
			"a", "b", "c", "ab", " ", "  ", "▁", "\n", "ａ", "\u0301", "e\u0301", "…", "x", "é", "</s>", "<extra_id_12>", "<pad", "\u00ad", "\u3000", "\x00", "\U0001f600",
		})).Draw(t, "text"), "")
		limit := rapid.IntRange(0, 12).Draw(t, "limit")
		if a, b := binary.Encode(s, limit), text.Encode(s, limit); !slices.Equal(a, b) {
			t.Fatalf("%q: %v and %v", s, a, b)
		}
	})
}

func TestT5PrependSchemes(t *testing.T) {
	both := map[string]any{"type": "Sequence", "pretokenizers": []any{map[string]any{"type": "WhitespaceSplit"}, metaspace("always")}}
	old := map[string]any{"type": "Metaspace", "replacement": "▁", "add_prefix_space": false}
	for name, tc := range map[string]struct {
		words any
		want  string
	}{
		"always":      {metaspace("always"), "▁ab </s> ▁ab ▁a </s>"},
		"first":       {metaspace("first"), "▁ab </s> a b ▁a </s>"},
		"never":       {metaspace("never"), "a b </s> a b ▁a </s>"},
		"old never":   {old, "a b </s> a b ▁a </s>"},
		"white first": {both, "▁ab </s> ▁ab ▁a </s>"},
	} {
		tk := load(t, T5Fast, map[string]string{"tokenizer.json": t5JSONFile(t, tc.words)})
		if got := spell(t, tk, tk.Encode("ab</s>ab a", 0)); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// bestSegmentation tries all ways to cut text.
func bestSegmentation(text []rune, pieces map[string]float64, unknown float64) float64 {
	if len(text) == 0 {
		return 0
	}
	best := math.Inf(-1)
	for n := 1; n <= len(text); n++ {
		score, ok := pieces[string(text[:n])]
		if !ok && n == 1 {
			score, ok = unknown, true
		}
		if ok {
			best = max(best, score+bestSegmentation(text[n:], pieces, unknown))
		}
	}
	return best
}

// The path found is a segmentation of the word, and none scores higher.
func TestUnigramIsOptimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := []piece{{"<unk>", -1}}
		scores := map[string]float64{"<unk>": -1}
		for _, text := range rapid.SliceOfNDistinct(rapid.StringMatching(`[abé]{1,4}`), 1, 12, rapid.ID).Draw(t, "pieces") {
			p := piece{text, rapid.Float64Range(-9, -1).Draw(t, "score")}
			list, scores[text] = append(list, p), p.score
		}
		u, err := newUnigram(list, 0)
		if err != nil {
			t.Fatal(err)
		}
		word := rapid.StringMatching(`[abéx]{1,9}`).Draw(t, "word")
		ids := u.encode(nil, word)
		// Fused unknowns hide their length, so only words without unknowns can be added up.
		total, text := 0.0, ""
		for _, id := range ids {
			total += list[id].score
			text += list[id].text
		}
		want := bestSegmentation([]rune(word), scores, u.unknownScore)
		if !slices.Contains(ids, 0) && (text != word || math.Abs(total-want) > 1e-9) {
			t.Fatalf("%q cut into %v with score %v, best is %v", word, ids, total, want)
		}
		// With an unknown part the best way must have one as well: no segmentation into pieces alone scores as low.
		if known := bestSegmentation([]rune(word), scores, math.Inf(-1)); slices.Contains(ids, 0) && known > want-1e-9 {
			t.Fatalf("%q has an unknown part in %v, although pieces alone give %v", word, ids, known)
		}
	})
}

func TestCharsmap(t *testing.T) {
	m, err := parseCharsmap(buildCharsmap(append([][2]string{{"ab", "X"}, {"abc", "Y"}, {"ff", "ﬀ"}}, t5Map...)))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"":                    "",
		"plain é 果":           "plain é 果",
		"\tx\u3000":           " x ",
		"…":                   "...",
		"ab":                  "ab", // two clusters: longer keys only count inside one cluster
		"e\u0301":             "é",
		"e\u0301\u0301\u0301": "e\u0301\u0301\u0301", // a cluster of seven bytes goes character by character
		"ａ\u0301":             "a",
		"ａ\u0301\u0301":       "a\u0301\u0301",
		"\u00ad\u0301":        "\u0301", // a control character never takes a mark with it
		"\x00a":               "\x00a",
	} {
		if got := m.normalise(text); got != want {
			t.Errorf("%+q: %+q, want %+q", text, got, want)
		}
	}
	if got, ok := m.replacement("abc"); !ok || got != "X" {
		t.Errorf("shortest prefix: %q", got)
	}
}

func TestClusters(t *testing.T) {
	for text, want := range map[string]int{
		"ab": 1, "a\u0301b": 3, "\r\nx": 2, "\n\u0301": 1, "a\u200db": 4, "a\u00adb": 1, "\u0600a": 3, "é\u0301\u0302x": 6, "ก\u0e33x": 6, "a\u200bx": 1,
		"\u00ad\u0301": 2, "\u0600\u0301a": 4, "\u0600\n": 2, "x\U000e0041": 5, "x\U000e0001": 1, "か\u3099": 6, "\u1000\u102b": 3, "a\u0903": 4,
	} {
		if got := clusterLength(text); got != want {
			t.Errorf("%+q: %d, want %d", text, got, want)
		}
	}
}
