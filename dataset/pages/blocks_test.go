package pages

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
	"github.com/pierrec/lz4/v4"
)

// limited reads what a decoder gives, up to a limit that keeps fuzzing quick.
func limited(r io.Reader, limit int64) ([]byte, error) {
	return io.ReadAll(io.LimitReader(r, limit))
}

// FuzzSnappy: any block is decoded as the library does, or refused by both.
func FuzzSnappy(f *testing.F) {
	for _, text := range []string{"", "a", "abababababababab", string(make([]byte, 70_000))} {
		f.Add(snappy.Encode(nil, []byte(text)))
	}
	f.Add([]byte("\x04\x0cabcd"))
	f.Add([]byte("\x08\x00a\x05\x01\x00"))
	f.Fuzz(func(t *testing.T, block []byte) {
		n, err := snappy.DecodedLen(block)
		if err != nil || n > 1<<20 {
			return
		}
		want, wrong := snappy.Decode(nil, block)
		s, err := newSnappy(bufio.NewReader(bytes.NewReader(block)), int64(n), n)
		var got []byte
		if err == nil {
			got, err = limited(s, 1<<21)
		}
		if (err == nil) != (wrong == nil) || err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%v, the library says %v", err, wrong)
		}
	})
}

// FuzzLZ4: what the library decodes is decoded to the same bytes.
func FuzzLZ4(f *testing.F) {
	for _, text := range []string{"", "a", "abababababababab", string(make([]byte, 70_000)), "0123456789abcdef0123456789"} {
		f.Add(block([]byte(text)), false)
		f.Add(hadoop([]byte(text)), true)
		f.Add(lz4Frame([]byte(text)), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, old bool) {
		if old {
			b, err := oldLZ4(bufio.NewReader(bytes.NewReader(data)), int64(len(data)), 1<<20)
			if err == nil {
				_, _ = limited(b, 1<<21)
			}
			return
		}
		dst := make([]byte, 1<<20)
		n, wrong := lz4.UncompressBlock(data, dst)
		got, err := limited(newLZ4(bufio.NewReader(bytes.NewReader(data)), int64(len(data))), 1<<21)
		if wrong == nil && len(data) > 0 && (err != nil || !bytes.Equal(got, dst[:n])) {
			t.Fatalf("%v, the library gives %d bytes", err, n)
		}
	})
}

// TestBlocksOfAnotherSize: a page that decompresses to more or fewer bytes than its header says is an error.
func TestBlocksOfAnotherSize(t *testing.T) {
	text := bytes.Repeat([]byte("an unripe apple "), 100)
	for name, b := range map[string]struct {
		codec format.CompressionCodec
		data  []byte
	}{
		"snappy": {format.Snappy, snappy.Encode(nil, text)}, "raw": {format.Lz4Raw, block(text)}, "hadoop": {format.Lz4, hadoop(text)},
		"frame": {format.Lz4, lz4Frame(text)}, "none": {format.Uncompressed, text},
	} {
		for _, size := range []int64{0, 1, int64(len(text)) - 1, int64(len(text)), int64(len(text)) + 1} {
			r, err := decompress(b.codec, io.NewSectionReader(bytes.NewReader(b.data), 0, int64(len(b.data))), size, 0)
			if err == nil {
				_, err = exactly(r, size)
			}
			if (err == nil) != (size == int64(len(text))) {
				t.Errorf("%s read as %d bytes: %v", name, size, err)
			}
		}
	}
}

// TestRunsAreCounted: a few bytes that promise many values are refused before anybody makes room for them.
func TestRunsAreCounted(t *testing.T) {
	for name, c := range map[string]struct {
		runs []byte
		n    int
		ok   bool
	}{
		"a run":           {[]byte{20, 1}, 10, true},
		"too short":       {[]byte{18, 1}, 10, false},
		"groups of eight": {[]byte{5, 0xff, 0x03}, 10, true},
		"a billion":       {[]byte{0x80, 0x94, 0xeb, 0xdc, 0x07, 1}, 10, false},
		"no end":          {[]byte{0x80}, 1, false},
		"no value":        {[]byte{20}, 10, false},
	} {
		if _, err := decodeLevels(c.runs, 1, c.n, format.RLE); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := decodeIndices(append([]byte{1}, c.runs...), c.n); (err == nil) != c.ok {
			t.Errorf("%s as indices: %v", name, err)
		}
	}
	if _, err := decodeLevels([]byte{20, 3}, 2, 10, format.RLE); err == nil {
		t.Error("a level above the highest is taken")
	}
	if _, err := indicesBelow([]byte{2, 20, 3}, 10, 3); err == nil {
		t.Error("an index behind the dictionary is taken")
	}
}

// readAll reads every column in both ways.
func readAll(b []byte) error {
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return err
	}
	defer f.Close()
	for g := range f.Groups {
		for _, c := range leaves(f.Root, nil) {
			if err := readColumn(f, g, c); err != nil {
				return err
			}
		}
	}
	return nil
}

func readColumn(f *File, g int, c *parquet.Column) error {
	v := f.Values(g, c)
	defer func() { _ = v.Close() }()
	for range 100_000 {
		if _, err := v.Peek(); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		v.Next()
	}
	if c.Type().Kind() != parquet.ByteArray {
		return nil
	}
	b, _, err := f.Bytes(g, c)
	for i := 0; err == nil && i < min(b.Len(), 20); i++ {
		_, err = b.Read(context.Background(), b.Len()-1-i, 1<<20)
	}
	return err
}

// TestDamage flips and cuts: everything but a panic is fine, and much is noticed.
func TestDamage(t *testing.T) {
	s := "text"
	for name, form := range forms {
		file := form(t, []record{{Plain: [][]byte{[]byte("one"), bytes.Repeat([]byte("x"), 300)}, Dict: [][]byte{[]byte("two")},
			Single: &s, Number: 1}, {}})
		failed := 0
		for at := 0; at < len(file); at += 7 {
			b := bytes.Clone(file)
			b[at] ^= 0x55
			if readAll(b) != nil {
				failed++
			}
		}
		if failed < len(file)/7/5 {
			t.Errorf("%s: %d of %d flips noticed", name, failed, len(file)/7)
		}
	}
}

func FuzzFile(f *testing.F) {
	s := "text"
	for _, form := range forms {
		f.Add(form(f, []record{{Plain: [][]byte{[]byte("one"), []byte("three")}, Delta: [][]byte{[]byte("two")}, Single: &s}, {}},
			parquet.DataPageVersion(1)))
	}
	if b, err := os.ReadFile("../testdata/lz4_lists-00000-of-00001.parquet"); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(_ *testing.T, b []byte) { _ = readAll(b) })
}
