package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
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
	added      *splitter
	normalise  []func(string) string
	splitWhite bool   // older files also split at white space before ▁ is put in front of each word
	prepend    string // "always", "first" or "never"
}

// loadT5 prefers spiece.model, which the library converts anew at every load; tokenizer.json gives the same ids.
func loadT5(dir string, c config) (Tokenizer, error) {
	data, ok, err := readOptional(dir, "spiece.model")
	if err != nil {
		return nil, err
	}
	if ok {
		return newT5FromSpiece(data, c)
	}
	data, ok, err = readOptional(dir, "tokenizer.json")
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errors.New("no vocabulary: neither spiece.model nor tokenizer.json is there")
	}
	return newT5FromJSON(data, c)
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
	t := &t5{prepend: "always"}
	if len(s.charsmap) > 0 {
		m, err := parseCharsmap(s.charsmap)
		if err != nil {
			return nil, fmt.Errorf("spiece.model: %w", err)
		}
		t.normalise = append(t.normalise, m.normalise)
	}
	t.normalise = append(t.normalise, trimRight, joinSpaces)
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
	t.added = newSplitter(added)
	return nil
}

// t5JSON mirrors the parts of tokenizer.json that matter for a unigram model.
type t5JSON struct {
	Added      []addedJSON     `json:"added_tokens"`
	Normalizer json.RawMessage `json:"normalizer"`
	Words      json.RawMessage `json:"pre_tokenizer"`
	Model      struct {
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
	if t.normalise, err = parseNormalizer(file.Normalizer); err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	if err := t.parseWords(file.Words); err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	added, err := c.added()
	if err != nil {
		return nil, err
	}
	return t, t.setPieces(pieces, *file.Model.Unknown, append(file.Added, added...), c)
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
	for i, p := range t.added.split(strings.ToValidUTF8(text, "\ufffd")) {
		if p.added {
			ids = append(ids, p.id)
		} else {
			ids = t.encodePart(ids, p.text, i == 0, room)
		}
		if len(ids) >= room {
			break
		}
	}
	return t.frame(ids, maxLength)
}

func (t *t5) encodePart(ids []int32, text string, first bool, room int) []int32 {
	for _, step := range t.normalise {
		text = step(text)
	}
	chunks := []string{text}
	if t.splitWhite {
		chunks = strings.FieldsFunc(text, unicode.IsSpace)
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

func trimRight(text string) string { return strings.TrimRightFunc(text, unicode.IsSpace) }

// joinSpaces replaces runs of two and more spaces by one ▁.
func joinSpaces(text string) string { return spaces.ReplaceAllLiteralString(text, space) }

var spaces = regexp.MustCompile(` {2,}`)

// parseNormalizer reads the steps that unigram tokenizers are saved with; null means none.
func parseNormalizer(raw json.RawMessage) ([]func(string) string, error) {
	var n *struct {
		Type     string            `json:"type"`
		Steps    []json.RawMessage `json:"normalizers"`
		Charsmap []byte            `json:"precompiled_charsmap"` // base64
		Left     bool              `json:"strip_left"`
		Right    bool              `json:"strip_right"`
		Content  string            `json:"content"`
		Pattern  map[string]string `json:"pattern"`
	}
	if len(raw) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(raw, &n); err != nil {
		return nil, fmt.Errorf("normalizer: %w", err)
	}
	if n == nil {
		return nil, nil
	}
	form, isForm := map[string]norm.Form{"NFC": norm.NFC, "NFD": norm.NFD, "NFKC": norm.NFKC, "NFKD": norm.NFKD}[n.Type]
	switch {
	case n.Type == "Sequence":
		var steps []func(string) string
		for _, step := range n.Steps {
			inner, err := parseNormalizer(step)
			if err != nil {
				return nil, err
			}
			steps = append(steps, inner...)
		}
		return steps, nil
	case n.Type == "Precompiled" && len(n.Charsmap) == 0:
		return nil, nil
	case n.Type == "Precompiled":
		m, err := parseCharsmap(n.Charsmap)
		if err != nil {
			return nil, err
		}
		return []func(string) string{m.normalise}, nil
	case n.Type == "Strip":
		return stripSteps(n.Left, n.Right), nil
	case n.Type == "Replace" && n.Pattern["Regex"] == " {2,}" && n.Content == space:
		return []func(string) string{joinSpaces}, nil
	case n.Type == "Replace" && n.Pattern["String"] != "":
		from, to := n.Pattern["String"], n.Content
		return []func(string) string{func(s string) string { return strings.ReplaceAll(s, from, to) }}, nil
	case isForm:
		return []func(string) string{form.String}, nil
	}
	return nil, fmt.Errorf("normalizer: a step of type %q with pattern %v is not known for T5", n.Type, n.Pattern)
}

func stripSteps(left, right bool) (steps []func(string) string) {
	if left {
		steps = append(steps, func(s string) string { return strings.TrimLeftFunc(s, unicode.IsSpace) })
	}
	if right {
		steps = append(steps, trimRight)
	}
	return steps
}
