package reward

import "github.com/sciflux/sciflux/flow"

// WholePicture is the box of everything, also used where a detector finds nothing.
var WholePicture = flow.Box{CX: 0.5, CY: 0.5, W: 1, H: 1}

// MaskBox is the box whose inside the preference counts in: one rectangle around all boxes found, each side 0.1 longer
// (1 when it is over 0.9), the centre kept. flow.Paper leaves it there, so that it may reach outside the picture;
// otherwise its corners are moved inside. Arithmetic is float32 up to there, as the reference's.
func MaskBox(form flow.Form, found []flow.Box) flow.Box {
	box := WholePicture
	if len(found) > 0 {
		box = enclose(found)
		box.W, box.H = widen(box.W), widen(box.H)
	}
	if form == flow.Paper {
		return box
	}
	box.CX, box.W = inside(box.CX, box.W)
	box.CY, box.H = inside(box.CY, box.H)
	return box
}

// enclose is the smallest box around all of at least one box.
func enclose(boxes []flow.Box) flow.Box {
	first := boxes[0]
	x0, x1 := first.CX-first.W/2, first.CX+first.W/2
	y0, y1 := first.CY-first.H/2, first.CY+first.H/2
	for _, b := range boxes[1:] {
		x0, x1 = min(x0, b.CX-b.W/2), max(x1, b.CX+b.W/2)
		y0, y1 = min(y0, b.CY-b.H/2), max(y1, b.CY+b.H/2)
	}
	return flow.Box{CX: (x0 + x1) / 2, CY: (y0 + y1) / 2, W: x1 - x0, H: y1 - y0}
}

func widen(side float32) float32 {
	if side <= 0.9 {
		return side + 0.1
	}
	return 1
}

// inside cuts an extent down to the part within [0, 1].
func inside(centre, size float32) (float32, float32) {
	low := max(0, float64(centre)-float64(size)/2)
	high := max(low, min(1, float64(centre)+float64(size)/2))
	return float32((low + high) / 2), float32(high - low)
}
