package dataset

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sciflux/sciflux/picture"
)

// Cell is a string that may be null.
type Cell struct {
	Value string
	Valid bool
}

// Text is a prompt cell.
type Text struct {
	List   bool   // the column is a list of strings
	Valid  bool   // not null
	Values []Cell // one value for a string column; elements of a list may be null
}

// Wordings are the prompts that are there, in order: no nulls, no blanks.
func (t Text) Wordings() []string {
	var out []string
	for _, c := range t.Values {
		if c.Valid && strings.TrimSpace(c.Value) != "" {
			out = append(out, c.Value)
		}
	}
	return out
}

// Image is one stored picture. Bytes is nil when the file has none; then Path names a file beside the data set.
type Image struct {
	Bytes []byte // encoded PNG, JPEG or WebP
	Path  Cell
	dir   string
}

// Images is an image column's cell; its elements may be nil (null).
type Images struct {
	Valid bool
	List  []*Image
}

// Present lists the elements that are not null.
func (v Images) Present() []*Image {
	var out []*Image
	for _, im := range v.List {
		if im != nil {
			out = append(out, im)
		}
	}
	return out
}

// Data gives the encoded picture: the stored bytes, or the file that the path names.
func (im *Image) Data() ([]byte, error) {
	if im.Bytes != nil {
		return im.Bytes, nil
	}
	if !im.Path.Valid || im.Path.Value == "" {
		return nil, fmt.Errorf("image: neither bytes nor a path are stored; write the pictures into the parquet file")
	}
	p := im.Path.Value
	if !filepath.IsAbs(p) {
		p = filepath.Join(im.dir, p)
	}
	b, err := os.ReadFile(p)
	if err != nil {
		return nil, fmt.Errorf("image: only a path is stored: %w", err)
	}
	return b, nil
}

// Size is the picture's width and height as stored, before any EXIF orientation.
func (im *Image) Size() (w, h int, err error) {
	b, err := im.Data()
	if err != nil {
		return 0, 0, err
	}
	info, err := picture.Inspect(b)
	if err != nil {
		return 0, 0, fmt.Errorf("image %s: %w", im.name(), err)
	}
	return info.Width, info.Height, nil
}

// Decode decodes the picture as training does: turned upright by its EXIF orientation, as RGB.
func (im *Image) Decode() (*picture.Picture, error) {
	b, err := im.Data()
	if err != nil {
		return nil, err
	}
	p, err := picture.Decode(b)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", im.name(), err)
	}
	return p, nil
}

func (im *Image) name() string {
	if im.Path.Valid {
		return fmt.Sprintf("%q", im.Path.Value)
	}
	return "(no path)"
}

// Row is one tuple of the data set.
type Row struct {
	Index                           int // in the split
	Implicit, Explicit, Superficial Text
	ExplicitImages                  Images               // scientifically right
	SuperficialImages               Images               // plausible, wrong
	Cells                           map[string]Cell      // every other string column: category, law, object, ...
	Ints                            map[string]int64     // every integer column; null is absent
	Floats                          map[string][]float64 // every column of doubles or lists of them; null is absent
}

// Category is physics, chemistry or biology; "" when the file does not say.
func (r Row) Category() string { return r.Cells["category"].Value }

// Law is the task's name; "" when the file does not say.
func (r Row) Law() string { return r.Cells["law"].Value }

// Object is the noun that the implicit prompt is about; "" when the file does not say.
func (r Row) Object() string { return r.Cells["object"].Value }
