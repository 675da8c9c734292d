package parity

import (
	"context"
	"fmt"

	"github.com/sciflux/sciflux/picture"
)

// runImagePreprocess is kind "image_preprocess": picture files to 8-bit crops and the image tower's input.
func runImagePreprocess(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	var args struct {
		Files []string `json:"files"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	folder, err := c.ModelPath()
	if err != nil {
		return nil, err
	}
	p, err := picture.LoadPreprocessor(folder)
	if err != nil {
		return nil, err
	}
	var crops []byte
	var pixels []float32
	shape := []int{len(args.Files), 3, 0, 0}
	for _, name := range args.Files {
		m, err := picture.Open(c.File(name))
		if err != nil {
			return nil, err
		}
		fitted, err := p.Fit(m)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		shape[2], shape[3] = fitted.Height, fitted.Width
		crops = append(crops, fitted.Planes()...)
		pixels = append(pixels, p.Pixels(fitted)...)
	}
	out := NewOutputs()
	out.Uint8("crop", shape, crops)
	out.Float32("pixels", shape, pixels)
	return out, nil
}

// runImageResize is kind "image_resize": 8-bit pictures in another size.
func runImageResize(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	var args struct {
		Filter string `json:"filter"`
		Sizes  []struct {
			Width  int `json:"width"`
			Height int `json:"height"`
		} `json:"sizes"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	filter, err := picture.ParseFilter(args.Filter)
	if err != nil {
		return nil, err
	}
	out := NewOutputs()
	for i, size := range args.Sizes {
		name := fmt.Sprintf("image.%d", i)
		t, err := c.Input(name)
		if err != nil {
			return nil, err
		}
		if t.DType != "U8" || len(t.Shape) != 3 || t.Shape[2] != 3 {
			return nil, fmt.Errorf("%s: %s %v is not an 8-bit picture [height, width, 3]", name, t.DType, t.Shape)
		}
		m := &picture.Picture{Width: t.Shape[1], Height: t.Shape[0], Pix: t.Data}
		resized, err := m.Resize(size.Width, size.Height, filter)
		if err != nil {
			return nil, err
		}
		out.Uint8(fmt.Sprintf("resized.%d", i), []int{size.Height, size.Width, 3}, resized.Pix)
	}
	return out, nil
}
