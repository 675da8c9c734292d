package pages

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// doctored changes the footer of a file.
func doctored(t fatal, file []byte, change func(m *format.FileMetaData)) []byte {
	n := int(binary.LittleEndian.Uint32(file[len(file)-8:]))
	var meta format.FileMetaData
	if err := thrift.Unmarshal(new(thrift.CompactProtocol), file[len(file)-8-n:len(file)-8], &meta); err != nil {
		t.Fatal(err)
	}
	change(&meta)
	footer, err := thrift.Marshal(new(thrift.CompactProtocol), &meta)
	if err != nil {
		t.Fatal(err)
	}
	out := append(bytes.Clone(file[:len(file)-8-n]), footer...)
	return append(binary.LittleEndian.AppendUint32(out, uint32(len(footer))), magic...)
}

// twoRows is a file with something in every column.
func twoRows(t fatal, options ...parquet.WriterOption) []byte {
	s := "text"
	blob := [][]byte{[]byte("one"), []byte("three")}
	return written(t, []record{{Plain: blob, Dict: blob, Delta: blob, Single: &s, Number: 1}, {Plain: blob, Number: 2}}, options...)
}

// TestFootersThatAreRefused: what a footer must not say is refused when the file is opened, by a message that says what it is.
func TestFootersThatAreRefused(t *testing.T) {
	column := func(m *format.FileMetaData) *format.ColumnChunk { return &m.RowGroups[0].Columns[0] }
	for name, c := range map[string]struct {
		change func(m *format.FileMetaData)
		want   string
	}{
		"as it is": {func(*format.FileMetaData) {}, ""},
		"lzo": {func(m *format.FileMetaData) { column(m).MetaData.Codec = format.LZO },
			"compression LZO is not read; write the file with snappy"},
		"unknown codec":  {func(m *format.FileMetaData) { column(m).MetaData.Codec = 77 }, "is not read; write the file with snappy"},
		"another file":   {func(m *format.FileMetaData) { column(m).FilePath = "b.parquet" }, `its data lie in another file, "b.parquet"`},
		"behind the end": {func(m *format.FileMetaData) { column(m).MetaData.DataPageOffset = 1 << 40 }, "the file is damaged"},
		"too long":       {func(m *format.FileMetaData) { column(m).MetaData.TotalCompressedSize = 1 << 62 }, "the file is damaged"},
		"below zero":     {func(m *format.FileMetaData) { column(m).MetaData.TotalCompressedSize = -1 }, "the file is damaged"},
		"rows below 0":   {func(m *format.FileMetaData) { m.RowGroups[0].NumRows = -2 }, "negative number of rows"},
		"more rows":      {func(m *format.FileMetaData) { m.NumRows++ }, "row groups hold 2 rows, the footer says 3"},
		"sealed column":  {func(m *format.FileMetaData) { column(m).EncryptedColumnMetadata = []byte("x") }, "columns are encrypted"},
		"fewer columns": {func(m *format.FileMetaData) {
			m.RowGroups = append(m.RowGroups, m.RowGroups[0])
			m.RowGroups[1].Columns = m.RowGroups[1].Columns[:2]
			m.NumRows *= 2
		}, "row group 1 has 2 columns, the first has 5"},
		"no schema": {func(m *format.FileMetaData) { m.Schema = nil }, "the file is damaged"},
	} {
		b := doctored(t, twoRows(t), c.change)
		_, err := Open(bytes.NewReader(b), int64(len(b)))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for text, want := range map[string]string{
		"": "too few", "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n": "a pointer of Git LFS",
		"PAR1........\x00\x00\x00\x00PARE": "encrypted",
		"PAR1........\xff\xff\xff\x7fPAR1": "a footer of 2147483647 bytes", "PARX........\x00\x00\x00\x00PAR1": "PAR1 is missing",
	} {
		if _, err := Open(strings.NewReader(text), int64(len(text))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestCountsThatDiffer: a chunk whose pages hold more or fewer values than its footer or their headers say is an error in
// both ways of reading.
func TestCountsThatDiffer(t *testing.T) {
	for name, change := range map[string]func(m *format.ColumnMetaData){
		"more values":  func(m *format.ColumnMetaData) { m.NumValues++ },
		"fewer values": func(m *format.ColumnMetaData) { m.NumValues-- },
		"cut":          func(m *format.ColumnMetaData) { m.TotalCompressedSize -= 3 },
		"no pages":     func(m *format.ColumnMetaData) { m.TotalCompressedSize = 0 },
		"moved":        func(m *format.ColumnMetaData) { m.DataPageOffset++ },
	} {
		b := doctored(t, twoRows(t), func(m *format.FileMetaData) { change(&m.RowGroups[0].Columns[0].MetaData) })
		f, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(name, err)
		}
		c := leaves(f.Root, nil)[0]
		if err := readColumn(f, 0, c); err == nil {
			t.Errorf("%s: nobody noticed", name)
		}
		if _, _, err := f.Bytes(0, c); err == nil {
			t.Errorf("%s: nobody noticed when the places were looked for", name)
		}
	}
}

// TestPageHeadersThatDiffer changes one field of the page header of a column.
func TestPageHeadersThatDiffer(t *testing.T) {
	for _, version := range []int{1, 2} {
		file := twoRows(t, parquet.DataPageVersion(version))
		for name, change := range map[string]func(h *format.PageHeader){
			"more values": func(h *format.PageHeader) { h.DataPageHeader.V.NumValues++; h.DataPageHeaderV2.V.NumValues++ },
			"below zero":  func(h *format.PageHeader) { h.DataPageHeader.V.NumValues = -1; h.DataPageHeaderV2.V.NumValues = -1 },
			"larger":      func(h *format.PageHeader) { h.UncompressedPageSize++ },
			"smaller":     func(h *format.PageHeader) { h.UncompressedPageSize-- },
			"far larger":  func(h *format.PageHeader) { h.CompressedPageSize = 1 << 30 },
			"nulls": func(h *format.PageHeader) {
				h.DataPageHeaderV2.V.NumNulls++
				h.DataPageHeader.V.DefinitionLevelEncoding = format.BitPacked
			},
			"levels": func(h *format.PageHeader) {
				h.DataPageHeaderV2.V.DefinitionLevelsByteLength = 1 << 20
				h.DataPageHeader.V.RepetitionLevelEncoding = format.BitPacked
			},
			"dictionary": func(h *format.PageHeader) {
				h.DataPageHeader.V.Encoding, h.DataPageHeaderV2.V.Encoding = format.RLEDictionary, format.RLEDictionary
			},
			"no header": func(h *format.PageHeader) { h.DataPageHeader.Valid, h.DataPageHeaderV2.Valid = false, false },
			"checksum":  func(h *format.PageHeader) { h.CRC = 12345 },
		} {
			b := headed(t, file, 0, change)
			f, err := Open(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(name, err)
			}
			if err := readColumn(f, 0, leaves(f.Root, nil)[0]); err == nil {
				t.Errorf("version %d, %s: nobody noticed", version, name)
			}
			if err := readColumn(f, 0, leaves(f.Root, nil)[4]); err != nil {
				t.Errorf("version %d, %s: another column: %v", version, name, err)
			}
		}
	}
}

// headed rewrites the first page header of a column; the page itself stays.
func headed(t fatal, file []byte, column int, change func(h *format.PageHeader)) []byte {
	f, err := Open(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	p, err := f.chunk(0, leaves(f.Root, nil)[column]).next()
	if err != nil {
		t.Fatal(err)
	}
	body := file[p.at : p.at+int64(p.CompressedPageSize)]
	h := p.PageHeader
	h.CRC = int32(crc32.ChecksumIEEE(body))
	change(&h)
	head, err := thrift.Marshal(new(thrift.CompactProtocol), &h)
	if err != nil {
		t.Fatal(err)
	}
	n := int(binary.LittleEndian.Uint32(file[len(file)-8:]))
	start := int64(len(file) - 8 - n) // a chunk of this page, in front of the footer
	return doctored(t, append(append(append(bytes.Clone(file[:start]), head...), body...), file[start:]...), func(m *format.FileMetaData) {
		c := &m.RowGroups[0].Columns[column].MetaData
		c.DataPageOffset, c.DictionaryPageOffset, c.TotalCompressedSize = start, 0, int64(len(head)+len(body))
	})
}

// TestStatisticsAreNotKept: the smallest and the largest picture of a page stand in its header; they are passed over, and the
// header is read however long it is.
func TestStatisticsAreNotKept(t *testing.T) {
	large := bytes.Repeat([]byte("picture"), 100_000)
	b := headed(t, twoRows(t), 0, func(h *format.PageHeader) {
		h.DataPageHeader.V.Statistics.MinValue, h.DataPageHeaderV2.V.Statistics.MinValue = large, large
	})
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	found, slots, err := f.Bytes(0, leaves(f.Root, nil)[0])
	if err != nil || len(slots) != 4 || found.Len() != 4 {
		t.Fatalf("%d slots, %v", len(slots), err)
	}
	for _, p := range found.pages {
		if len(p.DataPageHeader.V.Statistics.MinValue)+len(p.DataPageHeaderV2.V.Statistics.MinValue) > 0 {
			t.Error("a page keeps its smallest picture")
		}
	}
	if got, err := found.Read(context.Background(), 3, 100); err != nil || string(got) != "three" {
		t.Fatalf("%q %v", got, err)
	}
}

// TestIdleStreams: no more than a few streams stay open, and closing the file ends them.
func TestIdleStreams(t *testing.T) {
	var rows []record
	for i := range 12 {
		rows = append(rows, record{Plain: [][]byte{{byte(i)}, {1, 2}, {3}}})
	}
	file := with(parquet.Compression(&parquet.Zstd))(t, rows, parquet.PageBufferSize(1))
	f, err := Open(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := f.Bytes(0, leaves(f.Root, nil)[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.Len() {
		k := (i*7 + 3) % b.Len()
		if got, err := b.Read(context.Background(), k, 10); err != nil || k%3 == 0 && got[0] != byte(k/3) {
			t.Fatalf("value %d: %v %v", k, got, err)
		}
	}
	if len(f.idle) == 0 || len(f.idle) > maxIdle {
		t.Errorf("%d idle streams", len(f.idle))
	}
	f.Close()
	if len(f.idle) != 0 {
		t.Error("streams stay open")
	}
	if got := f.Codecs(); len(got) != 1 || got[0] != "ZSTD" {
		t.Error(got)
	}
}

// TestWindows: what a window keeps is enough for copies as far back as its history, whatever was read in between.
func TestWindows(t *testing.T) {
	const history = 1000
	var want []byte
	w := &window{history: history}
	n := 0
	w.decode = func() error {
		if n++; n > 2000 {
			return io.EOF
		}
		if n%3 == 0 && len(want) > history {
			at := len(want) - history
			want = append(want, want[at:at+50]...)
			return w.copyBack(history, 50)
		}
		b := bytes.Repeat([]byte{byte(n), byte(n >> 8)}, 80)
		want = append(want, b...)
		return w.literal(bytes.NewReader(b), len(b))
	}
	got, err := io.ReadAll(w)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, want %d, %v", len(got), len(want), err)
	}
	if len(w.buf) > 3*history+2*step {
		t.Errorf("the window holds %d bytes", len(w.buf))
	}
	if err := (&window{}).copyBack(1, 1); err != errFar {
		t.Error(err)
	}
	if err := (&window{}).copyBack(0, 1); err == nil || err == errFar {
		t.Error(err)
	}
}
