package dataset

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"

	"github.com/sciflux/sciflux/dataset/pages"
)

// listed is a leaf with values that are held.
type listed struct{ values []parquet.Value }

func (l *listed) Peek() (parquet.Value, error) {
	if len(l.values) == 0 {
		return parquet.Value{}, io.EOF
	}
	return l.values[0], nil
}

func (l *listed) Next() { l.values = l.values[1:] }

// TestColumnsOfUnequalLength: columns of a row group that do not hold its very rows are an error that names the column.
func TestColumnsOfUnequalLength(t *testing.T) {
	word := func(repetition int, s string) parquet.Value {
		return parquet.ByteArrayValue([]byte(s)).Level(repetition, 1, 0)
	}
	for name, c := range map[string]struct {
		values []parquet.Value
		want   string // "" for two rows
	}{
		"two":         {[]parquet.Value{word(0, "a"), word(0, "b")}, ""},
		"lists":       {[]parquet.Value{word(0, "a"), word(1, "b"), word(0, "c"), word(1, "d")}, ""},
		"one":         {[]parquet.Value{word(0, "a")}, "it ends after 1 of the 2 rows"},
		"none":        {nil, "it ends after 0 of the 2 rows"},
		"three":       {[]parquet.Value{word(0, "a"), word(0, "b"), word(0, "c")}, "it goes on after the 2 rows"},
		"in the list": {[]parquet.Value{word(1, "a"), word(0, "b"), word(0, "c")}, "a row begins in the middle of a list"},
		"long":        {[]parquet.Value{word(0, "a"), word(0, strings.Repeat("x", maxText+1))}, "a text of 1048577 bytes"},
	} {
		col := column{name: "law", kind: texts, list: true, listMin: 0, elemMin: 1, value: leaf{0, 1}}
		r := &groupRows{shard: &shard{cols: []column{col}}, count: 2, budget: &budget{left: 1 << 22},
			leaves: []leafValues{{values: &listed{c.values}, name: "law"}}}
		n := 0
		err := r.rows(context.Background(), func(Row) error { n++; return nil })
		if c.want == "" {
			require.NoError(t, err, name)
			require.Equal(t, 2, n)
			continue
		}
		require.ErrorContains(t, err, c.want, name)
		require.ErrorContains(t, err, `column "law"`, name)
	}
}

// TestSlotsAreNumbered: pictures that are there are counted, nulls keep their levels.
func TestSlotsAreNumbered(t *testing.T) {
	s := &slotValues{column: 3, slots: []pages.Slot{{Definition: 4, There: true}, {Repetition: 1, Definition: 2}, {Definition: 4,
		There: true}}}
	var got []int64
	for {
		v, err := s.Peek()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		require.Equal(t, 3, v.Column())
		n := int64(-1)
		if !v.IsNull() {
			n = v.Int64()
		} else {
			require.Equal(t, []int{1, 2}, []int{v.RepetitionLevel(), v.DefinitionLevel()})
		}
		got = append(got, n)
		s.Next()
	}
	require.Equal(t, []int64{0, -1, 1}, got)
}
