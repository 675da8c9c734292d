package tokenizer

import (
	"slices"
	"strings"
	"testing"
)

func TestBERTText(t *testing.T) {
	fast, slow := load(t, BERTFast, bertFolder()), load(t, BERT, bertFolder())
	for text, want := range map[string]string{
		"":                       "",
		"UNRIPE apples, apple.":  "un ##ripe apple ##s , apple .",
		"Café\u0301":             "cafe",
		"apple'apple$":           "apple ' apple $",
		"unripeapple":            "[UNK]",
		"apple[MASK] [CLS]x":     "apple [MASK] [CLS] [UNK]",
		"[mask]":                 "[UNK] [UNK] [UNK]",
		"a\u200bpple":            "apple",
		"x果apple":                "[UNK] 果 apple",
		"İ":                      "i",
		"apple\u2028apple\u00a0": "apple apple",
		"\x00\ufffd\x07":         "",
		strings.Repeat("i", 100): "i" + strings.Repeat(" ##i", 99),
		strings.Repeat("i", 101): "[UNK]",
		"\xff":                   "",
	} {
		want := strings.Join(strings.Fields("[CLS] "+want+" [SEP]"), " ")
		for _, tk := range []Tokenizer{fast, slow} {
			if got := spell(t, tk, tk.Encode(text, 0)); got != want {
				t.Errorf("%+q\n got %s\nwant %s", text, got, want)
			}
		}
	}
	// a code point that is not assigned stays in the fast class only
	if a, b := spell(t, fast, fast.Encode("apple\u0378", 0)), spell(t, slow, slow.Encode("apple\u0378", 0)); a != "[CLS] [UNK] [SEP]" || b != "[CLS] apple [SEP]" {
		t.Errorf("fast %s, slow %s", a, b)
	}
}

func TestBERTOptions(t *testing.T) {
	files := bertFolder()
	files["vocab.txt"] += "Café\ncafé\n"
	for config, want := range map[string]string{
		`{}`: "cafe", `{"do_lower_case":false}`: "Café", `{"strip_accents":false}`: "café", `{"do_lower_case":false,"strip_accents":true}`: "[UNK]",
	} {
		files["tokenizer_config.json"] = config
		tk := load(t, BERTFast, files)
		if got := spell(t, tk, tk.Encode("Café", 0)); got != "[CLS] "+want+" [SEP]" {
			t.Errorf("%s: %s, want %s", config, got, want)
		}
	}
	files["tokenizer_config.json"] = `{"tokenize_chinese_chars":false}`
	tk := load(t, BERTFast, files)
	if got := spell(t, tk, tk.Encode("果果", 0)); got != "[CLS] [UNK] [SEP]" {
		t.Error(got)
	}
}

func TestTruncationKeepsBothEnds(t *testing.T) {
	for class, files := range map[string]map[string]string{BERTFast: bertFolder(), CLIP: clipFolder(), CLIPFast: clipFolder(), T5Fast: t5Folder()} {
		tk := load(t, class, files)
		text := strings.Repeat("apple a b ", 30)
		whole := tk.Encode(text, 0)
		for _, limit := range []int{1, 2, 3, 17, len(whole) - 1, len(whole), len(whole) + 5} {
			got := tk.Encode(text, limit)
			if len(got) != min(limit, len(whole)) {
				t.Fatalf("%s: %d ids for a limit of %d", class, len(got), limit)
			}
			if limit >= 2 && (got[len(got)-1] != whole[len(whole)-1] || got[0] != whole[0]) {
				t.Errorf("%s: limit %d loses an end: %v", class, limit, got)
			}
			if n := len(got) - 1; limit >= 2 && !slices.Equal(got[:n], whole[:n]) {
				t.Errorf("%s: limit %d changes the beginning", class, limit)
			}
			padded := tk.Pad(got, limit+3)
			if len(padded) != max(limit+3, len(got)) || !slices.Equal(padded[:len(got)], got) {
				t.Errorf("%s: padding changes the ids", class)
			}
		}
		if got := Batch(tk, []string{"a", text}, 8); len(got) != 16 || !slices.Equal(got[8:], tk.Encode(text, 8)) {
			t.Errorf("%s: batch %v", class, got)
		}
	}
}
