package configs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Resolved writes the complete config as YAML: every key, in the order of the manual, with the value that holds. It
// contains no secret, because a config never does. Parse reads it back.
func (c Config) Resolved() string { return c.render(func(Field) bool { return true }) }

// Hash is the SHA-256, in hex, of all settings that can change a result. A run may be continued with other values of the
// rest.
func (c Config) Hash() string {
	sum := sha256.Sum256([]byte(c.render(func(f Field) bool { return f.Changes == changesResult })))
	return hex.EncodeToString(sum[:])
}

// Values are all keys with the value that holds, nested by section as in a file: what Schema describes, for output as
// JSON. Durations are text, lists are lists.
func (c Config) Values() map[string]any {
	all := map[string]any{}
	v := reflect.ValueOf(c)
	for _, f := range Fields() {
		parts := strings.Split(f.Path, ".")
		at := all
		for _, name := range parts[:len(parts)-1] {
			inner, ok := at[name].(map[string]any)
			if !ok {
				inner = map[string]any{}
				at[name] = inner
			}
			at = inner
		}
		value := v.FieldByIndex(f.index).Interface()
		switch x := value.(type) {
		case time.Duration:
			value = x.String()
		case Shift:
			value = x.value()
		case []string:
			value = append([]string{}, x...) // never null
		}
		at[parts[len(parts)-1]] = value
	}
	return all
}

// render writes the keys that are wanted.
func (c Config) render(wanted func(Field) bool) string {
	var b strings.Builder
	v := reflect.ValueOf(c)
	var open []string
	for _, f := range Fields() {
		if !wanted(f) {
			continue
		}
		parts := strings.Split(f.Path, ".")
		// Close and open sections until the path's are open.
		same := 0
		for same < len(open) && same < len(parts)-1 && open[same] == parts[same] {
			same++
		}
		open = open[:same]
		for _, name := range parts[same : len(parts)-1] {
			fmt.Fprintf(&b, "%s%s:\n", strings.Repeat("  ", len(open)), name)
			open = append(open, name)
		}
		fmt.Fprintf(&b, "%s%s: %s\n", strings.Repeat("  ", len(open)), parts[len(parts)-1], yamlValue(v.FieldByIndex(f.index)))
	}
	return b.String()
}

// yamlValue writes a value so that the strict decoder reads it back as the same one. Text is always quoted: a bare no,
// 1e3 or 0x1 would change its type.
func yamlValue(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return x.String()
	case Shift:
		if a, ok := x.number(); ok {
			return yamlValue(reflect.ValueOf(a))
		}
	}
	switch v.Kind() {
	case reflect.Slice, reflect.Array:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = yamlValue(v.Index(i))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case reflect.String:
		return strconv.Quote(v.String())
	case reflect.Float64:
		return strconv.FormatFloat(v.Float()+0, 'g', -1, 64) // +0 drops the sign of a negative zero
	}
	return fmt.Sprint(v.Interface())
}
