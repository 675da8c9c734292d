package configs

import (
	"cmp"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"
)

// Field describes one key of the config.
type Field struct {
	Path    string   // full path, such as sft.lr
	Type    string   // number, integer, text, true or false, duration, list of texts, list of 2 numbers
	Default string   // as YAML; empty text shows as ""
	Enum    []string // allowed values; nil when free
	Bounds  []string // such as ">0", "<1", "nonempty"
	Changes string   // what another value changes: result, speed, place or report, see Config
	Methods []string // values of oft.method under which it is read; nil: all
	Owner   string   // Go type and field that declares it, such as Optim.LR: where its documentation stands

	index []int        // of reflect.Value.FieldByIndex
	typ   reflect.Type // Go type
}

// What a key can change, see Config.
const (
	changesResult = "result"
	changesSpeed  = "speed"
	changesPlace  = "place"
	changesReport = "report"
)

// section is an inner node of the config.
type section struct {
	path, owner string
	secret      bool // it names where a secret is
}

var (
	fieldsOnce  sync.Once
	fieldList   []Field
	sectionList []section
	fieldByPath map[string]*Field
	durationOf  = reflect.TypeFor[time.Duration]()
)

// Fields lists every key in the order of the manual.
func Fields() []Field {
	fieldsOnce.Do(func() {
		walk(reflect.TypeFor[Config](), "", nil, scope{})
		fieldByPath = make(map[string]*Field, len(fieldList))
		for i := range fieldList {
			fieldByPath[fieldList[i].Path] = &fieldList[i]
		}
	})
	return fieldList
}

// fieldAt finds a key by its full path.
func fieldAt(path string) (*Field, bool) {
	Fields()
	f, ok := fieldByPath[path]
	return f, ok
}

// sections lists the inner nodes in the order of the manual.
func sections() []section {
	Fields()
	return sectionList
}

func isSection(path string) bool {
	for _, s := range sections() {
		if s.path == path {
			return true
		}
	}
	return false
}

// isSecret reports whether a path is a section that names where a secret is.
func isSecret(path string) bool {
	for _, s := range sections() {
		if s.path == path {
			return s.secret
		}
	}
	return false
}

// scope is what enclosing sections say of their keys.
type scope struct {
	defaults map[string]string // overridden ones, by full path
	changes  string            // empty: each key says it itself
	methods  string            // empty: all
}

// walk collects fields and sections of struct type t, found at path with the given index.
func walk(t reflect.Type, path string, index []int, outer scope) {
	for i := range t.NumField() {
		sf := t.Field(i)
		at := append(append([]int(nil), index...), i)
		name, _, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		full := join(path, name)
		owner := t.Name() + "." + sf.Name
		if sf.Type.Kind() == reflect.Struct {
			if !sf.Anonymous {
				sectionList = append(sectionList, section{full, owner, sf.Type == reflect.TypeFor[Secret]()})
			}
			inner := scope{overrides(full, sf.Tag.Get("default"), outer.defaults), cmp.Or(sf.Tag.Get("changes"), outer.changes),
				cmp.Or(sf.Tag.Get("of"), outer.methods)}
			walk(sf.Type, full, at, inner)
			continue
		}
		f := Field{Path: full, Type: typeName(sf.Type), Owner: owner, index: at, typ: sf.Type,
			Default: sf.Tag.Get("default"), Enum: split(sf.Tag.Get("enum"), "|"), Bounds: split(sf.Tag.Get("valid"), ","),
			Changes: cmp.Or(sf.Tag.Get("changes"), outer.changes), Methods: split(cmp.Or(sf.Tag.Get("of"), outer.methods), "|")}
		if v, ok := outer.defaults[full]; ok {
			f.Default = v
		}
		if f.Default == "" && sf.Type.Kind() == reflect.String {
			f.Default = `""`
		}
		fieldList = append(fieldList, f)
	}
}

// overrides adds "key=value" of a section's default tag to the overrides that hold already.
func overrides(path, tag string, outer map[string]string) map[string]string {
	if tag == "" {
		return outer
	}
	merged := map[string]string{}
	for k, v := range outer {
		merged[k] = v
	}
	key, value, _ := strings.Cut(tag, "=")
	if _, ok := merged[join(path, key)]; !ok {
		merged[join(path, key)] = value
	}
	return merged
}

func join(path, name string) string {
	switch {
	case name == "":
		return path
	case path == "":
		return name
	}
	return path + "." + name
}

func split(s, sep string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, sep)
}

func typeName(t reflect.Type) string {
	switch t {
	case durationOf:
		return "duration"
	case shiftOf:
		return "none, dynamic or a number"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Uint64:
		return "integer"
	case reflect.Float64:
		return "number"
	case reflect.String:
		return "text"
	case reflect.Slice:
		return "list of " + typeName(t.Elem()) + "s"
	case reflect.Array:
		return fmt.Sprintf("list of %d %ss", t.Len(), typeName(t.Elem()))
	}
	panic("configs: field type " + t.String() + " has no name")
}

// decode turns a YAML node into a value of the field's type, strictly: no text becomes a number, no number a text.
func (f *Field) decode(n *yaml.Node) (any, error) {
	v, err := decodeType(f.typ, resolveAlias(n))
	if err != nil {
		return nil, err
	}
	return v.Interface(), nil
}

// decodeText is decode for text from the environment or a flag, where YAML's guess of the type does not count: text stays
// text, and a list may be written without brackets.
func (f *Field) decodeText(raw string) (any, error) {
	if f.typ.Kind() == reflect.String || f.typ == durationOf {
		return f.decode(&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: raw})
	}
	list := f.typ.Kind() == reflect.Slice || f.typ.Kind() == reflect.Array
	if list && !strings.HasPrefix(strings.TrimSpace(raw), "[") {
		raw = "[" + raw + "]"
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(raw), &doc); err != nil || len(doc.Content) != 1 {
		return nil, fmt.Errorf("expected %s, got %q", f.Type, raw)
	}
	return f.decode(doc.Content[0])
}

func resolveAlias(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func decodeType(t reflect.Type, n *yaml.Node) (reflect.Value, error) {
	v := reflect.New(t).Elem()
	bad := func() (reflect.Value, error) {
		return v, fmt.Errorf("expected %s, got %s", typeName(t), describe(n))
	}
	if k := t.Kind(); k == reflect.Slice || k == reflect.Array {
		return decodeList(t, n)
	}
	if n.Kind != yaml.ScalarNode {
		return bad()
	}
	tag := n.ShortTag()
	switch {
	case t == durationOf:
		d, err := time.ParseDuration(n.Value)
		if tag != "!!str" || err != nil {
			return v, fmt.Errorf("expected duration such as 30s or 5m, got %s", describe(n))
		}
		v.SetInt(int64(d))
	case t == shiftOf && (tag == "!!str" || tag == "!!int" || tag == "!!float"):
		v.SetString(string(newShift(n.Value)))
	case t.Kind() == reflect.String && tag == "!!str":
		v.SetString(n.Value)
	case t.Kind() == reflect.Bool && tag == "!!bool":
		v.SetBool(strings.EqualFold(n.Value, "true"))
	case t.Kind() == reflect.Float64 && (tag == "!!int" || tag == "!!float"):
		var x float64
		if err := n.Decode(&x); err != nil || x-x != 0 {
			return bad()
		}
		v.SetFloat(x)
	case t.Kind() == reflect.Int && tag == "!!int":
		x, err := strconv.ParseInt(n.Value, 10, 64)
		if err != nil {
			return bad()
		}
		v.SetInt(x)
	case t.Kind() == reflect.Uint64 && tag == "!!int":
		x, err := strconv.ParseUint(n.Value, 10, 64)
		if err != nil {
			return v, fmt.Errorf("expected integer from 0 on, got %s", describe(n))
		}
		v.SetUint(x)
	default:
		return bad()
	}
	return v, nil
}

func decodeList(t reflect.Type, n *yaml.Node) (reflect.Value, error) {
	v := reflect.New(t).Elem()
	if n.Kind != yaml.SequenceNode || t.Kind() == reflect.Array && len(n.Content) != t.Len() {
		return v, fmt.Errorf("expected %s, got %s", typeName(t), describe(n))
	}
	if t.Kind() == reflect.Slice {
		v.Set(reflect.MakeSlice(t, len(n.Content), len(n.Content)))
	}
	for i, c := range n.Content {
		e, err := decodeType(t.Elem(), resolveAlias(c))
		if err != nil {
			return v, fmt.Errorf("element %d: %w", i, err)
		}
		v.Index(i).Set(e)
	}
	return v, nil
}

// describe names a node for an error message.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a section"
	case yaml.SequenceNode:
		return fmt.Sprintf("a list of %d", len(n.Content))
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!str":
		return fmt.Sprintf("text %q", n.Value)
	}
	return n.Value
}
