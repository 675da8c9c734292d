package pages

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// snappyHistory is kept of a page that is read as a stream. The reference encoder never reaches back more than 64 KiB, others
// reach further in blocks that are larger than that.
const snappyHistory = 1 << 20

// snappyBlock decodes one block of the snappy format (format_description.txt of google/snappy).
type snappyBlock struct {
	window
	in   *bufio.Reader
	left int64 // bytes that are still to be written
	lit  int   // of a literal that is being copied
}

// newSnappy reads the length that a block begins with; it must be size.
func newSnappy(in *bufio.Reader, size int64, history int) (*snappyBlock, error) {
	n, err := binary.ReadUvarint(in)
	if err != nil {
		return nil, cut(err)
	}
	if n != uint64(size) {
		return nil, fmt.Errorf("a page decompresses to %d bytes, its header says %d", n, size)
	}
	s := &snappyBlock{in: in, left: size}
	s.history = max(history, snappyHistory)
	s.decode = s.next
	return s, nil
}

// next writes the bytes of one element, or a part of a long literal.
func (s *snappyBlock) next() error {
	if s.lit == 0 {
		if s.left == 0 {
			return s.end()
		}
		tag, err := s.in.ReadByte()
		if err != nil {
			return cut(err)
		}
		if tag&3 != 0 {
			return s.copied(tag)
		}
		if err := s.startLiteral(tag); err != nil {
			return err
		}
	}
	n := min(s.lit, step)
	s.lit -= n
	return s.literal(s.in, n)
}

// end wants the input to end with the block.
func (s *snappyBlock) end() error {
	if _, err := s.in.ReadByte(); err == nil {
		return fmt.Errorf("a page decompresses to more bytes than its header says")
	}
	return io.EOF
}

func (s *snappyBlock) startLiteral(tag byte) error {
	n := uint64(tag >> 2)
	if n >= 60 {
		var err error
		if n, err = s.number(int(n) - 59); err != nil {
			return err
		}
	}
	return s.take(int64(n)+1, &s.lit)
}

func (s *snappyBlock) copied(tag byte) error {
	length, bytes := int64(tag>>2)+1, 2
	switch tag & 3 {
	case 1:
		length, bytes = int64(tag>>2&7)+4, 1
	case 3:
		bytes = 4
	}
	offset, err := s.number(bytes)
	if err != nil {
		return err
	}
	if tag&3 == 1 {
		offset |= uint64(tag>>5) << 8
	}
	var n int
	if err := s.take(length, &n); err != nil {
		return err
	}
	return s.copyBack(int(offset), n)
}

// take counts bytes as written.
func (s *snappyBlock) take(n int64, into *int) error {
	if n > s.left {
		return fmt.Errorf("a page decompresses to more bytes than its header says")
	}
	s.left -= n
	*into = int(n)
	return nil
}

// number reads a little-endian number of 1 to 4 bytes.
func (s *snappyBlock) number(bytes int) (uint64, error) {
	n := uint64(0)
	for i := range bytes {
		b, err := s.in.ReadByte()
		if err != nil {
			return 0, cut(err)
		}
		n |= uint64(b) << (8 * i)
	}
	return n, nil
}
