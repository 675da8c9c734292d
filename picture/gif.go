package picture

import (
	"bytes"
	"compress/lzw"
	"errors"
	"fmt"
	"io"
)

// gifFile is the first frame of a GIF (the GIF89a specification). Later frames change what is shown; training takes the first,
// as Pillow does when a file is opened and not moved on.
type gifFile struct {
	width, height int // of the canvas, which a frame that reaches out of it makes larger
	left, top     int
	wide, high    int // of the frame
	palette       []byte
	interlaced    bool
	clear         int // index of the transparent colour, -1 without
	bits          byte
	data          []byte // blocks of the compressed indices
	animated      bool
}

var errGIFCut = errors.New("the file ends before its first picture")

func le16(b []byte) int { return int(b[0]) | int(b[1])<<8 }

// parseGIF reads up to the first frame, and looks whether another one follows.
func parseGIF(data []byte) (*gifFile, error) {
	if len(data) < 13 {
		return nil, errGIFCut
	}
	f := &gifFile{width: le16(data[6:]), height: le16(data[8:]), clear: -1}
	rest, err := f.colours(data[10], data[13:])
	for err == nil {
		if len(rest) == 0 || rest[0] == ';' {
			return nil, errGIFCut
		}
		switch {
		case rest[0] == '!' && len(rest) >= 2:
			label := rest[1]
			var block []byte
			block, rest = gifBlocks(rest[2:])
			if label == 0xf9 && len(block) >= 5 && block[0] >= 4 && block[1]&1 == 1 { // graphic control
				f.clear = int(block[4])
			}
		case rest[0] == ',':
			return f, f.frame(rest[1:])
		default:
			rest = rest[1:] // Pillow looks for the next block
		}
	}
	return nil, err
}

// colours takes a colour table, if the flags say that one follows.
func (f *gifFile) colours(flags byte, rest []byte) ([]byte, error) {
	if flags&0x80 == 0 {
		return rest, nil
	}
	n := 3 << (flags&7 + 1)
	if len(rest) < n {
		return nil, errGIFCut
	}
	f.palette = rest[:n]
	return rest[n:], nil
}

// gifBlocks cuts off a run of data blocks: each a length and as many bytes, the last of length 0.
func gifBlocks(data []byte) (blocks, rest []byte) {
	at := 0
	for at < len(data) && data[at] != 0 {
		at = min(at+1+int(data[at]), len(data))
	}
	return data[:at], data[min(at+1, len(data)):]
}

func (f *gifFile) frame(data []byte) (err error) {
	if len(data) < 9 {
		return errGIFCut
	}
	f.left, f.top, f.wide, f.high = le16(data), le16(data[2:]), le16(data[4:]), le16(data[6:])
	f.width, f.height = max(f.width, f.left+f.wide), max(f.height, f.top+f.high)
	if err := checkSize(f.width, f.height); err != nil {
		return err
	}
	flags := data[8]
	f.interlaced = flags&0x40 != 0
	if data, err = f.colours(flags, data[9:]); err != nil {
		return err
	}
	if len(data) == 0 {
		return errGIFCut
	}
	if f.bits = data[0]; f.bits < 2 || f.bits > 8 {
		return fmt.Errorf("codes of %d bits", f.bits)
	}
	f.data, data = gifBlocks(data[1:])
	f.animated = hasFrame(data)
	return nil
}

// hasFrame looks for one more frame.
func hasFrame(data []byte) bool {
	for len(data) >= 2 && data[0] == '!' {
		_, data = gifBlocks(data[2:])
	}
	return len(data) > 0 && data[0] == ','
}

func gifInfo(data []byte) (Info, error) {
	f, err := parseGIF(data)
	if err != nil {
		return Info{}, err
	}
	return Info{Width: f.width, Height: f.height, Orientation: uprightTag, Bits: 8, Alpha: f.clear >= 0, Animated: f.animated}, nil
}

// blockReader reads the bytes of data blocks one behind the other.
type blockReader struct {
	blocks []byte
	left   int // of the block
}

// ReadByte implements io.ByteReader, which lzw asks for.
func (r *blockReader) ReadByte() (byte, error) {
	if r.left == 0 && len(r.blocks) > 0 {
		r.left, r.blocks = int(r.blocks[0]), r.blocks[1:]
	}
	if r.left == 0 || len(r.blocks) == 0 {
		return 0, io.EOF
	}
	b := r.blocks[0]
	r.left, r.blocks = r.left-1, r.blocks[1:]
	return b, nil
}

// Read implements io.Reader.
func (r *blockReader) Read(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		if p[n], err = r.ReadByte(); err == nil {
			n++
		}
	}
	return n, err
}

// decodeGIF paints the frame onto the canvas. What it leaves free has the transparent colour, else the first one.
func decodeGIF(data []byte) (*Picture, error) {
	f, err := parseGIF(data)
	if err != nil {
		return nil, err
	}
	z := lzw.NewReader(&blockReader{blocks: f.data}, lzw.LSB, int(f.bits))
	indices, err := io.ReadAll(io.LimitReader(z, int64(f.wide*f.high)))
	if err == nil && len(indices) < f.wide*f.high {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	p := New(f.width, f.height)
	free := f.colour(byte(max(f.clear, 0)))
	for i := 0; i < len(p.Pix); i += 3 {
		copy(p.Pix[i:], free[:])
	}
	for i, y := range f.rows() {
		at := 3 * ((f.top+y)*f.width + f.left)
		for x, index := range indices[i*f.wide : (i+1)*f.wide] {
			c := f.colour(index)
			copy(p.Pix[at+3*x:], c[:])
		}
	}
	return p, nil
}

// colour is a colour of the table; without one the index is a shade of grey, and behind its end it is black.
func (f *gifFile) colour(index byte) (c [3]byte) {
	if f.palette == nil {
		return [3]byte{index, index, index}
	}
	copy(c[:], f.palette[min(3*int(index), len(f.palette)):])
	return c
}

// rows is the place of each stored row: in order, or in the four passes of an interlaced picture.
func (f *gifFile) rows() []int {
	var out []int
	passes := [][2]int{{0, 1}}
	if f.interlaced {
		passes = [][2]int{{0, 8}, {4, 8}, {2, 4}, {1, 2}}
	}
	for _, p := range passes {
		for y := p[0]; y < f.high; y += p[1] {
			out = append(out, y)
		}
	}
	return out
}

// isGIF tells the mark of both versions.
func isGIF(data []byte) bool {
	return bytes.HasPrefix(data, []byte("GIF87a")) || bytes.HasPrefix(data, []byte("GIF89a"))
}
