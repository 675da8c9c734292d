package lora

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/dlclark/regexp2"
)

// patterns are numbers for the modules that regular expressions name, in the order of their file: the first that matches
// counts.
type patterns []pattern

type pattern struct {
	key     string
	literal string          // the one module that the key names, when it is such a key
	match   *regexp2.Regexp // else
	value   float64
}

// Bounds of what a file may ask of the matcher: Python's expressions can look ahead and back, and so take for ever.
const (
	maxPatterns = 4096
	maxKey      = 1 << 16 // bytes
	matchTime   = time.Second
	maxMatching = 20 * time.Second // of all modules of a file
)

// newPattern compiles a key as peft takes it: it has to match the module's path from its start, alone or after a dot.
func newPattern(key string, value float64) (pattern, error) {
	if name, ok := literal(key); ok {
		return pattern{key: key, literal: name, value: value}, nil
	}
	if len(key) > maxKey {
		return pattern{}, fmt.Errorf("pattern %q is longer than %d bytes", shorten([]byte(key)), maxKey)
	}
	match, err := regexp2.Compile(fmt.Sprintf(`^(.*\.)?(%s)$`, key), regexp2.RE2)
	if err != nil {
		return pattern{}, fmt.Errorf("pattern %q: %w", key, err)
	}
	match.MatchTimeout = matchTime
	return pattern{key: key, match: match, value: value}, nil
}

// literal is the module that a key of the form ^name names, with its dots escaped, as our writers have it.
func literal(key string) (string, bool) {
	rest, anchored := strings.CutPrefix(key, "^")
	name := strings.ReplaceAll(rest, `\.`, ".")
	return name, anchored && name != "" && exactKey(name) == key && !strings.ContainsAny(name, `\^$*+?{}[]|()`)
}

// exactKey is the key that matches one module alone: without ^ proj_out would also name a layer of every single block.
func exactKey(module string) string { return "^" + strings.ReplaceAll(module, ".", `\.`) }

func (p pattern) matches(module string) (bool, error) {
	if p.match == nil {
		return p.literal == module, nil
	}
	ok, err := p.match.MatchString(module)
	if err != nil {
		return false, fmt.Errorf("pattern %q takes too long on %s; write a simpler one", p.key, module)
	}
	return ok, nil
}

// of is the value of the first pattern that matches, or the fallback.
func (p patterns) of(module string, fallback float64) (float64, error) {
	for _, x := range p {
		ok, err := x.matches(module)
		if err != nil {
			return 0, err
		}
		if ok {
			return x.value, nil
		}
	}
	return fallback, nil
}

// UnmarshalJSON implements json.Unmarshaler: an object from expressions to numbers.
func (p *patterns) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("pattern is not an object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		var value float64
		if err := d.Decode(&value); err != nil {
			return fmt.Errorf("pattern %q: %w", key, err)
		}
		if len(*p) == maxPatterns {
			return fmt.Errorf("more than %d patterns", maxPatterns)
		}
		x, err := newPattern(fmt.Sprint(key), value)
		if err != nil {
			return err
		}
		*p = append(*p, x)
	}
	return nil
}

// parsePatterns reads PATTERN=NUMBER, as a config lists them.
func parsePatterns(list []string) (patterns, error) {
	var ps patterns
	for _, text := range list {
		at := strings.LastIndexByte(text, '=')
		var value float64
		if at < 1 || json.Unmarshal([]byte(strings.TrimSpace(text[at+1:])), &value) != nil || value <= 0 || math.IsInf(value, 0) {
			return nil, fmt.Errorf("pattern %q is not PATTERN=NUMBER with a number above 0, such as attn.to_q=32", text)
		}
		x, err := newPattern(strings.TrimSpace(text[:at]), value)
		if err != nil {
			return nil, err
		}
		ps = append(ps, x)
	}
	return ps, nil
}
