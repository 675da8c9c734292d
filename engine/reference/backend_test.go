package reference_test

import (
	"strings"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/enginetest"
	"github.com/sciflux/sciflux/engine/reference"
)

func TestMemoryLimits(t *testing.T) {
	enginetest.Limits(t, func(limit int64) engine.Backend {
		if limit == 0 {
			return reference.New()
		}
		return reference.Limited(limit)
	})
}

// TestOperandsOutsideTheirTensors are refused with what is wrong with them.
func TestOperandsOutsideTheirTensors(t *testing.T) {
	be := reference.New()
	x, gone := be.Alloc(2, 3), be.Alloc(2, 3)
	freed := engine.All(gone)
	be.Free(gone)
	for says, v := range map[string]engine.View{
		"view 2×3 stride 3 at 1 of a tensor [2 3]": {T: x, Offset: 1, Rows: 2, Cols: 3, Stride: 3},
		"stride 2": {T: x, Rows: 2, Cols: 3, Stride: 2},
		"freed":    freed,
	} {
		func() {
			defer func() {
				if p, _ := recover().(string); !strings.Contains(p, "reference: ") || !strings.Contains(p, says) {
					t.Errorf("panic %q, want one that says %q", p, says)
				}
			}()
			be.Zero(v)
		}()
	}
}
