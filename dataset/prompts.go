package dataset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// Prompt is one entry of a file of prompts: what is drawn, and the noun that masks are made for ("" without).
type Prompt struct{ Text, Object string }

// maxPrompts bounds a file of prompts, in bytes.
const maxPrompts = 256 << 20

// ReadPrompts reads a JSON list of {"prompt", "object"} objects, or one such object a line (JSONL). Entries are held to what
// rows are held to: a prompt that is not blank, and no key that means nothing here.
func ReadPrompts(path string) ([]Prompt, error) {
	f, info, err := openRegular(filepath.Clean(path), os.Stat, openNoWait)
	if err != nil {
		return nil, fmt.Errorf("read prompts %s: %w", path, withoutPath(err))
	}
	defer f.Close()
	text, err := readLimited(f, info.Size(), maxPrompts)
	if err == nil {
		var prompts []Prompt
		if prompts, err = parsePrompts(text); err == nil {
			return prompts, nil
		}
	}
	return nil, fmt.Errorf("read prompts %s: %w", path, err)
}

var errNoPrompts = errors.New("not a list of prompts; " +
	`write [{"prompt": "an unripe apple", "object": "apple"}, …], or one such object a line`)

func parsePrompts(text []byte) (out []Prompt, err error) {
	text = bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\ufeff")))
	if !utf8.Valid(text) {
		return nil, errors.New("the text is not UTF-8; write it so")
	}
	add := func(entry []byte) error {
		p, err := promptEntry(entry)
		if err != nil {
			return fmt.Errorf("entry %d: %w", len(out), err)
		}
		out = append(out, p)
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	list := bytes.HasPrefix(text, []byte("["))
	if list {
		_, _ = d.Token()
	} else if !bytes.HasPrefix(text, []byte("{")) {
		return nil, errNoPrompts
	}
	for d.More() {
		var entry json.RawMessage
		if err := d.Decode(&entry); err != nil {
			return nil, fmt.Errorf("entry %d: %w", len(out), whole(err))
		}
		if err := add(entry); err != nil {
			return nil, err
		}
	}
	if list {
		if _, err := d.Token(); err != nil {
			return nil, whole(err)
		}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something stands behind the prompts")
	}
	if len(out) == 0 {
		return nil, errors.New("there are no prompts in it")
	}
	return out, nil
}

// whole says what the end of a file in the middle of something means.
func whole(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the file is cut off")
	}
	return err
}

func promptEntry(text []byte) (p Prompt, err error) {
	object, err := fields(text)
	if err != nil {
		return p, err
	}
	for _, key := range sortedKeys(object) {
		if key != "prompt" && key != "object" {
			return p, fmt.Errorf("the key %q is not known%s; keys are prompt and object", key, meant(key))
		}
	}
	if v, ok := object["prompt"]; !ok {
		return p, errors.New("it has no prompt; keys are prompt and object")
	} else if err := json.Unmarshal(v, &p.Text); err != nil {
		return p, fmt.Errorf("prompt is not a string but %s", short(v))
	}
	if strings.TrimSpace(p.Text) == "" {
		return p, fmt.Errorf("its prompt is %s; write one or remove the entry", short(object["prompt"]))
	}
	if len(p.Text) > maxText {
		return p, fmt.Errorf("a prompt of %d bytes; the limit is %d", len(p.Text), maxText)
	}
	if v, ok := object["object"]; ok {
		if err := json.Unmarshal(v, &p.Object); err != nil {
			return p, fmt.Errorf("object is not a string but %s", short(v))
		}
		if strings.TrimSpace(p.Object) == "" {
			return p, fmt.Errorf("its object is %s; write the noun or leave the key out", short(v))
		}
	}
	return p, nil
}

// meant says which of the two keys another one stands for: a word of the field, or a slip of the hand.
func meant(key string) string {
	k := strings.ToLower(strings.Trim(key, " _"))
	for near, words := range map[string][]string{
		"prompt": {"text", "caption", "prompts", "promt", "promp", "prompt_text", "implicit_prompt", "description"},
		"object": {"subject", "noun", "objects", "objekt", "obejct", "class", "phrase"},
	} {
		for _, w := range append(words, near) {
			if k == w {
				return "; did you mean " + near + "?"
			}
		}
	}
	return ""
}

// short quotes a value for a message.
func short(v []byte) string {
	const most = 40
	if len(v) > most {
		return fmt.Sprintf("%q…", v[:most])
	}
	return string(bytes.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, v))
}
