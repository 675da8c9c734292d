package dataset

import (
	"context"
	"errors"
	"fmt"
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

// Image is one picture of the data set: where it lies, not what it holds. Its bytes are read when they are asked for, and are
// not kept; it is valid until its Set is closed, and safe for concurrent use.
type Image struct {
	Stored bool // the data file holds its bytes; else Path names a file beside it
	Path   Cell
	at     place
}

// place is where a picture's bytes lie.
type place interface {
	read(ctx context.Context) ([]byte, error)
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

// Data reads the encoded picture: the stored bytes, or the file that the path names.
func (im *Image) Data(ctx context.Context) ([]byte, error) {
	if im.at == nil {
		return nil, errors.New("image: neither bytes nor a path are stored; write the pictures into the parquet file")
	}
	b, err := im.at.read(ctx)
	if err == nil {
		return b, nil
	}
	if !im.Stored {
		return nil, fmt.Errorf("image: only a path is stored: %w", err)
	}
	return nil, fmt.Errorf("image %s: %w", im.name(), err)
}

// Info is what the head of the picture says.
func (im *Image) Info(ctx context.Context) (picture.Info, error) {
	b, err := im.Data(ctx)
	if err != nil {
		return picture.Info{}, err
	}
	return im.info(b)
}

func (im *Image) info(b []byte) (picture.Info, error) {
	info, err := picture.Inspect(b)
	if err != nil {
		return picture.Info{}, fmt.Errorf("image %s: %w", im.name(), err)
	}
	return info, nil
}

// Decode decodes the picture as training does: turned upright, as RGB.
func (im *Image) Decode(ctx context.Context) (*picture.Picture, error) {
	b, err := im.Data(ctx)
	if err != nil {
		return nil, err
	}
	return im.decode(b)
}

func (im *Image) decode(b []byte) (*picture.Picture, error) {
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

// filePlace is a file that a path in the data names, from a folder inside the data folder.
type filePlace struct {
	folder   *folder
	at, name string
}

func (p *filePlace) read(context.Context) ([]byte, error) {
	return p.folder.read(p.at, p.name, maxPicture)
}

// Row is one tuple of the data set, without the bytes of its pictures.
type Row struct {
	Index                           int // in the split
	Implicit, Explicit, Superficial Text
	ExplicitImages                  Images               // scientifically right
	SuperficialImages               Images               // plausible, wrong
	Cells                           map[string]Cell      // every other string column: category, law, object, ...
	Ints                            map[string]int64     // every integer column; null is absent
	Floats                          map[string][]float64 // every column of doubles or lists of them; null is absent
	// OneCaption says that the data have one caption a picture, and that all three prompts are it. That is right for SFT and
	// for the prompts of OFT; an evaluation of such rows cannot tell the kinds of prompts apart.
	OneCaption bool
	origin     string // file and place in it, where the index does not tell
}

func newRow() Row {
	return Row{Cells: map[string]Cell{}, Ints: map[string]int64{}, Floats: map[string][]float64{}}
}

// Category is physics, chemistry or biology; "" when the file does not say.
func (r Row) Category() string { return r.Cells["category"].Value }

// Law is the task's name; "" when the file does not say.
func (r Row) Law() string { return r.Cells["law"].Value }

// Object is the noun that the implicit prompt is about; "" when the file does not say.
func (r Row) Object() string { return r.Cells["object"].Value }

// caption makes one text all three prompts.
func (r *Row) caption(t Text) {
	r.Implicit, r.Explicit, r.Superficial, r.OneCaption = t, t, t, true
}
