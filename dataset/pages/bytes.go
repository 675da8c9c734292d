package pages

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// Bytes knows where the byte arrays of a column in a row group lie, so that each can be read alone. To know it, only the
// levels in front of the pages have been read.
type Bytes struct {
	chunk  *chunk
	pages  []*bytesPage
	places []place // of the values that are not null
}

// place is a value: its page and its number among the page's values.
type place struct{ page, value int32 }

// bytesPage is a page with values.
type bytesPage struct {
	*page
	count  int
	skip   int64 // bytes in front of the values, behind levelBytes
	stream bool  // values stand one behind the other: the page can be read up to one of them

	mu     sync.Mutex
	starts []int64 // of the values of a page that is not compressed, as far as they are known
	far    bool    // its copies reach back further than a stream keeps
}

// Slot is an element of the column: its levels, and whether it is not null.
type Slot struct {
	Repetition, Definition int
	There                  bool
}

// Bytes finds the byte arrays of a column. The slots are all its values in order, nulls included.
func (f *File) Bytes(group int, c *parquet.Column) (b *Bytes, slots []Slot, err error) {
	defer guard(&err)
	b = &Bytes{chunk: f.chunk(group, c)}
	dictionary := -1
	for {
		p, err := b.chunk.next()
		if errors.Is(err, io.EOF) {
			return b, slots, nil
		}
		if err != nil {
			return nil, nil, err
		}
		bp := &bytesPage{page: p, stream: true, count: int(p.values())}
		if p.Type == format.DictionaryPage {
			dictionary = len(b.pages)
		} else if slots, err = b.data(bp, dictionary, slots); err != nil {
			return nil, nil, err
		}
		b.pages = append(b.pages, bp)
	}
}

// data adds the slots and places of a data page.
func (b *Bytes) data(p *bytesPage, dictionary int, slots []Slot) ([]Slot, error) {
	s, err := b.chunk.open(p.page, 0)
	if err != nil {
		return nil, err
	}
	defer s.close()
	counted := &counter{Reader: s}
	repetition, definition, err := b.chunk.levelsOf(p.page, counted)
	if err != nil {
		return nil, err
	}
	most, first := b.chunk.column.MaxDefinitionLevel(), len(slots)
	p.count, p.skip = 0, counted.n
	for i := range int(p.values()) {
		slot := Slot{Definition: most, There: true}
		if repetition != nil {
			slot.Repetition = int(repetition[i])
		}
		if definition != nil {
			slot.Definition, slot.There = int(definition[i]), int(definition[i]) == most
		}
		if slot.There {
			p.count++
		}
		slots = append(slots, slot)
	}
	if h := p.DataPageHeaderV2; h.Valid && int(h.V.NumNulls) != len(slots)-first-p.count {
		return nil, fmt.Errorf("a page with %d nulls, its header says %d", len(slots)-first-p.count, h.V.NumNulls)
	}
	return slots, b.find(p, s, dictionary)
}

// find adds the places of a page's values.
func (b *Bytes) find(p *bytesPage, values io.Reader, dictionary int) error {
	switch p.encoding() {
	case format.RLEDictionary, plainDictionary:
		if dictionary < 0 {
			return errors.New("values of a dictionary that is not there")
		}
		data, err := io.ReadAll(io.LimitReader(values, maxPage))
		if err != nil {
			return err
		}
		indices, err := indicesBelow(data, p.count, b.pages[dictionary].count)
		for _, i := range indices {
			b.places = append(b.places, place{int32(dictionary), i})
		}
		return err
	case format.Plain:
	case format.DeltaLengthByteArray, format.DeltaByteArray:
		p.stream = false
	default:
		return fmt.Errorf("pictures in encoding %s are not read; write the file with plain encoding", p.encoding())
	}
	for i := range p.count {
		b.places = append(b.places, place{int32(len(b.pages)), int32(i)})
	}
	return nil
}

// counter counts what is read.
type counter struct {
	io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}

// Len is the number of values that are not null.
func (b *Bytes) Len() int { return len(b.places) }

// Read reads value i of those that are not null, of limit bytes at most. It is safe for concurrent use.
func (b *Bytes) Read(ctx context.Context, i int, limit int64) (value []byte, err error) {
	defer guard(&err)
	at := b.places[i]
	p := b.pages[at.page]
	if !p.stream {
		return b.decoded(p, int(at.value), limit)
	}
	value, err = b.streamed(ctx, p, at, limit)
	if errors.Is(err, errFar) && p.UncompressedPageSize <= maxPage {
		p.mu.Lock()
		p.far = true
		p.mu.Unlock()
		value, err = b.streamed(ctx, p, at, limit)
	}
	return value, err
}

// decoded takes a value out of a page that has to be decoded whole.
func (b *Bytes) decoded(p *bytesPage, i int, limit int64) ([]byte, error) {
	f := b.chunk.file
	one := *b.chunk
	one.at, one.left = p.start, p.values()
	plain := &plainPages{chunk: &one}
	v := &Values{plain: plain, pages: f.groups[0].ColumnChunks()[one.column.Index()].(*parquet.FileColumnChunk).PagesFrom(plain)}
	defer func() { _ = v.Close() }()
	for {
		value, err := v.Peek()
		if err != nil {
			return nil, err
		}
		if !value.IsNull() {
			if i == 0 {
				if n := len(value.ByteArray()); int64(n) > limit {
					return nil, tooLarge(int64(n), limit)
				}
				return bytes.Clone(value.ByteArray()), nil
			}
			i--
		}
		v.Next()
	}
}

func tooLarge(n, limit int64) error {
	return fmt.Errorf("%d bytes are more than the limit of %d", n, limit)
}

// cursor is a stream that stands in front of a value of a page.
type cursor struct {
	body
	page *bytesPage
	next int   // value
	at   int64 // of the next value, behind skip
	size int64 // of the values
}

// maxIdle is how many streams are kept to be read on.
const maxIdle = 4

// streamed reads a page from the last value that was read, or from its beginning, up to the value.
func (b *Bytes) streamed(ctx context.Context, p *bytesPage, at place, limit int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, err := b.cursor(p, int(at.value))
	if err != nil {
		return nil, err
	}
	value, err := c.read(ctx, int(at.value), limit)
	if err != nil {
		c.close()
		return nil, err
	}
	b.chunk.file.keep(c)
	return value, nil
}

// read goes on to a value and reads it.
func (c *cursor) read(ctx context.Context, value int, limit int64) ([]byte, error) {
	for {
		n, err := c.length()
		if err != nil {
			return nil, err
		}
		if c.next++; c.next > value {
			if n > limit {
				return nil, tooLarge(n, limit)
			}
			c.at += n
			return c.bytes(n)
		}
		if err := errors.Join(ctx.Err(), c.skip(n)); err != nil {
			return nil, err
		}
		c.at += n
	}
}

// length reads the length in front of a value.
func (c *cursor) length() (int64, error) {
	var b [4]byte
	c.page.mu.Lock()
	if c.seeks() && len(c.page.starts) == c.next {
		c.page.starts = append(c.page.starts, c.at)
	}
	c.page.mu.Unlock()
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return 0, fmt.Errorf("value %d of a page of %d: %w", c.next, c.page.count, cut(err))
	}
	c.at += 4
	n := int64(binary.LittleEndian.Uint32(b[:]))
	if n > c.size-c.at {
		return 0, fmt.Errorf("value %d of a page of %d is longer than the page", c.next, c.page.count)
	}
	return n, nil
}

func (c *cursor) bytes(n int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(c, n))
	if err == nil && int64(len(b)) < n {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

// cursor takes an idle stream that stands at or before the value, the nearest one, or opens the page.
func (b *Bytes) cursor(p *bytesPage, value int) (*cursor, error) {
	if c := b.chunk.file.take(p, value); c != nil {
		return c, nil
	}
	p.mu.Lock()
	far, starts := p.far, p.starts
	p.mu.Unlock()
	history := 0
	if far {
		history = int(p.UncompressedPageSize)
	}
	s, err := b.chunk.open(p.page, history)
	if err != nil {
		return nil, err
	}
	c := &cursor{body: s, page: p, size: int64(p.UncompressedPageSize) - p.levelBytes() - p.skip}
	if c.seeks() && len(starts) > 0 {
		c.next = min(value, len(starts)-1)
		c.at = starts[c.next]
	}
	if err := s.skip(p.skip + c.at); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (f *File) take(p *bytesPage, value int) *cursor {
	f.mu.Lock()
	defer f.mu.Unlock()
	best := -1
	for i, c := range f.idle {
		if c.page == p && c.next <= value && (best < 0 || c.next > f.idle[best].next) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	c := f.idle[best]
	f.idle = append(f.idle[:best], f.idle[best+1:]...)
	return c
}

func (f *File) keep(c *cursor) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.idle = append(f.idle, c)
	if len(f.idle) > maxIdle {
		f.idle[0].close()
		f.idle = append(f.idle[:0], f.idle[1:]...)
	}
}
