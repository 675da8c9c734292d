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
	images              // list of {bytes, path}
	integer             // int32 or int64
	floats              // float, double, or a list of them
)

func (k kind) String() string {
	return [...]string{"other", "string", "list<string>", "list<image>", "integer", "number"}[k]
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
	path    leaf // of images
}

// columnsOf reads the shape of every column of a file, whatever the middle levels of its lists are called.
func columnsOf(root *parquet.Column) []column {
	var out []column
	for _, c := range root.Columns() {
		out = append(out, shapeOf(c))
	}
	return out
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
			col.list = lists == 1
			col.value = leaf{int(n.Index()), level}
			col.kind = leafKind(n, col.list)
			return col
		case len(kids) == 2 && kids[0].Leaf() && kids[1].Leaf():
			return imageShape(col, n, level, lists)
		case len(kids) != 1:
			return column{name: c.Name()}
		}
		n = kids[0]
	}
}

// imageShape is a list of structs with exactly the fields bytes and path.
func imageShape(col column, n *parquet.Column, level, lists int) column {
	b, p := n.Column("bytes"), n.Column("path")
	if lists != 1 || b == nil || p == nil || b.Repeated() || p.Repeated() || !isBytes(b) || !isBytes(p) {
		return column{name: col.name}
	}
	col.kind, col.list, col.itemMin = images, true, level
	col.value = leaf{int(b.Index()), b.MaxDefinitionLevel()}
	col.path = leaf{int(p.Index()), p.MaxDefinitionLevel()}
	return col
}

func isBytes(c *parquet.Column) bool { return c.Type().Kind() == parquet.ByteArray }

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
	for _, name := range required {
		i := slices.IndexFunc(cols, func(c column) bool { return c.name == name })
		if i < 0 {
			return fmt.Errorf("column %s is missing; the file has %s; a data set needs %s", name, namesOf(cols), strings.Join(required, ", "))
		}
		k := cols[i].kind
		if strings.HasSuffix(name, "_prompt") && k != text && k != texts {
			return fmt.Errorf("column %s is neither string nor list<string>; write it as one of them", name)
		}
		if strings.HasSuffix(name, "_image") && k != images {
			return fmt.Errorf("column %s is not a list of {bytes, path} structs; write a list of encoded pictures", name)
		}
	}
	return nil
}

func namesOf(cols []column) string {
	names := make([]string, len(cols))
	for i, c := range cols {
		names[i] = c.name
	}
	return strings.Join(names, ", ")
}
