package publish

import (
	"testing"

	"github.com/sciflux/sciflux/eval"
)

func TestCellsCarryVerdictScoreAndBox(t *testing.T) {
	box := [4]float64{0.1, 0.2, 0.3, 0.4}
	measured := []eval.Picture{{Score: 3, Verdict: "right", Box: &box}, {Score: 9}}
	if c := cell([]byte("png"), measured, "alt", true); c.Score != 3 || !c.Scored || c.Verdict != "right" || c.Box == nil || c.Box.H != 0.4 || c.Alt != "alt" {
		t.Errorf("%+v", c)
	}
	if c := cell(nil, measured, "", false); c.Box != nil {
		t.Error("a box that was not asked for")
	}
	if c := cell(nil, nil, "", true); c.Scored || c.Box != nil {
		t.Errorf("of nothing measured: %+v", c)
	}
}
