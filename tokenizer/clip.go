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
	bpe     *bpe
	fast    bool
	unknown int32
	cleaner func(string) string
	added   addedTokens
}

// clipFiles is what a folder holds, whichever of its two forms it has.
type clipFiles struct {
	vocab  map[string]int32
	merges [][2]string
	whole  bool // from tokenizer.json, which has its own rules
	rules  rulesJSON
	clean  cleaner
	unk    tokenName
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
	return newCLIP(files, c, append(files.rules.Added, added...), fast || files.whole)
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
	rulesJSON
	Model struct {
		Type         string            `json:"type"`
		Vocab        map[string]int32  `json:"vocab"`
		Merges       []json.RawMessage `json:"merges"`
		Suffix       *string           `json:"end_of_word_suffix"`
		Prefix       string            `json:"continuing_subword_prefix"`
		Unknown      tokenName         `json:"unk_token"`
		Dropout      float64           `json:"dropout"`
		FuseUnknown  bool              `json:"fuse_unk"`
		ByteFallback bool              `json:"byte_fallback"`
		IgnoreMerges bool              `json:"ignore_merges"`
	} `json:"model"`
}

func parseCLIPJSON(data []byte) (clipFiles, error) {
	var file clipJSON
	fail := func(err error) (clipFiles, error) { return clipFiles{}, fmt.Errorf("tokenizer.json: %w", err) }
	if err := json.Unmarshal(data, &file); err != nil {
		return fail(err)
	}
	m := file.Model
	switch {
	case m.Type != "BPE" || m.Suffix == nil || *m.Suffix != endOfWord:
		return fail(fmt.Errorf("model of type %q is not CLIP's BPE with word ends marked %s", m.Type, endOfWord))
	case m.Prefix != "" || m.Dropout != 0 || m.FuseUnknown || m.ByteFallback || m.IgnoreMerges:
		return fail(errors.New("continuing_subword_prefix, dropout, fuse_unk, byte_fallback or ignore_merges is set, which CLIP has not"))
	}
	f := clipFiles{vocab: m.Vocab, whole: true, rules: file.rulesJSON, unk: m.Unknown}
	var err error
	if f.clean, err = parseNormalizer(file.Normalizer); err != nil {
		return fail(err)
	}
	if err := checkCLIPWords(file.Words); err != nil {
		return fail(err)
	}
	for i, raw := range m.Merges {
		pair, err := parseMergeJSON(raw)
		if err != nil {
			return f, fmt.Errorf("tokenizer.json: merge %d: %w", i, err)
		}
		f.merges = append(f.merges, pair)
	}
	return f, nil
}

// clipWords is CLIP's pattern of words. Files of transformers 5 put the special tokens in front of it, which changes
// nothing: the byte-level step that follows cuts them at the same places.
const (
	clipWords    = `'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`
	clipSpecials = `<\|startoftext\|>|<\|endoftext\|>|`
)

// checkCLIPWords refuses pre-tokenizers other than CLIP's: the pattern, then bytes. An absent one is taken for it.
func checkCLIPWords(raw json.RawMessage) error {
	type step struct {
		Type     string            `json:"type"`
		Pattern  map[string]string `json:"pattern"`
		Behavior string            `json:"behavior"`
		Invert   bool              `json:"invert"`
		Prefix   bool              `json:"add_prefix_space"`
		Regex    *bool             `json:"use_regex"`
		Steps    []step            `json:"pretokenizers"`
	}
	var s *step
	if len(raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("pre_tokenizer: %w", err)
	}
	if s == nil {
		return nil
	}
	if s.Type == "Sequence" && len(s.Steps) == 2 {
		split, bytes := s.Steps[0], s.Steps[1]
		pattern := split.Pattern["Regex"]
		known := pattern == clipWords || pattern == clipSpecials+clipWords && isSet(bytes.Regex, true)
		if split.Type == "Split" && split.Behavior == "Removed" && split.Invert && known && bytes.Type == "ByteLevel" && !bytes.Prefix {
			return nil
		}
	}
	return fmt.Errorf("pre_tokenizer: %s is not CLIP's; it is Split by %s, then ByteLevel", raw, clipWords)
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
	unknown := c.UNK.or(clipEnd)
	if f.whole {
		unknown = f.unk.or(unknown)
	}
	var role [4]int32
	for i, r := range []struct{ role, piece string }{
		{"start", c.BOS.or(clipStart)}, {"end", c.EOS.or(clipEnd)}, {"unknown", unknown}, {"padding", c.PAD.or(clipEnd)},
	} {
		if role[i], err = t.special(r.role, r.piece); err != nil {
			return nil, err
		}
		if !known[r.piece] {
			added, known[r.piece] = append(added, addedJSON{ID: role[i], Content: r.piece, Normalized: true}), true
		}
	}
	t.before, t.after, t.unknown, t.pad = []int32{role[0]}, []int32{role[1]}, role[2], role[3]
	if err := t.setFrame(f.rules.Post); err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	t.setCleaning(f, added)
	t.bpe, err = newBPE(f.vocab, f.merges, role[2], fast)
	return t, err
}

// setCleaning picks the cleaning of the file or of the class. The slow class looks for all added tokens in the text as it
// was given.
func (t *clip) setCleaning(f clipFiles, added []addedJSON) {
	switch {
	case f.whole:
		t.cleaner = f.clean.clean
	case t.fast:
		t.cleaner = cleanFast
	default:
		t.cleaner = cleanSlow
		for i := range added {
			added[i].Normalized = false
		}
	}
	t.added = newAddedTokens(added, t.cleaner)
}

// Encode implements Tokenizer.
func (t *clip) Encode(text string, maxLength int) []int32 {
	room := t.room(maxLength)
	var ids []int32
	t.added.each(strings.ToValidUTF8(text, "\ufffd"), t.cleaner, func(id int32) bool {
		ids = append(ids, id)
		return len(ids) < room
	}, func(text string, _ bool) bool {
		ids = t.encodeWords(ids, text, room)
		return len(ids) < room
	})
	return t.frame(ids, maxLength)
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
func cleanFast(text string) string { return lowerEach(replaceWhite(norm.NFC.String(text), " ")) }

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
