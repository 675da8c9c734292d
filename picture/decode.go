package picture

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
	"os"
	"strings"
)

// format is one of the file formats that are read.
type format struct {
	name   string
	info   func(data []byte) (Info, error)
	decode func(data []byte) (*Picture, error)
}

var formats = map[string]format{
	"png":  {"png", pngInfo, decodePNG},
	"jpeg": {"jpeg", jpegInfo, decodeJPEG},
	"webp": {"webp", webpInfo, decodeWebP},
	"gif":  {"gif", gifInfo, decodeGIF},
}

// formatOf tells the format by the first bytes, and names formats that are not read.
func formatOf(data []byte) (format, error) {
	begins := func(mark string) bool { return bytes.HasPrefix(data, []byte(mark)) }
	switch {
	case begins(pngMark):
		return formats["png"], nil
	case begins("\xff\xd8"):
		return formats["jpeg"], nil
	case isGIF(data):
		return formats["gif"], nil
	case len(data) >= 12 && begins("RIFF") && string(data[8:12]) == "WEBP":
		return formats["webp"], nil
	case len(data) == 0:
		return format{}, errors.New("the file is empty")
	}
	if name := unreadFormat(data); name != "" {
		return format{}, fmt.Errorf("%s is not read; write it as PNG, JPEG or WebP", name)
	}
	return format{}, errors.New("the format is not known; PNG, JPEG, WebP and GIF are read")
}

// unreadFormat names what people have and what is not read.
func unreadFormat(data []byte) string {
	begins := func(marks ...string) bool {
		for _, m := range marks {
			if bytes.HasPrefix(data, []byte(m)) {
				return true
			}
		}
		return false
	}
	switch text := strings.ToLower(string(bytes.TrimSpace(data[:min(len(data), 256)]))); {
	case begins("II*\x00", "MM\x00*", "II+\x00", "MM\x00+"):
		return "TIFF"
	case len(data) >= 26 && begins("BM") && bytes.Equal(data[6:10], make([]byte, 4)):
		return "BMP"
	case begins("\xff\x0a", "\x00\x00\x00\x0cJXL \r\n\x87\n"):
		return "JPEG XL"
	case begins("\x00\x00\x00\x0cjP  \r\n\x87\n", "\xff\x4f\xff\x51"):
		return "JPEG 2000"
	case begins("8BPS"):
		return "a Photoshop file"
	case begins("\x00\x00\x01\x00"):
		return "an icon"
	case begins("version https://git-lfs"):
		return "a pointer of Git LFS (fetch the data with git lfs pull)"
	case strings.HasPrefix(text, "<svg"), strings.HasPrefix(text, "<?xml") && strings.Contains(text, "<svg"):
		return "SVG"
	}
	return boxFormat(data)
}

// boxFormat names the formats that are made of ISO boxes by their brands.
func boxFormat(data []byte) string {
	if len(data) < 16 || string(data[4:8]) != "ftyp" {
		return ""
	}
	brands := string(data[8:min(len(data), 40)])
	switch {
	case strings.Contains(brands, "avif"), strings.Contains(brands, "avis"):
		return "AVIF"
	case strings.Contains(brands, "hei"), strings.Contains(brands, "mif1"), strings.Contains(brands, "msf1"):
		return "HEIC"
	}
	return "a video"
}

// Info is what the head of a picture file tells.
type Info struct {
	Format        string // png, jpeg, webp or gif
	Width, Height int    // as stored, before turning upright
	Orientation   int    // 1…8 as EXIF numbers them, 1 if the file has none
	Bits          int    // of a sample, in files of 16 bits 16
	Grey          bool
	Alpha         bool // transparency, which Decode drops
	Inks          bool // CMYK, which Decode converts
	Animated      bool // several frames, of which Decode takes the first
}

// Inspect reads the head of a picture file without decoding it.
func Inspect(data []byte) (Info, error) {
	_, info, err := head(data)
	if err != nil {
		return Info{}, fmt.Errorf("inspect picture: %w", err)
	}
	return info, nil
}

// head tells the format and reads the head. Sizes that are not decoded are refused here.
func head(data []byte) (format, Info, error) {
	f, err := formatOf(data)
	if err != nil {
		return f, Info{}, err
	}
	info, err := f.info(data)
	if err == nil {
		err = checkSize(info.Width, info.Height)
	}
	if err != nil {
		return f, Info{}, fmt.Errorf("%s: %w", f.name, err)
	}
	info.Format = f.name
	return f, info, nil
}

// Decode reads a PNG, JPEG, WebP or GIF file as Pillow followed by convert("RGB") does, the first frame of an animated one,
// and turns it upright if EXIF or XMP say that it is stored turned. Alpha is dropped, not composited; grey, palette, one-bit
// and CMYK pictures become RGB. Of grey pictures of 16 bits the high 8 are taken, where Pillow makes all but black white.
func Decode(data []byte) (*Picture, error) {
	f, info, err := head(data)
	if err != nil {
		return nil, fmt.Errorf("decode picture: %w", err)
	}
	p, err := f.decode(data)
	if err != nil {
		return nil, fmt.Errorf("decode picture: %s: %w; the file may be cut off or damaged", f.name, err)
	}
	return p.upright(info.Orientation), nil
}

// maxFile is the largest file that Open reads: a picture of MaxPixels that is not compressed.
const maxFile = 3*MaxPixels + 1<<20

// Open decodes a picture file. Devices, pipes and folders are refused.
func Open(path string) (*Picture, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("open picture: %w", err)
	}
	p, err := Decode(data)
	if err != nil {
		return nil, fmt.Errorf("open picture %s: %w", path, err)
	}
	return p, nil
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s has %d bytes, more than the limit of %d", path, info.Size(), maxFile)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// colourOf gives a function that reads the stored colour of a pixel; of 16 bits per sample the high byte.
func colourOf(m image.Image) (func(x, y int) color.NRGBA, error) {
	grey := func(v uint8) color.NRGBA { return color.NRGBA{v, v, v, 255} }
	switch m := m.(type) {
	case *image.NRGBA:
		return m.NRGBAAt, nil
	case *image.RGBA: // only opaque pictures are decoded to this type
		return func(x, y int) color.NRGBA { return color.NRGBA(m.RGBAAt(x, y)) }, nil
	case *image.Gray:
		return func(x, y int) color.NRGBA { return grey(m.GrayAt(x, y).Y) }, nil
	case *image.Gray16:
		return func(x, y int) color.NRGBA { return grey(uint8(m.Gray16At(x, y).Y >> 8)) }, nil
	case *image.NRGBA64:
		return func(x, y int) color.NRGBA {
			c := m.NRGBA64At(x, y)
			return color.NRGBA{uint8(c.R >> 8), uint8(c.G >> 8), uint8(c.B >> 8), 255}
		}, nil
	case *image.RGBA64:
		return func(x, y int) color.NRGBA {
			c := m.RGBA64At(x, y)
			return color.NRGBA{uint8(c.R >> 8), uint8(c.G >> 8), uint8(c.B >> 8), 255}
		}, nil
	case *image.Paletted:
		palette := make([]color.NRGBA, 256)
		for i, c := range m.Palette {
			palette[i] = color.NRGBAModel.Convert(c).(color.NRGBA)
		}
		return func(x, y int) color.NRGBA { return palette[m.ColorIndexAt(x, y)] }, nil
	}
	return nil, fmt.Errorf("pixels of type %T are not known", m)
}

// fromCMYK converts as Pillow does: each ink takes its share of what black leaves.
func fromCMYK(c color.CMYK) color.NRGBA {
	light := 255 - int(c.K)
	channel := func(ink uint8) uint8 {
		t := int(ink)*light + 128
		return uint8(max(light-(t>>8+t)>>8, 0))
	}
	return color.NRGBA{channel(c.C), channel(c.M), channel(c.Y), 255}
}
