package pages

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

const (
	maxHeader = 16 << 20  // of a page: old writers copy the smallest and the largest picture into it
	maxValues = 1 << 24   // of a page
	maxPage   = 256 << 20 // bytes of a page that has to be read whole
)

// chunk walks the pages of one column in one row group.
type chunk struct {
	file   *File
	column *parquet.Column
	meta   *format.ColumnMetaData
	at     int64 // of the next page
	left   int64 // values in the pages that follow
}

// page is one page of a chunk.
type page struct {
	format.PageHeader
	start int64 // in the file
	at    int64 // of its body
}

func chunkStart(m *format.ColumnMetaData) int64 {
	if d := m.DictionaryPageOffset; d > 0 && d < m.DataPageOffset {
		return d
	}
	return m.DataPageOffset
}

func (f *File) chunk(group int, c *parquet.Column) *chunk {
	m := &f.meta.RowGroups[group].Columns[c.Index()].MetaData
	return &chunk{file: f, column: c, meta: m, at: chunkStart(m), left: m.NumValues}
}

// next gives the next dictionary or data page; io.EOF after the last one.
func (c *chunk) next() (*page, error) {
	for c.left > 0 {
		p, err := c.header()
		if err != nil {
			return nil, err
		}
		c.at = p.at + int64(p.CompressedPageSize)
		switch {
		case p.Type == format.DictionaryPage && p.DictionaryPageHeader.Valid:
			return p, nil
		case p.Type == format.DataPage && p.DataPageHeader.Valid, p.Type == format.DataPageV2 && p.DataPageHeaderV2.Valid:
			c.left -= p.values()
			if c.left < 0 {
				return nil, fmt.Errorf("the pages hold more than the %d values of the footer", c.meta.NumValues)
			}
			return p, nil
		case p.Type != format.IndexPage:
			return nil, fmt.Errorf("a page of type %s without its header", p.Type)
		}
	}
	return nil, io.EOF
}

// header reads a page header. Its length is not known before it is read.
func (c *chunk) header() (*page, error) {
	end := chunkStart(c.meta) + c.meta.TotalCompressedSize
	for try := int64(4 << 10); ; try *= 16 {
		n := min(try, end-c.at)
		if n <= 0 {
			return nil, fmt.Errorf("the pages end %d values early", c.left)
		}
		b := make([]byte, n)
		if _, err := c.file.r.ReadAt(b, c.at); err != nil {
			return nil, err
		}
		p := &page{start: c.at}
		r := new(thrift.CompactProtocol).NewReaderFromBytes(b)
		if err := thrift.NewDecoder(r).Decode(&p.PageHeader); err != nil {
			if n == try && n < maxHeader {
				continue
			}
			return nil, fmt.Errorf("page header: %w", err)
		}
		p.at = c.at + int64(r.BytesRead())
		// Statistics may hold whole pictures; nobody asks for them, and they keep the bytes they were read from in memory.
		p.DataPageHeader.V.Statistics, p.DataPageHeaderV2.V.Statistics = format.Statistics{}, format.Statistics{}
		return p, p.check(end)
	}
}

// check looks for sizes and counts that cannot be.
func (p *page) check(end int64) error {
	if p.CompressedPageSize < 0 || p.UncompressedPageSize < 0 || int64(p.CompressedPageSize) > end-p.at {
		return fmt.Errorf("a page of %d bytes, compressed %d, with %d bytes left of the column",
			p.UncompressedPageSize, p.CompressedPageSize, end-p.at)
	}
	if n := p.values(); n < 0 || n > maxValues {
		return fmt.Errorf("a page of %d values; the limit is %d, write smaller pages", n, maxValues)
	}
	v2 := p.DataPageHeaderV2.V
	levels := int64(v2.RepetitionLevelsByteLength) + int64(v2.DefinitionLevelsByteLength)
	if v2.RepetitionLevelsByteLength < 0 || v2.DefinitionLevelsByteLength < 0 || v2.NumNulls < 0 || v2.NumNulls > v2.NumValues ||
		levels > int64(p.CompressedPageSize) || levels > int64(p.UncompressedPageSize) {
		return errors.New("levels that are larger than their page")
	}
	return nil
}

// values is the number of a page's values, nulls included.
func (p *page) values() int64 {
	switch {
	case p.DataPageHeader.Valid:
		return int64(p.DataPageHeader.V.NumValues)
	case p.DataPageHeaderV2.Valid:
		return int64(p.DataPageHeaderV2.V.NumValues)
	}
	return int64(p.DictionaryPageHeader.V.NumValues)
}

func (p *page) encoding() format.Encoding {
	switch {
	case p.DataPageHeader.Valid:
		return p.DataPageHeader.V.Encoding
	case p.DataPageHeaderV2.Valid:
		return p.DataPageHeaderV2.V.Encoding
	}
	return format.Plain // what dictionaries call PLAIN_DICTIONARY is the same
}

// levelBytes is the part of a page of version 2 that is never compressed: first repetition, then definition levels.
func (p *page) levelBytes() int64 {
	v2 := p.DataPageHeaderV2.V
	return int64(v2.RepetitionLevelsByteLength) + int64(v2.DefinitionLevelsByteLength)
}

// open gives the bytes of a page behind levelBytes, decompressed, and how many there must be.
func (c *chunk) open(p *page, history int) (body, error) {
	codec := c.meta.Codec
	if p.DataPageHeaderV2.Valid && p.DataPageHeaderV2.V.IsCompressed.Valid && !p.DataPageHeaderV2.V.IsCompressed.V {
		codec = format.Uncompressed
	}
	skip := p.levelBytes()
	packed := io.NewSectionReader(c.file.r, p.at+skip, int64(p.CompressedPageSize)-skip)
	return decompress(codec, packed, int64(p.UncompressedPageSize)-skip, history)
}

// whole reads a page, its sum checked, decompressed to the size that its header tells.
func (c *chunk) whole(p *page) ([]byte, error) {
	if p.UncompressedPageSize > maxPage || p.CompressedPageSize > maxPage {
		return nil, fmt.Errorf("a page of %d bytes; the limit is %d, write smaller pages or row groups", p.UncompressedPageSize, maxPage)
	}
	if err := c.checkSum(p); err != nil {
		return nil, err
	}
	levels := make([]byte, p.levelBytes())
	if _, err := c.file.r.ReadAt(levels, p.at); err != nil && len(levels) > 0 {
		return nil, err
	}
	b, err := c.open(p, int(p.UncompressedPageSize))
	if err != nil {
		return nil, err
	}
	defer b.close()
	rest, err := exactly(b, int64(p.UncompressedPageSize)-p.levelBytes())
	if err != nil {
		return nil, err
	}
	return append(levels, rest...), nil
}

// checkSum compares a page with the CRC-32 of its header, where there is one.
func (c *chunk) checkSum(p *page) error {
	if p.CRC == 0 {
		return nil
	}
	h := crc32.NewIEEE()
	if _, err := io.Copy(h, io.NewSectionReader(c.file.r, p.at, int64(p.CompressedPageSize))); err != nil {
		return err
	}
	if h.Sum32() != uint32(p.CRC) {
		return fmt.Errorf("the checksum of a page is %08x, its header says %08x", h.Sum32(), uint32(p.CRC))
	}
	return nil
}

// exactly reads n bytes and makes sure that nothing follows. Memory grows with what is there, not with what is promised.
func exactly(r io.Reader, n int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, n+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(b)) != n:
		return nil, fmt.Errorf("a page decompresses to another size than the %d bytes of its header", n)
	}
	return b, nil
}

// levelsOf decodes what a picture page begins with and leaves the stream at the values. Levels are nil where the column
// cannot have them.
func (c *chunk) levelsOf(p *page, s io.Reader) (repetition, definition []byte, err error) {
	n := int(p.values())
	section := func(most int, v2 int32, encoding format.Encoding) ([]byte, error) {
		size := int64(v2)
		if p.DataPageHeader.Valid {
			var prefix [4]byte
			if most == 0 {
				return nil, nil
			}
			if _, err := io.ReadFull(s, prefix[:]); err != nil {
				return nil, err
			}
			size = int64(binary.LittleEndian.Uint32(prefix[:]))
		}
		if size > int64(p.UncompressedPageSize) {
			return nil, errors.New("levels that are larger than their page")
		}
		b, err := io.ReadAll(io.LimitReader(s, size))
		if err != nil || int64(len(b)) != size {
			return nil, fmt.Errorf("the levels of a page are cut off: %w", errors.Join(err, io.ErrUnexpectedEOF))
		}
		if most == 0 {
			return nil, nil // some writers store levels that say nothing
		}
		return decodeLevels(b, most, n, encoding)
	}
	v1, v2 := p.DataPageHeader.V, p.DataPageHeaderV2.V
	if p.DataPageHeaderV2.Valid {
		v1.RepetitionLevelEncoding, v1.DefinitionLevelEncoding = format.RLE, format.RLE
		s = bufio.NewReader(io.NewSectionReader(c.file.r, p.at, p.levelBytes()))
	}
	if repetition, err = section(c.column.MaxRepetitionLevel(), v2.RepetitionLevelsByteLength, v1.RepetitionLevelEncoding); err != nil {
		return nil, nil, err
	}
	definition, err = section(c.column.MaxDefinitionLevel(), v2.DefinitionLevelsByteLength, v1.DefinitionLevelEncoding)
	return repetition, definition, err
}
