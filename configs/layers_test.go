package configs

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

// valueOf is the k-th of some values of a field's type, each unlike its neighbours.
func valueOf(f Field, k int) reflect.Value {
	v := reflect.New(f.typ).Elem()
	switch {
	case f.typ == durationOf:
		v.SetInt(int64(time.Duration(k+1) * 70 * time.Second))
	case f.typ == shiftOf:
		v.SetString([]string{"dynamic", "2.5", "none", "3"}[k])
	case f.Enum != nil:
		v.SetString(f.Enum[k%len(f.Enum)])
	default:
		switch f.typ.Kind() {
		case reflect.String:
			v.SetString(fmt.Sprintf("text-%d", k))
		case reflect.Bool:
			v.SetBool(k%2 == 0)
		case reflect.Int:
			v.SetInt(int64(1000 + k))
		case reflect.Uint64:
			v.SetUint(uint64(1000 + k))
		case reflect.Float64:
			v.SetFloat(0.125 * float64(k+1))
		case reflect.Slice:
			v.Set(reflect.ValueOf([]string{fmt.Sprintf("a%d", k), "b"}))
		case reflect.Array:
			v.Set(reflect.ValueOf([2]float64{0.125 * float64(k+1), 0.5}))
		}
	}
	return v
}

// nested is a file that sets one key.
func nested(path string, value reflect.Value) []byte {
	var b strings.Builder
	parts := strings.Split(path, ".")
	for i, name := range parts {
		b.WriteString(strings.Repeat("  ", i) + name + ":")
		if i < len(parts)-1 {
			b.WriteString("\n")
		}
	}
	b.WriteString(" " + yamlValue(value) + "\n")
	return []byte(b.String())
}

// plain is a value as people write it in a variable or after --set: text without quotes.
func plain(v reflect.Value) string {
	if v.Kind() == reflect.String {
		return v.String()
	}
	return yamlValue(v)
}

// For every key and every choice of layers that set it, the highest of them counts and no other key moves.
func TestHighestLayerCountsForEveryKey(t *testing.T) {
	const preset, file, env, set = 0, 1, 2, 3
	for _, f := range Fields() {
		if f.Path == "preset" {
			continue // names a layer and is none's to change
		}
		for _, chosen := range [][]int{{preset}, {file, set}, {preset, file, env}, {preset, file, env, set}} {
			l := newLoader()
			highest := -1
			for _, layer := range chosen {
				v := valueOf(f, layer)
				switch layer {
				case preset:
					l.document("preset", nested(f.Path, v))
				case file:
					l.document("file", nested(f.Path, v))
				case env:
					l.environ([]string{envName(f.Path) + "=" + plain(v)})
				case set:
					l.set([]string{f.Path + "=" + plain(v)})
				}
				highest = layer
			}
			got, err := l.decoded()
			if err != nil || len(l.problems) > 0 {
				t.Fatalf("%s from layers %v: %v %v", f.Path, chosen, err, l.problems)
			}
			want := Default()
			reflect.ValueOf(&want).Elem().FieldByIndex(f.index).Set(valueOf(f, highest))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s from layers %v: %s", f.Path, chosen, diff)
			}
			if where := l.origin[f.Path]; where == "" {
				t.Errorf("%s from layers %v: nobody knows who set it", f.Path, chosen)
			}
		}
	}
}

// Defaults lie below every layer: a key that only the schema gives has the value that the manual states.
func TestDefaultsAreWhatTheManualStates(t *testing.T) {
	c := Default()
	for _, f := range Fields() {
		want, err := f.decodeText(strings.Trim(f.Default, `"`))
		if f.Default == "" {
			want, err = reflect.Zero(f.typ).Interface(), nil
		}
		if got := reflect.ValueOf(c).FieldByIndex(f.index).Interface(); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, the manual says %s (%v)", f.Path, got, f.Default, err)
		}
	}
}

// What each type prints for JSON is what the schema says of it, for defaults and presets alike.
func TestValuesHaveTheShapeOfTheSchema(t *testing.T) {
	var root map[string]any
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	for _, name := range append(Presets(), "") {
		c, err := Load(Sources{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(c.Values())
		if err != nil {
			t.Fatal(err)
		}
		var values map[string]any
		if err := json.Unmarshal(text, &values); err != nil {
			t.Fatal(err)
		}
		leaves := fits(t, name, "", values, root)
		if leaves != len(Fields()) {
			t.Errorf("%q: %d values of %d keys", name, leaves, len(Fields()))
		}
	}
}

// fits compares values with their schema and counts the leaves.
func fits(t *testing.T, preset, path string, values, schema map[string]any) (leaves int) {
	t.Helper()
	properties := schema["properties"].(map[string]any)
	for key, value := range values {
		at := join(path, key)
		node, ok := properties[key].(map[string]any)
		if !ok {
			t.Errorf("%q: %s is not in the schema", preset, at)
			continue
		}
		if inner, ok := value.(map[string]any); ok {
			leaves += fits(t, preset, at, inner, node)
			continue
		}
		leaves++
		got := map[string]bool{"string": false, "number": false, "integer": false, "boolean": false, "array": false}
		switch x := value.(type) {
		case string:
			got["string"] = true
		case float64:
			got["number"], got["integer"] = true, x == float64(int64(x))
		case bool:
			got["boolean"] = true
		case []any:
			got["array"] = true
		}
		if !slices.ContainsFunc(kindsOf(node), func(kind string) bool { return got[kind] }) {
			t.Errorf("%q: %s is %v, the schema says %v", preset, at, value, kindsOf(node))
		}
	}
	return leaves
}

// kindsOf are the types that a schema node allows.
func kindsOf(node map[string]any) (kinds []string) {
	if kind, ok := node["type"].(string); ok {
		return []string{kind}
	}
	for _, one := range node["anyOf"].([]any) {
		kinds = append(kinds, kindsOf(one.(map[string]any))...)
	}
	return kinds
}

// Every key of the schema says in a sentence of its own what it is, and every section too.
func TestEveryKeyIsExplained(t *testing.T) {
	var root map[string]any
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	n := 0
	var look func(path string, node map[string]any)
	look = func(path string, node map[string]any) {
		if path != "" {
			n++
			text, _ := node["description"].(string)
			if len(text) < 5 || !strings.HasSuffix(text, ".") {
				t.Errorf("%s: %q explains nothing", path, text)
			}
		}
		properties, _ := node["properties"].(map[string]any)
		for key, inner := range properties {
			look(join(path, key), inner.(map[string]any))
		}
	}
	look("", root)
	if want := len(Fields()) + len(sections()); n != want {
		t.Errorf("%d keys and sections in the schema, the program has %d", n, want)
	}
}

// A secret that is written where it should not be is refused, and neither the complaint nor the config repeats it.
func TestSecretsAreNeverRepeated(t *testing.T) {
	const secret = "wJalr+UtnFEMI/K7"
	for _, src := range []Sources{
		{Set: []string{"store.secret_key=" + secret}},
		{Set: []string{"store.secret_access_key=" + secret}},
		{Set: []string{"store.secret_key.env=" + secret}},
		{Set: []string{"temporal.api_key.env=" + secret, "temporal.address=h:7233"}},
		{Environ: []string{"SCIFLUX_STORE_SECRET_KEY=" + secret}},
		{Environ: []string{"SCIFLUX_STORE_ACCESS_KEY_ENV=" + secret}},
		{Name: file(t, "store: {secret_key: "+secret+"}\n")},
		{Name: file(t, "store: {secret_key: ["+secret+"]}\n")},
		{Name: file(t, "store: {secret_key: {value: "+secret+"}}\n")},
		{Name: file(t, "store: {secret_key: {env: "+secret+"}}\n")},
		{Name: file(t, "temporal:\n  api_key: "+secret+"\n")},
	} {
		_, err := Load(src)
		if err == nil {
			t.Errorf("%+v: was accepted", src)
		} else if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "UtnFEMI") {
			t.Errorf("%+v: the secret is repeated: %v", src, err)
		}
	}
	t.Setenv("KEY_OF_THE_STORE", secret)
	c, err := Load(Sources{Set: []string{"store.secret_key.env=KEY_OF_THE_STORE", "store.access_key.env=KEY_OF_THE_STORE"}})
	if err != nil {
		t.Fatal(err)
	}
	if values, _ := json.Marshal(c.Values()); strings.Contains(c.Resolved()+string(values)+fmt.Sprintf("%+v", c), secret) {
		t.Error("the config holds the secret itself")
	}
}

func TestAddressesAreNotPaths(t *testing.T) {
	for _, key := range []string{"model.pipeline", "model.adapter", "reward.sciscore"} {
		p := problemsOf(t, Sources{Set: []string{key + "=s3://models/flux"}})
		if len(p) != 1 || p[0].Path != key || !strings.Contains(p[0].String(), "s3://models/flux") {
			t.Errorf("%s: %v", key, p)
		}
	}
}

// Whatever a flag or a variable says, there is a config or there are problems of one line each; and the config can be
// printed and read again.
func FuzzSet(f *testing.F) {
	for _, seed := range []string{
		"sft.lr=1e-4", "sft.lr", "=", "sft=1", "a\nb=\x1b[31m", "lora.targets=[a, b", "lora.targets=", "sft.betas=0.9,0.95", "name=\"", "seed=-1", "worker.hang_after=1h",
		"store.secret_key=x", "oft.mask.policy=box", "sft.density=uniform", "preset=world", "sft.lr=.inf", "sft.lr=0x10", "eval.splits=train", "..=1", "sft.=1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, pair string) {
		path, raw, _ := strings.Cut(pair, "=")
		for _, src := range []Sources{{Set: []string{pair}}, {Environ: []string{envName(path) + "=" + raw}}} {
			c, err := Load(src)
			if err == nil {
				if again, err := Parse(c.Resolved()); err != nil || again.Hash() != c.Hash() {
					t.Fatalf("%q: read again: %v", pair, err)
				}
				continue
			}
			e, ok := err.(*Error)
			if !ok {
				t.Fatalf("%q: %T", pair, err)
			}
			for _, p := range e.Problems {
				if strings.ContainsFunc(p.String(), unicode.IsControl) {
					t.Fatalf("%q: more than a line: %q", pair, p.String())
				}
			}
		}
	})
}
