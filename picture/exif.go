package picture

import (
	"bytes"
	"encoding/binary"
)

// orientation reads the orientation tag from a TIFF structure; 1, upright, if there is none or its value has no meaning.
func orientation(tiff []byte) int {
	const upright, tag, short = 1, 0x0112, 3
	tiff = bytes.TrimPrefix(tiff, []byte("Exif\x00\x00"))
	if len(tiff) < 8 {
		return upright
	}
	var order binary.ByteOrder = binary.LittleEndian
	switch string(tiff[:4]) {
	case "II*\x00":
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return upright
	}
	at := int64(order.Uint32(tiff[4:]))
	if at+2 > int64(len(tiff)) {
		return upright
	}
	entries := tiff[at+2:]
	for range order.Uint16(tiff[at:]) {
		if len(entries) < 12 {
			break
		}
		if order.Uint16(entries) == tag && order.Uint16(entries[2:]) == short {
			if v := int(order.Uint16(entries[8:])); v >= 1 && v <= 8 {
				return v
			}
			return upright
		}
		entries = entries[12:]
	}
	return upright
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

// pngEXIF finds the eXIf chunk.
func pngEXIF(data []byte) []byte {
	for data = data[8:]; len(data) >= 12; {
		size := int64(binary.BigEndian.Uint32(data))
		if size > int64(len(data)-12) {
			return nil
		}
		if string(data[4:8]) == "eXIf" {
			return data[8 : 8+size]
		}
		data = data[12+size:]
	}
	return nil
}

// jpegEXIF finds the APP1 segment with the camera's tags.
func jpegEXIF(data []byte) []byte {
	for data = data[2:]; len(data) >= 4 && data[0] == 0xff; {
		marker, size := data[1], int(binary.BigEndian.Uint16(data[2:]))
		if marker == 0xff { // fill byte
			data = data[1:]
			continue
		}
		if marker == 0xda || marker == 0xd9 || size < 2 || size > len(data)-2 {
			return nil
		}
		if body := data[4 : 2+size]; marker == 0xe1 && bytes.HasPrefix(body, []byte("Exif\x00\x00")) {
			return body
		}
		data = data[2+size:]
	}
	return nil
}

// webpEXIF finds the EXIF chunk of the extended file format.
func webpEXIF(data []byte) []byte {
	for data = data[12:]; len(data) >= 8; {
		size := int64(binary.LittleEndian.Uint32(data[4:]))
		if size > int64(len(data)-8) {
			return nil
		}
		if string(data[:4]) == "EXIF" {
			return data[8 : 8+size]
		}
		data = data[min(8+size+size%2, int64(len(data))):]
	}
	return nil
}
