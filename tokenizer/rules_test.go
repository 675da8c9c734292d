package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// ruleCases is a file of testdata/make_rules.py.
type ruleCases struct {
	Texts []string `json:"texts"`
	Cases []struct {
		Name   string          `json:"name"`
		Base   string          `json:"base"`
		Class  string          `json:"class"`
		Rules  map[string]any  `json:"rules"`
		Config json.RawMessage `json:"config"`
		IDs    [][]int32       `json:"ids"`
	} `json:"cases"`
}

func readFile(t testing.TB, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func readJSON(t testing.TB, into any, path ...string) {
	t.Helper()
	if err := json.Unmarshal([]byte(readFile(t, path...)), into); err != nil {
		t.Fatal(err)
	}
}

// withModel puts vocabulary and character map of a folder into the rules of a tokenizer.json.
func withModel(t testing.TB, rules map[string]any, base string) string {
	t.Helper()
	model := rules["model"].(map[string]any)
	if model["type"] == "BPE" {
		var vocab map[string]int32
		readJSON(t, &vocab, base, "vocab.json")
		merges, err := parseMerges(readFile(t, base, "merges.txt"), slowMergeLimit)
		if err != nil {
			t.Fatal(err)
		}
		model["vocab"], model["merges"] = vocab, merges
	} else {
		var whole struct {
			Normalizer struct {
				Steps []map[string]any `json:"normalizers"`
			} `json:"normalizer"`
			Added []map[string]any `json:"added_tokens"`
			Model map[string]any   `json:"model"`
		}
		readJSON(t, &whole, base, "tokenizer.json")
		model["vocab"] = whole.Model["vocab"]
		for _, token := range whole.Added {
			if strings.HasPrefix(token["content"].(string), "<extra_id_") {
				rules["added_tokens"] = append(rules["added_tokens"].([]any), token)
			}
		}
		fillMap(rules["normalizer"].(map[string]any), whole.Normalizer.Steps[0]["precompiled_charsmap"])
	}
	text, err := json.Marshal(rules)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func fillMap(step map[string]any, charsmap any) {
	if step["type"] == "Precompiled" {
		step["precompiled_charsmap"] = charsmap
	}
	if steps, ok := step["normalizers"].([]any); ok {
		for _, s := range steps {
			fillMap(s.(map[string]any), charsmap)
		}
	}
}

// TestRulesOfFiles: ids of folders that transformers 5 saved, of files with rules of their own, and of a spiece.model by
// the settings of its config, all made by the libraries themselves.
func TestRulesOfFiles(t *testing.T) {
	for _, file := range []string{"rules4.json", "rules5.json"} {
		var all ruleCases
		readJSON(t, &all, "testdata", file)
		if len(all.Cases) < 3 || len(all.Texts) < 50 {
			t.Fatalf("%s holds %d cases of %d texts", file, len(all.Cases), len(all.Texts))
		}
		for _, c := range all.Cases {
			base := filepath.Join("..", c.Base)
			files := map[string]string{"tokenizer_config.json": string(c.Config)}
			if c.Rules == nil {
				files["spiece.model"] = readFile(t, base, "spiece.model")
			} else {
				files["tokenizer.json"] = withModel(t, c.Rules, base)
			}
			tk, err := Load(folder(t, files), c.Class)
			if err != nil {
				t.Errorf("%s: %v", c.Name, err)
				continue
			}
			wrong := 0
			for i, text := range all.Texts {
				if got := tk.Encode(text, 0); !slices.Equal(got, c.IDs[i]) {
					if wrong++; wrong <= 3 {
						t.Errorf("%s: %+q\n got %v\nwant %v", c.Name, text, got, c.IDs[i])
					}
				}
			}
			if wrong > 0 {
				t.Errorf("%s: %d of %d texts have other ids", c.Name, wrong, len(all.Texts))
			}
		}
	}
}

// A tokenizer.json beside a spiece.model is what the fast class reads, unless the config makes it convert anew.
func TestT5PrefersItsOwnRules(t *testing.T) {
	files := t5Folder()
	files["tokenizer.json"] = t5JSONFile(t, metaspace("never"))
	for config, want := range map[string]string{`{}`: "b </s>", `{"add_prefix_space":true}`: "▁ b </s>",
		`{"add_prefix_space":null}`: "b </s>"} {
		files["tokenizer_config.json"] = config
		tk := load(t, T5Fast, files)
		if got := spell(t, tk, tk.Encode("b", 0)); got != want {
			t.Errorf("%s: %s, want %s", config, got, want)
		}
	}
}

func TestSingleWords(t *testing.T) {
	s := newSplitter([]addedJSON{{ID: 1, Content: "ab", SingleWord: true}})
	for text, want := range map[string]int{"ab": 1, "a ab.": 1, "xab": 0, "abx": 0, "ab_": 0, "ab1": 0, "éab": 0, "(ab)": 1, "ab ab": 2,
		"abab": 0, "ab\u0301": 0, "ab\u200d": 0} {
		got := 0
		for _, p := range s.split(text) {
			if p.added {
				got++
			}
		}
		if got != want {
			t.Errorf("%+q: %d tokens, want %d", text, got, want)
		}
	}
}

func TestRulesThatAreRefused(t *testing.T) {
	whole := t5JSONFile(t, metaspace("always"))
	post := func(text string) string {
		return strings.Replace(whole, `{`, `{"post_processor":`+text+`,`, 1)
	}
	for _, c := range [][2]string{
		{`{"type":"Magic"}`,
			`post_processor: "Magic" is not known`},
		{`{"type":"RobertaProcessing","sep":["</s>"],"cls":["</s>",1]}`,
			"no pair of a token and its id"},
		{`{"type":"RobertaProcessing","sep":["</s>",1.5],"cls":["</s>",1]}`,
			"no pair of a token and its id"},
		{`{"type":"BertProcessing","sep":["</s>",999999],"cls":["</s>",1]}`,
			"beyond the vocabulary"},
		{`{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}}],"special_tokens":{}}`,
			`names "x"`},
		{`{"type":"TemplateProcessing","single":[]}`,
			"0 places"},
		{`{"type":"TemplateProcessing","single":[{"Sequence":{}},{"SpecialToken":{"id":"x"}}],"special_tokens":{"x":{"ids":[-1]}}}`,
			"id -1 is outside"},
		{`{"type":"Sequence","processors":[{"type":"TemplateProcessing","single":[{"Sequence":{}}]},{"type":"TemplateProcessing","single":[{"Sequence":{}}]}]}`,
			"two steps"},
		{`7`,
			"post_processor: "},
	} {
		_, err := Load(folder(t, map[string]string{"tokenizer.json": post(c[0])}), T5Fast)
		if err == nil || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%v, want %q", err, c[1])
		}
	}
	for text, want := range map[string]string{
		`{"type":"Whitespace"}`: "pre_tokenizer: ",
		`{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"x"},"behavior":"Removed","invert":true},
			{"type":"ByteLevel"}]}`: "Split by 's|'t",
		`3`: "pre_tokenizer: ",
	} {
		if err := checkCLIPWords(json.RawMessage(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A frame may come out of a sequence of post-processors, of which others move offsets only.
func TestFramesOfFiles(t *testing.T) {
	before, after, given, err := parseFrame(json.RawMessage(`{"type":"Sequence","processors":[{"type":"ByteLevel"},
		{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"a"}},{"Sequence":{"id":"A"}},{"SpecialToken":{"id":"b"}}],
		"special_tokens":{"a":{"ids":[7,8]},"b":{"ids":[9]}}}]}`))
	if err != nil || !given || !slices.Equal(before, []int32{7, 8}) || !slices.Equal(after, []int32{9}) {
		t.Errorf("%v %v %v %v", before, after, given, err)
	}
	for _, none := range []string{``, `null`, `{"type":"ByteLevel"}`} {
		if _, _, given, err := parseFrame(json.RawMessage(none)); given || err != nil {
			t.Errorf("%q frames the text: %v", none, err)
		}
	}
}
