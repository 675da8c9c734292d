package dataset

import (
	"fmt"

	"github.com/parquet-go/parquet-go"
)

// places gives the places of pictures: of value number i among the byte arrays of an image column, and of a path.
type places interface {
	stored(c *column, i int) place
	named(path string) place
}

// assemble builds a row from the flat values of a parquet row, by their definition and repetition levels. Of stored pictures
// the values are numbers that places understands. Nothing of the result shares memory with the reader's pages.
func assemble(cols []column, values parquet.Row, at places) (Row, error) {
	r := newRow()
	byLeaf := map[int][]parquet.Value{}
	for _, v := range values {
		byLeaf[v.Column()] = append(byLeaf[v.Column()], v)
	}
	for i := range cols {
		c := &cols[i]
		if !c.read() {
			continue
		}
		vs := byLeaf[c.value.index]
		if len(vs) == 0 {
			return r, fmt.Errorf("column %q has no value; the file is damaged", c.name)
		}
		switch c.kind {
		case text, texts:
			setText(&r, c, textOf(c, vs))
		case images:
			im, err := imagesOf(c, vs, byLeaf[c.path.index], at)
			if err != nil {
				return r, err
			}
			if c.name == ExplicitImage {
				r.ExplicitImages = im
			} else {
				r.SuperficialImages = im
			}
		case integer:
			if !vs[0].IsNull() {
				r.Ints[c.name] = intOf(vs[0])
			}
		case floats:
			if v, ok := floatsOf(c, vs); ok {
				r.Floats[c.name] = v
			}
		}
	}
	return r, nil
}

// read says whether a column becomes a part of rows.
func (c *column) read() bool {
	return c.kind != ignored && (c.kind != images || c.name == ExplicitImage || c.name == SuperficialImage)
}

func setText(r *Row, c *column, t Text) {
	switch {
	case c.caption:
		r.caption(t)
	case c.name == ImplicitPrompt:
		r.Implicit = t
	case c.name == ExplicitPrompt:
		r.Explicit = t
	case c.name == SuperficialPrompt:
		r.Superficial = t
	case !c.list:
		r.Cells[c.name] = t.Values[0]
	}
}

func cellOf(v parquet.Value) Cell {
	if v.IsNull() {
		return Cell{}
	}
	return Cell{Value: string(v.ByteArray()), Valid: true}
}

func textOf(c *column, vs []parquet.Value) Text {
	if !c.list {
		cell := cellOf(vs[0])
		return Text{Valid: cell.Valid, Values: []Cell{cell}}
	}
	t := Text{List: true, Valid: vs[0].DefinitionLevel() >= c.listMin}
	for _, v := range vs {
		if v.DefinitionLevel() >= c.elemMin {
			t.Values = append(t.Values, cellOf(v))
		}
	}
	return t
}

// imagesOf reads an image column; one struct is a list of one, and a null one is a null list.
func imagesOf(c *column, data, paths []parquet.Value, at places) (Images, error) {
	if c.paths && len(data) != len(paths) {
		return Images{}, fmt.Errorf("column %s has %d bytes and %d paths; the file is damaged", c.name, len(data), len(paths))
	}
	out := Images{Valid: data[0].DefinitionLevel() >= c.listMin}
	if !c.list {
		out.Valid = data[0].DefinitionLevel() >= c.itemMin
	}
	for i, v := range data {
		switch level := v.DefinitionLevel(); {
		case level < c.elemMin || !c.list && level < c.itemMin:
		case level < c.itemMin:
			out.List = append(out.List, nil)
		default:
			im := &Image{}
			if c.paths {
				im.Path = cellOf(paths[i])
			}
			switch {
			case !v.IsNull():
				im.Stored, im.at = true, at.stored(c, int(v.Int64()))
			case im.Path.Value != "":
				im.at = at.named(im.Path.Value)
			}
			out.List = append(out.List, im)
		}
	}
	return out, nil
}

func intOf(v parquet.Value) int64 {
	if v.Kind() == parquet.Int32 {
		return int64(v.Int32())
	}
	return v.Int64()
}

func floatsOf(c *column, vs []parquet.Value) ([]float64, bool) {
	if c.list && vs[0].DefinitionLevel() < c.listMin || !c.list && vs[0].IsNull() {
		return nil, false
	}
	out := []float64{}
	for _, v := range vs {
		switch {
		case v.IsNull():
		case v.Kind() == parquet.Float:
			out = append(out, float64(v.Float()))
		default:
			out = append(out, v.Double())
		}
	}
	return out, true
}
