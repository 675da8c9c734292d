package picture

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"

	"golang.org/x/image/webp"
)

// format is one of the file formats that are read.
type format struct {
	name   string
	config func(data []byte) (image.Config, error)
	decode func(data []byte) (*Picture, error)
	exif   func(data []byte) []byte // the TIFF structure with the camera's tags, nil if there is none
}

// formatOf tells the format by the first bytes.
func formatOf(data []byte) (format, error) {
	switch {
	case bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n")):
		return format{"png", func(d []byte) (image.Config, error) { return png.DecodeConfig(bytes.NewReader(d)) }, decodePNG, pngEXIF}, nil
	case bytes.HasPrefix(data, []byte("\xff\xd8")):
		return format{"jpeg", jpegConfig, decodeJPEG, jpegEXIF}, nil
	case len(data) >= 12 && string(data[:4]) == "RIFF" && string(data[8:12]) == "WEBP":
		return format{"webp", func(d []byte) (image.Config, error) { return webp.DecodeConfig(bytes.NewReader(d)) }, decodeWebP, webpEXIF}, nil
	case len(data) == 0:
		return format{}, errors.New("the file is empty")
	}
	return format{}, errors.New("the format is not known; PNG, JPEG and WebP are read")
}

// Info is what the head of a picture file tells.
type Info struct {
	Format        string // png, jpeg or webp
	Width, Height int    // as stored, before turning upright
	Orientation   int    // EXIF orientation 1…8, 1 if the file has none
	Bits          int    // of a sample
	Grey          bool
	Alpha         bool // transparency, which Decode drops
	Inks          bool // CMYK, which Decode converts
	Animated      bool // several frames, of which Decode takes the first
}

// Inspect reads the head of a picture file without decoding it.
func Inspect(data []byte) (Info, error) {
	f, err := formatOf(data)
	if err != nil {
		return Info{}, fmt.Errorf("inspect picture: %w", err)
	}
	c, err := f.config(data)
	if err != nil {
		return Info{}, fmt.Errorf("inspect picture: %s: %w", f.name, err)
	}
	return Info{Format: f.name, Width: c.Width, Height: c.Height, Orientation: orientation(f.exif(data))}, nil
}

// Decode reads a PNG, JPEG or WebP file as Pillow followed by convert("RGB") does, and turns it upright if it carries an
// EXIF orientation. Alpha is dropped, not composited; grey, palette, one-bit and CMYK pictures become RGB.
func Decode(data []byte) (*Picture, error) {
	f, err := formatOf(data)
	if err != nil {
		return nil, fmt.Errorf("decode picture: %w", err)
	}
	c, err := f.config(data)
	if err == nil {
		err = checkSize(c.Width, c.Height)
	}
	if err != nil {
		return nil, fmt.Errorf("decode picture: %s: %w", f.name, err)
	}
	p, err := f.decode(data)
	if err != nil {
		return nil, fmt.Errorf("decode picture: %s: %w; the file may be cut off or damaged", f.name, err)
	}
	return p.upright(orientation(f.exif(data))), nil
}

// Open decodes a picture file.
func Open(path string) (*Picture, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("open picture: %w", err)
	}
	p, err := Decode(data)
	if err != nil {
		return nil, fmt.Errorf("open picture %s: %w", path, err)
	}
	return p, nil
}

// pngHead holds the fields of a PNG's IHDR chunk that decide how Pillow reads it.
type pngHead struct {
	depth, colour byte
}

// deflateLimit is more than deflate can ever compress, as a factor.
const deflateLimit = 1100

func decodePNG(data []byte) (*Picture, error) {
	if len(data) < 29 {
		return nil, errors.New("no header")
	}
	head := pngHead{data[24], data[25]}
	c, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if least := int64(c.Width) * int64(c.Height) * int64(head.depth) / 8 / deflateLimit; least > int64(len(data)) {
		return nil, fmt.Errorf("%d bytes cannot hold %d×%d pixels", len(data), c.Width, c.Height)
	}
	m, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return fromImage(m, head.depth == 16 && head.colour == 0)
}

// fromImage takes the colours of an image without looking at its alpha. Of 16 bits per sample the high byte is taken,
// except in grey pictures (clip16), where Pillow clips the 16-bit value to 255.
func fromImage(m image.Image, clip16 bool) (*Picture, error) {
	b := m.Bounds()
	p := New(b.Dx(), b.Dy())
	set := func(i int, c color.NRGBA) { p.Pix[3*i], p.Pix[3*i+1], p.Pix[3*i+2] = c.R, c.G, c.B }
	at, err := colourOf(m, clip16)
	if err != nil {
		return nil, err
	}
	for y := range p.Height {
		for x := range p.Width {
			set(y*p.Width+x, at(b.Min.X+x, b.Min.Y+y))
		}
	}
	return p, nil
}

// colourOf gives a function that reads the stored colour of a pixel.
func colourOf(m image.Image, clip16 bool) (func(x, y int) color.NRGBA, error) {
	grey := func(v uint8) color.NRGBA { return color.NRGBA{v, v, v, 255} }
	switch m := m.(type) {
	case *image.NRGBA:
		return m.NRGBAAt, nil
	case *image.RGBA: // only opaque pictures are decoded to this type
		return func(x, y int) color.NRGBA { return color.NRGBA(m.RGBAAt(x, y)) }, nil
	case *image.Gray:
		return func(x, y int) color.NRGBA { return grey(m.GrayAt(x, y).Y) }, nil
	case *image.Gray16:
		return func(x, y int) color.NRGBA { return grey(uint8(min(m.Gray16At(x, y).Y, 255))) }, nil
	case *image.NRGBA64:
		return func(x, y int) color.NRGBA {
			c := m.NRGBA64At(x, y)
			if clip16 {
				return grey(uint8(min(c.R, 255)))
			}
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
			palette[i] = storedColour(c)
		}
		return func(x, y int) color.NRGBA { return palette[m.ColorIndexAt(x, y)] }, nil
	}
	return nil, fmt.Errorf("pixels of type %T are not known", m)
}

// storedColour is a palette entry with its alpha left aside, not multiplied in.
func storedColour(c color.Color) color.NRGBA {
	if c, ok := c.(color.NRGBA); ok {
		return c
	}
	return color.NRGBAModel.Convert(c).(color.NRGBA)
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

func decodeWebP(data []byte) (*Picture, error) {
	m, err := webp.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case *image.YCbCr:
		return fromVP8(m), nil
	case *image.NYCbCrA:
		return fromVP8(&m.YCbCr), nil
	}
	return fromImage(m, false)
}
