package tokenizer

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// A tokenizer.json carries its own rules: what is cut out first, how text is cleaned, how it is cut into words and what
// frames the ids. They are followed as they stand; a rule that is not known here is refused by its name, because ids
// made by another rule are wrong without a sign.

// rulesJSON is what every tokenizer.json has beside its model.
type rulesJSON struct {
	Added      []addedJSON     `json:"added_tokens"`
	Normalizer json.RawMessage `json:"normalizer"`
	Words      json.RawMessage `json:"pre_tokenizer"`
	Post       json.RawMessage `json:"post_processor"`
}

// cleaner is the steps of a normalizer.
type cleaner []func(string) string

func (c cleaner) clean(text string) string {
	for _, step := range c {
		text = step(text)
	}
	return text
}

// stepJSON is a normalizer or one step of it.
type stepJSON struct {
	Type     string            `json:"type"`
	Steps    []json.RawMessage `json:"normalizers"`
	Charsmap []byte            `json:"precompiled_charsmap"` // base64
	Left     bool              `json:"strip_left"`
	Right    bool              `json:"strip_right"`
	Content  string            `json:"content"`
	Pattern  map[string]string `json:"pattern"`
}

var forms = map[string]norm.Form{"NFC": norm.NFC, "NFD": norm.NFD, "NFKC": norm.NFKC, "NFKD": norm.NFKD}

// parseNormalizer reads the steps that tokenizers are saved with; null means none.
func parseNormalizer(raw json.RawMessage) (cleaner, error) {
	var n *stepJSON
	if len(raw) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(raw, &n); err != nil {
		return nil, fmt.Errorf("normalizer: %w", err)
	}
	if n == nil {
		return nil, nil
	}
	form, isForm := forms[n.Type]
	switch {
	case n.Type == "Sequence":
		var steps cleaner
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
		return cleaner{m.normalise}, nil
	case n.Type == "Lowercase":
		return cleaner{lowerEach}, nil
	case n.Type == "Strip":
		return stripSteps(n.Left, n.Right), nil
	case n.Type == "Replace":
		return replaceStep(*n)
	case isForm:
		return cleaner{form.String}, nil
	}
	return nil, fmt.Errorf("normalizer: a step of type %q is not known; CLIP and T5 have no such step", n.Type)
}

func stripSteps(left, right bool) (steps cleaner) {
	if left {
		steps = append(steps, func(s string) string { return strings.TrimLeftFunc(s, unicode.IsSpace) })
	}
	if right {
		steps = append(steps, trimRight)
	}
	return steps
}

// replaceStep replaces a string, or one of the two patterns that CLIP's and T5's files have.
func replaceStep(n stepJSON) (cleaner, error) {
	from, to := n.Pattern["String"], n.Content
	switch pattern := n.Pattern["Regex"]; {
	case from != "":
		return cleaner{func(s string) string { return strings.ReplaceAll(s, from, to) }}, nil
	case pattern == " {2,}":
		return cleaner{func(s string) string { return spaces.ReplaceAllLiteralString(s, to) }}, nil
	case pattern == `\s+`:
		return cleaner{func(s string) string { return replaceWhite(s, to) }}, nil
	}
	return nil, fmt.Errorf("normalizer: Replace with pattern %v is not known; CLIP and T5 have no such step", n.Pattern)
}

var spaces = regexp.MustCompile(` {2,}`)

// replaceWhite puts to in the place of every run of Unicode's white space; \s of package regexp is ASCII's only.
func replaceWhite(text, to string) string {
	var b strings.Builder
	b.Grow(len(text))
	inside := false
	for _, r := range text {
		if !unicode.IsSpace(r) {
			b.WriteRune(r)
		} else if !inside {
			b.WriteString(to)
		}
		inside = unicode.IsSpace(r)
	}
	return b.String()
}

func trimRight(text string) string { return strings.TrimRightFunc(text, unicode.IsSpace) }

// frameJSON is a post-processor: what a text's ids are framed by.
type frameJSON struct {
	Type   string            `json:"type"`
	Steps  []json.RawMessage `json:"processors"`
	Start  []any             `json:"cls"` // token and id
	End    []any             `json:"sep"`
	Single []struct {
		Sequence *struct{} `json:"Sequence"`
		Special  *struct {
			ID string `json:"id"`
		} `json:"SpecialToken"`
	} `json:"single"`
	Special map[string]struct {
		IDs []int32 `json:"ids"`
	} `json:"special_tokens"`
}

// parseFrame reads the ids before and after a text. given is false where the file says nothing, and the class's own
// special tokens hold.
func parseFrame(raw json.RawMessage) (before, after []int32, given bool, err error) {
	var f *frameJSON
	if len(raw) == 0 {
		return nil, nil, false, nil
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, nil, false, fmt.Errorf("post_processor: %w", err)
	}
	switch {
	case f == nil || f.Type == "ByteLevel": // which moves offsets only
		return nil, nil, false, nil
	case f.Type == "RobertaProcessing" || f.Type == "BertProcessing":
		before, err = pairID(f.Start)
		if err == nil {
			after, err = pairID(f.End)
		}
		return before, after, true, err
	case f.Type == "TemplateProcessing":
		before, after, err = f.template()
		return before, after, true, err
	case f.Type == "Sequence":
		return parseFrames(f.Steps)
	}
	return nil, nil, false, fmt.Errorf("post_processor: %q is not known; use RobertaProcessing, BertProcessing or TemplateProcessing", f.Type)
}

// parseFrames reads a sequence of post-processors, of which one may frame the text.
func parseFrames(steps []json.RawMessage) (before, after []int32, given bool, err error) {
	for _, step := range steps {
		b, a, ok, err := parseFrame(step)
		if err != nil {
			return nil, nil, false, err
		}
		if ok && given {
			return nil, nil, false, fmt.Errorf("post_processor: two steps that frame the text")
		}
		if ok {
			before, after, given = b, a, true
		}
	}
	return before, after, given, nil
}

// pairID is the id of a pair of a token and its id.
func pairID(pair []any) ([]int32, error) {
	if len(pair) == 2 {
		if id, ok := pair[1].(float64); ok && id >= 0 && id <= maxID && id == float64(int32(id)) {
			return []int32{int32(id)}, nil
		}
	}
	return nil, fmt.Errorf("post_processor: %v is no pair of a token and its id", pair)
}

// template reads the form for one text: special tokens, the text, special tokens.
func (f *frameJSON) template() (before, after []int32, err error) {
	texts := 0
	for _, part := range f.Single {
		switch {
		case part.Sequence != nil:
			texts++
		case part.Special != nil:
			special, ok := f.Special[part.Special.ID]
			if !ok {
				return nil, nil, fmt.Errorf("post_processor: the template names %q, which special_tokens lacks", part.Special.ID)
			}
			if texts == 0 {
				before = append(before, special.IDs...)
			} else {
				after = append(after, special.IDs...)
			}
		}
	}
	if texts != 1 {
		return nil, nil, fmt.Errorf("post_processor: the template for one text has %d places for it", texts)
	}
	for _, id := range append(append([]int32(nil), before...), after...) {
		if id < 0 || id > maxID {
			return nil, nil, fmt.Errorf("post_processor: special token id %d is outside 0…%d", id, maxID)
		}
	}
	return before, after, nil
}

// setFrame takes the file's frame, if it gives one.
func (v *vocabulary) setFrame(raw json.RawMessage) error {
	before, after, given, err := parseFrame(raw)
	if err != nil || !given {
		return err
	}
	for _, id := range append(append([]int32(nil), before...), after...) {
		if int(id) >= v.size {
			return fmt.Errorf("post_processor: special token id %d is beyond the vocabulary of %d", id, v.size)
		}
	}
	v.before, v.after = before, after
	return nil
}
