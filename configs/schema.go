package configs

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"
)

// schemaFile is written from the field comments by `go test ./configs -update`, because comments are not part of a
// binary. A test fails when it is out of date.
//
//go:embed schema.json
var schemaFile []byte

// Schema is the JSON schema (draft 2020-12) of a config file, for editors and for `sciflux config schema`.
func Schema() []byte { return schemaFile }

// buildSchema derives the schema from the types, with the comments found in the given Go sources as descriptions.
func buildSchema(sources ...string) ([]byte, error) {
	docs, err := fieldComments(sources)
	if err != nil {
		return nil, err
	}
	r := jsonschema.Reflector{
		FieldNameTag: "yaml", DoNotReference: true, ExpandedStruct: true, Anonymous: true,
		RequiredFromJSONSchemaTags: true, // nothing is required: every key has a default
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			switch t {
			case durationOf:
				return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$`}
			case shiftOf:
				return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{
					{Type: "string", Enum: []any{shiftNone, shiftDynamic}}, {Type: "number", ExclusiveMinimum: "0"}}}
			}
			return nil
		},
	}
	root := r.Reflect(&Config{})
	root.Title = "sciflux config"
	for i := range Fields() {
		f := &fieldList[i]
		s, err := property(root, f.Path)
		if err != nil {
			return nil, err
		}
		if s.Description = docs[f.Owner]; s.Description == "" {
			return nil, fmt.Errorf("config key %s: field %s has no comment; write one, it is the manual", f.Path, f.Owner)
		}
		f.describe(s)
	}
	for _, sec := range sections() {
		s, err := property(root, sec.path)
		if err != nil {
			return nil, err
		}
		s.Description = docs[sec.owner]
	}
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write schema: %w", err)
	}
	return append(text, '\n'), nil
}

// property finds the schema node of a key.
func property(root *jsonschema.Schema, path string) (*jsonschema.Schema, error) {
	s := root
	for _, name := range strings.Split(path, ".") {
		var ok bool
		if s.Properties != nil {
			if s, ok = s.Properties.Get(name); ok {
				continue
			}
		}
		return nil, fmt.Errorf("schema has no node for %s", path)
	}
	return s, nil
}

// describe adds default, allowed values, bounds and what it changes to a field's schema node.
func (f *Field) describe(s *jsonschema.Schema) {
	s.Extras = map[string]any{"x-changes": f.Changes}
	if f.Methods != nil {
		s.Extras["x-methods"] = f.Methods
	}
	if f.Default != "" {
		s.Default = f.defaultValue()
		if f.typ == durationOf {
			s.Default = f.Default
		}
	}
	for _, e := range f.Enum {
		s.Enum = append(s.Enum, e)
	}
	target := s
	if f.typ.Kind() == reflect.Slice || f.typ.Kind() == reflect.Array {
		if one := uint64(1); contains(f.Bounds, "nonempty") {
			s.MinItems = &one
		}
		target = s.Items
	}
	for _, b := range f.Bounds {
		if b == "nonempty" {
			if one := uint64(1); f.typ.Kind() == reflect.String {
				s.MinLength = &one
			}
			continue
		}
		op, _ := parseBound(b)
		limit := json.Number(b[len(op):])
		switch {
		case f.typ == durationOf: // JSON schema cannot compare durations
		case op == ">":
			target.ExclusiveMinimum = limit
		case op == ">=":
			target.Minimum = limit
		case op == "<":
			target.ExclusiveMaximum = limit
		default:
			target.Maximum = limit
		}
	}
}

// fieldComments reads the comments of struct fields from Go sources, by "Type.Field".
func fieldComments(sources []string) (map[string]string, error) {
	docs := map[string]string{}
	for _, source := range sources {
		file, err := parser.ParseFile(token.NewFileSet(), "", source, parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("read field comments: %w", err)
		}
		collectComments(file, docs)
	}
	return docs, nil
}

func collectComments(file *ast.File, docs map[string]string) {
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if st, ok := spec.Type.(*ast.StructType); ok {
			for _, field := range st.Fields.List {
				for _, name := range field.Names {
					docs[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(field.Doc.Text()), " ")
				}
			}
		}
		return true
	})
}
