package tokenizer

import (
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
)

// config holds the fields of tokenizer_config.json that change ids.
type config struct {
	Class string               `json:"tokenizer_class"`
	BOS   tokenName            `json:"bos_token"`
	EOS   tokenName            `json:"eos_token"`
	UNK   tokenName            `json:"unk_token"`
	PAD   tokenName            `json:"pad_token"`
	Added map[string]addedJSON `json:"added_tokens_decoder"`

	ExtraIDs     *int  `json:"extra_ids"`              // T5
	PrefixSpace  *bool `json:"add_prefix_space"`       // T5
	Legacy       *bool `json:"legacy"`                 // T5
	Lower        *bool `json:"do_lower_case"`          // BERT
	StripAccents *bool `json:"strip_accents"`          // BERT
	SplitCJK     *bool `json:"tokenize_chinese_chars"` // BERT
}

// addedJSON is one token of added_tokens_decoder or of tokenizer.json's added_tokens.
type addedJSON struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	SingleWord bool   `json:"single_word"`
}

// tokenName is a special token, written as a string or as an object with a content.
type tokenName string

// UnmarshalJSON accepts both spellings and null.
func (n *tokenName) UnmarshalJSON(data []byte) error {
	var text *string
	if err := json.Unmarshal(data, &text); err == nil {
		if text != nil {
			*n = tokenName(*text)
		}
		return nil
	}
	var object struct {
		Content string `json:"content"`
	}
	if err := json.Unmarshal(data, &object); err != nil {
		return err
	}
	*n = tokenName(object.Content)
	return nil
}

// or is the name, or the class's own default when the files do not give one.
func (n tokenName) or(standard string) string {
	if n == "" {
		return standard
	}
	return string(n)
}

// readConfig reads tokenizer_config.json. In folders from before added_tokens_decoder existed,
// special_tokens_map.json has the last word on the special tokens.
func readConfig(dir string) (config, error) {
	var c config
	data, ok, err := readOptional(dir, "tokenizer_config.json")
	if err != nil {
		return c, err
	}
	if ok {
		if err := json.Unmarshal(data, &c); err != nil {
			return c, fmt.Errorf("tokenizer_config.json: %w", err)
		}
	}
	if c.Added != nil {
		return c, nil
	}
	data, ok, err = readOptional(dir, "special_tokens_map.json")
	if err != nil || !ok {
		return c, err
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("special_tokens_map.json: %w", err)
	}
	return c, nil
}

// added lists the tokens of added_tokens_decoder in the order of their ids.
func (c config) added() ([]addedJSON, error) {
	list := make([]addedJSON, 0, len(c.Added))
	for key, token := range c.Added {
		id, err := strconv.ParseInt(key, 10, 32)
		if err != nil || id < 0 || id > maxID {
			return nil, fmt.Errorf("tokenizer_config.json: added_tokens_decoder: %q is no token id", key)
		}
		token.ID = int32(id)
		list = append(list, token)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].ID < list[j].ID })
	return list, nil
}
