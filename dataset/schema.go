package dataset

import (
	"fmt"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// The columns of the Science-T2I schema. All five of them must be in a file.
const (
	ImplicitPrompt    = "implicit_prompt"
	ExplicitPrompt    = "explicit_prompt"
	SuperficialPrompt = "superficial_prompt"
	ExplicitImage     = "explicit_image"
	SuperficialImage  = "superficial_image"
)

var required = []string{ImplicitPrompt, ExplicitPrompt, SuperficialPrompt, ExplicitImage, SuperficialImage}

// kind is the shape of a column that this package can read.
type kind int

const (
	ignored kind = iota // another type: named by Inspect, not read
	text                // string
	texts               // list of strings
	images              // list of {bytes, path}, or one of them; or encoded pictures without paths
	integer             // int32 or int64
	floats              // float, double, or a list of them
)

func (k kind) String() string {
	return [...]string{"other", "string", "list<string>", "image", "integer", "number"}[k]
}

// leaf is one physical column and the meaning of its definition levels.
type leaf struct {
	index int
	max   int // level at which the value itself is there
}

// column is a top-level column of a file.
type column struct {
	name    string
	kind    kind
	list    bool
	listMin int // definition level from which the list is not null
	elemMin int // ... from which an element is there, null or not
	itemMin int // ... from which the element is not null (structs)
	value   leaf
	path    leaf // of images, where they have paths
	paths   bool
	caption bool // the one prompt of a file that has no other
}

// columnsOf reads the shape of every column of a file, whatever the middle levels of its lists are called.
func columnsOf(root *parquet.Column) []column {
	var out []column
	for _, c := range root.Columns() {
		out = append(out, shapeOf(c))
	}
	return captioned(out)
}

func shapeOf(c *parquet.Column) column {
	col := column{name: c.Name()}
	lists := 0
	for n, level := c, 0; ; {
		if n.Optional() {
			level++
		}
		if n.Repeated() {
			lists++
			col.listMin, col.elemMin = level, level+1
			level++
		}
		kids := n.Columns()
		switch {
		case lists > 1:
			return column{name: c.Name()}
		case n.Leaf():
			col.list, col.itemMin = lists == 1, level
			col.value = leaf{n.Index(), level}
			col.kind = leafKind(n, col.list)
			if isImage(col.name) && col.kind != ignored && isBytes(n) && !isString(n) {
				col.kind = images // a column of encoded pictures
			}
			return col
		case n.Column("bytes") != nil && n.Column("path") != nil:
			return imageShape(col, n, level, lists)
		case len(kids) != 1:
			return column{name: c.Name()}
		}
		n = kids[0]
	}
}

// imageShape is one struct, or a list of them, with the fields bytes and path; further fields are not read.
func imageShape(col column, n *parquet.Column, level, lists int) column {
	b, p := n.Column("bytes"), n.Column("path")
	if !b.Leaf() || !p.Leaf() || b.Repeated() || p.Repeated() || !isBytes(b) || !isBytes(p) {
		return column{name: col.name}
	}
	col.kind, col.list, col.itemMin, col.paths = images, lists == 1, level, true
	col.value = leaf{b.Index(), b.MaxDefinitionLevel()}
	col.path = leaf{p.Index(), p.MaxDefinitionLevel()}
	return col
}

func isImage(name string) bool {
	return name == ExplicitImage || name == SuperficialImage || name == imageColumn
}

// imageColumn and captionColumns are what data sets of pictures with one caption call their columns.
const imageColumn = "image"

var captionColumns = []string{"text", "caption", "prompt"}

// captioned reads a file with the columns image and text (or caption, or prompt), and none of the schema, as pictures with
// one caption each.
func captioned(cols []column) []column {
	at := func(names ...string) (found []int) {
		for i, c := range cols {
			if slices.Contains(names, c.name) {
				found = append(found, i)
			}
		}
		return found
	}
	image, words := at(imageColumn), at(captionColumns...)
	if len(at(required...)) > 0 || len(image) != 1 || cols[image[0]].kind != images || len(words) != 1 {
		return cols
	}
	if k := cols[words[0]].kind; k != text && k != texts {
		return cols
	}
	cols[image[0]].name, cols[words[0]].caption = ExplicitImage, true
	return cols
}

func isBytes(c *parquet.Column) bool { return c.Type().Kind() == parquet.ByteArray }

// isString says that a column of byte arrays is text by its annotation (string, JSON, enum).
func isString(c *parquet.Column) bool { return c.Type().LogicalType() != nil }

func leafKind(c *parquet.Column, list bool) kind {
	switch c.Type().Kind() {
	case parquet.ByteArray:
		if list {
			return texts
		}
		return text
	case parquet.Int32, parquet.Int64:
		if !list {
			return integer
		}
	case parquet.Float, parquet.Double:
		return floats
	}
	return ignored
}

// checkColumns says which of the schema's columns are absent or of another shape.
func checkColumns(cols []column) error {
	if slices.ContainsFunc(cols, func(c column) bool { return c.caption }) {
		return nil
	}
	for _, name := range required {
		i := slices.IndexFunc(cols, func(c column) bool { return c.name == name })
		if i < 0 {
			return fmt.Errorf("column %s is missing; the file has %s; a data set needs %s, or image and text",
				name, namesOf(cols), strings.Join(required, ", "))
		}
		k := cols[i].kind
		if strings.HasSuffix(name, "_prompt") && k != text && k != texts {
			return fmt.Errorf("column %s is neither string nor list<string>; write it as one of them", name)
		}
		if strings.HasSuffix(name, "_image") && k != images {
			return fmt.Errorf("column %s is not a list of {bytes, path} structs, one of them, "+
				"or encoded pictures; write a list of encoded pictures", name)
		}
	}
	return nil
}

// namesOf quotes names that could do something to a terminal, and stops after the first few.
func namesOf(cols []column) string {
	const most = 20
	var names []string
	for _, c := range cols[:min(len(cols), most)] {
		q := fmt.Sprintf("%q", c.name)
		if plain := q[1 : len(q)-1]; plain == c.name {
			q = plain
		}
		names = append(names, q)
	}
	if len(cols) > most {
		names = append(names, fmt.Sprintf("and %d more", len(cols)-most))
	}
	return strings.Join(names, ", ")
}
