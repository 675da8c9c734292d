package pages

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/format"
	"github.com/pierrec/lz4/v4"
)

// codecs are the compressions that are read.
var codecs = []format.CompressionCodec{
	format.Uncompressed, format.Snappy, format.Gzip, format.Brotli, format.Zstd, format.Lz4, format.Lz4Raw,
}

// buffered is the size of the reads from a file.
const buffered = 64 << 10

// zstdWindow is the most memory a zstd stream may ask for; the format's own tools refuse more than 128 MiB unless told.
const zstdWindow = 128 << 20

// body is the decompressed content of a page. Skip goes on by n bytes.
type body struct {
	io.Reader
	closing func()
}

func (b body) close() {
	if b.closing != nil {
		b.closing()
	}
}

// seeks says that the page is not compressed.
func (b body) seeks() bool {
	_, ok := b.Reader.(*io.SectionReader)
	return ok
}

// skip goes n bytes on; in a page that is not compressed without reading them.
func (b body) skip(n int64) error {
	if s, ok := b.Reader.(*io.SectionReader); ok {
		_, err := s.Seek(n, io.SeekCurrent)
		return err
	}
	_, err := io.CopyN(io.Discard, b.Reader, n)
	return err
}

// decompress gives the size bytes that a codec made r of. Of snappy, history bytes at least are kept for copies.
func decompress(codec format.CompressionCodec, r *io.SectionReader, size int64, history int) (body, error) {
	if codec == format.Uncompressed {
		if r.Size() != size {
			return body{}, fmt.Errorf("a page of %d bytes that is not compressed takes %d", size, r.Size())
		}
		return body{Reader: r}, nil
	}
	in := bufio.NewReaderSize(r, buffered)
	if size == 0 && r.Size() == 0 {
		return body{Reader: in}, nil // version 2 pages without values
	}
	switch codec {
	case format.Snappy:
		s, err := newSnappy(in, size, history)
		return body{Reader: s}, err
	case format.Gzip:
		z, err := gzip.NewReader(in)
		return body{Reader: z}, err
	case format.Brotli:
		return body{Reader: brotli.NewReader(in)}, nil
	case format.Zstd:
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(zstdWindow))
		if err != nil {
			return body{}, err
		}
		return body{z, z.Close}, nil
	case format.Lz4Raw:
		return body{Reader: newLZ4(in, r.Size())}, nil
	case format.Lz4:
		return oldLZ4(in, r.Size(), size)
	}
	return body{}, fmt.Errorf("compression %s is not read", codec)
}

// oldLZ4 reads the codec that the format deprecated because its writers disagreed: Hadoop's framing, which Java writes, LZ4's
// own frames, or a bare block, both by early C++ and Rust writers. Arrow tells them apart in the same order.
func oldLZ4(in *bufio.Reader, compressed, size int64) (body, error) {
	head, err := in.Peek(8)
	if err != nil && !errors.Is(err, io.EOF) {
		return body{}, err
	}
	if bytes.HasPrefix(head, []byte{0x04, 0x22, 0x4d, 0x18}) {
		return body{Reader: lz4.NewReader(in)}, nil
	}
	if len(head) == 8 {
		whole, part := binary.BigEndian.Uint32(head), binary.BigEndian.Uint32(head[4:])
		if int64(whole) <= size && part > 0 && int64(part) <= compressed-8 {
			return body{Reader: newHadoopLZ4(in)}, nil
		}
	}
	return body{Reader: newLZ4(in, compressed)}, nil
}
