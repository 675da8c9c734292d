package pages

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// lz4History is how far a copy can reach back (lz4_Block_format.md).
const lz4History = 64 << 10

// lz4Block decodes one block of the LZ4 format: sequences of a token, literals and a copy; the last has no copy.
type lz4Block struct {
	window
	in     *bufio.Reader
	left   int64 // compressed bytes
	lit    int64 // of the literal that is being copied
	length int64 // of the copy that is being made
	offset int
	copies bool // a copy follows the literal
	token  byte
}

func newLZ4(in *bufio.Reader, compressed int64) *lz4Block {
	b := &lz4Block{in: in, left: compressed}
	b.history = lz4History
	b.decode = b.next
	return b
}

// next writes a part of a literal or a copy, or reads what comes next.
func (b *lz4Block) next() (err error) {
	switch {
	case b.lit > 0:
		n := min(b.lit, step, b.left)
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		b.lit, b.left = b.lit-n, b.left-n
		return b.literal(b.in, int(n))
	case b.length > 0:
		n := min(b.length, step)
		b.length -= n
		return b.copyBack(b.offset, int(n))
	case b.left == 0:
		return io.EOF
	case b.copies:
		return b.startCopy()
	}
	if b.token, err = b.byte(); err != nil {
		return err
	}
	b.lit, err = b.extended(int64(b.token >> 4))
	b.copies = true
	return err
}

func (b *lz4Block) startCopy() error {
	b.copies = false
	low, err := b.byte()
	if err != nil {
		return err
	}
	high, err := b.byte()
	if err != nil {
		return err
	}
	b.offset = int(low) | int(high)<<8
	if b.length, err = b.extended(int64(b.token & 15)); err != nil {
		return err
	}
	const least = 4
	b.length += least
	if b.offset == 0 || b.offset > len(b.buf) {
		return errors.New("a copy from before the beginning")
	}
	return nil
}

// extended adds the bytes that follow a length of 15: each of them, until one is not 255.
func (b *lz4Block) extended(n int64) (int64, error) {
	if n != 15 {
		return n, nil
	}
	for {
		x, err := b.byte()
		if err != nil {
			return 0, err
		}
		if n += int64(x); x != 255 {
			return n, nil
		}
	}
}

func (b *lz4Block) byte() (byte, error) {
	if b.left == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	b.left--
	x, err := b.in.ReadByte()
	return x, cut(err)
}

// hadoopLZ4 reads Hadoop's BlockCompressorStream: the size of a part, then compressed blocks, each with its size, until
// the part is whole. Sizes are big-endian.
type hadoopLZ4 struct {
	in    *bufio.Reader
	part  int64 // bytes of the part that are still to come
	block *lz4Block
}

func newHadoopLZ4(in *bufio.Reader) *hadoopLZ4 { return &hadoopLZ4{in: in} }

// Read implements io.Reader.
func (h *hadoopLZ4) Read(p []byte) (int, error) {
	for {
		if h.block != nil {
			n, err := h.block.Read(p)
			if h.part -= int64(n); h.part < 0 {
				return 0, errors.New("an LZ4 block holds more than its part")
			}
			if n > 0 || !errors.Is(err, io.EOF) {
				return n, err
			}
			h.block = nil
		}
		if h.part == 0 {
			var err error
			if h.part, err = h.size(); err != nil {
				return 0, err // io.EOF between parts is the end
			}
			continue
		}
		n, err := h.size()
		if err != nil {
			return 0, cut(err)
		}
		h.block = newLZ4(h.in, n)
	}
}

func (h *hadoopLZ4) size() (int64, error) {
	var b [4]byte
	_, err := io.ReadFull(h.in, b[:])
	return int64(binary.BigEndian.Uint32(b[:])), err
}
