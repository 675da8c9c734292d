package flow

// Box is a rectangle in parts of the picture: centre and size, as detectors give it.
type Box struct{ CX, CY, W, H float32 }

// Mask keeps the latent cells inside a box. A nil *Mask keeps everything.
type Mask struct {
	Grid  Grid
	Cells []uint8 // [2·rows, 2·columns], 1 where kept
	kept  int     // number of cells kept
	mean  Form
}

// NewMask is the mask of a box over a grid: corners (c ± size/2)·cells truncated toward zero, in float32 as the reference
// computes them. Corrected corners are clamped to the picture first; Paper's follow Python's slice rules, so a negative
// corner counts from the far edge. The mean form says what a log-probability under the mask is divided by.
func NewMask(forms Forms, box Box, grid Grid) *Mask {
	rows, columns := 2*grid.Rows, 2*grid.Columns
	m := &Mask{Grid: grid, Cells: make([]uint8, rows*columns), mean: forms.Mean}
	x1, x2 := span(forms.Corners, box.CX, box.W, columns)
	y1, y2 := span(forms.Corners, box.CY, box.H, rows)
	for y := y1; y < y2; y++ {
		for x := x1; x < x2; x++ {
			m.Cells[y*columns+x] = 1
			m.kept++
		}
	}
	return m
}

func span(corners Form, centre, size float32, cells int) (from, to int) {
	low, high := (centre-size/2)*float32(cells), (centre+size/2)*float32(cells)
	if corners == Paper {
		return sliceIndex(int(low), cells), sliceIndex(int(high), cells)
	}
	clamp := func(v float32) int { return int(min(max(v, 0), float32(cells))) }
	return clamp(low), clamp(high)
}

// sliceIndex is what Python makes of a slice bound i over n items.
func sliceIndex(i, n int) int {
	if i < 0 {
		i = max(i+n, 0)
	}
	return min(i, n)
}

// Kept is the share of cells that the mask keeps, 1 for nil.
func (m *Mask) Kept() float64 {
	if m == nil {
		return 1
	}
	return float64(m.kept) / float64(len(m.Cells))
}

// counts gives, for a sample of the given number of packed elements, how many the mask keeps and what the mean divides by.
func (m *Mask) counts(elements int) (kept, divisor int) {
	if m == nil {
		return elements, elements
	}
	kept = m.kept * (elements / len(m.Cells))
	if m.mean == Paper {
		return kept, elements
	}
	return kept, max(1, kept)
}

// each calls f with the packed index of every element kept, in packed order.
func (m *Mask) each(elements int, f func(k int)) {
	if m == nil {
		for k := range elements {
			f(k)
		}
		return
	}
	channels := elements / m.Grid.Tokens()
	for n := range m.Grid.Tokens() {
		i, j := n/m.Grid.Columns, n%m.Grid.Columns
		for k := range channels {
			a, b := k>>1&1, k&1
			if m.Cells[(2*i+a)*2*m.Grid.Columns+2*j+b] != 0 {
				f(n*channels + k)
			}
		}
	}
}
