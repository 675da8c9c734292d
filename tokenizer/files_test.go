package tokenizer

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestParseMerges(t *testing.T) {
	for name, tc := range map[string]struct {
		text  string
		limit int
		want  [][2]string
	}{
		"plain":           {"#version: 0.2\na b\nab c</w>\n", 9, [][2]string{{"a", "b"}, {"ab", "c</w>"}}},
		"no header":       {"x y\na b", 9, [][2]string{{"a", "b"}}}, // the first line is never a merge
		"windows":         {"#v\r\na b\r\nc d\r\n", 9, [][2]string{{"a", "b"}, {"c", "d"}}},
		"limit":           {"#v\na b\nc d\ne f\n", 2, [][2]string{{"a", "b"}, {"c", "d"}}},
		"blank at end":    {"#v\na b\n\n\n", 9, [][2]string{{"a", "b"}}},
		"header only":     {"#v\n", 9, [][2]string{}},
		"nothing":         {"", 9, [][2]string{}},
		"broken past end": {"#v\na b\nbroken", 1, [][2]string{{"a", "b"}}},
	} {
		got, err := parseMerges(tc.text, tc.limit)
		if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}

// A pair that is listed twice counts with its later rank.
func TestRepeatedMerge(t *testing.T) {
	vocab := map[string]int32{"a": 0, "b": 1, "c</w>": 2, "ab": 3, "bc</w>": 4, "a</w>": 5}
	p, err := newBPE(vocab, [][2]string{{"a", "b"}, {"b", "c</w>"}, {"a", "b"}}, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.encode(nil, "abc"); !slices.Equal(got, []int32{0, 4}) {
		t.Errorf("%v, want a and bc", got)
	}
}

// The fast classes take a pair that a merge makes at once, the slow one after the round; this shows only in lists that
// no training makes.
func TestMergeOrderOfClasses(t *testing.T) {
	vocab := map[string]int32{}
	for _, s := range []string{"a", "b", "a</w>", "b</w>", "ab", "aba", "abab</w>", "ab</w>", "baba"} {
		vocab[s] = int32(len(vocab))
	}
	merges := [][2]string{{"ab", "a"}, {"a", "b"}, {"a", "b</w>"}}
	slow, err := newBPE(vocab, merges, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	fast, err := newBPE(vocab, merges, 0, true)
	if err != nil {
		t.Fatal(err)
	}
	// "ababb": slow joins both "ab" first, fast joins "ab" and then "aba".
	if a, b := slow.encode(nil, "ababb"), fast.encode(nil, "ababb"); slices.Equal(a, b) ||
		!slices.Equal(a, []int32{vocab["ab"], vocab["ab"], vocab["b</w>"]}) || !slices.Equal(b, []int32{vocab["aba"], vocab["b"], vocab["b</w>"]}) {
		t.Errorf("slow %v, fast %v", a, b)
	}
}

func TestTokenNames(t *testing.T) {
	var c config
	text := `{"bos_token":"<s>","eos_token":{"content":"</s>","lstrip":true},"pad_token":null,"added_tokens_decoder":{"9":{"content":"z"},"2":{"content":"y","rstrip":true}}}`
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	if c.BOS != "<s>" || c.EOS.or("x") != "</s>" || c.PAD.or("x") != "x" {
		t.Errorf("%+v", c)
	}
	added, err := c.added()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]addedJSON{{ID: 2, Content: "y", RStrip: true}, {ID: 9, Content: "z"}}, added); diff != "" {
		t.Error(diff)
	}
}

// special_tokens_map.json decides only where tokenizer_config.json has no added_tokens_decoder.
func TestSpecialTokensMap(t *testing.T) {
	files := clipFolder()
	files["special_tokens_map.json"] = `{"pad_token":{"content":"!"}}`
	for text, want := range map[string]string{`{"pad_token":"#"}`: "!", `{"pad_token":"#","added_tokens_decoder":{}}`: "#"} {
		files["tokenizer_config.json"] = text
		tk := load(t, CLIP, files)
		if got := spell(t, tk, tk.Pad(nil, 1)); got != want {
			t.Errorf("%s: padded with %s, want %s", text, got, want)
		}
	}
}

// Fields that are not known are passed over, whatever their wire type.
func TestSpieceUnknownFields(t *testing.T) {
	junk := binary.AppendUvarint(nil, 90<<3|wireVarint)
	junk = binary.AppendUvarint(junk, 1<<40)
	junk = append(binary.AppendUvarint(junk, 91<<3|wireFixed64), 1, 2, 3, 4, 5, 6, 7, 8)
	junk = append(binary.AppendUvarint(junk, 92<<3|wireBytes), 3, 'x', 'y', 'z')
	junk = append(binary.AppendUvarint(junk, 93<<3|wireFixed32), 1, 2, 3, 4)
	plain := spieceFile(t5Pieces, 2, nil)
	want, err := parseSpiece([]byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseSpiece([]byte(string(junk) + plain + string(junk)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.pieces, got.pieces, cmp.AllowUnexported(piece{})); diff != "" || got.unknown != 2 || got.modelType != 1 || len(got.pieces) != len(t5Pieces) {
		t.Errorf("%+v %s", got, diff)
	}
	for name, data := range map[string][]byte{
		"field 0": {0, 1}, "group": {3<<3 | 3}, "no value": {1 << 3}, "short fixed64": {1<<3 | 1, 1}, "short fixed32": {1<<3 | 5, 1}, "long bytes": {1<<3 | 2, 9, 1},
		"endless length": {1<<3 | 2, 255, 255, 255, 255, 255, 255, 255, 255, 255, 127}, "endless tag": slices.Repeat([]byte{255}, 11),
	} {
		if _, err := parseSpiece(data); !errors.Is(err, errProtobuf) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSpieceKinds(t *testing.T) {
	file := func(number, value uint64) string {
		trainer := binary.AppendUvarint(binary.AppendUvarint(nil, number<<3|wireVarint), value)
		out := binary.AppendUvarint([]byte(spieceFile(t5Pieces, 2, nil)), 2<<3|wireBytes)
		return string(append(binary.AppendUvarint(out, uint64(len(trainer))), trainer...))
	}
	for name, text := range map[string]string{"BPE model": file(3, 2), "byte fallback": file(35, 1)} {
		if _, err := newT5FromSpiece([]byte(text), config{}); err == nil || !strings.Contains(err.Error(), "another kind") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A trie of any entries finds, for any text, the shortest key that begins it.
func TestCharsmapFindsShortestKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfNDistinct(rapid.StringMatching(`[ab…\x{301}]{1,4}`), 0, 8, rapid.ID).Draw(t, "keys")
		var entries [][2]string
		for _, k := range keys {
			entries = append(entries, [2]string{k, rapid.StringMatching(`[xyé]{0,3}`).Draw(t, "value")})
		}
		m, err := parseCharsmap(buildCharsmap(entries))
		if err != nil {
			t.Fatal(err)
		}
		text := rapid.StringMatching(`[ab…\x{301}c]{0,6}`).Draw(t, "text")
		want, found := "", false
		for n := 1; n <= len(text) && !found; n++ {
			for _, e := range entries {
				if e[0] == text[:n] {
					want, found = e[1], true
				}
			}
		}
		if got, ok := m.replacement(text); ok != found || got != want {
			t.Fatalf("%q with %q: %q %v, want %q %v", text, entries, got, ok, want, found)
		}
	})
}

func TestT5NormalizerSteps(t *testing.T) {
	for text, want := range map[string]string{
		`null`: " Ａe\u0301 b  ",
		`{"type":"Strip","strip_left":true,"strip_right":true}`:  "Ａe\u0301 b",
		`{"type":"Strip","strip_left":false,"strip_right":true}`: " Ａe\u0301 b",
		`{"type":"NFKC"}`: " Aé b  ",
		`{"type":"NFC"}`:  " Ａé b  ",
		`{"type":"Precompiled","precompiled_charsmap":""}`:                                       " Ａe\u0301 b  ",
		`{"type":"Replace","pattern":{"String":"b"},"content":"cc"}`:                             " Ａe\u0301 cc  ",
		`{"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"Strip","strip_left":true}]}`: "Aé b  ",
	} {
		steps, err := parseNormalizer(json.RawMessage(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := " Ａe\u0301 b  "
		for _, step := range steps {
			got = step(got)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	for _, text := range []string{`{`, `{"type":"StripAccents"}`, `{"type":"Replace","pattern":{"Regex":"x+"},"content":""}`,
		`{"type":"Precompiled","precompiled_charsmap":"AA=="}`,
		`{"type":"Sequence","normalizers":[{"type":"Nmt"}]}`} {
		if _, err := parseNormalizer(json.RawMessage(text)); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
}
