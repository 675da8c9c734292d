package picture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// JPEG markers that are looked at.
const (
	markBaseline    = 0xc0
	markExtended    = 0xc1
	markProgressive = 0xc2
	markHuffman     = 0xc4
	markRestart     = 0xd0 // to 0xd7
	markStart       = 0xd8
	markEnd         = 0xd9
	markScan        = 0xda
	markQuant       = 0xdb
	markInterval    = 0xdd
	markJFIF        = 0xe0
	markAdobe       = 0xee
)

// maxScans bounds the work that a small progressive file can ask for.
const maxScans = 200

var errCut = errors.New("the data ends early")

// jpegFile is a JPEG while it is read. The standard library's decoder is not used because its inverse transform rounds
// in another way than libjpeg's, which moves a few pixels in a hundred by up to three levels.
type jpegFile struct {
	data          []byte
	pos           int
	width, height int
	progressive   bool
	parts         []*jpegPart
	across, down  int // largest sampling factors
	quant         [4]*[64]int32
	dc, ac        [4]*huffman
	interval      int // MCUs between restart markers, 0 without
	jfif          bool
	transform     int // Adobe's colour transform, -1 without an Adobe marker
	scans         int
}

// jpegPart is one colour component.
type jpegPart struct {
	id           byte
	across, down int // sampling factors
	table        byte
	quant        *[64]int32 // as it was when the component's first scan began
	wide, high   int        // blocks that hold its samples
	stride, rows int        // blocks that are stored, whole MCUs
	samples      plane
	coefficients []int16 // progressive files only: 64 per block in natural order
	seen         bool
	prediction   int32
}

// readJPEG decodes a baseline, extended or progressive JPEG with Huffman codes and 8 bits per sample.
func readJPEG(data []byte) (*jpegFile, error) {
	f := &jpegFile{data: data, pos: 2, transform: -1}
	for {
		marker, err := f.nextMarker()
		if errors.Is(err, errCut) && f.complete() && !f.progressive {
			break // everything is there but the end marker
		}
		if err != nil {
			return nil, err
		}
		if marker == markEnd {
			break
		}
		if err := f.segment(marker); err != nil {
			return nil, err
		}
	}
	if !f.complete() {
		return nil, errors.New("a colour component has no data")
	}
	for _, p := range f.parts {
		if f.progressive {
			p.transformAll()
		}
	}
	return f, nil
}

// jpegInfo reads no further than the frame header and the tags.
func jpegInfo(data []byte) (Info, error) {
	f := &jpegFile{data: data, pos: 2, transform: -1}
	for len(f.parts) == 0 {
		marker, err := f.nextMarker()
		if err == nil {
			err = f.segment(marker)
		}
		if err != nil {
			return Info{}, err
		}
	}
	return Info{Width: f.width, Height: f.height, Orientation: orientationOf(jpegTags(data)), Bits: 8,
		Grey: len(f.parts) == 1, Inks: len(f.parts) == 4}, nil
}

func (f *jpegFile) complete() bool {
	for _, p := range f.parts {
		if !p.seen {
			return false
		}
	}
	return len(f.parts) > 0
}

// nextMarker skips to the next marker and past it.
func (f *jpegFile) nextMarker() (byte, error) {
	for f.pos+1 < len(f.data) {
		if f.data[f.pos] == 0xff && f.data[f.pos+1] != 0 && f.data[f.pos+1] != 0xff {
			f.pos += 2
			return f.data[f.pos-1], nil
		}
		f.pos++
	}
	return 0, errCut
}

// body is the content of the segment at the read position.
func (f *jpegFile) body() ([]byte, error) {
	if f.pos+2 > len(f.data) {
		return nil, errCut
	}
	size := int(binary.BigEndian.Uint16(f.data[f.pos:]))
	if size < 2 || f.pos+size > len(f.data) {
		return nil, errCut
	}
	body := f.data[f.pos+2 : f.pos+size]
	f.pos += size
	return body, nil
}

func (f *jpegFile) segment(marker byte) error {
	if marker >= markRestart && marker <= markStart || marker == 1 {
		return nil // no content
	}
	body, err := f.body()
	if err != nil {
		return err
	}
	switch marker {
	case markBaseline, markExtended, markProgressive:
		f.progressive = marker == markProgressive
		return f.frame(body)
	case markHuffman:
		return f.huffmanTables(body)
	case markQuant:
		return f.quantTables(body)
	case markScan:
		if len(f.parts) == 0 {
			return errors.New("a scan before the frame header")
		}
		return f.scan(body)
	case markInterval:
		if len(body) < 2 {
			return errCut
		}
		f.interval = int(binary.BigEndian.Uint16(body))
	case markJFIF:
		f.jfif = f.jfif || bytes.HasPrefix(body, []byte("JFIF\x00"))
	case markAdobe:
		if len(body) >= 12 && bytes.HasPrefix(body, []byte("Adobe")) {
			f.transform = int(body[11])
		}
	default:
		if marker >= 0xc3 && marker <= 0xcf && marker != 0xc8 {
			return fmt.Errorf("coding process %#x (lossless, hierarchical or arithmetic) is not read", marker)
		}
	}
	return nil
}

// frame reads the picture's size and components.
func (f *jpegFile) frame(body []byte) error {
	if len(f.parts) > 0 {
		return errors.New("two frame headers")
	}
	if len(body) < 6 || len(body) < 6+3*int(body[5]) {
		return errCut
	}
	if body[0] != 8 {
		return fmt.Errorf("%d bits per sample are not read, only 8", body[0])
	}
	f.height, f.width = int(binary.BigEndian.Uint16(body[1:])), int(binary.BigEndian.Uint16(body[3:]))
	if err := checkSize(f.width, f.height); err != nil {
		return err
	}
	if n := body[5]; n != 1 && n != 3 && n != 4 {
		return fmt.Errorf("%d colour components are not read, only 1, 3 or 4", n)
	}
	for i := range int(body[5]) {
		b := body[6+3*i:]
		p := &jpegPart{id: b[0], across: int(b[1] >> 4), down: int(b[1] & 15), table: b[2]}
		if p.across < 1 || p.across > 4 || p.down < 1 || p.down > 4 || p.table > 3 {
			return fmt.Errorf("component %d has impossible sampling factors %d×%d or table %d", i, p.across, p.down, p.table)
		}
		f.across, f.down = max(f.across, p.across), max(f.down, p.down)
		f.parts = append(f.parts, p)
	}
	return nil
}

// allocate makes room for the samples when the first scan begins. Each block's first coefficient takes a bit at least, so
// that a short file cannot ask for much memory.
func (f *jpegFile) allocate() error {
	if len(f.parts) > 0 && f.parts[0].samples.pix != nil {
		return nil
	}
	if least := f.mcusAcross() * f.mcusDown() / 8; least > len(f.data) {
		return fmt.Errorf("%d bytes cannot hold %d×%d pixels", len(f.data), f.width, f.height)
	}
	for i, p := range f.parts {
		if f.across%p.across != 0 || f.down%p.down != 0 {
			return fmt.Errorf("component %d: fractional sampling %d/%d × %d/%d is not read", i, p.across, f.across, p.down, f.down)
		}
		width, height := (f.width*p.across+f.across-1)/f.across, (f.height*p.down+f.down-1)/f.down
		p.wide, p.high = (width+7)/8, (height+7)/8
		p.stride, p.rows = f.mcusAcross()*p.across, f.mcusDown()*p.down
		p.samples = plane{make([]byte, 64*p.stride*p.rows), 8 * p.stride, width, height}
		if f.progressive {
			p.coefficients = make([]int16, 64*p.stride*p.rows)
		}
	}
	return nil
}

func (f *jpegFile) mcusAcross() int { return (f.width + 8*f.across - 1) / (8 * f.across) }
func (f *jpegFile) mcusDown() int   { return (f.height + 8*f.down - 1) / (8 * f.down) }

// zigzag is the place in natural order of each coefficient in the order of the file.
var zigzag = [64]byte{
	0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
}

func (f *jpegFile) quantTables(body []byte) error {
	for len(body) > 0 {
		wide, id := body[0]>>4, body[0]&15
		size := 64
		if wide == 1 {
			size = 128
		}
		if wide > 1 || id > 3 || len(body) < 1+size {
			return errors.New("a quantisation table is damaged")
		}
		t := &[64]int32{}
		for k := range 64 {
			if wide == 1 {
				t[zigzag[k]] = int32(binary.BigEndian.Uint16(body[1+2*k:]))
			} else {
				t[zigzag[k]] = int32(body[1+k])
			}
		}
		f.quant[id] = t
		body = body[1+size:]
	}
	return nil
}

// huffman decodes one set of codes: a table for codes of up to 8 bits, limits per length for longer ones.
type huffman struct {
	short  [256]uint16 // value<<8 | length, 0 for longer codes
	limit  [17]int32   // largest code of each length plus one, shifted to 16 bits; 0 if there is none
	offset [17]int32   // index of a code's value = code + offset[length]
	values []byte
}

func (f *jpegFile) huffmanTables(body []byte) error {
	for len(body) > 0 {
		if len(body) < 17 {
			return errCut
		}
		class, id := body[0]>>4, body[0]&15
		total := 0
		for _, n := range body[1:17] {
			total += int(n)
		}
		if class > 1 || id > 3 || total > 256 || len(body) < 17+total {
			return errors.New("a Huffman table is damaged")
		}
		h, err := newHuffman(body[1:17], body[17:17+total])
		if err != nil {
			return err
		}
		if class == 0 {
			f.dc[id] = h
		} else {
			f.ac[id] = h
		}
		body = body[17+total:]
	}
	return nil
}

func newHuffman(counts, values []byte) (*huffman, error) {
	h := &huffman{values: append([]byte(nil), values...)}
	code, index := int32(0), int32(0)
	for length := 1; length <= 16; length++ {
		h.offset[length] = index - code
		for range counts[length-1] {
			if code >= 1<<length {
				return nil, errors.New("a Huffman table has too many codes")
			}
			if length <= 8 {
				first := code << (8 - length)
				for i := range int32(1) << (8 - length) {
					h.short[first+i] = uint16(values[index])<<8 | uint16(length)
				}
			}
			code++
			index++
		}
		if counts[length-1] > 0 {
			h.limit[length] = code << (16 - length)
		}
		code <<= 1
	}
	return h, nil
}
