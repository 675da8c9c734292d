package dataset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/parquet-go/parquet-go"

	"github.com/sciflux/sciflux/dataset/pages"
)

// shard is one parquet file.
type shard struct {
	file *dataFile
	pq   *pages.File
	cols []column
	at   string // its folder inside the data folder, from which paths of pictures start
	in   *folder
}

func openShard(in *folder, name string) (*shard, error) {
	path := filepath.Join(in.dir, name)
	file, err := openData(path)
	if err != nil {
		return nil, err
	}
	sh, err := parse(file.f, file.size)
	if err != nil {
		_ = file.f.Close()
		return nil, fmt.Errorf("open dataset %s: %w", path, err)
	}
	sh.file, sh.at, sh.in = file, filepath.Dir(name), in
	return sh, nil
}

// parse reads the footer of a parquet file. Damage of any kind is an error, never a panic.
func parse(r io.ReaderAt, size int64) (*shard, error) {
	pq, err := pages.Open(r, size)
	if err != nil {
		return nil, err
	}
	sh := &shard{pq: pq, cols: columnsOf(pq.Root)}
	return sh, checkColumns(sh.cols)
}

func (sh *shard) len() int {
	n := 0
	for _, rows := range sh.pq.Groups {
		n += rows
	}
	return n
}

// rows reads all rows but the bytes of their pictures.
func (sh *shard) rows(ctx context.Context, b *budget, yield func(Row) error) error {
	for g := range sh.pq.Groups {
		group, err := sh.group(g, b)
		if err != nil {
			return err
		}
		err = group.rows(ctx, yield)
		group.close()
		if err != nil {
			return err
		}
	}
	return nil
}

// groupRows puts the rows of a row group together from its columns.
type groupRows struct {
	shard  *shard
	count  int
	budget *budget
	leaves []leafValues
	bytes  map[*column]*pages.Bytes
}

// leafValues is a physical column that is read value by value: *pages.Values, or slots of pictures.
type leafValues struct {
	values interface {
		Peek() (parquet.Value, error)
		Next()
	}
	name  string
	close func() error
}

func (sh *shard) group(g int, b *budget) (*groupRows, error) {
	r := &groupRows{shard: sh, count: sh.pq.Groups[g], budget: b, bytes: map[*column]*pages.Bytes{}}
	leaves := leafColumns(sh.pq.Root, nil)
	for i := range sh.cols {
		c := &sh.cols[i]
		if !c.read() {
			continue
		}
		if c.kind != images {
			r.add(c, sh.pq.Values(g, leaves[c.value.index]))
			continue
		}
		found, slots, err := sh.pq.Bytes(g, leaves[c.value.index])
		if err != nil {
			r.close()
			return nil, damaged(c.name, err)
		}
		r.bytes[c] = found
		r.leaves = append(r.leaves, leafValues{values: &slotValues{slots: slots, column: c.value.index}, name: c.name})
		if c.paths {
			r.add(c, sh.pq.Values(g, leaves[c.path.index]))
		}
	}
	return r, nil
}

func (r *groupRows) add(c *column, v *pages.Values) {
	r.leaves = append(r.leaves, leafValues{values: v, name: c.name, close: v.Close})
}

func damaged(column string, err error) error {
	return fmt.Errorf("column %q: parquet page: %w; the file is damaged, fetch or write it again", column, err)
}

// leafColumns lists the physical columns, so that each stands at its index.
func leafColumns(c *parquet.Column, out []*parquet.Column) []*parquet.Column {
	if c.Leaf() {
		return append(out, c)
	}
	for _, k := range c.Columns() {
		out = leafColumns(k, out)
	}
	return out
}

func (r *groupRows) rows(ctx context.Context, yield func(Row) error) error {
	var row parquet.Row
	for i := range r.count {
		row = row[:0]
		for _, l := range r.leaves {
			var err error
			if row, err = r.take(row, l, i); err != nil {
				return err
			}
		}
		one, err := assemble(r.shard.cols, row, r)
		if err == nil {
			err = errors.Join(ctx.Err(), r.budget.row())
		}
		if err == nil {
			err = yield(one)
		}
		if err != nil {
			return err
		}
	}
	for _, l := range r.leaves {
		if _, err := l.values.Peek(); !errors.Is(err, io.EOF) {
			return damaged(l.name, errors.Join(err, fmt.Errorf("it goes on after the %d rows of the row group", r.count)))
		}
	}
	return nil
}

// take appends a leaf's values of one row.
func (r *groupRows) take(row parquet.Row, l leafValues, i int) (parquet.Row, error) {
	for first := true; ; first = false {
		v, err := l.values.Peek()
		switch {
		case errors.Is(err, io.EOF) && !first:
			return row, nil
		case errors.Is(err, io.EOF):
			return row, damaged(l.name, fmt.Errorf("it ends after %d of the %d rows of the row group", i, r.count))
		case err != nil:
			return row, damaged(l.name, err)
		case first != (v.RepetitionLevel() == 0):
			if !first {
				return row, nil
			}
			return row, damaged(l.name, errors.New("a row begins in the middle of a list"))
		}
		size := 0
		if v.Kind() == parquet.ByteArray || v.Kind() == parquet.FixedLenByteArray {
			size = len(v.ByteArray())
		}
		if err := r.budget.take(l.name, size); err != nil {
			return row, err
		}
		row = append(row, v.Clone())
		l.values.Next()
	}
}

func (r *groupRows) close() {
	for _, l := range r.leaves {
		if l.close != nil {
			_ = l.close()
		}
	}
}

// slotValues gives the slots of an image column as values: numbers in place of the pictures.
type slotValues struct {
	slots  []pages.Slot
	there  int64
	column int
}

// Peek implements the reading of a leaf.
func (s *slotValues) Peek() (parquet.Value, error) {
	if len(s.slots) == 0 {
		return parquet.Value{}, io.EOF
	}
	v := parquet.NullValue()
	if s.slots[0].There {
		v = parquet.Int64Value(s.there)
	}
	return v.Level(s.slots[0].Repetition, s.slots[0].Definition, s.column), nil
}

// Next implements the reading of a leaf.
func (s *slotValues) Next() {
	if s.slots[0].There {
		s.there++
	}
	s.slots = s.slots[1:]
}

func (r *groupRows) stored(c *column, i int) place {
	return &chunkPlace{r.shard, r.bytes[c], i}
}

func (r *groupRows) named(path string) place {
	return &filePlace{r.shard.in, r.shard.at, path}
}

// chunkPlace is a picture inside a parquet file.
type chunkPlace struct {
	shard *shard
	bytes *pages.Bytes
	i     int
}

func (p *chunkPlace) read(ctx context.Context) ([]byte, error) {
	if err := p.shard.file.check(); err != nil {
		return nil, err
	}
	b, err := p.bytes.Read(ctx, p.i, maxPicture)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%s: %w", filepath.Base(p.shard.file.path), err)
	}
	return b, err
}

// close frees the streams inside the file, and the file.
func (sh *shard) close() error {
	sh.pq.Close()
	return sh.file.f.Close()
}
