package reward

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/run"
)

// shelf is a detector that knows its answers by the object's name.
type shelf map[string][]flow.Box

func (s shelf) Detect(_ context.Context, _ Images, objects []string) ([][]flow.Box, error) {
	found := make([][]flow.Box, len(objects))
	for i, object := range objects {
		if object == "broken" {
			return nil, errors.New("detector is out of order")
		}
		found[i] = s[object]
	}
	return found, nil
}

var things = shelf{
	"apple":  {{CX: 0.5, CY: 0.5, W: 0.4, H: 0.4}},
	"dot":    {{CX: 1.2, CY: 0.5, W: 0.1, H: 0.1}}, // beside the picture
	"world":  {{CX: 0.5, CY: 0.5, W: 0.95, H: 0.95}},
	"thread": {{CX: 0.02, CY: 0.5, W: 0, H: 0}},
}

var grid = flow.Grid{Rows: 32, Columns: 32}

func masker(t *testing.T, policy, onEmpty string) *Masker {
	t.Helper()
	m, err := NewMasker(policy, onEmpty, flow.AllForms(flow.Corrected), things)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPolicies(t *testing.T) {
	ctx, images, objects := context.Background(), Images{B: 2}, []string{"apple", "ghost"}
	for name, c := range map[string]struct {
		policy, onEmpty string
		kept            [2]float64
		skip            bool
		count           run.Masks
	}{
		"none":     {MaskNone, EmptyFull, [2]float64{1, 1}, false, run.Masks{}},
		"full":     {MaskFull, EmptyFull, [2]float64{1, 1}, false, run.Masks{Total: 2, Full: 2}},
		"detector": {MaskDetector, EmptyFull, [2]float64{0.25, 1}, false, run.Masks{Total: 2, Missing: 1, Full: 1}},
		"skipping": {MaskDetector, EmptySkip, [2]float64{0.25, 1}, true, run.Masks{Total: 2, Missing: 1, Full: 1}},
	} {
		m := masker(t, c.policy, c.onEmpty)
		subjects, err := m.Find(ctx, images, objects)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i, s := range subjects {
			if got := s.Mask(m.forms, grid).Kept(); got != c.kept[i] {
				t.Errorf("%s: picture %d keeps %g, want %g", name, i, got, c.kept[i])
			}
		}
		if subjects[1].Skip != c.skip || subjects[0].Skip {
			t.Errorf("%s: skip %v and %v", name, subjects[0].Skip, subjects[1].Skip)
		}
		if got := m.Count(subjects, grid); got != c.count {
			t.Errorf("%s: counted %+v, want %+v", name, got, c.count)
		}
		if none := subjects[0].Mask(m.forms, grid) == nil; none != (c.policy == MaskNone) {
			t.Errorf("%s: no mask is %v", name, none)
		}
	}
}

func TestMissingSubjectStops(t *testing.T) {
	_, err := masker(t, MaskDetector, EmptyStop).Find(context.Background(), Images{B: 2}, []string{"apple", "ghost"})
	if run.ClassOf(err) != run.ClassData || !strings.Contains(err.Error(), `picture 1: no "ghost" found`) {
		t.Errorf("error %v of class %q", err, run.ClassOf(err))
	}
}

func TestCountsTellEmptyTinyAndFull(t *testing.T) {
	m := masker(t, MaskDetector, EmptyFull)
	subjects, err := m.Find(context.Background(), Images{B: 4}, []string{"dot", "thread", "world", "apple"})
	if err != nil {
		t.Fatal(err)
	}
	want := run.Masks{Total: 4, Empty: 1, Tiny: 1, Full: 1}
	if got := m.Count(subjects, grid); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

func TestFindRefuses(t *testing.T) {
	m := masker(t, MaskDetector, EmptyFull)
	for name, c := range map[string]struct {
		objects []string
		class   run.Class
		says    string
	}{
		"too few":   {[]string{"apple"}, run.ClassData, "1 objects for 2 pictures"},
		"no object": {[]string{"apple", ""}, run.ClassData, "picture 1: its prompt names no object"},
		"broken":    {[]string{"apple", "broken"}, run.ClassInternal, "out of order"},
	} {
		_, err := m.Find(context.Background(), Images{B: 2}, c.objects)
		if run.ClassOf(err) != c.class || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v of class %q", name, err, run.ClassOf(err))
		}
	}
}

func TestNewMaskerRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		policy, onEmpty string
		detector        Detector
	}{
		"policy":      {"boxes", EmptyFull, things},
		"on empty":    {MaskDetector, "panic", things},
		"no detector": {MaskDetector, EmptyFull, nil},
	} {
		if _, err := NewMasker(c.policy, c.onEmpty, flow.AllForms(flow.Paper), c.detector); run.ClassOf(err) != run.ClassConfig {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewMasker(MaskFull, EmptySkip, flow.AllForms(flow.Paper), nil); err != nil {
		t.Errorf("the policy full needs no detector: %v", err)
	}
}
