package reward

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/flow"
)

func near(a, b flow.Box) bool {
	for _, d := range []float32{a.CX - b.CX, a.CY - b.CY, a.W - b.W, a.H - b.H} {
		if math.Abs(float64(d)) > 1e-6 {
			return false
		}
	}
	return true
}

func TestMaskBox(t *testing.T) {
	for name, c := range map[string]struct {
		form  flow.Form
		found []flow.Box
		want  flow.Box
	}{
		"nothing":             {flow.Paper, nil, WholePicture},
		"nothing, corrected":  {flow.Corrected, nil, WholePicture},
		"margin":              {flow.Paper, []flow.Box{{CX: 0.5, CY: 0.4, W: 0.2, H: 0.3}}, flow.Box{CX: 0.5, CY: 0.4, W: 0.3, H: 0.4}},
		"around two":          {flow.Corrected, []flow.Box{{CX: 0.3, CY: 0.5, W: 0.2, H: 0.2}, {CX: 0.6, CY: 0.6, W: 0.2, H: 0.2}}, flow.Box{CX: 0.45, CY: 0.55, W: 0.6, H: 0.4}},
		"wide":                {flow.Paper, []flow.Box{{CX: 0.46, CY: 0.5, W: 0.91, H: 0.1}}, flow.Box{CX: 0.46, CY: 0.5, W: 1, H: 0.2}},
		"wide, corrected":     {flow.Corrected, []flow.Box{{CX: 0.46, CY: 0.5, W: 0.91, H: 0.1}}, flow.Box{CX: 0.48, CY: 0.5, W: 0.96, H: 0.2}},
		"at the limit":        {flow.Paper, []flow.Box{{CX: 0.5, CY: 0.5, W: 0.9, H: 0.9}}, flow.Box{CX: 0.5, CY: 0.5, W: 1, H: 1}},
		"over the left edge":  {flow.Paper, []flow.Box{{CX: 0.04, CY: 0.5, W: 0.1, H: 0.1}}, flow.Box{CX: 0.04, CY: 0.5, W: 0.2, H: 0.2}},
		"left edge corrected": {flow.Corrected, []flow.Box{{CX: 0.04, CY: 0.5, W: 0.1, H: 0.1}}, flow.Box{CX: 0.07, CY: 0.5, W: 0.14, H: 0.2}},
	} {
		if got := MaskBox(c.form, c.found); !near(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func boxes(t *rapid.T) []flow.Box {
	side := rapid.Float32Range(0, 1)
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) flow.Box {
		return flow.Box{CX: side.Draw(t, "cx"), CY: side.Draw(t, "cy"), W: side.Draw(t, "w"), H: side.Draw(t, "h")}
	}), 0, 5).Draw(t, "boxes")
}

// The corrected box lies inside the picture, holds the visible part of every box found, and does not depend on their
// order.
func TestCorrectedBoxHoldsWhatWasFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		found := boxes(t)
		box := MaskBox(flow.Corrected, found)
		x0, x1, y0, y1 := box.CX-box.W/2, box.CX+box.W/2, box.CY-box.H/2, box.CY+box.H/2
		const slack = 1e-5
		if x0 < -slack || y0 < -slack || x1 > 1+slack || y1 > 1+slack || box.W < 0 || box.H < 0 {
			t.Fatalf("box %+v leaves the picture", box)
		}
		backwards := make([]flow.Box, len(found))
		for i, b := range found {
			backwards[len(found)-1-i] = b
		}
		if again := MaskBox(flow.Corrected, backwards); again != box {
			t.Fatalf("order matters: %+v and %+v", box, again)
		}
		wide := enclosing(found)
		for _, b := range found {
			holds := func(low, high, from, to float32, whole bool) bool {
				return whole || max(from, 0) >= low-slack && min(to, 1) <= high+slack
			}
			if !holds(x0, x1, b.CX-b.W/2, b.CX+b.W/2, wide.W > 0.9) || !holds(y0, y1, b.CY-b.H/2, b.CY+b.H/2, wide.H > 0.9) {
				t.Fatalf("box %+v does not hold %+v", box, b)
			}
		}
	})
}

// enclosing is the paper's box before the margin, empty for nothing found.
func enclosing(found []flow.Box) flow.Box {
	if len(found) == 0 {
		return flow.Box{}
	}
	return enclose(found)
}
