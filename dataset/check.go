package dataset

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/sciflux/sciflux/picture"
)

// Needs says what a user of a split relies on. An implicit prompt is always needed.
type Needs struct {
	Explicit    bool // an explicit prompt and at least one explicit picture that can be decoded
	Superficial bool // the same of the superficial side
	Object      bool // an object noun that stands in every implicit prompt, for masks
	// Side is the side of the square training pictures in pixels; 0 leaves out whether pictures are too small for it.
	Side int
	// Heads looks at the heads of the pictures only, which is quicker and finds no picture that is cut off.
	Heads bool
	// Rows are the first rows of the split that are used; 0 takes all.
	Rows int
	// Progress, if not nil, hears how many rows were looked at, of how many; an error ends the check.
	Progress func(done, total int) error
}

// The shapes of training pictures. They are scaled to the square's side and their middle is cut out: of a picture 8 times as
// long as it is wide an eighth is trained on, and one that is enlarged 8 times is a blur.
const (
	MaxAspect  = 8
	MaxEnlarge = 8
)

// Check reads the split through and returns the first row that does not give what is needed. It is meant to run before
// training starts.
func (s *Set) Check(ctx context.Context, n Needs) error {
	if n.Object && !s.Has("object") {
		return fmt.Errorf("dataset %s split %s: no column object, so a detector cannot know what to look for; "+
			"add it, or train with mask boxes none or full", s.Dir, s.Split)
	}
	rows := s.rows
	if n.Rows > 0 {
		rows = rows[:min(n.Rows, len(rows))]
	}
	return examine(ctx, rows, n.Heads, n.images, func(r Row, looks []look) error {
		if err := r.check(n, looks); err != nil {
			return fmt.Errorf("%s: %w", s.where(r.Index), err)
		}
		if n.Progress != nil {
			return n.Progress(r.Index+1, len(rows))
		}
		return nil
	})
}

// images are the pictures of a row that are needed.
func (n Needs) images(r Row) []*Image {
	var out []*Image
	if n.Explicit {
		out = r.ExplicitImages.Present()
	}
	if n.Superficial {
		out = append(out, r.SuperficialImages.Present()...)
	}
	return out
}

func (r Row) check(n Needs, looks []look) error {
	if len(r.Implicit.Wordings()) == 0 {
		return fmt.Errorf("no implicit prompt: column %s is empty; fill it or remove the row", ImplicitPrompt)
	}
	for _, side := range []struct {
		name, prompt, picture string
		needed                bool
		text                  Text
		images                Images
	}{
		{"explicit", ExplicitPrompt, ExplicitImage, n.Explicit, r.Explicit, r.ExplicitImages},
		{"superficial", SuperficialPrompt, SuperficialImage, n.Superficial, r.Superficial, r.SuperficialImages},
	} {
		if !side.needed {
			continue
		}
		if len(side.text.Wordings()) == 0 {
			return fmt.Errorf("no %s prompt: column %s is empty; fill it or remove the row", side.name, side.prompt)
		}
		count := len(side.images.Present())
		if err := checkLooks(looks[:count], n.Side); err != nil {
			return fmt.Errorf("%s picture: column %s: %w", side.name, side.picture, err)
		}
		looks = looks[count:]
	}
	if n.Object {
		return r.checkObject()
	}
	return nil
}

func checkLooks(looks []look, side int) error {
	if len(looks) == 0 {
		return errors.New("there is none; add one or remove the row")
	}
	for i, l := range looks {
		if l.err != nil {
			return fmt.Errorf("number %d: %w; write the picture again or remove the row", i, l.err)
		}
		if err := checkShape(l.info, side); err != nil {
			return fmt.Errorf("number %d: image %s: %w", i, l.image.name(), err)
		}
	}
	return nil
}

func checkShape(info picture.Info, side int) error {
	short, long := min(info.Width, info.Height), max(info.Width, info.Height)
	switch {
	case long > MaxAspect*short:
		return fmt.Errorf("%d×%d pixels: one side is more than %d times the other, "+
			"and training takes the middle square; cut the picture or remove the row",
			info.Width, info.Height, MaxAspect)
	case MaxEnlarge*short < side:
		return fmt.Errorf("%d×%d pixels would be enlarged more than %d times to %d; "+
			"take a larger picture, a lower resolution, or remove the row",
			info.Width, info.Height, MaxEnlarge, side)
	}
	return nil
}

func (r Row) checkObject() error {
	noun := folded(strings.TrimSpace(r.Object()))
	if noun == "" {
		return errors.New("no object noun; fill column object or remove the row")
	}
	for _, p := range r.Implicit.Wordings() {
		if !strings.Contains(folded(p), noun) {
			return fmt.Errorf("object noun %q is not in the prompt %q; correct one of them", noun, p)
		}
	}
	return nil
}

// folded makes spellings equal that look the same: case, and letters with their accents in one character or two.
func folded(s string) string { return norm.NFC.String(strings.ToLower(s)) }
