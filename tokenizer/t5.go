package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// Special pieces of T5 where its files name no others.
const (
	t5Pad     = "<pad>"
	t5End     = "</s>"
	t5Unknown = "<unk>"
)

// t5ExtraIDs is the number of sentinel pieces <extra_id_K> that the class adds above a spiece.model's own.
const t5ExtraIDs = 100

// space is how pieces write a space.
const space = "▁"

// t5 is the fast class's pipeline: cut out added tokens, normalise, split into words that start with ▁, segment each.
type t5 struct {
	vocabulary
	model      *unigram
	added      addedTokens
	cleaner    cleaner
	splitWhite bool   // older files also split at white space before ▁ is put in front of each word
	prepend    string // "always", "first" or "never"
}

// loadT5 reads the file that the fast class reads: tokenizer.json with its own rules, or spiece.model, which the library
// converts anew at every load when the config says add_prefix_space.
func loadT5(dir string, c config) (Tokenizer, error) {
	spiece, haveSpiece, err := readOptional(dir, "spiece.model")
	if err != nil {
		return nil, err
	}
	whole, haveWhole, err := readOptional(dir, "tokenizer.json")
	if err != nil {
		return nil, err
	}
	switch {
	case haveSpiece && (!haveWhole || c.PrefixSpace != nil):
		return newT5FromSpiece(spiece, c)
	case haveWhole:
		return newT5FromJSON(whole, c)
	}
	return nil, errors.New("no vocabulary: neither spiece.model nor tokenizer.json is there")
}

// prependScheme says which pieces of text get a ▁ in front when a spiece.model is converted. Without legacy, text after a
// special token gets none.
func (c config) prependScheme() string {
	switch {
	case !isSet(c.PrefixSpace, true):
		return "never"
	case !isSet(c.Legacy, true):
		return "first"
	}
	return "always"
}

func newT5FromSpiece(data []byte, c config) (*t5, error) {
	s, err := parseSpiece(data)
	if err != nil {
		return nil, fmt.Errorf("spiece.model: %w", err)
	}
	if len(s.pieces) == 0 {
		return nil, errors.New("spiece.model: no pieces")
	}
	if s.modelType != 1 || s.byteFallback {
		return nil, errors.New("spiece.model: T5 needs a unigram model without byte fallback, this is another kind")
	}
	extra := t5ExtraIDs
	if c.ExtraIDs != nil {
		extra = *c.ExtraIDs
	}
	if extra < 0 || extra > 1<<16 {
		return nil, fmt.Errorf("tokenizer_config.json: extra_ids is %d", extra)
	}
	for k := extra - 1; k >= 0; k-- {
		s.pieces = append(s.pieces, piece{text: fmt.Sprintf("<extra_id_%d>", k)})
	}
	t := &t5{prepend: c.prependScheme()}
	if len(s.charsmap) > 0 {
		m, err := parseCharsmap(s.charsmap)
		if err != nil {
			return nil, fmt.Errorf("spiece.model: %w", err)
		}
		t.cleaner = append(t.cleaner, m.normalise)
	}
	t.cleaner = append(t.cleaner, trimRight, joinSpaces)
	added, err := c.added()
	if err != nil {
		return nil, err
	}
	for i := len(s.pieces) - extra; i < len(s.pieces); i++ {
		added = append(added, addedJSON{ID: int32(i), Content: s.pieces[i].text})
	}
	return t, t.setPieces(s.pieces, s.unknown, added, c)
}

// setPieces builds the model and looks up the special pieces.
func (t *t5) setPieces(pieces []piece, unknown int, added []addedJSON, c config) error {
	ids := make(map[string]int32, len(pieces))
	for i, p := range pieces {
		ids[p.text] = int32(i)
	}
	for _, a := range added {
		if _, ok := ids[a.Content]; !ok && a.Content != "" {
			ids[a.Content] = a.ID
		}
	}
	var err error
	if t.model, err = newUnigram(pieces, unknown); err != nil {
		return err
	}
	if t.vocabulary, err = newVocabulary(ids); err != nil {
		return err
	}
	end, err := t.special("end", c.EOS.or(t5End))
	if err != nil {
		return err
	}
	t.after = []int32{end}
	if t.pad, err = t.special("padding", c.PAD.or(t5Pad)); err != nil {
		return err
	}
	known := map[string]bool{}
	for _, a := range added {
		known[a.Content] = true
	}
	for _, name := range []string{c.EOS.or(t5End), c.PAD.or(t5Pad), c.UNK.or(t5Unknown)} {
		if id, ok := ids[name]; ok && !known[name] {
			added, known[name] = append(added, addedJSON{ID: id, Content: name}), true
		}
	}
	t.added = newAddedTokens(added, t.cleaner.clean)
	return nil
}

// t5JSON mirrors the parts of tokenizer.json that matter for a unigram model.
type t5JSON struct {
	rulesJSON
	Model struct {
		Type         string            `json:"type"`
		Unknown      *int              `json:"unk_id"`
		Vocab        []json.RawMessage `json:"vocab"`
		ByteFallback bool              `json:"byte_fallback"`
	} `json:"model"`
}

func newT5FromJSON(data []byte, c config) (*t5, error) {
	var file t5JSON
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	if file.Model.Type != "Unigram" || file.Model.ByteFallback || file.Model.Unknown == nil {
		return nil, fmt.Errorf("tokenizer.json: model of type %q is not a unigram model with an unknown piece and without byte fallback", file.Model.Type)
	}
	pieces := make([]piece, len(file.Model.Vocab))
	for i, raw := range file.Model.Vocab {
		pair := []any{&pieces[i].text, &pieces[i].score}
		if err := json.Unmarshal(raw, &pair); err != nil || len(pair) != 2 {
			return nil, fmt.Errorf("tokenizer.json: vocabulary entry %d is no pair of a piece and its score", i)
		}
	}
	t := &t5{}
	var err error
	if t.cleaner, err = parseNormalizer(file.Normalizer); err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	if err := t.parseWords(file.Words); err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	added, err := c.added()
	if err != nil {
		return nil, err
	}
	if err := t.setPieces(pieces, *file.Model.Unknown, append(file.Added, added...), c); err != nil {
		return nil, err
	}
	if err := t.setFrame(file.Post); err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	return t, nil
}

// parseWords reads the pre-tokenizer: Metaspace, in older files after WhitespaceSplit.
func (t *t5) parseWords(raw json.RawMessage) error {
	var p struct {
		Type        string            `json:"type"`
		Replacement string            `json:"replacement"`
		Prepend     string            `json:"prepend_scheme"`
		PrefixSpace *bool             `json:"add_prefix_space"`
		Split       *bool             `json:"split"`
		Steps       []json.RawMessage `json:"pretokenizers"`
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return fmt.Errorf("pre_tokenizer: %w", err)
	}
	switch {
	case p.Type == "Sequence":
		for _, step := range p.Steps {
			if err := t.parseWords(step); err != nil {
				return err
			}
		}
		if t.prepend == "" {
			return errors.New("pre_tokenizer: the sequence has no Metaspace step")
		}
		return nil
	case p.Type == "WhitespaceSplit" && t.prepend == "":
		t.splitWhite = true
		return nil
	case p.Type == "Metaspace" && p.Replacement == space && (p.Split == nil || *p.Split) && t.prepend == "":
		t.prepend = p.Prepend
		if t.prepend == "" {
			t.prepend = "always"
			if p.PrefixSpace != nil && !*p.PrefixSpace {
				t.prepend = "never"
			}
		}
		if t.prepend == "always" || t.prepend == "first" || t.prepend == "never" {
			return nil
		}
	}
	return fmt.Errorf("pre_tokenizer: %s is not T5's; it has Metaspace with %s", raw, space)
}

// Encode implements Tokenizer.
func (t *t5) Encode(text string, maxLength int) []int32 {
	room := t.room(maxLength)
	var ids []int32
	t.added.each(strings.ToValidUTF8(text, "\ufffd"), t.cleaner.clean, func(id int32) bool {
		ids = append(ids, id)
		return len(ids) < room
	}, func(text string, first bool) bool {
		ids = t.encodePart(ids, text, first, room)
		return len(ids) < room
	})
	return t.frame(ids, maxLength)
}

// encodePart appends the ids of cleaned text.
func (t *t5) encodePart(ids []int32, text string, first bool, room int) []int32 {
	chunks := []string{text}
	if t.splitWhite {
		chunks = strings.FieldsFunc(text, unicode.IsSpace)
		first = first && len(chunks) > 0 && strings.HasPrefix(text, chunks[0])
	}
	for i, chunk := range chunks {
		if chunk == "" {
			continue
		}
		chunk = strings.ReplaceAll(chunk, " ", space)
		if t.prepend == "always" || t.prepend == "first" && first && i == 0 {
			chunk = space + strings.TrimPrefix(chunk, space)
		}
		for len(chunk) > 0 && len(ids) < room {
			word := firstWord(chunk)
			ids = t.model.encode(ids, word)
			chunk = chunk[len(word):]
		}
	}
	return ids
}

// firstWord is text up to the next ▁ after its first character.
func firstWord(text string) string {
	skip := 0
	if strings.HasPrefix(text, space) {
		skip = len(space)
	}
	if next := strings.Index(text[skip:], space); next >= 0 && skip+next > 0 {
		return text[:skip+next]
	}
	return text
}

// joinSpaces replaces runs of two and more spaces by one ▁, as the library's conversion of a spiece.model does.
func joinSpaces(text string) string { return spaces.ReplaceAllLiteralString(text, space) }
