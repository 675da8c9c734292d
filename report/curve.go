package report

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strings"
)

// The drawing area of a diagram in SVG units, inside a viewBox of width × height.
const (
	width, height            = 560, 260
	left, right, top, bottom = 74, 14, 10, 40
)

// svg draws a curve as inline SVG; the page names its lines beside the title. Colours are CSS classes, so the page's light and dark styles apply.
func svg(c Curve) template.HTML {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="curve" viewBox="0 0 %d %d" role="img" aria-label="%s">`, width, height, html.EscapeString(c.Title))
	x, y := rangeOf(c, func(s Series) []float64 { return s.X }), rangeOf(c, func(s Series) []float64 { return s.Y })
	px := func(v float64) float64 { return left + (v-x.low)/(x.high-x.low)*(width-left-right) }
	py := func(v float64) float64 { return height - bottom - (v-y.low)/(y.high-y.low)*(height-top-bottom) }
	ticks := y.ticks()
	names := labels(ticks)
	for i, t := range ticks {
		fmt.Fprintf(&b, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text class="tick" x="%d" y="%.1f" text-anchor="end">%s</text>`,
			left, width-right, py(t), py(t), left-6, py(t)+4, names[i])
	}
	ticks = x.ticks()
	names = labels(ticks)
	for i, t := range ticks {
		fmt.Fprintf(&b, `<text class="tick" x="%.1f" y="%d" text-anchor="middle">%s</text>`, px(t), height-bottom+16, names[i])
	}
	fmt.Fprintf(&b, `<text class="axis" x="%d" y="%d" text-anchor="middle">%s</text>`, (left+width-right)/2, height-6, html.EscapeString(c.X))
	fmt.Fprintf(&b, `<text class="axis" transform="translate(14 %d) rotate(-90)" text-anchor="middle">%s</text>`, (top+height-bottom)/2, html.EscapeString(c.Y))
	for i, s := range c.Series {
		fmt.Fprintf(&b, `<polyline class="line line%d" points="%s"/>`, i%colours, points(s, px, py))
	}
	b.WriteString("</svg>")
	return template.HTML(b.String()) // every foreign string above is escaped
}

func points(s Series, px, py func(float64) float64) string {
	var b strings.Builder
	for i := range min(len(s.X), len(s.Y)) {
		if finite(s.X[i]) && finite(s.Y[i]) {
			fmt.Fprintf(&b, "%.1f,%.1f ", px(s.X[i]), py(s.Y[i]))
		}
	}
	return strings.TrimSpace(b.String())
}

// span is the range of an axis.
type span struct{ low, high float64 }

func rangeOf(c Curve, values func(Series) []float64) span {
	r := span{math.Inf(1), math.Inf(-1)}
	for _, s := range c.Series {
		for _, v := range values(s) {
			if finite(v) {
				r.low, r.high = math.Min(r.low, v), math.Max(r.high, v)
			}
		}
	}
	if r.low > r.high {
		return span{0, 1}
	}
	if r.low == r.high && r.low == 0 {
		return span{0, 1} // a count or share that never rose
	}
	if r.low == r.high {
		return span{r.low - 0.5, r.high + 0.5}
	}
	return r
}

// ticks are up to six round numbers inside the range.
func (r span) ticks() []float64 {
	raw := (r.high - r.low) / 5
	unit := math.Pow(10, math.Floor(math.Log10(raw)))
	step := 10 * unit
	for _, m := range []float64{1, 2, 5} {
		if m*unit >= raw {
			step = m * unit
			break
		}
	}
	var t []float64
	for k := math.Ceil(r.low / step); k*step <= r.high*(1+1e-12) && len(t) < 12; k++ {
		t = append(t, k*step)
	}
	return t
}

// labels are the ticks as text, with as few digits as tell them apart, at least four.
func labels(ticks []float64) []string {
	out := make([]string, len(ticks))
	for digits := 4; digits <= 12; digits++ {
		seen := map[string]bool{}
		for i, v := range ticks {
			out[i] = number(v, digits)
			seen[out[i]] = true
		}
		if len(seen) == len(ticks) {
			break
		}
	}
	return out
}

func number(v float64, digits int) string {
	if v == 0 {
		return "0"
	}
	if a := math.Abs(v); a >= 1e5 || a < 1e-3 {
		return fmt.Sprintf("%.*e", digits-3, v)
	}
	return fmt.Sprintf("%.*g", digits, v)
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
