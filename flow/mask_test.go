package flow

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/random"
)

func anyBox(t *rapid.T) Box {
	side := func(name string, low, high float32) float32 { return rapid.Float32Range(low, high).Draw(t, name) }
	return Box{CX: side("cx", -0.2, 1.2), CY: side("cy", -0.2, 1.2), W: side("w", 0, 1.5), H: side("h", 0, 1.5)}
}

func anyGrid(t *rapid.T) Grid {
	return Grid{Rows: rapid.IntRange(1, 6).Draw(t, "rows"), Columns: rapid.IntRange(1, 6).Draw(t, "columns")}
}

// pythonRange is what x[a:b] of n items holds in Python.
func pythonRange(a, b, n int) (keep map[int]bool) {
	keep = map[int]bool{}
	wrap := func(i int) int {
		if i < 0 {
			i += n
		}
		return max(0, min(i, n))
	}
	for i := wrap(a); i < wrap(b); i++ {
		keep[i] = true
	}
	return keep
}

// TestMasksByDefinition: a cell is kept when row and column lie between the box's corners, truncated; corners outside the
// picture are clamped, or taken as Python's slices take them.
func TestMasksByDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		box, grid := anyBox(t), anyGrid(t)
		rows, columns := 2*grid.Rows, 2*grid.Columns
		corner := func(c, size, sign float32, n int) int { return int((c + sign*size/2) * float32(n)) }
		for _, form := range []Form{Paper, Corrected} {
			m := NewMask(AllForms(form), box, grid)
			inRow := pythonRange(corner(box.CY, box.H, -1, rows), corner(box.CY, box.H, 1, rows), rows)
			inColumn := pythonRange(corner(box.CX, box.W, -1, columns), corner(box.CX, box.W, 1, columns), columns)
			kept := 0
			for y := range rows {
				for x := range columns {
					want := inRow[y] && inColumn[x]
					if form == Corrected {
						low := func(c, size float32, n int) int { return max(0, min(corner(c, size, -1, n), n)) }
						high := func(c, size float32, n int) int { return max(0, min(corner(c, size, 1, n), n)) }
						want = y >= low(box.CY, box.H, rows) && y < high(box.CY, box.H, rows) && x >= low(box.CX, box.W, columns) && x < high(box.CX, box.W, columns)
					}
					if got := m.Cells[y*columns+x] == 1; got != want {
						t.Fatalf("%s: cell (%d, %d) kept: %v", form, y, x, got)
					}
					if want {
						kept++
					}
				}
			}
			if math.Abs(m.Kept()-float64(kept)/float64(rows*columns)) > 1e-12 {
				t.Fatalf("%s: share %v, want %d of %d", form, m.Kept(), kept, rows*columns)
			}
		}
	})
}

// unpacked is the mask as one weight for each packed element, by the packing rule 4c+2a+b of cell (2i+a, 2j+b).
func unpacked(m *Mask, channels int) []float64 {
	var w []float64
	for n := range m.Grid.Tokens() {
		i, j := n/m.Grid.Columns, n%m.Grid.Columns
		for c := range channels {
			a, b := c%4/2, c%2
			w = append(w, float64(m.Cells[(2*i+a)*2*m.Grid.Columns+2*j+b]))
		}
	}
	return w
}

// TestMaskedLogProbability: it is the sum of the kept elements' log-probabilities over all elements (paper) or over the
// kept ones (corrected), elements being assigned to cells by the packing rule.
func TestMaskedLogProbability(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		grid := anyGrid(t)
		channels := 4 * rapid.IntRange(1, 3).Draw(t, "latent channels")
		size := grid.Tokens() * channels
		key := random.New(rapid.Uint64().Draw(t, "seed"))
		draw := func(name string) []float32 {
			x := make([]float32, size)
			key.Purpose(name).Normal(x)
			return x
		}
		x, v, next := draw("x"), draw("v"), draw("next")
		for _, form := range []Form{Paper, Corrected} {
			m := NewMask(AllForms(form), anyBox(t), grid)
			step := NewStep(form, 0.7, 0.5, 10, 1)
			elements := make([]float32, size)
			step.LogProbElements(elements, x, v, next)
			weights := unpacked(m, channels)
			sum, kept := 0.0, 0.0
			for k, w := range weights {
				sum, kept = sum+w*float64(elements[k]), kept+w
			}
			want := sum / float64(size)
			if form == Corrected {
				want = sum / math.Max(1, kept)
			}
			if got := step.LogProb(x, v, next, m); math.Abs(got-want) > 1e-4*(1+math.Abs(want)) {
				t.Fatalf("%s: %v, want %v", form, got, want)
			}
			kl := 0.0
			for k, w := range weights {
				d := float64(v[k]) - float64(next[k])
				kl += w * d * d * step.V * step.V / (2 * step.Std * step.Std)
			}
			if got := step.KL(v, next, m); math.Abs(got-kl/math.Max(1, kept)) > 1e-6*(1+kl) {
				t.Fatalf("%s: KL %v, want %v", form, got, kl/math.Max(1, kept))
			}
		}
	})
}

// TestFullBoxIsNoMask: a box of the whole picture keeps every cell and gives the numbers of a nil mask, in both forms.
func TestFullBoxIsNoMask(t *testing.T) {
	x, v, next := normal(2, "x", 48), normal(2, "v", 48), normal(2, "n", 48)
	for _, form := range []Form{Paper, Corrected} {
		m := NewMask(AllForms(form), Box{CX: 0.5, CY: 0.5, W: 1, H: 1}, Grid{Rows: 2, Columns: 3})
		step := NewStep(form, 0.7, 0.5, 10, 1)
		if m.Kept() != 1 || math.Abs(step.LogProb(x, v, next, m)-step.LogProb(x, v, next, nil)) > 1e-12 || math.Abs(step.KL(x, v, m)-step.KL(x, v, nil)) > 1e-12 {
			t.Errorf("%s: keeps %v", form, m.Kept())
		}
	}
	if (*Mask)(nil).Kept() != 1 {
		t.Error("no mask keeps less than everything")
	}
}

// TestDensitiesStayOnTheGrid: every density maps its draws into [0, 1], and mode with scale 0 is uniform.
func TestDensitiesStayOnTheGrid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := rapid.Float64Range(0, 1).Draw(t, "u")
		if got := (Density{Kind: "mode"}).U(u); math.Abs(got-(1-u)) > 1e-12 {
			t.Fatalf("mode without scale: %v of %v", got, u)
		}
		for _, d := range []Density{{Kind: "uniform"}, {Kind: "mode", Scale: 1.29}, {Kind: "logit_normal", Mean: -0.5, Std: 2}} {
			draw := u
			if d.Normal() {
				draw = 8*u - 4
			}
			if got := d.U(draw); got < -1e-12 || got > 1+1e-12 {
				t.Fatalf("%+v: %v of %v", d, got, draw)
			}
		}
	})
}
