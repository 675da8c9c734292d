package picture

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"testing"
)

// TestTagsAreFound behind other chunks and segments; damaged lists of them are no reason to fail.
func TestTagsAreFound(t *testing.T) {
	tags := tiff(binary.LittleEndian, "II*\x00", 3, 6)
	xmp := []byte(`<x tiff:Orientation="3"/>`)
	segment := func(marker byte, body string) string {
		return string(binary.BigEndian.AppendUint16([]byte{0xff, marker}, uint16(len(body)+2))) + body
	}
	for name, tc := range map[string]struct {
		file string
		want int
	}{
		"exif":           {segment(0xe0, "JFIF\x00") + segment(0xe1, "http://ns") + "\xff" + segment(0xe1, exifMark+string(tags)), 6},
		"twice marked":   {segment(0xe1, exifMark+exifMark+string(tags)), 6},
		"xmp":            {segment(0xe1, xmpMark+string(xmp)), 3},
		"exif first":     {segment(0xe1, xmpMark+string(xmp)) + segment(0xe1, exifMark+string(tags)), 6},
		"too late":       {segment(markScan, "") + segment(0xe1, exifMark+string(tags)), 1},
		"damaged":        {"\xff\xe1\xff\xffE", 1},
		"another marker": {segment(0xe2, exifMark+string(tags)), 1},
	} {
		if got := orientationOf(jpegTags([]byte("\xff\xd8" + tc.file))); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

// TestXMPForms are those that Pillow knows.
func TestXMPForms(t *testing.T) {
	for text, want := range map[string]int{
		`tiff:Orientation="6"`: 6, `<tiff:Orientation>8</tiff:Orientation>`: 8, `tiff:Orientation='6'`: 1, `tiff:Orientation = "6"`: 1,
		`tiff:Orientation="0"`: 1, `tiff:Orientation="9"`: 1, `tiff:Orientation="x" tiff:Orientation="5"`: 5, `exif:Orientation="6"`: 1,
		"": 1,
	} {
		if got := orientationOf(nil, []byte(text)); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}

// TestPNGTexts: the three kinds of text chunks, packed and not; what is damaged or too long is not there.
func TestPNGTexts(t *testing.T) {
	pack := func(text string) string {
		var b bytes.Buffer
		z := zlib.NewWriter(&b)
		_, _ = z.Write([]byte(text))
		_ = z.Close()
		return b.String()
	}
	for _, tc := range []struct{ kind, body, want string }{
		{"tEXt", "k\x00text", "k=text"}, {"zTXt", "k\x00\x00" + pack("text"), "k=text"}, {"iTXt", "k\x00\x00\x00en\x00key\x00text",
			"k=text"},
		{"iTXt", "k\x00\x01\x00\x00\x00" + pack("text"), "k=text"}, {"tEXt", "no end", "="}, {"zTXt", "k\x00", "="}, {"zTXt",
			"k\x00\x00damaged", "="},
		{"iTXt", "k\x00\x00", "="}, {"iTXt", "k\x00\x00\x00en", "="}, {"zTXt", "k\x00\x00" + pack(string(make([]byte, maxText+1))), "="},
		{"zTXt", "k\x00\x00" + pack("text")[:8], "="},
	} {
		if key, text := pngText(tc.kind, []byte(tc.body)); key+"="+string(text) != tc.want {
			t.Errorf("%s %q: %s=%s", tc.kind, tc.body, key, text)
		}
	}
	for text, want := range map[string]string{
		"\nexif\n       4\n4142\n4344\n": "ABCD", "\nexif\n       4\n4142 4344": "ABCD", "exif 4142": "", "\nexif\n 4\n41x": "", "": "",
	} {
		if got := rawProfile([]byte(text)); string(got) != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// TestTIFFNumbers: values that do not fit into an entry lie behind it, and may not lie outside.
func TestTIFFNumbers(t *testing.T) {
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		mark := map[binary.AppendByteOrder]string{binary.LittleEndian: "II*\x00", binary.BigEndian: "MM\x00*"}[order]
		entry := func(kind uint16, count, value uint32, tail ...byte) []byte {
			b := order.AppendUint16(order.AppendUint32([]byte(mark), 8), 1)
			b = order.AppendUint16(order.AppendUint16(b, 0x0112), kind)
			return append(order.AppendUint32(order.AppendUint32(b, count), value), tail...)
		}
		two := order.AppendUint32(order.AppendUint32(nil, 6), 2)
		for i, tc := range []struct {
			tiff []byte
			want int
		}{
			{entry(4, 1, 6), 6}, {entry(9, 1, 6), 6}, {entry(13, 1, 6), 6}, {entry(4, 1, 1<<16|6), 1}, {entry(4, 2, 22, two...), 6},
			{entry(4, 2, 22, two[:6]...), 1},
			{entry(5, 1, 22, two...), 3}, {entry(4, 1<<30, 22, two...), 1}, {entry(4, 0, 6), 1}, {entry(99, 1, 6), 1}, {entry(5, 1,
				0xffffffff), 1},
			{append(entry(4, 1, 6), entry(4, 1, 8)[10:]...), 6},
		} {
			if got := orientationOf(tc.tiff, nil); got != tc.want {
				t.Errorf("%v case %d: %d, want %d", fmt.Sprint(order), i, got, tc.want)
			}
		}
	}
}

func FuzzOrientation(f *testing.F) {
	f.Add(tiff(binary.LittleEndian, "II*\x00", 4, 6), []byte(`tiff:Orientation="6"`))
	f.Add(tiff(binary.BigEndian, "MM\x00*", 3, 3), []byte("<tiff:Orientation>6<"))
	f.Add([]byte("MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x05\x00\x00\x00\x01\x00\x00\x00\x1a\x00\x00\x00\x00\x00\x00\x00\x06\x00\x00\x00\x01"), []byte(nil))
	f.Fuzz(func(t *testing.T, exif, xmp []byte) {
		if o := orientationOf(exif, xmp); o < 1 || o > 8 {
			t.Fatal(o)
		}
		orientationOf(jpegTags(append([]byte("\xff\xd8"), exif...)))
		rawProfile(xmp)
		for _, kind := range []string{"tEXt", "zTXt", "iTXt"} {
			pngText(kind, xmp)
		}
	})
}
