package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Special tokens of CLIP where its files name no others.
const (
	clipStart = "<|startoftext|>"
	clipEnd   = "<|endoftext|>"
)

// slowMergeLimit is the number of merges that the slow class reads at most: CLIP's own 49,152 entries without bytes.
const slowMergeLimit = 49152 - 256 - 2

// clip is the byte-level BPE of CLIP: clean, split into words, merge the bytes of each.
type clip struct {
	vocabulary
	bpe        *bpe
	fast       bool
	unknown    int32
	raw        *splitter // added tokens that are looked for in the text as it was given
	normalised *splitter // fast class: added tokens that are looked for after cleaning
}

// clipFiles is what a folder holds, whichever of its two forms it has.
type clipFiles struct {
	vocab  map[string]int32
	merges [][2]string
	added  []addedJSON
}

func loadCLIP(dir string, c config, fast bool) (Tokenizer, error) {
	files, err := readCLIPFiles(dir, fast)
	if err != nil {
		return nil, err
	}
	added, err := c.added()
	if err != nil {
		return nil, err
	}
	return newCLIP(files, c, append(files.added, added...), fast)
}

// readCLIPFiles prefers the file that the class itself reads: tokenizer.json for the fast one.
func readCLIPFiles(dir string, fast bool) (clipFiles, error) {
	data, whole, err := readOptional(dir, "tokenizer.json")
	if err != nil {
		return clipFiles{}, err
	}
	vocab, haveVocab, err := readOptional(dir, "vocab.json")
	if err != nil {
		return clipFiles{}, err
	}
	merges, haveMerges, err := readOptional(dir, "merges.txt")
	if err != nil {
		return clipFiles{}, err
	}
	switch {
	case whole && (fast || !haveVocab || !haveMerges):
		return parseCLIPJSON(data)
	case !haveVocab && !haveMerges:
		return clipFiles{}, errors.New("no vocabulary: neither vocab.json with merges.txt nor tokenizer.json is there")
	case !haveVocab:
		return clipFiles{}, errors.New("no vocabulary: merges.txt is there but vocab.json is missing")
	case !haveMerges:
		return clipFiles{}, errors.New("no merges: vocab.json is there but merges.txt is missing")
	}
	return parseCLIPPair(vocab, merges)
}

func parseCLIPPair(vocab, merges []byte) (clipFiles, error) {
	var f clipFiles
	if err := json.Unmarshal(vocab, &f.vocab); err != nil {
		return f, fmt.Errorf("vocab.json: %w", err)
	}
	if !utf8.Valid(merges) {
		return f, errors.New("merges.txt: not UTF-8 text")
	}
	var err error
	f.merges, err = parseMerges(string(merges), slowMergeLimit)
	return f, err
}

// clipJSON mirrors the parts of tokenizer.json that matter for byte-level BPE.
type clipJSON struct {
	Added      []addedJSON     `json:"added_tokens"`
	Normalizer json.RawMessage `json:"normalizer"`
	Model      struct {
		Type   string            `json:"type"`
		Vocab  map[string]int32  `json:"vocab"`
		Merges []json.RawMessage `json:"merges"`
		Suffix *string           `json:"end_of_word_suffix"`
	} `json:"model"`
}

func parseCLIPJSON(data []byte) (clipFiles, error) {
	var file clipJSON
	if err := json.Unmarshal(data, &file); err != nil {
		return clipFiles{}, fmt.Errorf("tokenizer.json: %w", err)
	}
	if file.Model.Type != "BPE" || file.Model.Suffix == nil || *file.Model.Suffix != endOfWord {
		return clipFiles{}, fmt.Errorf("tokenizer.json: model of type %q is not CLIP's BPE with word ends marked %s", file.Model.Type, endOfWord)
	}
	steps, err := normalizerTypes(file.Normalizer)
	if err != nil {
		return clipFiles{}, err
	}
	if got := strings.Join(steps, " "); got != "NFC Replace Lowercase" {
		return clipFiles{}, fmt.Errorf("tokenizer.json: normalizer %q is not CLIP's (NFC Replace Lowercase)", got)
	}
	f := clipFiles{vocab: file.Model.Vocab, added: file.Added}
	for i, raw := range file.Model.Merges {
		pair, err := parseMergeJSON(raw)
		if err != nil {
			return f, fmt.Errorf("tokenizer.json: merge %d: %w", i, err)
		}
		f.merges = append(f.merges, pair)
	}
	return f, nil
}

// parseMergeJSON reads a merge in either of its two spellings, "a b" and ["a","b"].
func parseMergeJSON(raw json.RawMessage) ([2]string, error) {
	var pair []string
	if json.Unmarshal(raw, &pair) == nil && len(pair) == 2 {
		return [2]string{pair[0], pair[1]}, nil
	}
	var line string
	if json.Unmarshal(raw, &line) == nil {
		if a, b, ok := strings.Cut(line, " "); ok && !strings.Contains(b, " ") {
			return [2]string{a, b}, nil
		}
	}
	return [2]string{}, fmt.Errorf("%s is not a pair of symbols", raw)
}

// normalizerTypes lists the types of a normalizer's steps.
func normalizerTypes(raw json.RawMessage) ([]string, error) {
	var n struct {
		Type  string            `json:"type"`
		Steps []json.RawMessage `json:"normalizers"`
	}
	if err := json.Unmarshal(raw, &n); err != nil {
		return nil, fmt.Errorf("tokenizer.json: normalizer: %w", err)
	}
	if n.Type != "Sequence" {
		return []string{n.Type}, nil
	}
	var types []string
	for _, step := range n.Steps {
		inner, err := normalizerTypes(step)
		if err != nil {
			return nil, err
		}
		types = append(types, inner...)
	}
	return types, nil
}

func newCLIP(f clipFiles, c config, added []addedJSON, fast bool) (*clip, error) {
	known := map[string]bool{}
	for _, token := range added {
		if _, ok := f.vocab[token.Content]; !ok && f.vocab != nil {
			f.vocab[token.Content] = token.ID
		}
		known[token.Content] = true
	}
	v, err := newVocabulary(f.vocab)
	if err != nil {
		return nil, err
	}
	t := &clip{vocabulary: v, fast: fast}
	var role [4]int32
	for i, r := range []struct{ role, piece string }{
		{"start", c.BOS.or(clipStart)}, {"end", c.EOS.or(clipEnd)}, {"unknown", c.UNK.or(clipEnd)}, {"padding", c.PAD.or(clipEnd)},
	} {
		if role[i], err = t.special(r.role, r.piece); err != nil {
			return nil, err
		}
		if !known[r.piece] {
			added, known[r.piece] = append(added, addedJSON{ID: role[i], Content: r.piece, Normalized: true}), true
		}
	}
	t.before, t.after, t.unknown, t.pad = []int32{role[0]}, []int32{role[1]}, role[2], role[3]
	t.raw, t.normalised = newCLIPSplitters(added, fast)
	t.bpe, err = newBPE(f.vocab, f.merges, role[2], fast)
	return t, err
}

// newCLIPSplitters sorts added tokens by the moment at which they are looked for.
func newCLIPSplitters(added []addedJSON, fast bool) (raw, normalised *splitter) {
	var early, late []addedJSON
	for _, token := range added {
		if fast && token.Normalized {
			token.Content = cleanFast(token.Content)
			late = append(late, token)
		} else {
			early = append(early, token)
		}
	}
	return newSplitter(early), newSplitter(late)
}

// Encode implements Tokenizer.
func (t *clip) Encode(text string, maxLength int) []int32 {
	room := t.room(maxLength)
	var ids []int32
	for _, outer := range t.raw.split(strings.ToValidUTF8(text, "\ufffd")) {
		if outer.added {
			ids = append(ids, outer.id)
		} else if t.fast {
			ids = t.encodeFast(ids, outer.text, room)
		} else {
			ids = t.encodeWords(ids, cleanSlow(outer.text), room)
		}
		if len(ids) >= room {
			break
		}
	}
	return t.frame(ids, maxLength)
}

func (t *clip) encodeFast(ids []int32, text string, room int) []int32 {
	for _, inner := range t.normalised.split(cleanFast(text)) {
		if inner.added {
			ids = append(ids, inner.id)
		} else {
			ids = t.encodeWords(ids, inner.text, room)
		}
	}
	return ids
}

// encodeWords appends the ids of cleaned text; it may stop once room ids are there.
func (t *clip) encodeWords(ids []int32, text string, room int) []int32 {
	for text != "" && len(ids) < room {
		n, kind := nextWord(text, !t.fast)
		switch kind {
		case specialWord:
			id, ok := t.ids[text[:n]]
			if !ok {
				id = t.unknown
			}
			ids = append(ids, id)
		case plainWord:
			ids = t.bpe.encode(ids, text[:n])
		}
		text = text[n:]
	}
	return ids
}

// cleanFast is the cleaning of the fast class: NFC, runs of white space become one space, lower case.
func cleanFast(text string) string {
	var b strings.Builder
	space := false
	for _, r := range norm.NFC.String(text) {
		if unicode.IsSpace(r) {
			if !space {
				b.WriteByte(' ')
			}
			space = true
			continue
		}
		space = false
		b.WriteRune(r)
	}
	return lowerEach(b.String())
}

// cleanSlow is the cleaning of the slow class without ftfy: control and format characters vanish, ideographs stand
// alone, NFC, then the words in lower case with single spaces between them.
func cleanSlow(text string) string {
	words := strings.FieldsFunc(norm.NFC.String(cleanText(text, isOther, true)), unicode.IsSpace)
	for i, w := range words {
		words[i] = lowerFull(w)
	}
	return strings.Join(words, " ")
}

type wordKind int

const (
	gap wordKind = iota
	plainWord
	specialWord
)

// nextWord gives the length in bytes of what stands at the start of text: a gap, an English contraction, a run of
// letters, one digit, or a run of anything else. The slow class also sees special tokens here, in text that became one
// by lowercasing.
func nextWord(text string, slow bool) (int, wordKind) {
	if slow {
		for _, special := range []string{clipStart, clipEnd} {
			if strings.HasPrefix(text, special) {
				return len(special), specialWord
			}
		}
	}
	if n := contraction(text, slow); n > 0 {
		return n, plainWord
	}
	first, size := utf8.DecodeRuneInString(text)
	switch {
	case unicode.IsSpace(first), slow && first == ypogegrammeni:
		return size, gap
	case unicode.IsNumber(first):
		return size, plainWord
	case unicode.IsLetter(first):
		return runLength(text, unicode.IsLetter), plainWord
	}
	return runLength(text, func(r rune) bool {
		return !unicode.IsSpace(r) && !unicode.IsLetter(r) && !unicode.IsNumber(r) && !(slow && r == ypogegrammeni)
	}), plainWord
}

// ypogegrammeni is the one mark that is another case of a letter (ι). The slow class's pattern ignores case, and so
// counts it neither as a letter nor as anything else: it is lost.
const ypogegrammeni = '\u0345'

// contraction gives the length of one of 's 't 're 've 'm 'll 'd at the start of text, else 0. The slow class compares
// without regard to case, and the long s (ſ) is another case of s.
func contraction(text string, slow bool) int {
	if text[0] != '\'' {
		return 0
	}
	for _, ending := range []string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"} {
		if strings.HasPrefix(text, ending) {
			return len(ending)
		}
	}
	if slow && strings.HasPrefix(text, "'ſ") {
		return len("'ſ")
	}
	return 0
}

func runLength(text string, in func(rune) bool) int {
	for i, r := range text {
		if !in(r) {
			return i
		}
	}
	return len(text)
}
