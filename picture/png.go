package picture

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/png"
	"io"
)

const pngMark = "\x89PNG\r\n\x1a\n"

// pngFile is what of a PNG makes its picture. libpng reads much that the standard library refuses: data behind the last row,
// no end, text with a wrong checksum, transparency where there can be none. So the file is taken apart here, and what remains
// is decoded.
type pngFile struct {
	head     [13]byte // IHDR
	palette  []byte
	data     [][]byte // IDAT
	exif     []byte   // TIFF structure, nil without
	xmp      []byte
	clear    bool // some colour is transparent
	animated bool
}

// Fields of the header.
func (f *pngFile) width() int   { return int(binary.BigEndian.Uint32(f.head[:])) }
func (f *pngFile) height() int  { return int(binary.BigEndian.Uint32(f.head[4:])) }
func (f *pngFile) depth() int   { return int(f.head[8]) }
func (f *pngFile) colour() byte { return f.head[9] }

// channels of a pixel by colour type: grey, -, RGB, palette, grey and alpha, -, RGB and alpha.
var pngChannels = [7]int{1, 0, 3, 1, 2, 0, 4}

const pngPalette = 3

// parsePNG walks the chunks as far as they are whole. What comes before the header or behind the pixels is not needed for
// them, so only texts with an orientation are looked for there.
func parsePNG(data []byte) (*pngFile, error) {
	f := &pngFile{}
	seen := map[string]bool{}
	ended := false // the run of IDAT chunks, which nothing may interrupt
	for rest := data[len(pngMark):]; len(rest) >= 8 && !seen["IEND"]; {
		size, kind := int64(binary.BigEndian.Uint32(rest)), string(rest[4:8])
		cut := size > int64(len(rest)-8)
		body := rest[8 : 8+min(size, int64(len(rest)-8))]
		rest = rest[8+len(body):]
		sum := rest[:min(4, len(rest))]
		rest = rest[len(sum):]
		if kind == "IDAT" {
			if !ended && seen["IHDR"] {
				f.data = append(f.data, body)
			}
			continue
		}
		ended = len(f.data) > 0
		if cut {
			break
		}
		sound := len(sum) == 4 && binary.BigEndian.Uint32(sum) == crc32.Update(crc32.ChecksumIEEE([]byte(kind)), crc32.IEEETable, body)
		if !sound && (kind == "IHDR" || kind == "PLTE") {
			return nil, fmt.Errorf("the checksum of %s is wrong", kind)
		}
		if sound {
			if err := f.chunk(kind, body, seen); err != nil {
				return nil, err
			}
		}
		seen[kind] = true
	}
	if !seen["IHDR"] {
		return nil, errors.New("no header")
	}
	return f, nil
}

// chunk takes what is needed out of a chunk other than IDAT.
func (f *pngFile) chunk(kind string, body []byte, seen map[string]bool) error {
	switch kind {
	case "IHDR":
		if seen["IHDR"] {
			return nil
		}
		if len(body) != len(f.head) || body[9] > 6 || pngChannels[body[9]] == 0 {
			return errors.New("the header is damaged")
		}
		copy(f.head[:], body)
		f.clear = body[9] >= 4
		return checkSize(f.width(), f.height())
	case "PLTE":
		f.palette = body
	case "tRNS":
		f.clear = true
	case "acTL":
		f.animated = true
	case "eXIf":
		f.exif = body
	case "tEXt", "zTXt", "iTXt":
		f.text(kind, body)
	}
	return nil
}

// text looks for camera tags in text chunks: XMP, and the profiles that ImageMagick writes as hexadecimal numbers.
func (f *pngFile) text(kind string, body []byte) {
	key, text := pngText(kind, body)
	switch key {
	case "XML:com.adobe.xmp":
		f.xmp = text
	case "Raw profile type exif":
		if f.exif == nil {
			f.exif = rawProfile(text)
		}
	case "Raw profile type APP1":
		profile := rawProfile(text)
		if xmp, ok := bytes.CutPrefix(profile, []byte(xmpMark)); ok && f.xmp == nil {
			f.xmp = xmp
		} else if bytes.HasPrefix(profile, []byte(exifMark)) && f.exif == nil {
			f.exif = profile
		}
	}
}

// pngInfo reads the head; a palette of fewer colours than its depth allows changes nothing.
func pngInfo(data []byte) (Info, error) {
	f, err := parsePNG(data)
	if err != nil {
		return Info{}, err
	}
	return Info{Width: f.width(), Height: f.height(), Orientation: orientationOf(f.exif, f.xmp), Bits: f.depth(),
		Grey: f.colour() == 0 || f.colour() == 4, Alpha: f.clear, Animated: f.animated}, nil
}

// deflateLimit is more than deflate can ever compress, as a factor.
const deflateLimit = 1100

// decodePNG decodes the pixels. Of 16 bits per sample the high byte is taken.
func decodePNG(data []byte) (*Picture, error) {
	f, err := parsePNG(data)
	if err != nil {
		return nil, err
	}
	size := f.size()
	packed := 0
	for _, d := range f.data {
		packed += len(d)
	}
	if size/deflateLimit > int64(packed) {
		return nil, fmt.Errorf("%d bytes cannot hold %d×%d pixels", packed, f.width(), f.height())
	}
	clean, err := f.rebuilt(size)
	if err != nil {
		return nil, err
	}
	m, err := png.Decode(bytes.NewReader(clean))
	if err != nil {
		return nil, err
	}
	return fromImage(m)
}

// size is the number of bytes of all rows, each with its filter: of the picture, or of Adam7's seven small ones.
func (f *pngFile) size() int64 {
	bits := int64(pngChannels[f.colour()] * f.depth())
	rows := func(width, height int64) int64 {
		if width == 0 || height == 0 {
			return 0
		}
		return height * (1 + (width*bits+7)/8)
	}
	width, height := int64(f.width()), int64(f.height())
	if f.head[12] == 0 {
		return rows(width, height)
	}
	total := int64(0)
	for _, p := range [7][4]int64{{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4}, {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}} {
		total += rows((width-p[0]+p[2]-1)/p[2], (height-p[1]+p[3]-1)/p[3])
	}
	return total
}

// rebuilt writes the picture as a PNG of nothing else: header, palette, the rows' bytes, end.
func (f *pngFile) rebuilt(size int64) ([]byte, error) {
	rows, err := f.rows(size)
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	packed.Grow(len(rows) + len(rows)/1000 + 64)
	z, err := zlib.NewWriterLevel(&packed, zlib.NoCompression)
	if err == nil {
		_, err = z.Write(rows)
	}
	if err == nil {
		err = z.Close()
	}
	out := pngChunk([]byte(pngMark), "IHDR", f.head[:])
	if f.colour() == pngPalette {
		n := min(len(f.palette)/3, 1<<min(f.depth(), 8))
		if n == 0 {
			return nil, errors.New("the palette is missing")
		}
		out = pngChunk(out, "PLTE", f.palette[:3*n])
	}
	out = pngChunk(out, "IDAT", packed.Bytes())
	return pngChunk(out, "IEND", nil), err
}

// rows inflates the pixels. Their checksum may be missing, but not wrong; what follows the last row is left.
func (f *pngFile) rows(size int64) ([]byte, error) {
	readers := make([]io.Reader, len(f.data))
	for i, d := range f.data {
		readers[i] = bytes.NewReader(d)
	}
	z, err := zlib.NewReader(io.MultiReader(readers...))
	if err != nil {
		return nil, fmt.Errorf("pixels: %w", cutOff(err))
	}
	rows, err := io.ReadAll(io.LimitReader(z, size))
	if err == nil && int64(len(rows)) == size {
		_, err = z.Read(make([]byte, 1))
	}
	switch {
	case int64(len(rows)) == size && !errors.Is(err, zlib.ErrChecksum):
		return rows, nil
	case err == nil:
		err = fmt.Errorf("%d bytes, %d are needed", len(rows), size)
	}
	return nil, fmt.Errorf("pixels: %w", cutOff(err))
}

func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func pngChunk(out []byte, kind string, body []byte) []byte {
	out = binary.BigEndian.AppendUint32(out, uint32(len(body)))
	from := len(out)
	out = append(append(out, kind...), body...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[from:]))
}

// fromImage takes the colours of an image of the standard library without looking at its alpha.
func fromImage(m image.Image) (*Picture, error) {
	b := m.Bounds()
	p := New(b.Dx(), b.Dy())
	at, err := colourOf(m)
	if err != nil {
		return nil, err
	}
	for y := range p.Height {
		for x := range p.Width {
			c, i := at(b.Min.X+x, b.Min.Y+y), y*p.Width+x
			p.Pix[3*i], p.Pix[3*i+1], p.Pix[3*i+2] = c.R, c.G, c.B
		}
	}
	return p, nil
}
