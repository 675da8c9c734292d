package picture

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// reference reads the RGB picture that Pillow made of a file, without this package's code.
func reference(t *testing.T, path string) *Picture {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	p := New(m.Bounds().Dx(), m.Bounds().Dy())
	for i := range p.Width * p.Height {
		c := m.(*image.RGBA).RGBAAt(i%p.Width, i/p.Width)
		p.Pix[3*i], p.Pix[3*i+1], p.Pix[3*i+2] = c.R, c.G, c.B
	}
	return p
}

// Every kind of file gives the very pixels that Pillow gives.
func TestDecodeAsPillow(t *testing.T) {
	expected, err := filepath.Glob(filepath.Join("testdata", "pillow", "*.expected.png"))
	if err != nil || len(expected) < 130 {
		t.Fatalf("%d pictures, %v", len(expected), err)
	}
	for _, path := range expected {
		want := reference(t, path)
		path = strings.TrimSuffix(path, ".expected.png")
		got, err := Open(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if got.Width != want.Width || got.Height != want.Height {
			t.Errorf("%s: %d×%d, want %d×%d", path, got.Width, got.Height, want.Width, want.Height)
			continue
		}
		worst, differ := 0, 0
		for i, v := range want.Pix {
			if d := max(int(v)-int(got.Pix[i]), int(got.Pix[i])-int(v)); d > 0 {
				worst, differ = max(worst, d), differ+1
			}
		}
		if differ > 0 {
			t.Errorf("%s: off by up to %d levels, %d of %d values", path, worst, differ, len(want.Pix))
		}
	}
}

func TestInspect(t *testing.T) {
	for name, want := range map[string]Info{
		"turned_6.jpg":           {Format: "jpeg", Width: 24, Height: 16, Orientation: 6, Bits: 8},
		"turned_5.webp":          {Format: "webp", Width: 9, Height: 6, Orientation: 5, Bits: 8},
		"turned_8.png":           {Format: "png", Width: 5, Height: 3, Orientation: 8, Bits: 8},
		"lossy_33x18.webp":       {Format: "webp", Width: 33, Height: 18, Orientation: 1, Bits: 8},
		"alpha_lossy.webp":       {Format: "webp", Width: 21, Height: 13, Orientation: 1, Bits: 8, Alpha: true},
		"alpha_lossless.webp":    {Format: "webp", Width: 13, Height: 9, Orientation: 1, Bits: 8, Alpha: true},
		"cmyk.jpg":               {Format: "jpeg", Width: 19, Height: 14, Orientation: 1, Bits: 8, Inks: true},
		"grey.jpg":               {Format: "jpeg", Width: 20, Height: 11, Orientation: 1, Bits: 8, Grey: true},
		"grey_16.png":            {Format: "png", Width: 6, Height: 4, Orientation: 1, Bits: 16, Grey: true},
		"animated.png":           {Format: "png", Width: 7, Height: 5, Orientation: 1, Bits: 8, Animated: true},
		"gif_frames.gif":         {Format: "gif", Width: 24, Height: 17, Orientation: 1, Bits: 8, Animated: true},
		"gif_inside_clear.gif":   {Format: "gif", Width: 9, Height: 6, Orientation: 1, Bits: 8, Alpha: true},
		"gif_outside.gif":        {Format: "gif", Width: 6, Height: 4, Orientation: 1, Bits: 8},
		"animated_inside.webp":   {Format: "webp", Width: 25, Height: 21, Orientation: 1, Bits: 8, Animated: true},
		"animated_turned.webp":   {Format: "webp", Width: 16, Height: 12, Orientation: 6, Bits: 8, Animated: true},
		"lenient_clear_rgba.png": {Format: "png", Width: 7, Height: 5, Orientation: 1, Bits: 8, Alpha: true},
		"grey_16_clear.png":      {Format: "png", Width: 5, Height: 4, Orientation: 1, Bits: 16, Grey: true, Alpha: true},
		"rgba_16.png":            {Format: "png", Width: 5, Height: 4, Orientation: 1, Bits: 16, Alpha: true},
		"palette_4.png":          {Format: "png", Width: 9, Height: 4, Orientation: 1, Bits: 4, Alpha: true},
	} {
		data, err := os.ReadFile(filepath.Join("testdata", "pillow", name))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Inspect(data); err != nil || got != want {
			t.Errorf("%s: %+v %v, want %+v", name, got, err, want)
		}
	}
}

// pngHeader is the start of a PNG of the given size, without pixels.
func pngHeader(width, height uint32, depth, colour byte) []byte {
	head := append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte("IHDR"), width), height), depth, colour, 0, 0, 0)
	out := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\r"), head...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(head))
}

func TestDecodeRefuses(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join("testdata", "pillow", "420_33x18.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	lossy, err := os.ReadFile(filepath.Join("testdata", "pillow", "lossy_33x18.webp"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		data []byte
		want string
	}{
		"empty":         {nil, "the file is empty"},
		"text":          {[]byte("<html>not found</html>"), "format is not known; PNG, JPEG, WebP and GIF"},
		"cut jpeg":      {whole[:len(whole)/2], "jpeg: "},
		"jpeg head":     {whole[:20], "jpeg: "},
		"scan first":    {[]byte("\xff\xd8\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x00\x00"), "jpeg: a scan before the frame header"},
		"cut webp":      {lossy[:len(lossy)/2], "webp: "},
		"png head":      {pngHeader(4, 4, 8, 2), "png: "},
		"bomb":          {pngHeader(100_000, 100_000, 8, 2), "more than the limit"},
		"empty claim":   {pngHeader(9_000, 9_000, 8, 2), "bytes cannot hold 9000×9000 pixels"},
		"no area":       {pngHeader(0, 7, 8, 2), "png: "},
		"only the mark": {[]byte("\x89PNG\r\n\x1a\n"), "png: "},
		"gif head":      {[]byte("GIF89a\x01\x00\x01\x00\x00\x00\x00"), "gif: the file ends before its first picture"},
		"tiff":          {[]byte("II*\x00\x08\x00\x00\x00"), "TIFF is not read; write it as PNG, JPEG or WebP"},
		"big tiff":      {[]byte("MM\x00+\x00\x08\x00\x00"), "TIFF is not read"},
		"bmp":           {append([]byte("BM\x36\x1b\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00"), make([]byte, 40)...), "BMP is not read; write it as"},
		"avif":          {[]byte("\x00\x00\x00\x1cftypavif\x00\x00\x00\x00mif1miaf"), "AVIF is not read; write it as"},
		"heic":          {[]byte("\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic"), "HEIC is not read; write it as"},
		"video":         {[]byte("\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"), "a video is not read"},
		"jpeg xl":       {[]byte("\xff\x0a\x00\x00"), "JPEG XL is not read"},
		"jpeg 2000":     {[]byte("\x00\x00\x00\x0cjP  \r\n\x87\n"), "JPEG 2000 is not read"},
		"svg":           {[]byte("  <svg xmlns=\"http://www.w3.org/2000/svg\"/>"), "SVG is not read"},
		"lfs":           {[]byte("version https://git-lfs.github.com/spec/v1\noid"), "a pointer of Git LFS (fetch the data with git lfs pull)"},
	} {
		_, err := Decode(tc.data)
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "decode picture: ") {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.png"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "pipe.png"), "/dev/zero"} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "is not a file") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "gone.png")); err == nil || !strings.Contains(err.Error(), "gone.png") {
		t.Errorf("missing file: %v", err)
	}
}

// tiff builds the smallest EXIF structure with an orientation.
func tiff(order binary.AppendByteOrder, mark string, kind, value uint16) []byte {
	out := order.AppendUint32([]byte(mark), 8)
	out = order.AppendUint16(out, 2)
	for _, tag := range []uint16{0x010f, 0x0112} {
		out = order.AppendUint16(order.AppendUint16(out, tag), kind)
		out = order.AppendUint32(out, 1)
		out = order.AppendUint16(order.AppendUint16(out, value), 0)
	}
	return out
}

func TestOrientation(t *testing.T) {
	little, big := tiff(binary.LittleEndian, "II*\x00", 3, 6), tiff(binary.BigEndian, "MM\x00*", 3, 3)
	for name, tc := range map[string]struct {
		data []byte
		want int
	}{
		"little endian": {little, 6},
		"big endian":    {big, 3},
		"with prefix":   {append([]byte("Exif\x00\x00"), little...), 6},
		"no meaning":    {tiff(binary.LittleEndian, "II*\x00", 3, 9), 1},
		"other type":    {tiff(binary.LittleEndian, "II*\x00", 2, 6), 1},
		"cut off":       {little[:25], 1},
		"no TIFF":       {[]byte("GIF89a..."), 1},
		"nothing":       {nil, 1},
		"far offset":    {[]byte("II*\x00\xff\xff\xff\xff"), 1},
	} {
		if got := orientationOf(tc.data, nil); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

// Turning upright is undone by the inverse orientation, and four quarter turns lead back.
func TestUpright(t *testing.T) {
	p := New(5, 3)
	for i := range p.Pix {
		p.Pix[i] = byte(i * 7)
	}
	inverse := map[int]int{1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
	for o, back := range inverse {
		q := p.upright(o)
		if turned := o >= 5; turned != (q.Width == 3) {
			t.Errorf("orientation %d gives %d×%d", o, q.Width, q.Height)
		}
		if !bytes.Equal(q.upright(back).Pix, p.Pix) {
			t.Errorf("orientation %d is not undone by %d", o, back)
		}
	}
	if q := p.upright(6).upright(6).upright(6).upright(6); !bytes.Equal(q.Pix, p.Pix) {
		t.Error("four quarter turns change the picture")
	}
}

func FuzzDecode(f *testing.F) {
	files, _ := filepath.Glob(filepath.Join("testdata", "pillow", "*"))
	for _, name := range files {
		if data, err := os.ReadFile(name); err == nil && len(data) < 1500 && !strings.HasSuffix(name, ".py") {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := Inspect(data)
		if err == nil && info.Width*info.Height > 1<<22 {
			return // allowed, but too slow to try
		}
		p, err := Decode(data)
		if err != nil {
			return
		}
		if p.Width <= 0 || p.Height <= 0 || len(p.Pix) != 3*p.Width*p.Height {
			t.Fatalf("%d×%d with %d bytes", p.Width, p.Height, len(p.Pix))
		}
		if p.Width*p.Height != info.Width*info.Height {
			t.Fatalf("%d×%d decoded, %d×%d announced", p.Width, p.Height, info.Width, info.Height)
		}
	})
}
