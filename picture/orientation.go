package picture

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math"
	"regexp"
	"strings"
)

// What the segments of a JPEG with camera tags begin with; other formats put the first in front too, sometimes.
const (
	exifMark = "Exif\x00\x00"
	xmpMark  = "http://ns.adobe.com/xap/1.0/\x00"
)

// uprightTag is the orientation of a picture that is stored as it is shown.
const uprightTag = 1

// orientationOf is what the camera's tags say, else what XMP says, in the order and forms of Pillow's exif_transpose. A tag
// that is there counts even if its value has no meaning.
func orientationOf(exif, xmp []byte) int {
	v, ok := tiffOrientation(exif)
	if !ok {
		v, ok = xmpOrientation(xmp)
	}
	if !ok || v < 1 || v > 8 {
		return uprightTag
	}
	return v
}

// xmpForm is the attribute and the element that hold the orientation in XMP.
var xmpForm = regexp.MustCompile(`tiff:Orientation(?:="|>)([0-9])`)

func xmpOrientation(xmp []byte) (int, bool) {
	m := xmpForm.FindSubmatch(xmp)
	if m == nil {
		return 0, false
	}
	return int(m[1][0] - '0'), true
}

// tiffOrientation reads the orientation tag from the first directory of a TIFF structure.
func tiffOrientation(tiff []byte) (value int, ok bool) {
	const tag = 0x0112
	for bytes.HasPrefix(tiff, []byte(exifMark)) {
		tiff = tiff[len(exifMark):]
	}
	if len(tiff) < 8 {
		return 0, false
	}
	var order binary.ByteOrder = binary.LittleEndian
	switch string(tiff[:4]) {
	case "II*\x00":
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return 0, false
	}
	at := int64(order.Uint32(tiff[4:]))
	if at+2 > int64(len(tiff)) {
		return 0, false
	}
	entries := tiff[at+2:]
	for range order.Uint16(tiff[at:]) {
		if len(entries) < 12 {
			break
		}
		if order.Uint16(entries) == tag {
			if v, readable := tiffNumber(tiff, entries[:12], order); readable {
				value, ok = v, true // the last one counts
			}
		}
		entries = entries[12:]
	}
	return value, ok
}

// tiffSizes are the bytes of a number by its type in a directory (TIFF 6.0 p. 15, and 13 for IFD); other types are no numbers.
var tiffSizes = map[uint16]int64{3: 2, 4: 4, 5: 8, 6: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}

// tiffNumber reads the first number of an entry: in the entry itself if all of them fit there, else where it points to.
func tiffNumber(tiff, entry []byte, order binary.ByteOrder) (int, bool) {
	kind, count := order.Uint16(entry[2:]), int64(order.Uint32(entry[4:]))
	size := tiffSizes[kind]
	if size == 0 || count == 0 {
		return 0, false
	}
	b := entry[8:]
	if size*count > 4 {
		at := int64(order.Uint32(b))
		if at+size*count > int64(len(tiff)) {
			return 0, false
		}
		b = tiff[at:]
	}
	v := 0.0
	switch kind {
	case 3, 8:
		v = float64(order.Uint16(b))
	case 4, 9, 13:
		v = float64(order.Uint32(b))
	case 5, 10:
		v = float64(order.Uint32(b)) / float64(order.Uint32(b[4:]))
	case 6:
		v = float64(b[0])
	case 11:
		v = float64(math.Float32frombits(order.Uint32(b)))
	case 12:
		v = math.Float64frombits(order.Uint64(b))
	}
	if v != math.Trunc(v) || v < 0 || v > 255 {
		return 0, true // a value without meaning, but a tag
	}
	return int(v), true
}

// maxText bounds the texts of a PNG that are inflated, as Pillow does.
const maxText = 1 << 20

// pngText takes a text chunk apart. Texts that cannot be read are as if they were not there.
func pngText(kind string, body []byte) (key string, text []byte) {
	name, rest, ok := bytes.Cut(body, []byte{0})
	packed := kind == "zTXt"
	if kind == "iTXt" && ok { // compressed, method, language, 0, translated name, 0
		if len(rest) < 2 {
			return "", nil
		}
		packed = rest[0] == 1
		rest = rest[2:]
		for range 2 {
			if _, rest, ok = bytes.Cut(rest, []byte{0}); !ok {
				return "", nil
			}
		}
	} else if packed && ok {
		if len(rest) < 1 {
			return "", nil
		}
		rest = rest[1:]
	}
	if !ok {
		return "", nil
	}
	if packed {
		z, err := zlib.NewReader(bytes.NewReader(rest))
		if err != nil {
			return "", nil
		}
		if rest, err = io.ReadAll(io.LimitReader(z, maxText+1)); err != nil || len(rest) > maxText {
			return "", nil
		}
	}
	return string(name), rest
}

// rawProfile decodes ImageMagick's form: a line end, the name, the length, then hexadecimal digits in lines.
func rawProfile(text []byte) []byte {
	lines := strings.SplitN(string(text), "\n", 4)
	if len(lines) < 4 {
		return nil
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(lines[3]), ""))
	if err != nil {
		return nil
	}
	return b
}

// upright undoes an EXIF orientation.
func (p *Picture) upright(orientation int) *Picture {
	if orientation <= 1 {
		return p
	}
	out := New(p.Width, p.Height)
	if orientation >= 5 {
		out = New(p.Height, p.Width)
	}
	for y := range out.Height {
		for x := range out.Width {
			sx, sy := stored(orientation, x, y, p.Width, p.Height)
			copy(out.Pix[3*(y*out.Width+x):][:3], p.Pix[3*(sy*p.Width+sx):][:3])
		}
	}
	return out
}

// stored is the place in a width×height picture, as stored, of what is at (x, y) in the upright one.
func stored(orientation, x, y, width, height int) (int, int) {
	right, bottom := width-1, height-1
	switch orientation {
	case 2: // mirrored
		return right - x, y
	case 3: // turned by 180°
		return right - x, bottom - y
	case 4: // upside down, mirrored
		return x, bottom - y
	case 5: // transposed
		return y, x
	case 6: // stored a quarter turn to the left
		return y, bottom - x
	case 7: // transposed along the other diagonal
		return right - y, bottom - x
	}
	return right - y, x // 8: stored a quarter turn to the right
}

// jpegTags finds the APP1 segments with the camera's tags and with XMP.
func jpegTags(data []byte) (exif, xmp []byte) {
	for data = data[2:]; len(data) >= 4 && data[0] == 0xff; {
		marker, size := data[1], int(binary.BigEndian.Uint16(data[2:]))
		if marker == 0xff { // fill byte
			data = data[1:]
			continue
		}
		if marker == markScan || marker == markEnd || size < 2 || size > len(data)-2 {
			break
		}
		if body := data[4 : 2+size]; marker == 0xe1 && bytes.HasPrefix(body, []byte(exifMark)) && exif == nil {
			exif = body
		} else if rest, ok := bytes.CutPrefix(body, []byte(xmpMark)); marker == 0xe1 && ok {
			xmp = rest
		}
		data = data[2+size:]
	}
	return exif, xmp
}
