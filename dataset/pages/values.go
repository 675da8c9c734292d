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
	plain  *plainPages
	pages  *parquet.FilePages
	page   parquet.Page
	values parquet.ValueReader
	seen   pageCount // of the page
	batch  [256]parquet.Value
	buf    []parquet.Value // what is left of the batch
}

// Values starts to read a column.
func (f *File) Values(group int, c *parquet.Column) *Values {
	plain := &plainPages{chunk: f.chunk(group, c)}
	return &Values{plain: plain, pages: f.groups[group].ColumnChunks()[c.Index()].(*parquet.FileColumnChunk).PagesFrom(plain)}
}

// Peek gives the next value without passing it; io.EOF after the last. The value lies in memory of the page: it is valid
// until Next has been called.
func (v *Values) Peek() (value parquet.Value, err error) {
	defer guard(&err)
	for len(v.buf) == 0 {
		if err := v.read(); err != nil {
			return parquet.Value{}, err
		}
	}
	return v.buf[0], nil
}

// Next passes a value.
func (v *Values) Next() { v.buf = v.buf[1:] }

// read goes on in the page, or to the next page.
func (v *Values) read() error {
	if v.values == nil {
		page, err := v.pages.ReadPage()
		if v.plain.err != nil {
			return v.plain.err
		}
		if err != nil {
			return err
		}
		v.page, v.values, v.seen = page, page.Values(), pageCount{}
	}
	n, err := v.values.ReadValues(v.batch[:])
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	v.buf = v.batch[:n]
	v.seen.values += n
	for i := range v.buf {
		if !v.buf[i].IsNull() {
			v.seen.there++
		}
	}
	if n == 0 {
		return v.leave()
	}
	return nil
}

// leave wants a page to have had the values of its header, and as many that are not null as its levels say.
func (v *Values) leave() error {
	want := v.plain.pending[0]
	v.plain.pending = v.plain.pending[1:]
	parquet.Release(v.page)
	v.page, v.values = nil, nil
	if v.seen != want {
		return fmt.Errorf("a page of %d values, %d of them not null, decodes to %d and %d",
			want.values, want.there, v.seen.values, v.seen.there)
	}
	return nil
}

// Close gives the buffers back.
func (v *Values) Close() (err error) {
	defer guard(&err)
	if v.page != nil {
		parquet.Release(v.page)
		v.page = nil
	}
	return v.pages.Close()
}

// plainPages is what the library reads a chunk from: its pages one behind the other, decompressed, each with a header that says
// so. Reads come in order.
type plainPages struct {
	chunk   *chunk
	at      int64 // of buf in this stream
	buf     []byte
	dict    int // values of the dictionary
	pending []pageCount
	err     error // what went wrong here; the library would wrap it, or take it for the end
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
