package tokenizer

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"
)

// change is files with one of them replaced, or removed if text is "-".
func change(files map[string]string, name, text string) map[string]string {
	out := maps.Clone(files)
	if out[name] = text; text == "-" {
		delete(out, name)
	}
	return out
}

func TestLoadErrors(t *testing.T) {
	clipFiles, t5Files, bertFiles := clipFolder(), t5Folder(), bertFolder()
	t5Text := map[string]string{"tokenizer.json": t5JSONFile(t, metaspace("always"))}
	for name, tc := range map[string]struct {
		class string
		files map[string]string
		want  string
	}{
		"unknown class":      {"GPT2Tokenizer", clipFiles, `class "GPT2Tokenizer" is not known; use one of CLIPTokenizer`},
		"no class anywhere":  {"", clipFiles, `class "" is not known`},
		"bad config":         {CLIP, change(clipFiles, "tokenizer_config.json", "{"), "tokenizer_config.json: "},
		"bad added id":       {CLIP, change(clipFiles, "tokenizer_config.json", `{"added_tokens_decoder":{"x":{}}}`), `"x" is no token id`},
		"bad special map":    {CLIP, change(clipFiles, "special_tokens_map.json", `{"pad_token":3}`), "special_tokens_map.json: "},
		"clip nothing":       {CLIP, nil, "neither vocab.json with merges.txt nor tokenizer.json"},
		"clip no vocabulary": {CLIP, change(clipFiles, "vocab.json", "-"), "vocab.json is missing"},
		"clip no merges":     {CLIPFast, change(clipFiles, "merges.txt", "-"), "merges.txt is missing"},
		"clip cut vocab":     {CLIP, change(clipFiles, "vocab.json", `{"a":1,`), "vocab.json: "},
		"clip empty vocab":   {CLIP, change(clipFiles, "vocab.json", `{}`), "vocabulary is empty"},
		"clip null vocab":    {CLIP, change(clipFiles, "vocab.json", `null`), "vocabulary is empty"},
		"clip negative id":   {CLIP, change(clipFiles, "vocab.json", `{"a":-1}`), `"a" has id -1`},
		"clip no end token":  {CLIP, change(clipFiles, "vocab.json", `{"a":0,"<|startoftext|>":1}`), `lacks "<|endoftext|>"`},
		"clip bad merge":     {CLIP, change(clipFiles, "merges.txt", "#v\na b\na b c\n"), `merges.txt: line 3: "a b c"`},
		"clip binary merges": {CLIP, change(clipFiles, "merges.txt", "#v\n\xff\xfe a\n"), "not UTF-8"},
		"clip merge unknown": {CLIPFast, change(clipFiles, "merges.txt", "#v\nz z\n"), `"zz" is not in the vocabulary`},
		"clip other model":   {CLIPFast, map[string]string{"tokenizer.json": `{"model":{"type":"WordPiece"}}`}, `"WordPiece" is not CLIP's BPE`},
		"t5 nothing":         {T5Fast, nil, "neither spiece.model nor tokenizer.json"},
		"t5 cut":             {T5Fast, change(t5Files, "spiece.model", t5Files["spiece.model"][:101]), "spiece.model: "},
		"t5 empty":           {T5Fast, change(t5Files, "spiece.model", ""), "no pieces"},
		"t5 text":            {T5Fast, change(t5Files, "spiece.model", "<html>not found</html>"), "spiece.model: "},
		"t5 cut map":         {T5Fast, map[string]string{"spiece.model": spieceFile(t5Pieces, 2, buildCharsmap(t5Map)[:300])}, "character map: a trie"},
		"t5 short map":       {T5Fast, map[string]string{"spiece.model": spieceFile(t5Pieces, 2, []byte{1})}, "shorter than its own header"},
		"t5 unknown id":      {T5Fast, map[string]string{"spiece.model": spieceFile(t5Pieces, 9999, nil)}, "unknown piece has id 9999"},
		"t5 no end":          {T5Fast, map[string]string{"spiece.model": spieceFile(t5Pieces[2:], 0, nil)}, `lacks "</s>"`},
		"t5 extra ids":       {T5Fast, change(t5Files, "tokenizer_config.json", `{"extra_ids":-1}`), "extra_ids is -1"},
		"t5 other model":     {T5Fast, map[string]string{"tokenizer.json": `{"model":{"type":"BPE"}}`}, `"BPE" is not a unigram model`},
		"t5 bad pair":        {T5Fast, map[string]string{"tokenizer.json": `{"model":{"type":"Unigram","unk_id":0,"vocab":[["a"]]}}`}, "entry 0 is no pair"},
		"t5 other step": {T5Fast, change(t5Text, "tokenizer.json", strings.Replace(t5Text["tokenizer.json"], `"Strip"`, `"Magic"`, 1)),
			`a step of type "Magic"`},
		"t5 other words": {T5Fast, change(t5Text, "tokenizer.json", strings.Replace(t5Text["tokenizer.json"], `"Metaspace"`, `"Digits"`, 1)), "pre_tokenizer: "},
		"bert nothing":   {BERTFast, nil, "vocab.txt is not there"},
		"bert empty":     {BERTFast, change(bertFiles, "vocab.txt", ""), "no entries"},
		"bert no cls":    {BERTFast, change(bertFiles, "vocab.txt", "[PAD]\n[UNK]\n"), `lacks "[CLS]"`},
		"bert binary":    {BERTFast, change(bertFiles, "vocab.txt", "\xff\xfe"), "not UTF-8"},
	} {
		_, err := Load(folder(t, tc.files), tc.class)
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "load tokenizer /") {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "gone"), CLIP); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("missing folder: %v", err)
	}
	if _, err := Load(filepath.Join(folder(t, bertFiles), "vocab.txt"), BERT); err == nil || !strings.Contains(err.Error(), "not a folder") {
		t.Errorf("file for a folder: %v", err)
	}
}

func TestClassFromConfig(t *testing.T) {
	files := change(bertFolder(), "tokenizer_config.json", `{"tokenizer_class":"BertTokenizerFast"}`)
	if _, ok := load(t, "", files).(*bert); !ok {
		t.Error("the class of tokenizer_config.json is not followed")
	}
	if _, ok := load(t, T5, t5Folder()).(*t5); !ok {
		t.Error("the slow name of T5's class is not known")
	}
}

func TestAddedTokens(t *testing.T) {
	s := newSplitter([]addedJSON{{ID: 1, Content: "<a>"}, {ID: 2, Content: "<a>b"}, {ID: 3, Content: "@", LStrip: true, RStrip: true}, {ID: 4, Content: ""}})
	var got []string
	for _, p := range s.split("x<a>b<a> @  y @ @<") {
		if p.added {
			got = append(got, string(rune('0'+p.id)))
		} else {
			got = append(got, "'"+p.text+"'")
		}
	}
	if all := strings.Join(got, " "); all != "'x' 2 1 3 'y' 3 3 '<'" {
		t.Error(all)
	}
}
