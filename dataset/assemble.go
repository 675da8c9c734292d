package dataset

import (
	"bytes"
	"fmt"

	"github.com/parquet-go/parquet-go"
)

// assemble builds a row from the flat values of a parquet row, by their definition and repetition levels. Nothing of the
// result shares memory with the reader's pages.
func assemble(cols []column, values parquet.Row, dir string) (Row, error) {
	r := Row{Cells: map[string]Cell{}, Ints: map[string]int64{}, Floats: map[string][]float64{}}
	byLeaf := map[int][]parquet.Value{}
	for _, v := range values {
		byLeaf[v.Column()] = append(byLeaf[v.Column()], v)
	}
	for _, c := range cols {
		vs := byLeaf[c.value.index]
		if c.kind == ignored {
			continue
		}
		if len(vs) == 0 {
			return r, fmt.Errorf("column %s has no value; the file is damaged", c.name)
		}
		switch c.kind {
		case text, texts:
			setText(&r, c, textOf(c, vs))
		case images:
			im, err := imagesOf(c, vs, byLeaf[c.path.index], dir)
			if err != nil {
				return r, err
			}
			if c.name == ExplicitImage {
				r.ExplicitImages = im
			} else if c.name == SuperficialImage {
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

func setText(r *Row, c column, t Text) {
	switch {
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

func textOf(c column, vs []parquet.Value) Text {
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

func imagesOf(c column, data, paths []parquet.Value, dir string) (Images, error) {
	if len(data) != len(paths) {
		return Images{}, fmt.Errorf("column %s has %d bytes and %d paths; the file is damaged", c.name, len(data), len(paths))
	}
	out := Images{Valid: data[0].DefinitionLevel() >= c.listMin}
	for i, v := range data {
		switch level := v.DefinitionLevel(); {
		case level < c.elemMin:
		case level < c.itemMin:
			out.List = append(out.List, nil)
		default:
			im := &Image{Path: cellOf(paths[i]), dir: dir}
			if !v.IsNull() {
				im.Bytes = bytes.Clone(v.ByteArray())
				if im.Bytes == nil {
					im.Bytes = []byte{}
				}
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

func floatsOf(c column, vs []parquet.Value) ([]float64, bool) {
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
