package pages

import (
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// Values reads the values of a column in a row group, with their levels, in order. Pages are decoded whole, one at a time.
type Values struct {
	plain *plainPages
	pages *parquet.FilePages
	buf   []parquet.Value
	i     int
}

// Values starts to read a column. Before a page is decoded, decoding is told its decompressed size and number of values;
// an error of it ends the reading.
func (f *File) Values(group int, c *parquet.Column, decoding func(bytes, values int) error) *Values {
	plain := &plainPages{chunk: f.chunk(group, c), decoding: decoding}
	return &Values{plain: plain, pages: f.groups[group].ColumnChunks()[c.Index()].(*parquet.FileColumnChunk).PagesFrom(plain)}
}

// Peek gives the next value without passing it; io.EOF after the last.
func (v *Values) Peek() (value parquet.Value, err error) {
	defer guard(&err)
	for v.i == len(v.buf) {
		p, err := v.pages.ReadPage()
		if v.plain.err != nil {
			return parquet.Value{}, v.plain.err
		}
		if err != nil {
			return parquet.Value{}, err
		}
		if err := v.load(p); err != nil {
			return parquet.Value{}, err
		}
	}
	return v.buf[v.i], nil
}

// Next passes a value.
func (v *Values) Next() { v.i++ }

// load takes the values of a page. Their number must be that of its header, and as many of them must be there as its levels
// say.
func (v *Values) load(p parquet.Page) error {
	defer parquet.Release(p)
	want := v.plain.pending[0]
	v.plain.pending = v.plain.pending[1:]
	v.buf, v.i = make([]parquet.Value, want.values), 0
	n, err := 0, error(nil)
	for values := p.Values(); n < want.values && err == nil; {
		var k int
		k, err = values.ReadValues(v.buf[n:])
		n += k
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	there := 0
	for i := range v.buf[:n] {
		v.buf[i] = v.buf[i].Clone()
		if !v.buf[i].IsNull() {
			there++
		}
	}
	if n != want.values || p.NumValues() != int64(n) || there != want.there {
		return fmt.Errorf("a page of %d values, %d of them not null, decodes to %d and %d", want.values, want.there, n, there)
	}
	return nil
}

// Close gives the buffers back.
func (v *Values) Close() (err error) {
	defer guard(&err)
	return v.pages.Close()
}

// plainPages is what the library reads a chunk from: its pages one behind the other, decompressed, each with a header that says
// so. Reads come in order.
type plainPages struct {
	chunk    *chunk
	decoding func(bytes, values int) error
	at       int64 // of buf in this stream
	buf      []byte
	dict     int // values of the dictionary
	pending  []pageCount
	err      error // what went wrong here; the library would wrap it, or take it for the end
}

// pageCount is what a data page must decode to.
type pageCount struct{ values, there int }

// ReadAt implements io.ReaderAt.
func (s *plainPages) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		if off+int64(n) < s.at {
			return n, errors.New("pages are read in order")
		}
		if skip := off + int64(n) - s.at; skip < int64(len(s.buf)) {
			n += copy(p[n:], s.buf[skip:])
			continue
		}
		next, err := s.load()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				s.err = err
			}
			return n, err
		}
		s.at, s.buf = s.at+int64(len(s.buf)), next
	}
	return n, nil
}

// load is the next page behind a header of its own.
func (s *plainPages) load() ([]byte, error) {
	p, err := s.chunk.next()
	if err != nil {
		return nil, err
	}
	data, err := s.chunk.whole(p)
	if err != nil {
		return nil, err
	}
	if err := s.decoding(len(data), int(p.values())); err != nil {
		return nil, err
	}
	if err := s.check(p, data); err != nil {
		return nil, err
	}
	h := p.PageHeader
	h.CompressedPageSize, h.CRC = h.UncompressedPageSize, 0
	b, err := thrift.Marshal(new(thrift.CompactProtocol), &h)
	return append(b, data...), err
}

// check wants a page to hold what its header and levels promise, before the library makes room for it.
func (s *plainPages) check(p *page, data []byte) error {
	n := int(p.values())
	if p.Type == format.DictionaryPage {
		s.dict = n
		return s.chunk.checkValues(p, data, n, 0)
	}
	definition, values, err := s.chunk.split(p, data)
	if err != nil {
		return err
	}
	there := n
	if definition != nil {
		there = countOf(definition, byte(s.chunk.column.MaxDefinitionLevel()))
	}
	if h := p.DataPageHeaderV2; h.Valid && int(h.V.NumNulls) != n-there {
		return fmt.Errorf("a page with %d nulls, its header says %d", n-there, h.V.NumNulls)
	}
	s.pending = append(s.pending, pageCount{n, there})
	return s.chunk.checkValues(p, values, there, s.dict)
}

func countOf(levels []byte, level byte) int {
	n := 0
	for _, v := range levels {
		if v == level {
			n++
		}
	}
	return n
}
