package configs

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// company are settings without which another value of a key would be refused.
var company = map[string][]string{
	"data.source":              {"oft.mask.policy=full"},
	"data.prompts":             {"oft.mask.policy=full", "data.source=d"},
	"sft.density.mean":         {"sft.density.kind=logit_normal"},
	"sft.density.std":          {"sft.density.kind=logit_normal"},
	"oft.forms.sigmas":         {"oft.forms.step=corrected"},
	"oft.eta":                  {"oft.forms.step=cps"},
	"oft.kl_limit":             {"oft.trust=kl_mask"},
	"oft.mask.detector":        {"oft.mask.policy=full"},
	"store.endpoint":           {"store.kind=s3"},
	"store.path":               {"store.kind=disk", "store.path=/objects"},
	"temporal.api_key.env":     {"temporal.address=h:7233"},
	"temporal.api_key.file":    {"temporal.address=h:7233"},
	"temporal.tls.enabled":     {"temporal.address=h:7233"},
	"temporal.tls.ca_file":     {"temporal.address=h:7233"},
	"temporal.tls.cert_file":   {"temporal.address=h:7233", "temporal.tls.cert_file=a", "temporal.tls.key_file=b"},
	"temporal.tls.key_file":    {"temporal.address=h:7233", "temporal.tls.cert_file=a", "temporal.tls.key_file=b"},
	"temporal.tls.server_name": {"temporal.address=h:7233"},
}

// others are values of a key unlike the one it has, of which at least one is allowed.
func others(f Field, v reflect.Value) []string {
	switch {
	case f.typ == durationOf:
		return []string{(time.Duration(v.Int()) + time.Second).String()}
	case f.typ == shiftOf:
		return []string{"dynamic", "3"}
	case f.Enum != nil:
		return slices.DeleteFunc(slices.Clone(f.Enum), func(e string) bool { return e == v.String() })
	case last(f.Path) == "address":
		return []string{"h:7233"}
	case last(f.Path) == "endpoint":
		return []string{"https://h"}
	}
	switch v.Kind() {
	case reflect.Bool:
		return []string{fmt.Sprint(!v.Bool())}
	case reflect.Int:
		return []string{fmt.Sprint(v.Int() + 1), fmt.Sprint(2 * v.Int())}
	case reflect.Uint64:
		return []string{fmt.Sprint(v.Uint() + 1)}
	case reflect.Float64:
		return []string{fmt.Sprint(v.Float() + 0.5), fmt.Sprint(v.Float() / 2)}
	case reflect.Slice:
		return []string{"[y]", "[y.0]", "[y=2]"}
	case reflect.Array:
		return []string{"[0.1, 0.2]"}
	}
	return []string{"other"}
}

// changed is the config with a key alone at another allowed value, and the config without that.
func changed(t *testing.T, f Field) (base, other Config) {
	t.Helper()
	company := slices.Clone(company[f.Path])
	if f.Methods != nil {
		company = append(company, "oft.method="+f.Methods[0])
	}
	base, err := Load(Sources{Set: company})
	if err != nil {
		t.Fatalf("%s: %v", f.Path, err)
	}
	for _, value := range others(f, reflect.ValueOf(base).FieldByIndex(f.index)) {
		if other, err = Load(Sources{Set: append(slices.Clone(company), f.Path+"="+value)}); err == nil {
			return base, other
		}
	}
	t.Fatalf("%s: no other value is allowed: %v", f.Path, err)
	return base, other
}

// Every key alone at another value: the hash moves exactly when the key says that it changes a result, the resolved
// config carries the value, and no other key moves.
func TestEveryKeyChangesWhatItSays(t *testing.T) {
	for _, f := range Fields() {
		if f.Path == "preset" {
			continue // names a layer, see below
		}
		base, other := changed(t, f)
		if moved := base.Hash() != other.Hash(); moved != (f.Changes == "result") {
			t.Errorf("%s changes %s: hash moved %v", f.Path, f.Changes, moved)
		}
		back, err := Parse(other.Resolved())
		if diff := cmp.Diff(other, back); err != nil || diff != "" || back.Hash() != other.Hash() {
			t.Errorf("%s is lost in the resolved config: %v %s", f.Path, err, diff)
		}
		for _, g := range Fields() {
			was, is := reflect.ValueOf(base).FieldByIndex(g.index).Interface(), reflect.ValueOf(other).FieldByIndex(g.index).Interface()
			leaves := f.Path == "model.adapter" && g.ofAdapter() // it brings its own
			if same := cmp.Equal(was, is); same == (f.Path == g.Path) && !leaves {
				t.Errorf("%s was changed, and %s went from %v to %v", f.Path, g.Path, was, is)
			}
		}
	}
	renamed := Default()
	renamed.Preset = "world"
	if renamed.Hash() != Default().Hash() {
		t.Error("the preset's name is hashed beside its values")
	}
}

// The manual and the schema say of every key what it changes.
func TestManualAndSchemaSayWhatKeysChange(t *testing.T) {
	manual, err := Manual()
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	for _, f := range Fields() {
		heading := "\n## " + parentOf(f.Path) + "\n"
		if parentOf(f.Path) == "" {
			heading = "\n## Top level\n"
		}
		_, section, _ := strings.Cut(manual, heading)
		section, _, _ = strings.Cut(section, "\n## ")
		if row := fmt.Sprintf("\n| `%s` | %s | `%s` | %s | ", last(f.Path), f.Type, f.Default, f.Changes); !strings.Contains(section, row) {
			t.Errorf("the manual has no row %q", row)
		}
		node := root
		for _, name := range strings.Split(f.Path, ".") {
			node = node["properties"].(map[string]any)[name].(map[string]any)
		}
		if node["x-changes"] != f.Changes {
			t.Errorf("%s changes %s, the schema says %v", f.Path, f.Changes, node["x-changes"])
		}
	}
}

// A section may only promise the careful answer: a key that is left out of the hash says so itself.
func TestWhatIsNotHashedSaysSoItself(t *testing.T) {
	known := map[string]bool{changesResult: true, changesSpeed: true, changesPlace: true, changesReport: true}
	for _, f := range Fields() {
		if !known[f.Changes] {
			t.Errorf("%s says that it changes %q", f.Path, f.Changes)
		}
	}
	var look func(reflect.Type)
	look = func(s reflect.Type) {
		for i := range s.NumField() {
			f := s.Field(i)
			if f.Type.Kind() != reflect.Struct {
				continue
			}
			if c := f.Tag.Get("changes"); c != "" && c != changesResult {
				t.Errorf("section %s.%s says %s for all its keys", s.Name(), f.Name, c)
			}
			look(f.Type)
		}
	}
	look(reflect.TypeFor[Config]())
}

// The table of keys is a file of its own, so that a change of a default or of the hash stands out in a diff.
func TestTableOfKeys(t *testing.T) {
	var b strings.Builder
	b.WriteString("key\ttype\tdefault\tchanges\n")
	for _, f := range Fields() {
		fmt.Fprintf(&b, "%s\t%s\t%s\t%s\n", f.Path, f.Type, f.Default, f.Changes)
	}
	compareFile(t, filepath.Join("testdata", "keys.tsv"), []byte(b.String()))
}
