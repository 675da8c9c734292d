package dataset

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"
)

// shredded is a column with the values of one row as a parquet file stores them: cut into leaves with definition and
// repetition levels (Melnik and others, Dremel, 2010), written here from that definition.
type shredded struct {
	col    column
	values parquet.Row
	want   any // Text, Images, int64, []float64 or nil for absent
}

// levels of a list column: null list, empty list, null element, element, and for structs the field below.
const (
	nullList = iota
	emptyList
	nullElement
	anElement
	aField
)

func textColumn(name string, at int, list bool) column {
	if !list {
		return column{name: name, kind: text, value: leaf{at, 1}}
	}
	return column{name: name, kind: texts, list: true, listMin: emptyList, elemMin: nullElement, value: leaf{at, anElement}}
}

func anyCell(t *rapid.T) Cell {
	if rapid.Bool().Draw(t, "null") {
		return Cell{}
	}
	return Cell{rapid.StringN(0, 4, -1).Draw(t, "value"), true}
}

// cellValue is a string or null at a level, the repetition level 0 for the first of a list.
func cellValue(c Cell, at, null, full, i int) parquet.Value {
	repeated := min(i, 1)
	if !c.Valid {
		return parquet.NullValue().Level(repeated, null, at)
	}
	return parquet.ByteArrayValue([]byte(c.Value)).Level(repeated, full, at)
}

func anyText(t *rapid.T, name string, at int) shredded {
	list := rapid.Bool().Draw(t, "list")
	s := shredded{col: textColumn(name, at, list)}
	if !list {
		c := anyCell(t)
		s.values, s.want = parquet.Row{cellValue(c, at, 0, 1, 0)}, Text{Valid: c.Valid, Values: []Cell{c}}
		return s
	}
	switch n := rapid.IntRange(-1, 4).Draw(t, "length"); {
	case n < 0:
		s.values, s.want = parquet.Row{parquet.NullValue().Level(0, nullList, at)}, Text{List: true}
	case n == 0:
		s.values, s.want = parquet.Row{parquet.NullValue().Level(0, emptyList, at)}, Text{List: true, Valid: true}
	default:
		w := Text{List: true, Valid: true}
		for i := range n {
			c := anyCell(t)
			w.Values = append(w.Values, c)
			s.values = append(s.values, cellValue(c, at, nullElement, anElement, i))
		}
		s.want = w
	}
	return s
}

func anyImages(t *rapid.T, name string, at int) shredded {
	s := shredded{col: column{name: name, kind: images, list: true, listMin: emptyList, elemMin: nullElement, itemMin: anElement,
		value: leaf{at, aField}, path: leaf{at + 1, aField}, paths: true}}
	both := func(level int) {
		s.values = append(s.values, parquet.NullValue().Level(0, level, at), parquet.NullValue().Level(0, level, at+1))
	}
	n := rapid.IntRange(-1, 3).Draw(t, "pictures")
	if n <= 0 {
		both([]int{nullList, emptyList}[n+1])
		s.want = Images{Valid: n == 0}
		return s
	}
	w := Images{Valid: true}
	for i := range n {
		if rapid.IntRange(0, 3).Draw(t, "null struct") == 0 {
			s.values = append(s.values, parquet.NullValue().Level(min(i, 1), nullElement, at), parquet.NullValue().Level(min(i, 1),
				nullElement, at+1))
			w.List = append(w.List, nil)
			continue
		}
		data, path := anyCell(t), anyCell(t)
		s.values = append(s.values, cellValue(data, at, anElement, aField, i), cellValue(path, at+1, anElement, aField, i))
		if data.Valid {
			s.values[len(s.values)-2] = parquet.Int64Value(int64(i)).Level(min(i, 1), aField, at)
		}
		im := &Image{Path: path}
		switch {
		case data.Valid:
			im.Stored, im.at = true, numbered(i)
		case path.Value != "":
			im.at = named(path.Value)
		}
		w.List = append(w.List, im)
	}
	s.want = w
	return s
}

func anyNumber(t *rapid.T, name string, at int) shredded {
	if rapid.Bool().Draw(t, "integer") {
		s := shredded{col: column{name: name, kind: integer, value: leaf{at, 1}}}
		v := rapid.Int64().Draw(t, "value")
		switch rapid.IntRange(0, 2).Draw(t, "width") {
		case 0:
			s.values = parquet.Row{parquet.NullValue().Level(0, 0, at)}
		case 1:
			s.values, s.want = parquet.Row{parquet.Int32Value(int32(v)).Level(0, 1, at)}, int64(int32(v))
		default:
			s.values, s.want = parquet.Row{parquet.Int64Value(v).Level(0, 1, at)}, v
		}
		return s
	}
	s := shredded{col: column{name: name, kind: floats, list: true, listMin: emptyList, elemMin: nullElement, value: leaf{at, anElement}}}
	n := rapid.IntRange(-1, 3).Draw(t, "numbers")
	if n <= 0 {
		s.values = parquet.Row{parquet.NullValue().Level(0, []int{nullList, emptyList}[n+1], at)}
		if n == 0 {
			s.want = []float64{}
		}
		return s
	}
	out := []float64{}
	for i := range n {
		v := rapid.Float32Range(-9, 9).Draw(t, "number")
		value := parquet.FloatValue(v)
		if rapid.Bool().Draw(t, "double") {
			value = parquet.DoubleValue(float64(v))
		}
		s.values, out = append(s.values, value.Level(min(i, 1), anElement, at)), append(out, float64(v))
	}
	s.want = out
	return s
}

// TestRowsAreAssembled: from any row's leaves, in file order, comes back the row that was cut into them, nulls, empty lists and
// null elements included; and columns that are not read are passed over.
func TestRowsAreAssembled(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var parts []shredded
		at := 0
		add := func(s shredded) {
			parts, at = append(parts, s), at+len(leavesOf(s.col))
		}
		add(anyText(t, ImplicitPrompt, at))
		add(anyImages(t, SuperficialImage, at))
		add(shredded{col: column{name: "flag", kind: ignored, value: leaf{at, 0}},
			values: parquet.Row{parquet.BooleanValue(true).Level(0, 0, at)}})
		add(anyNumber(t, "number", at))
		add(anyText(t, "law", at))
		add(anyImages(t, ExplicitImage, at))
		add(anyText(t, ExplicitPrompt, at))
		var cols []column
		var row parquet.Row
		for _, p := range parts {
			cols, row = append(cols, p.col), append(row, p.values...)
		}
		got, err := assemble(cols, row, testPlaces{})
		if err != nil {
			t.Fatal(err)
		}
		law := parts[4]
		for name, pair := range map[string][2]any{
			"implicit": {got.Implicit, parts[0].want}, "superficial images": {got.SuperficialImages, parts[1].want},
			"explicit images": {got.ExplicitImages, parts[5].want}, "explicit": {got.Explicit, parts[6].want},
			"superficial": {got.Superficial, Text{}},
		} {
			if !reflect.DeepEqual(pair[0], pair[1]) {
				t.Fatalf("%s: %+v, want %+v", name, pair[0], pair[1])
			}
		}
		checkNumber(t, got, parts[3].want)
		if !law.col.list && got.Cells["law"] != law.want.(Text).Values[0] || law.col.list && len(got.Cells) > 0 {
			t.Fatalf("law %+v, want %+v", got.Cells, law.want)
		}
	})
}

func checkNumber(t *rapid.T, got Row, want any) {
	i, hasInt := got.Ints["number"]
	f, hasFloat := got.Floats["number"]
	switch want := want.(type) {
	case int64:
		if !hasInt || i != want || hasFloat {
			t.Fatalf("number %v, want %v", got.Ints, want)
		}
	case []float64:
		if !slices.Equal(f, want) || !hasFloat || hasInt {
			t.Fatalf("numbers %v, want %v", got.Floats, want)
		}
	default:
		if hasInt || hasFloat {
			t.Fatalf("a null became %v %v", got.Ints, got.Floats)
		}
	}
}

// leavesOf lists the physical columns of a column.
func leavesOf(c column) []int {
	if c.kind == images {
		return []int{c.value.index, c.path.index}
	}
	return []int{c.value.index}
}

// TestWrongRowsAreErrors: leaves that cannot belong together, as of a damaged file, are an error or a row, and what is missing
// altogether is always an error that names the column.
func TestWrongRowsAreErrors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyText(t, ImplicitPrompt, 0), anyImages(t, ExplicitImage, 1)
		cols, row := []column{a.col, b.col}, slices.Concat(a.values, b.values)
		drop := rapid.IntRange(0, len(row)-1).Draw(t, "drop")
		gone := row[drop].Column()
		row = slices.Delete(row, drop, drop+1)
		left := slices.ContainsFunc(row, func(v parquet.Value) bool { return v.Column() == gone })
		_, err := assemble(cols, row, testPlaces{})
		if err == nil && (!left || gone > 0) {
			t.Fatalf("a value of leaf %d is gone and nobody noticed", gone)
		}
	})
	for _, c := range []column{textColumn("x", 7, true), textColumn("x", 7, false), {name: "x", kind: floats, value: leaf{7, 1}}, {name: "x", kind: integer, value: leaf{7, 1}}} {
		_, err := assemble([]column{c}, nil, testPlaces{})
		if want := `column "x" has no value; the file is damaged`; err == nil || err.Error() != want {
			t.Errorf("kind %v: %v, want %q", c.kind, err, want)
		}
	}
}

// TestRowsShareNoMemory: what a row holds stays when the reader's page is used again.
func TestRowsShareNoMemory(t *testing.T) {
	path, prompt := []byte("path"), []byte("prompt")
	cols := []column{textColumn(ImplicitPrompt, 0, false), {name: ExplicitImage, kind: images, list: true, listMin: emptyList,
		elemMin: nullElement,
		itemMin: anElement, value: leaf{1, aField}, path: leaf{2, aField}, paths: true}}
	got, err := assemble(cols, parquet.Row{parquet.ByteArrayValue(prompt).Level(0, 1, 0), parquet.Int64Value(3).Level(0, aField, 1),
		parquet.ByteArrayValue(path).Level(0, aField, 2)}, testPlaces{})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{path, prompt} {
		copy(b, "XXXXXXXXXX")
	}
	im := got.ExplicitImages.List[0]
	if text := fmt.Sprintf("%v %s %s", im.at, im.Path.Value, got.Implicit.Values[0].Value); text != "3 path prompt" {
		t.Errorf("the row became %q", text)
	}
}

// testPlaces gives places that say what they were made of.
type testPlaces struct{}

func (testPlaces) stored(_ *column, i int) place { return numbered(i) }
func (testPlaces) named(path string) place       { return named(path) }

type (
	numbered int
	named    string
)

func (numbered) read(context.Context) ([]byte, error) { return nil, nil }
func (named) read(context.Context) ([]byte, error)    { return nil, nil }
