package dataset

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// Needs says what a user of a split relies on. An implicit prompt is always needed.
type Needs struct {
	Explicit    bool // an explicit prompt and at least one explicit picture that can be decoded
	Superficial bool // the same of the superficial side
	Object      bool // an object noun that stands in every implicit prompt, for masks
}

// Check reads the split through and returns the first row that does not give what is needed. It is meant to run before
// training starts.
func (s *Set) Check(ctx context.Context, n Needs) error {
	if n.Object && !s.Has("object") {
		return fmt.Errorf("dataset %s split %s: no column object, so a detector cannot know what to look for; add it, or train with mask boxes none or full", s.Dir, s.Split)
	}
	for r, err := range s.All(ctx) {
		if err != nil {
			return err
		}
		if err := r.check(n); err != nil {
			return fmt.Errorf("%s: %w", s.where(r.Index), err)
		}
	}
	return nil
}

func (r Row) check(n Needs) error {
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
		if err := checkImages(side.images); err != nil {
			return fmt.Errorf("%s picture: column %s: %w", side.name, side.picture, err)
		}
	}
	if n.Object {
		return r.checkObject()
	}
	return nil
}

func checkImages(v Images) error {
	if len(v.Present()) == 0 {
		return fmt.Errorf("there is none; add one or remove the row")
	}
	for i, im := range v.Present() {
		if _, err := im.Decode(); err != nil {
			return fmt.Errorf("number %d: %w; write the picture again or remove the row", i, err)
		}
	}
	return nil
}

func (r Row) checkObject() error {
	noun := folded(strings.TrimSpace(r.Object()))
	if noun == "" {
		return fmt.Errorf("no object noun; fill column object or remove the row")
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
