package dataset

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestPromptsAreStrict: an entry is read, or refused by its number, its key and what to write instead.
func TestPromptsAreStrict(t *testing.T) {
	good := []Prompt{{"an unripe apple", "apple"}, {"a candle in space", ""}}
	for name, c := range map[string]struct {
		text string
		want []string // of the message; none if both prompts are read
	}{
		"a list":          {`[{"prompt": "an unripe apple", "object": "apple"}, {"prompt": "a candle in space"}]`, nil},
		"lines":           {"{\"prompt\": \"an unripe apple\", \"object\": \"apple\"}\n\n{\"prompt\": \"a candle in space\"}\n", nil},
		"byte order mark": {"\ufeff" + ` [{"object": "apple", "prompt": "an unripe apple"}, {"prompt": "a candle in space"}] `, nil},
		"text": {`[{"text": "an unripe apple", "object": "apple"}, {"caption": "a candle flame"}]`, []string{"entry 0",
			`"text"`, "did you mean prompt?", "keys are prompt and object"}},
		"caption later": {`[{"prompt": "x"}, {"caption": "a candle flame"}]`, []string{"entry 1", `"caption"`, "did you mean prompt?"}},
		"subject": {`[{"prompt": "an unripe apple", "subject": "apple"}]`, []string{"entry 0", `"subject"`,
			"did you mean object?"}},
		"something else": {`[{"prompt": "an unripe apple", "seed": 3}]`, []string{"entry 0",
			`the key "seed" is not known; keys are prompt and object`}},
		"capitals": {`[{"Prompt": "an unripe apple"}]`, []string{"entry 0", `"Prompt"`, "did you mean prompt?"}},
		"empty": {`[{"prompt": "", "object": "apple"}]`, []string{"entry 0", `its prompt is ""`,
			"write one or remove the entry"}},
		"blank":            {`[{"prompt": "ok"}, {"prompt": "  \n"}]`, []string{"entry 1", "its prompt is"}},
		"null":             {`[{"prompt": null}]`, []string{"entry 0", "its prompt is null"}},
		"no prompt":        {`[{"object": "apple"}]`, []string{"entry 0", "it has no prompt"}},
		"null object":      {`[{"prompt": "x", "object": null}]`, []string{"entry 0", "its object is null"}},
		"blank object":     {`[{"prompt": "x", "object": " "}]`, []string{"entry 0", "its object is", "leave the key out"}},
		"a number":         {`[{"prompt": 7}]`, []string{"entry 0", "prompt is not a string but 7"}},
		"a list of nouns":  {`[{"prompt": "x", "object": ["apple"]}]`, []string{"entry 0", "object is not a string"}},
		"twice":            {`[{"prompt": "x", "prompt": "y"}]`, []string{"entry 0", `"prompt" stands there twice`}},
		"strings":          {`["an unripe apple"]`, []string{"entry 0", "not a JSON object"}},
		"no list":          {`"an unripe apple"`, []string{"not a list of prompts", "one such object a line"}},
		"an object around": {`{"prompts": [{"prompt": "x"}]}`, []string{"entry 0", `"prompts"`}},
		"none":             {`[]`, []string{"there are no prompts"}},
		"nothing":          {"", []string{"not a list of prompts"}},
		"cut":              {`[{"prompt": "an unripe apple"}, {"pro`, []string{"entry 1", "cut off"}},
		"not closed":       {`[{"prompt": "an unripe apple"}`, []string{"cut off"}},
		"more behind":      {`[{"prompt": "x"}] [{"prompt": "y"}]`, []string{"something stands behind"}},
		"not utf-8":        {"[{\"prompt\": \"gr\xfcn\"}]", []string{"not UTF-8"}},
		"no json":          {"[{prompt: x}]", []string{"entry 0", "invalid character"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "prompts.json")
			require.NoError(t, os.WriteFile(path, []byte(c.text), 0o600))
			got, err := ReadPrompts(path)
			if c.want == nil {
				require.NoError(t, err)
				require.Equal(t, good, got)
				return
			}
			require.Nil(t, got)
			for _, part := range append(c.want, path) {
				require.ErrorContains(t, err, part)
			}
		})
	}
}

func TestPromptsThatAreNoFile(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	for path, want := range map[string]string{dir: "it is a folder", pipe: "it is a named pipe", "/dev/zero": "it is a device", filepath.Join(dir, "gone"): "no such file"} {
		_, err := ReadPrompts(path)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, path)
	}
}

// TestPromptsComeBack: any prompts, as a list and as lines.
func TestPromptsComeBack(t *testing.T) {
	text := rapid.StringN(1, 20, -1).Filter(func(s string) bool { return strings.TrimSpace(s) != "" })
	rapid.Check(t, func(t *rapid.T) {
		type entry struct {
			Prompt string `json:"prompt"`
			Object string `json:"object,omitempty"`
		}
		var list []entry
		var want []Prompt
		var lines []byte
		for range rapid.IntRange(1, 5).Draw(t, "n") {
			e := entry{Prompt: text.Draw(t, "prompt")}
			if rapid.Bool().Draw(t, "noun") {
				e.Object = text.Draw(t, "object")
			}
			b, _ := json.Marshal(e)
			list, want, lines = append(list, e), append(want, Prompt{e.Prompt, e.Object}), append(append(lines, b...), '\n')
		}
		whole, _ := json.Marshal(list)
		for _, b := range [][]byte{whole, lines} {
			got, err := parsePrompts(b)
			if err != nil || len(got) != len(want) {
				t.Fatalf("%s: %v", b, err)
			}
			for i := range got {
				if got[i] != want[i] {
					t.Fatalf("prompt %d is %q", i, got[i])
				}
			}
		}
	})
}

func FuzzPrompts(f *testing.F) {
	f.Add([]byte(`[{"prompt": "an unripe apple", "object": "apple"}]`))
	f.Add([]byte("{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}"))
	f.Add([]byte(`[{"prompt": "\u0000"}, {"text": 1}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		prompts, err := parsePrompts(b)
		if err == nil && len(prompts) == 0 {
			t.Fatal("nothing was read and nobody said so")
		}
		for _, p := range prompts {
			if strings.TrimSpace(p.Text) == "" {
				t.Fatalf("%q", p)
			}
		}
	})
}
