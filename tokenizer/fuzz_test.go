package tokenizer

import (
	"math"
	"testing"
	"unicode/utf8"
)

// probe checks what holds for every tokenizer and text.
func probe(t *testing.T, tk Tokenizer, text string) {
	t.Helper()
	ids := tk.Encode(text, 16)
	if len(ids) > 16 {
		t.Fatalf("%d ids for a limit of 16", len(ids))
	}
	for _, id := range ids {
		if id < 0 || int(id) >= tk.Size() {
			t.Fatalf("id %d outside a vocabulary of %d", id, tk.Size())
		}
	}
	whole := tk.Encode(text, 0)
	if len(whole) <= 16 && len(ids) != len(whole) {
		t.Fatalf("%d ids with a limit of 16, %d without", len(ids), len(whole))
	}
}

func FuzzEncode(f *testing.F) {
	for _, s := range []string{"", "An unripe apple's 2024", "ＡＢＣ\u0301 果 ΑΣ İ", "<|endoftext|></s>[MASK]", "\xff\x00\u2028", "a\u200d\U0001f468e\u0301"} {
		f.Add(s)
	}
	all := []Tokenizer{
		load(f, CLIP, clipFolder()), load(f, CLIPFast, clipFolder()), load(f, T5Fast, t5Folder()), load(f, BERT, bertFolder()), load(f, BERTFast, bertFolder()),
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, tk := range all {
			probe(t, tk, text)
		}
	})
}

func FuzzSpiece(f *testing.F) {
	f.Add([]byte(t5Folder()["spiece.model"]), "a b")
	f.Add([]byte(spieceFile(t5Pieces, 2, nil)), "")
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		if tk, err := newT5FromSpiece(data, config{}); err == nil {
			probe(t, tk, text)
		}
	})
}

func FuzzT5JSON(f *testing.F) {
	f.Add([]byte(`{"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["</s>",0],["<pad>",-1.5],["▁a",-2]]},"pre_tokenizer":{"type":"Metaspace","replacement":"▁"}}`), "a b")
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		if tk, err := newT5FromJSON(data, config{}); err == nil {
			probe(t, tk, text)
		}
	})
}

func FuzzCharsmap(f *testing.F) {
	f.Add(buildCharsmap(t5Map), "ａ\u0301 …")
	f.Add([]byte{4, 0, 0, 0, 255, 255, 255, 255, 'x'}, "a")
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		m, err := parseCharsmap(data)
		if err != nil || !utf8.ValidString(text) {
			return
		}
		if out := m.normalise(text); !utf8.ValidString(out) {
			t.Fatalf("%q became %q", text, out)
		}
	})
}

func FuzzCLIPFiles(f *testing.F) {
	f.Add([]byte(`{"a":0,"a</w>":1,"<|startoftext|>":2,"<|endoftext|>":3}`), []byte("#\na a</w>\n"), "aa")
	f.Fuzz(func(t *testing.T, vocab, merges []byte, text string) {
		files, err := parseCLIPPair(vocab, merges)
		if err != nil {
			return
		}
		for _, fast := range []bool{false, true} {
			if tk, err := newCLIP(files, config{}, nil, fast); err == nil {
				probe(t, tk, text)
			}
		}
	})
}

func FuzzCLIPJSON(f *testing.F) {
	f.Add([]byte(`{"model":{"type":"BPE","end_of_word_suffix":"</w>","vocab":{"a":0,"<|startoftext|>":2,"<|endoftext|>":3},"merges":["a a"]},
		"normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Replace","pattern":{"Regex":"\\s+"},"content":" "},{"type":"Lowercase"}]},
		"post_processor":{"type":"RobertaProcessing","sep":["x",3],"cls":["y",2]}}`), "aa")
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		files, err := parseCLIPJSON(data)
		if err != nil {
			return
		}
		if tk, err := newCLIP(files, config{}, files.rules.Added, true); err == nil {
			probe(t, tk, text)
		}
	})
}

func TestUnigramRefuses(t *testing.T) {
	for name, list := range map[string][]piece{
		"empty piece": {{"<unk>", 0}, {"", 0}}, "not a number": {{"<unk>", math.NaN()}}, "infinite": {{"<unk>", math.Inf(-1)}}, "not text": {{"\xff", 0}},
	} {
		if _, err := newUnigram(list, 0); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
