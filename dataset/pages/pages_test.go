package pages

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
	"github.com/pierrec/lz4/v4"
	"pgregory.net/rapid"
)

// record has a column of each kind that data sets have; schema says how they are encoded.
type record struct {
	Plain  [][]byte `parquet:"a_plain,list"`
	Dict   [][]byte `parquet:"b_dict,list"`
	Delta  [][]byte `parquet:"c_delta,list"`
	Single *string  `parquet:"d_single,optional"`
	Number int64    `parquet:"e_number"`
}

var schema = parquet.NewSchema("record", parquet.Group{
	"a_plain":  parquet.List(parquet.Encoded(parquet.Leaf(parquet.ByteArrayType), &parquet.Plain)),
	"b_dict":   parquet.List(parquet.Encoded(parquet.Leaf(parquet.ByteArrayType), &parquet.RLEDictionary)),
	"c_delta":  parquet.List(parquet.Encoded(parquet.Leaf(parquet.ByteArrayType), &parquet.DeltaLengthByteArray)),
	"d_single": parquet.Optional(parquet.Encoded(parquet.String(), &parquet.RLEDictionary)),
	"e_number": parquet.Encoded(parquet.Int(64), &parquet.DeltaBinaryPacked),
})

func anyRecord(t *rapid.T, i int) record {
	blob := rapid.Custom(func(t *rapid.T) []byte {
		n := rapid.SampledFrom([]int{0, 1, 7, 300, 5000, 40_000}).Draw(t, "size")
		return bytes.Repeat([]byte(rapid.StringN(1, 40, -1).Draw(t, "text")), n+1)[:n]
	})
	list := rapid.SliceOfN(blob, 0, 3)
	r := record{Plain: list.Draw(t, "plain"), Dict: list.Draw(t, "dict"), Delta: list.Draw(t, "delta"), Number: int64(i)}
	if rapid.Bool().Draw(t, "there") {
		s := rapid.StringN(0, 9, -1).Draw(t, "single")
		r.Single = &s
	}
	return r
}

func written(t fatal, rows []record, options ...parquet.WriterOption) []byte {
	var b bytes.Buffer
	w := parquet.NewGenericWriter[record](&b, append(options, schema)...)
	for i := range rows { // one by one, so that pages are cut where the options say
		if _, err := w.Write(rows[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type fatal interface{ Fatal(args ...any) }

// recompressed rewrites a file that is not compressed with a codec that the library cannot write.
func recompressed(t fatal, file []byte, codec format.CompressionCodec, pack func([]byte) []byte) []byte {
	f, err := Open(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	out := []byte(magic)
	for g := range f.meta.RowGroups {
		for i, c := range leaves(f.Root, nil) {
			m := &f.meta.RowGroups[g].Columns[i].MetaData
			walk, start := f.chunk(g, c), int64(len(out))
			for {
				p, err := walk.next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				raw := file[p.at : p.at+int64(p.CompressedPageSize)]
				body := append(slices.Clone(raw[:p.levelBytes()]), pack(raw[p.levelBytes():])...)
				h := p.PageHeader
				h.CompressedPageSize, h.CRC = int32(len(body)), 0
				if h.DataPageHeaderV2.Valid {
					h.DataPageHeaderV2.V.IsCompressed = thrift.New(true)
				}
				head, err := thrift.Marshal(new(thrift.CompactProtocol), &h)
				if err != nil {
					t.Fatal(err)
				}
				out = append(append(out, head...), body...)
			}
			m.Codec, m.TotalCompressedSize, m.DataPageOffset, m.DictionaryPageOffset = codec, int64(len(out))-start, start, 0
		}
	}
	footer, err := thrift.Marshal(new(thrift.CompactProtocol), &f.meta)
	if err != nil {
		t.Fatal(err)
	}
	out = append(out, footer...)
	return append(binary.LittleEndian.AppendUint32(out, uint32(len(footer))), magic...)
}

func leaves(c *parquet.Column, out []*parquet.Column) []*parquet.Column {
	if c.Leaf() {
		return append(out, c)
	}
	for _, k := range c.Columns() {
		out = leaves(k, out)
	}
	return out
}

// block packs into one LZ4 block; what cannot be packed is stored as literals, as the format allows.
func block(b []byte) []byte {
	if len(b) == 0 {
		return []byte{0}
	}
	dst := make([]byte, lz4.CompressBlockBound(len(b)))
	n, err := lz4.CompressBlock(b, dst, nil)
	if err != nil {
		panic(err)
	}
	if n == 0 {
		dst = dst[:0]
		if len(b) < 15 {
			return append(append(dst, byte(len(b)<<4)), b...)
		}
		dst = append(dst, 0xf0)
		rest := len(b) - 15
		for ; rest >= 255; rest -= 255 {
			dst = append(dst, 255)
		}
		return append(append(dst, byte(rest)), b...)
	}
	return dst[:n]
}

// hadoop packs as Java does: parts, each of several blocks.
func hadoop(b []byte) []byte {
	var out []byte
	for len(b) > 0 {
		part := b[:min(len(b), 3000)]
		b = b[len(part):]
		out = binary.BigEndian.AppendUint32(out, uint32(len(part)))
		for len(part) > 0 {
			piece := block(part[:min(len(part), 1100)])
			part = part[min(len(part), 1100):]
			out = append(binary.BigEndian.AppendUint32(out, uint32(len(piece))), piece...)
		}
	}
	return out
}

func lz4Frame(b []byte) []byte {
	var out bytes.Buffer
	w := lz4.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

// farSnappy is a block whose copies reach back through the whole of it.
func farSnappy(b []byte) []byte {
	half := len(b) / 2
	if half < 4 || !bytes.Equal(b[:half], b[half:2*half]) {
		return snappy.Encode(nil, b)
	}
	out := binary.AppendUvarint(nil, uint64(len(b)))
	literal := func(b []byte) {
		if len(b) > 0 {
			out = append(binary.LittleEndian.AppendUint32(append(out, 63<<2), uint32(len(b)-1)), b...)
		}
	}
	literal(b[:half])
	for left := half; left > 0; left -= min(left, 64) {
		out = binary.LittleEndian.AppendUint32(append(out, byte(min(left, 64)-1)<<2|3), uint32(half))
	}
	literal(b[2*half:])
	return out
}

// forms are the ways in which a page can be stored.
var forms = map[string]func(t fatal, rows []record, options ...parquet.WriterOption) []byte{
	"none":   written,
	"snappy": with(parquet.Compression(&parquet.Snappy)), "gzip": with(parquet.Compression(&parquet.Gzip)),
	"zstd": with(parquet.Compression(&parquet.Zstd)), "brotli": with(parquet.Compression(&parquet.Brotli)),
	"lz4 raw": packed(format.Lz4Raw, block), "lz4 hadoop": packed(format.Lz4, hadoop), "lz4 frame": packed(format.Lz4, lz4Frame),
	"lz4 bare": packed(format.Lz4, block), "far snappy": packed(format.Snappy, farSnappy),
}

func with(codec parquet.WriterOption) func(fatal, []record, ...parquet.WriterOption) []byte {
	return func(t fatal, rows []record, options ...parquet.WriterOption) []byte {
		return written(t, rows, append(options, codec)...)
	}
}

func packed(codec format.CompressionCodec, pack func([]byte) []byte) func(fatal, []record, ...parquet.WriterOption) []byte {
	return func(t fatal, rows []record, options ...parquet.WriterOption) []byte {
		return recompressed(t, written(t, rows, options...), codec, pack)
	}
}

// lists collects a column's values by row; nulls are left out.
func lists(t fatal, f *File, c *parquet.Column) (out [][][]byte) {
	for g := range f.Groups {
		v := f.Values(g, c)
		for {
			x, err := v.Peek()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(c.Path(), err)
			}
			if x.RepetitionLevel() == 0 {
				out = append(out, nil)
			}
			if !x.IsNull() {
				out[len(out)-1] = append(out[len(out)-1], bytes.Clone(x.Bytes()))
			}
			v.Next()
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// found collects the same from places, reading the values in the order that pick gives.
func found(t fatal, f *File, c *parquet.Column, order func(n int) []int) (out [][][]byte) {
	for g := range f.Groups {
		b, slots, err := f.Bytes(g, c)
		if err != nil {
			t.Fatal(c.Path(), err)
		}
		read := make([][]byte, b.Len())
		for _, i := range order(b.Len()) {
			if read[i], err = b.Read(context.Background(), i, 1<<20); err != nil {
				t.Fatal(c.Path(), i, err)
			}
		}
		for _, s := range slots {
			if s.Repetition == 0 {
				out = append(out, nil)
			}
			if s.There {
				out[len(out)-1] = append(out[len(out)-1], read[0])
				read = read[1:]
			}
		}
	}
	return out
}

// TestEveryFormReadsTheSame: what a file holds does not depend on codec, version and size of pages, nor on the order in
// which values are asked for.
func TestEveryFormReadsTheSame(t *testing.T) {
	names := slices.Sorted(maps.Keys(forms))
	rapid.Check(t, func(t *rapid.T) {
		form := forms[rapid.SampledFrom(names).Draw(t, "form")]
		var rows []record
		for i := range rapid.IntRange(1, 6).Draw(t, "rows") {
			rows = append(rows, anyRecord(t, i))
		}
		file := form(t, rows, parquet.DataPageVersion(rapid.IntRange(1, 2).Draw(t, "version")),
			parquet.PageBufferSize(rapid.SampledFrom([]int{100, 1 << 20}).Draw(t, "page")),
			parquet.MaxRowsPerRowGroup(rapid.SampledFrom([]int64{2, 1000}).Draw(t, "group")))
		f, err := Open(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		order := func(n int) []int {
			all := make([]int, n)
			for i := range all {
				all[i] = i
			}
			return rapid.Permutation(all).Draw(t, "order")
		}
		for i, column := range []func(r record) [][]byte{
			func(r record) [][]byte { return r.Plain }, func(r record) [][]byte { return r.Dict },
			func(r record) [][]byte { return r.Delta },
		} {
			c := leaves(f.Root, nil)[i]
			got, alone := lists(t, f, c), found(t, f, c, order)
			for k, r := range rows {
				if want := column(r); !slices.EqualFunc(got[k], want, bytes.Equal) || !slices.EqualFunc(alone[k], want, bytes.Equal) {
					t.Fatalf("column %v row %d differs", c.Path(), k)
				}
			}
		}
		for k, got := range lists(t, f, leaves(f.Root, nil)[3]) {
			if s := rows[k].Single; (s == nil) != (len(got) == 0) || s != nil && string(got[0]) != *s {
				t.Fatalf("string of row %d: %q", k, got)
			}
		}
		for k, got := range lists(t, f, leaves(f.Root, nil)[4]) {
			if n := int64(binary.LittleEndian.Uint64(got[0])); n != int64(k) {
				t.Fatalf("number of row %d: %d", k, n)
			}
		}
	})
}

// TestFarCopies: a page whose copies reach further back than a stream keeps is read all the same.
func TestFarCopies(t *testing.T) {
	half := make([]byte, 3<<20)
	for i := range half {
		half[i] = byte(i * i >> 7)
	}
	packedPage := farSnappy(append(slices.Clone(half), half...))
	read := func(history int) ([]byte, error) {
		b, err := decompress(format.Snappy, io.NewSectionReader(bytes.NewReader(packedPage), 0, int64(len(packedPage))),
			int64(2*len(half)), history)
		if err != nil {
			t.Fatal(err)
		}
		return io.ReadAll(b)
	}
	if _, err := read(0); !errors.Is(err, errFar) {
		t.Fatalf("%v", err)
	}
	got, err := read(2 * len(half))
	if err != nil || !bytes.Equal(got[len(half):], half) {
		t.Fatal(err)
	}
	value := half[:len(half)-4]
	page := append(binary.LittleEndian.AppendUint32(nil, uint32(len(value))), value...)
	file := packed(format.Snappy, farSnappy)(t, []record{{Plain: [][]byte{value, value}}}, parquet.PageBufferSize(1<<30),
		parquet.DataPageVersion(2))
	if want := farSnappy(append(slices.Clone(page), page...)); !bytes.Contains(file, want[8:1000]) {
		t.Fatal("the page has another form than this test is about")
	}
	f, err := Open(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := f.Bytes(0, leaves(f.Root, nil)[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{1, 0, 1} {
		if got, err := b.Read(context.Background(), i, 1<<30); err != nil || !bytes.Equal(got, value) {
			t.Fatalf("value %d: %v", i, err)
		}
	}
	if _, err := b.Read(context.Background(), 0, 100); err == nil || err.Error() != fmt.Sprintf("%d bytes are more than the limit of 100", len(value)) {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.Read(cancelled, 1, 1<<30); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
