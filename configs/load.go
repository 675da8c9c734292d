package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// Sources is where Load takes settings from, lowest layer first.
type Sources struct {
	Name    string   // a preset's name or the path of a YAML file; a file may name its preset. Empty: defaults only
	Environ []string // "KEY=value" as os.Environ gives
	Set     []string // "path=value" of --set
}

// Load builds a config from its layers, checks it, and reports everything wrong with it at once as *Error.
func Load(src Sources) (Config, error) {
	l := newLoader()
	l.named(src.Name)
	l.environ(src.Environ)
	l.set(src.Set)
	return l.finish()
}

// Parse reads the YAML that Resolved wrote. Keys that are missing get today's defaults, unknown ones are errors.
func Parse(resolved string) (Config, error) {
	l := newLoader()
	l.document("resolved config", []byte(resolved))
	return l.finish()
}

// Default is the config without any layer.
func Default() Config {
	c, err := newLoader().finish()
	if err != nil {
		panic("configs: the defaults do not hold: " + err.Error())
	}
	return c
}

// loader fills viper layer by layer and remembers who set what.
type loader struct {
	v        *viper.Viper
	source   string            // name of the preset or file, after which a run without a name is called
	origin   map[string]string // path → file:line, variable or flag
	preset   map[string]string // origin of what only a preset has set
	problems problems
}

// given reports whether the user has set a key: in a file, a variable or a flag, not by choosing a preset.
func (l *loader) given(path string) bool { return l.origin[path] != l.preset[path] }

func newLoader() *loader {
	l := &loader{v: viper.New(), origin: map[string]string{}}
	for i := range Fields() {
		f := &fieldList[i]
		l.v.SetDefault(f.Path, f.defaultValue())
	}
	return l
}

// defaultValue decodes the default tag; a tag that does not decode is a fault of the program.
func (f *Field) defaultValue() any {
	if f.Default == "" || f.Default == `""` {
		return reflect.Zero(f.typ).Interface()
	}
	v, err := f.decodeText(f.Default)
	if err != nil {
		panic(fmt.Sprintf("configs: default of %s: %v", f.Path, err))
	}
	return v
}

// named loads a preset or a file with the preset it names.
func (l *loader) named(name string) {
	if name == "" {
		return
	}
	l.source = name
	if l.presetNamed(name) {
		l.v.Set("preset", name)
		return
	}
	text, err := os.ReadFile(name)
	if err != nil {
		l.problems.add("", "", presetCure(name), "%q is neither a preset nor a file that can be read: %v", name, cause(err))
		return
	}
	if base := presetOf(text); base != "" && !l.presetNamed(base) {
		l.problems.add("preset", name, presetCure(base), "%q is not a preset", base)
	}
	l.document(name, text)
}

// presetNamed loads a preset, if there is one of that name.
func (l *loader) presetNamed(name string) bool {
	text, ok := presetText(name)
	if ok {
		l.document("preset "+name, text)
		l.preset = maps.Clone(l.origin)
	}
	return ok
}

// cause strips the path that os errors repeat.
func cause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// presetOf reads the key `preset` of a file, leniently: the strict pass over the same text reports what is wrong.
func presetOf(text []byte) string {
	var head struct {
		Preset string `yaml:"preset"`
	}
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&head); err != nil {
		return ""
	}
	return head.Preset
}

// document merges one YAML document into the settings.
func (l *loader) document(name string, text []byte) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return // an empty file sets nothing
	}
	if err != nil {
		l.problems.add("", fmt.Sprintf("%s:%d", name, brokenLine(text)), "fix the YAML", "%s", yamlPlace.ReplaceAllString(err.Error(), ""))
		return
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		l.problems.add("", name, "keep one document", "the file goes on after the end of its first document")
		return
	}
	values := map[string]any{}
	l.mapping(name, "", doc.Content[0], values)
	if err := l.v.MergeConfigMap(values); err != nil {
		l.problems.add("", name, "", "%v", err)
	}
}

// yamlPlace is how the YAML reader begins its complaints. Its line is that of a mark which may stand before the fault.
var yamlPlace = regexp.MustCompile(`^yaml: (line \d+: )?`)

// brokenLine is the line, from 1 on, with which a broken document stops being YAML: the one after the longest beginning
// that can be read. Of a document of very many lines it is the first.
func brokenLine(text []byte) int {
	const most = 2000
	lines := bytes.SplitAfter(text, []byte("\n"))
	if len(lines) > most {
		return 1
	}
	for end := len(text); len(lines) > 0; {
		last := len(lines) - 1
		end -= len(lines[last])
		err := yaml.NewDecoder(bytes.NewReader(text[:end])).Decode(&yaml.Node{})
		if err == nil || errors.Is(err, io.EOF) {
			return len(lines)
		}
		lines = lines[:last]
	}
	return 1
}

// mapping checks one mapping node and stores its values under their nested keys.
func (l *loader) mapping(file, path string, n *yaml.Node, out map[string]any) {
	n = resolveAlias(n)
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return // a section without keys
	}
	if n.Kind != yaml.MappingNode && isSecret(path) {
		l.problems.add(path, at(file, n), secretCure, "expected a section; secrets are never written in a config")
		return
	}
	if n.Kind != yaml.MappingNode {
		l.problems.add(path, at(file, n), "write its keys below it, indented", "expected a section, got %s", describe(n))
		return
	}
	seen := map[string]int{}
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		full := join(path, key.Value)
		if line, twice := seen[key.Value]; twice {
			l.problems.add(full, at(file, key), "keep one of them", "given twice, first in line %d", line)
			continue
		}
		seen[key.Value] = key.Line
		switch f, known := fieldAt(full); {
		case known:
			v, err := f.decode(value)
			if err != nil {
				l.problems.add(full, at(file, value), "", "%v", err)
				continue
			}
			out[key.Value], l.origin[full] = v, at(file, value)
		case isSection(full):
			inner := map[string]any{}
			l.mapping(file, full, value, inner)
			if len(inner) > 0 {
				out[key.Value] = inner
			}
		default:
			l.unknown(full, at(file, key))
		}
	}
}

func at(file string, n *yaml.Node) string { return fmt.Sprintf("%s:%d", file, n.Line) }

// secretCure is said without the text that was given: it may be the secret.
const secretCure = "name the variable in env or the file in file, as in store.secret_key.env"

// unknown reports a key that does not exist, with the nearest one that does.
func (l *loader) unknown(path, where string) {
	for _, s := range []string{"secret", "password", "access_key", "session_token", "api_key"} {
		if strings.Contains(last(path), s) {
			l.problems.add(path, where, secretCure, "unknown key; secrets are never written in a config")
			return
		}
	}
	l.problems.add(path, where, "did you mean "+nearestKey(path, allKeys())+"?", "unknown key")
}

// allKeys lists keys and sections.
func allKeys() []string {
	var keys []string
	for _, f := range Fields() {
		keys = append(keys, f.Path)
	}
	for _, s := range sections() {
		keys = append(keys, s.path)
	}
	return keys
}

// set applies --set path=value.
func (l *loader) set(pairs []string) {
	for _, pair := range pairs {
		path, raw, found := strings.Cut(pair, "=")
		path = strings.TrimSpace(path)
		where := "--set " + path
		if !found || path == "" {
			l.problems.add("", "--set "+pair, "write --set sft.lr=1e-4", "expected path=value")
			continue
		}
		if f, ok := fieldAt(path); ok {
			l.text(f, raw, where)
			continue
		}
		if isSection(path) {
			l.problems.add(path, where, "name one of its keys", "is a section")
			continue
		}
		l.unknown(path, where)
	}
}

// text sets one key from text.
func (l *loader) text(f *Field, raw, where string) {
	if f.Path == "preset" {
		l.problems.add(f.Path, where, "name the preset as the argument of run, or in the file", "cannot be changed by a later layer")
		return
	}
	v, err := f.decodeText(raw)
	if err != nil {
		l.problems.add(f.Path, where, "", "%v", err)
		return
	}
	l.v.Set(f.Path, v)
	l.origin[f.Path] = where
}

// finish decodes all layers and validates. Values that did not decode keep the layer below, so that one slip does not
// hide the others.
func (l *loader) finish() (Config, error) {
	c, err := l.decoded()
	if err != nil {
		l.problems.add("", "", "", "%v", err)
		return Config{}, l.problems.err()
	}
	l.leaveToAdapter(&c)
	l.leaveToMethod(&c)
	l.fillName(&c)
	for _, p := range c.check() {
		p.Where = l.origin[p.Path]
		l.problems = append(l.problems, p)
	}
	if err := l.problems.err(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// leaveToAdapter empties the keys of lora that the user has not given when there is an adapter to start from: they are
// that adapter's, and neither a default nor a preset may contradict it.
func (l *loader) leaveToAdapter(c *Config) {
	if c.Model.Adapter == "" {
		return
	}
	v := reflect.ValueOf(c).Elem()
	for i := range Fields() {
		if f := &fieldList[i]; f.ofAdapter() && !l.given(f.Path) {
			v.FieldByIndex(f.index).Set(f.empty())
		}
	}
}

// ofAdapter reports whether a key describes the adapter that is trained.
func (f *Field) ofAdapter() bool { return parentOf(f.Path) == "lora" }

// empty is the zero value of the key's type, with a list that is there and holds nothing.
func (f *Field) empty() reflect.Value {
	if f.typ.Kind() == reflect.Slice {
		return reflect.MakeSlice(f.typ, 0, 0)
	}
	return reflect.Zero(f.typ)
}

// fillName calls a run without a name after its preset or file.
func (l *loader) fillName(c *Config) {
	if c.Name != "" || l.source == "" {
		return
	}
	if c.Name = nameOf(l.source); c.Name == "" {
		l.problems.add("name", l.source, "give one with --name or the key name", "none can be made of the file's name")
	}
}

// decoded is what the layers amount to, without any check between values.
func (l *loader) decoded() (c Config, err error) {
	err = l.v.UnmarshalExact(&c, func(d *mapstructure.DecoderConfig) {
		d.TagName = "yaml"
		d.Squash = true
		d.WeaklyTypedInput = false
	})
	return c, err
}
