package dataset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// fields reads one JSON object strictly: no key twice, nothing behind it. Values stay as they are written.
func fields(text []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("the text is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	out := map[string]json.RawMessage{}
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("not a JSON object: %w", orWrong(err, "it begins with something else"))
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		key := t.(string)
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("the key %q stands there twice", key)
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, err
		}
		out[key] = v
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something stands behind the JSON object")
	}
	return out, nil
}

func orWrong(err error, text string) error {
	if err != nil {
		return err
	}
	return errors.New(text)
}

// rowOf makes a row of what a JSON object says of a picture: implicit_prompt, explicit_prompt and superficial_prompt, each a
// string or a list of strings; or one of text, caption and prompt, which then is all three. Further strings and numbers are
// kept as columns are.
func rowOf(object map[string]json.RawMessage, b *budget) (Row, error) {
	r := newRow()
	prompts := map[string]*Text{ImplicitPrompt: &r.Implicit, ExplicitPrompt: &r.Explicit, SuperficialPrompt: &r.Superficial}
	var captions []string
	own := false // the three prompts are there
	for _, key := range sortedKeys(object) {
		if p := prompts[key]; p != nil {
			t, err := promptOf(key, object[key], b)
			if err != nil {
				return r, err
			}
			*p, own = t, true
		} else if slices.Contains(captionColumns, key) && string(object[key]) != "null" {
			captions = append(captions, key)
		} else if err := keep(&r, key, object[key], b); err != nil {
			return r, err
		}
	}
	switch {
	case own || len(captions) == 0:
		return r, b.row()
	case len(captions) > 1:
		return r, fmt.Errorf("%s are there; keep one as the caption", strings.Join(captions, " and "))
	}
	t, err := promptOf(captions[0], object[captions[0]], b)
	if err != nil {
		return r, err
	}
	r.caption(t)
	return r, b.row()
}

func sortedKeys(m map[string]json.RawMessage) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// promptOf reads a string, a list of strings, or null.
func promptOf(key string, v json.RawMessage, b *budget) (Text, error) {
	if err := b.take(key, len(v)); err != nil {
		return Text{}, err
	}
	var one *string
	if json.Unmarshal(v, &one) == nil {
		if one == nil {
			return Text{Values: []Cell{{}}}, nil
		}
		return Text{Valid: true, Values: []Cell{{*one, true}}}, nil
	}
	var list []*string
	if err := json.Unmarshal(v, &list); err != nil {
		return Text{}, fmt.Errorf("%s is neither a string nor a list of strings", key)
	}
	t := Text{List: true, Valid: true}
	for _, s := range list {
		c := Cell{}
		if s != nil {
			c = Cell{*s, true}
		}
		t.Values = append(t.Values, c)
	}
	return t, nil
}

// keep keeps strings and numbers of other names; what is neither is passed over, as other columns are.
func keep(r *Row, key string, v json.RawMessage, b *budget) error {
	var value any
	d := json.NewDecoder(bytes.NewReader(v))
	d.UseNumber()
	if err := d.Decode(&value); err != nil {
		return err
	}
	switch x := value.(type) {
	case string:
		r.Cells[key] = Cell{x, true}
		return b.take(key, len(x))
	case json.Number:
		if n, err := x.Int64(); err == nil {
			r.Ints[key] = n
		} else if f, err := x.Float64(); err == nil {
			r.Floats[key] = []float64{f}
		}
		return b.take(key, len(x))
	}
	return nil
}

// captionText is the caption of a .txt file: its lines as one, without a byte order mark.
func captionText(key string, text []byte, b *budget) (Text, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if !utf8.Valid(text) {
		return Text{}, errors.New("the text is not UTF-8; write it so")
	}
	if err := b.take(key, len(text)); err != nil {
		return Text{}, err
	}
	return Text{Valid: true, Values: []Cell{{strings.Join(strings.Fields(string(text)), " "), true}}}, nil
}

// pictureTypes are the endings of picture files. Some are not decoded; such pictures are refused by name, not passed over.
var pictureTypes = []string{"png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "heif", "jxl", "jp2"}

func isPicture(ext string) bool {
	return slices.Contains(pictureTypes, strings.ToLower(strings.TrimPrefix(ext, ".")))
}

// one is a list of one picture.
func one(im *Image) Images { return Images{Valid: true, List: []*Image{im}} }
