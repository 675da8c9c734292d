package picture

import (
	"bytes"
	"image"
	"image/color"
	"image/gif"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"
)

// asStored takes the colours of an image of the standard library, alpha aside.
func asStored(t fatal, m image.Image) *Picture {
	p, err := fromImage(m)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

type fatal interface{ Fatal(args ...any) }

func addFiles(f *testing.F, pattern string) {
	files, err := filepath.Glob(filepath.Join("testdata", "pillow", pattern))
	if err != nil || len(files) == 0 {
		f.Fatal(pattern)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if len(data) < 2000 {
			f.Add(data)
		}
	}
}

// FuzzPNG: what the standard library reads is read to the same pixels; what it refuses is read or refused, in bounds.
func FuzzPNG(f *testing.F) {
	addFiles(f, "*.png")
	f.Fuzz(func(t *testing.T, data []byte) {
		if !bytes.HasPrefix(data, []byte(pngMark)) {
			data = append([]byte(pngMark), data...)
		}
		c, err := png.DecodeConfig(bytes.NewReader(data))
		if err == nil && c.Width*c.Height > 1<<20 {
			return
		}
		info, infoErr := pngInfo(data)
		if infoErr == nil && info.Width*info.Height > 1<<20 {
			return
		}
		got, gotErr := decodePNG(data)
		m, err := png.Decode(bytes.NewReader(data))
		if err != nil {
			return
		}
		if gotErr != nil || infoErr != nil {
			t.Fatalf("refused: %v %v", gotErr, infoErr)
		}
		if want := asStored(t, m); !bytes.Equal(got.Pix, want.Pix) && !hasClearPalette(data) {
			t.Fatal("other pixels")
		}
	})
}

// hasClearPalette: the standard library multiplies such a palette's alpha in.
func hasClearPalette(data []byte) bool {
	f, err := parsePNG(data)
	return err == nil && f.clear
}

// FuzzGIF: where the standard library reads a first frame that fills its canvas, the pixels are the same.
func FuzzGIF(f *testing.F) {
	addFiles(f, "*.gif")
	f.Fuzz(func(t *testing.T, data []byte) {
		if !isGIF(data) {
			data = append([]byte("GIF89a"), data...)
		}
		info, err := gifInfo(data)
		if err == nil && info.Width*info.Height > 1<<20 {
			return
		}
		got, gotErr := decodeGIF(data)
		if gotErr == nil && (err != nil || got.Width != info.Width || got.Height != info.Height) {
			t.Fatalf("%+v %v", info, err)
		}
		if len(data) < 10 || le16(data[6:])*le16(data[8:]) > 1<<20 {
			return
		}
		m, err := gif.Decode(bytes.NewReader(data))
		if err != nil || m.Bounds() != image.Rect(0, 0, le16(data[6:]), le16(data[8:])) || info.Alpha {
			return
		}
		if gotErr != nil || !bytes.Equal(got.Pix, asStored(t, m).Pix) {
			t.Fatalf("%v", gotErr)
		}
	})
}

// FuzzWebP takes files apart; what comes out has the announced size.
func FuzzWebP(f *testing.F) {
	addFiles(f, "*.webp")
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 12 {
			return
		}
		data = append([]byte("RIFF\x00\x00\x00\x00WEBP"), data[12:]...)
		info, err := Inspect(data)
		if err != nil || info.Width*info.Height > 1<<20 {
			return
		}
		if p, err := Decode(data); err == nil && p.Width*p.Height != info.Width*info.Height {
			t.Fatalf("%d×%d, announced %d×%d", p.Width, p.Height, info.Width, info.Height)
		}
	})
}

// TestWrittenGIFs: frames of any place, size and number of colours, written by the standard library, are read as painted.
func TestWrittenGIFs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := make(color.Palette, rapid.IntRange(2, 256).Draw(t, "colours"))
		for i := range table {
			table[i] = color.RGBA{rapid.Byte().Draw(t, "r"), byte(i), byte(7 * i), 255}
		}
		at := image.Rect(0, 0, rapid.IntRange(1, 40).Draw(t, "width"), rapid.IntRange(1, 40).Draw(t,
			"height")).Add(image.Pt(rapid.IntRange(0, 5).Draw(t, "left"), rapid.IntRange(0, 5).Draw(t, "top")))
		frame := image.NewPaletted(at, table)
		for i := range frame.Pix {
			frame.Pix[i] = byte(rapid.IntRange(0, len(table)-1).Draw(t, "index"))
		}
		var b bytes.Buffer
		err := gif.EncodeAll(&b, &gif.GIF{Image: []*image.Paletted{frame}, Delay: []int{0}, Config: image.Config{Width: at.Max.X + 2,
			Height: at.Max.Y + 3}})
		if err != nil {
			t.Fatal(err)
		}
		p, err := Decode(b.Bytes())
		if err != nil || p.Width != at.Max.X+2 || p.Height != at.Max.Y+3 {
			t.Fatalf("%v", err)
		}
		for i := range p.Width * p.Height {
			x, y := i%p.Width, i/p.Width
			want := color.RGBAModel.Convert(table[0]).(color.RGBA)
			if image.Pt(x, y).In(at) {
				want = color.RGBAModel.Convert(frame.At(x, y)).(color.RGBA)
			}
			if p.At(x, y) != want {
				t.Fatalf("(%d, %d) is %v, want %v", x, y, p.At(x, y), want)
			}
		}
	})
}

// TestDamagedPNGs: pixels that are missing or do not fit their checksum are refused, whatever else is lenient.
func TestDamagedPNGs(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join("testdata", "pillow", "rgb_16.png"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(whole); err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(whole, []byte("IDAT"))
	for name, file := range map[string][]byte{
		"cut": whole[:at+40], "head": append(bytes.Clone(whole[:20]), append([]byte{9}, whole[21:]...)...),
		"checksum": func() []byte {
			b := bytes.Clone(whole)
			b[len(b)-17] ^= 1 // the last byte of the stream's checksum: IEND takes 12, IDAT's sum 4
			return b
		}(),
		"palette missing": func() []byte {
			b := bytes.Clone(whole)
			b[24], b[25] = 8, 3
			return append(pngChunk(b[:8:8], "IHDR", b[16:29]), b[33:]...)
		}(),
	} {
		if p, err := Decode(file); err == nil {
			t.Errorf("%s is read as %d×%d", name, p.Width, p.Height)
		}
	}
}
