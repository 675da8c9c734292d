package reward

import (
	"context"
	"fmt"
	"slices"

	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/run"
)

// Detector finds things in pictures.
type Detector interface {
	// Detect gives, for each picture, the boxes of the object named for it; none when it is not there.
	Detect(ctx context.Context, images Images, objects []string) ([][]flow.Box, error)
}

// The mask policies: no mask, the subject's box, a box of the whole picture. The last two differ in how a
// log-probability is rounded by the reference, not in what is kept.
const (
	MaskNone     = "none"
	MaskDetector = "detector"
	MaskFull     = "full"
)

// What a picture without a detection does.
const (
	EmptyFull = "full" // it counts as a whole
	EmptySkip = "skip" // its pair trains nothing
	EmptyStop = "stop" // finding fails with a data error
)

// tinyMask is the share of cells below which a mask is counted as tiny.
const tinyMask = 0.01

// Masker decides where in a picture the preference counts.
type Masker struct {
	policy, onEmpty string
	forms           flow.Forms
	detector        Detector
}

// NewMasker checks the policy (none, detector or full) and what to do without a detection (full, skip or stop). The
// detector may be nil unless the policy asks for it. forms.Corners chooses the box rule and forms.Mean what a masked mean
// is divided by.
func NewMasker(policy, onEmpty string, forms flow.Forms, detector Detector) (*Masker, error) {
	if known := []string{MaskNone, MaskDetector, MaskFull}; !slices.Contains(known, policy) {
		return nil, run.Errorf(run.ClassConfig, "choose mask policy", policy, fmt.Sprintf("use one of %v", known), "unknown policy")
	}
	if known := []string{EmptyFull, EmptySkip, EmptyStop}; !slices.Contains(known, onEmpty) {
		return nil, run.Errorf(run.ClassConfig, "choose what a picture without a box does", onEmpty,
			fmt.Sprintf("use one of %v", known), "unknown choice")
	}
	if policy == MaskDetector && detector == nil {
		return nil, run.Errorf(run.ClassConfig, "choose mask policy", policy,
			"name a detector, or use the policy full or none", "no detector is loaded")
	}
	return &Masker{policy, onEmpty, forms, detector}, nil
}

// Subject is where one picture's preference counts. It travels with the picture's score, so that training needs no
// detector.
type Subject struct {
	Found   []flow.Box `json:"found,omitempty"` // as the detector gave them
	Box     flow.Box   `json:"box"`             // after the box rule
	Masked  bool       `json:"masked"`          // false: no mask at all
	Missing bool       `json:"missing,omitempty"`
	Skip    bool       `json:"skip,omitempty"` // the pair of this picture trains nothing
}

// Find decides for each picture; objects[i] names what picture i is about. With the policy stop a picture without a
// detection is an error of class data.
func (m *Masker) Find(ctx context.Context, images Images, objects []string) ([]Subject, error) {
	subjects := make([]Subject, images.B)
	switch m.policy {
	case MaskNone:
		return subjects, nil
	case MaskFull:
		for i := range subjects {
			subjects[i] = Subject{Box: WholePicture, Masked: true}
		}
		return subjects, nil
	}
	if len(objects) != images.B {
		return nil, run.Errorf(run.ClassData, "find subjects", "",
			"give one object noun for each picture", "%d objects for %d pictures", len(objects), images.B)
	}
	for i, object := range objects {
		if object == "" {
			return nil, run.Errorf(run.ClassData, "find subjects", fmt.Sprintf("picture %d", i),
				"add the object to the prompt file, or use the mask policy full or none", "its prompt names no object")
		}
	}
	found, err := m.detector.Detect(ctx, images, objects)
	if err != nil {
		return nil, fmt.Errorf("find subjects: %w", err)
	}
	for i, boxes := range found {
		if subjects[i], err = m.subject(boxes); err != nil {
			return nil, run.Errorf(run.ClassData, "find subjects", fmt.Sprintf("picture %d", i),
				"set the policy for pictures without a box to full or skip, or check the object's name", "no %q found", objects[i])
		}
	}
	return subjects, nil
}

// errMissing says that the subject was not found and the policy is to stop.
var errMissing = fmt.Errorf("subject not found")

func (m *Masker) subject(boxes []flow.Box) (Subject, error) {
	s := Subject{Found: boxes, Box: MaskBox(m.forms.Corners, boxes), Masked: true}
	if len(boxes) == 0 {
		if m.onEmpty == EmptyStop {
			return s, errMissing
		}
		s.Missing, s.Skip = true, m.onEmpty == EmptySkip
	}
	return s, nil
}

// Mask is the subject's mask over a grid of tokens, nil for none. forms.Corners and forms.Mean choose how it is cut and
// what a masked mean is divided by.
func (s Subject) Mask(forms flow.Forms, grid flow.Grid) *flow.Mask {
	if !s.Masked {
		return nil
	}
	return flow.NewMask(forms, s.Box, grid)
}

// Count says what became of the masks of some pictures. Without masks nothing is counted.
func (m *Masker) Count(subjects []Subject, grid flow.Grid) run.Masks {
	var count run.Masks
	for _, s := range subjects {
		if !s.Masked {
			continue
		}
		count.Total++
		if s.Missing {
			count.Missing++
		}
		switch kept := s.Mask(m.forms, grid).Kept(); {
		case kept == 0:
			count.Empty++
		case kept < tinyMask:
			count.Tiny++
		case kept == 1:
			count.Full++
		}
	}
	return count
}
