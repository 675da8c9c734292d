package pages

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// File is an open parquet file. It is safe for concurrent use.
type File struct {
	Root   *parquet.Column
	Groups []int // rows of each row group
	meta   format.FileMetaData
	groups []parquet.RowGroup // the library's view, of pages that plainPages gives it
	r      io.ReaderAt
	size   int64

	mu   sync.Mutex
	idle []*cursor // streams inside pages of pictures that can be read on, the one that was used last at the end
}

const magic = "PAR1"

// maxFooter bounds what is read before anything is known about a file.
const maxFooter = 256 << 20

// Open reads the footer of a parquet file. Damage of any kind is an error, never a panic.
func Open(r io.ReaderAt, size int64) (f *File, err error) {
	defer guard(&err)
	f = &File{r: r, size: size}
	footer, err := footerOf(r, size)
	if err != nil {
		return nil, err
	}
	if err := f.readMeta(footer); err != nil {
		return nil, fmt.Errorf("parquet footer: %w; the file is damaged, fetch or write it again", err)
	}
	if err := f.checkMeta(); err != nil {
		return nil, err
	}
	return f, f.openPlain()
}

// footerOf looks at the marks at both ends and at the footer's length before the footer is read.
func footerOf(r io.ReaderAt, size int64) ([]byte, error) {
	var head, tail [8]byte
	if size < 12 {
		return nil, fmt.Errorf("%d bytes are too few for a parquet file", size)
	}
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, err
	}
	if _, err := r.ReadAt(tail[:], size-8); err != nil {
		return nil, err
	}
	switch {
	case string(tail[4:]) == "PARE":
		return nil, errors.New("the file is encrypted; write it without encryption")
	case strings.HasPrefix("version https://git-lfs", string(head[:])):
		return nil, errors.New("the file is a pointer of Git LFS, not the data; fetch the data with git lfs pull")
	case string(head[:4]) != magic || string(tail[4:]) != magic:
		return nil, errors.New("not a whole parquet file (PAR1 is missing); fetch or write it again")
	}
	n := int64(binary.LittleEndian.Uint32(tail[:]))
	if n > size-12 || n > maxFooter {
		return nil, fmt.Errorf("a footer of %d bytes in a file of %d; the file is damaged", n, size)
	}
	footer := make([]byte, n)
	_, err := r.ReadAt(footer, size-8-n)
	return footer, err
}

// readMeta decodes a footer without its statistics: the smallest and the largest value of a column of pictures are pictures.
// What is kept is decoded from bytes without them, since strings lie in the bytes that they were decoded from.
func (f *File) readMeta(footer []byte) error {
	var protocol thrift.CompactProtocol
	var full format.FileMetaData
	if err := thrift.Unmarshal(&protocol, footer, &full); err != nil {
		return err
	}
	for i := range full.RowGroups {
		for j := range full.RowGroups[i].Columns {
			full.RowGroups[i].Columns[j].MetaData.Statistics = format.Statistics{}
		}
	}
	small, err := thrift.Marshal(&protocol, &full)
	if err != nil {
		return err
	}
	return thrift.Unmarshal(&protocol, small, &f.meta)
}

// checkMeta refuses what cannot be read, before the first page.
func (f *File) checkMeta() error {
	total := int64(0)
	for i, g := range f.meta.RowGroups {
		if g.NumRows < 0 {
			return errors.New("a row group with a negative number of rows; the file is damaged")
		}
		total += g.NumRows
		f.Groups = append(f.Groups, int(g.NumRows))
		if len(g.Columns) != len(f.meta.RowGroups[0].Columns) {
			return fmt.Errorf("row group %d has %d columns, the first has %d; the file is damaged",
				i, len(g.Columns), len(f.meta.RowGroups[0].Columns))
		}
		for _, c := range g.Columns {
			if c.CryptoMetadata.Value != nil || len(c.EncryptedColumnMetadata) > 0 {
				return errors.New("columns are encrypted; write the file without encryption")
			}
			if err := f.checkChunk(&c); err != nil {
				return fmt.Errorf("column %q: %w", strings.Join(c.MetaData.PathInSchema, "."), err)
			}
		}
	}
	if total != f.meta.NumRows {
		return fmt.Errorf("row groups hold %d rows, the footer says %d; the file is damaged", total, f.meta.NumRows)
	}
	return nil
}

func (f *File) checkChunk(c *format.ColumnChunk) error {
	if c.FilePath != "" {
		return fmt.Errorf("its data lie in another file, %q; write one file", c.FilePath)
	}
	if !slices.Contains(codecs, c.MetaData.Codec) {
		return fmt.Errorf("compression %s is not read; write the file with snappy, zstd, gzip, brotli, lz4 or none", c.MetaData.Codec)
	}
	from, size := chunkStart(&c.MetaData), c.MetaData.TotalCompressedSize
	if from < 0 || size < 0 || from > f.size-size {
		return fmt.Errorf("%d bytes at %d of a file of %d; the file is damaged", size, from, f.size)
	}
	return nil
}

// openPlain gives the library the same columns and row groups without compression. It reads their pages from plainPages, as
// one stream for each chunk.
func (f *File) openPlain() error {
	meta := f.meta
	meta.RowGroups = slices.Clone(meta.RowGroups)
	for i := range meta.RowGroups {
		columns := slices.Clone(meta.RowGroups[i].Columns)
		for j := range columns {
			m := &columns[j].MetaData
			m.Codec, m.DataPageOffset, m.DictionaryPageOffset, m.TotalCompressedSize = format.Uncompressed, 0, 0, math.MaxInt64
		}
		meta.RowGroups[i].Columns = columns
	}
	footer, err := thrift.Marshal(new(thrift.CompactProtocol), &meta)
	if err != nil {
		return fmt.Errorf("parquet footer: %w; the file is damaged, fetch or write it again", err)
	}
	b := append([]byte(magic), footer...)
	b = append(binary.LittleEndian.AppendUint32(b, uint32(len(footer))), magic...)
	pq, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return fmt.Errorf("parquet footer: %w; the file is damaged, fetch or write it again", err)
	}
	f.Root, f.groups = pq.Root(), pq.RowGroups()
	return nil
}

// Codecs lists the compressions of a file's chunks by name, in the order of their first use.
func (f *File) Codecs() []string {
	var out []string
	for _, g := range f.meta.RowGroups {
		for _, c := range g.Columns {
			if name := c.MetaData.Codec.String(); !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

// Close ends the streams that are still open.
func (f *File) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.idle {
		c.close()
	}
	f.idle = nil
}

// guard turns a panic of the parquet library on damaged input into an error.
func guard(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("parquet data is damaged: %v", p)
	}
}
