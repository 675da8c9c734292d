package report

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"math"
	"time"

	"github.com/sciflux/sciflux/run"
)

// Page is everything that the report shows. All of it was computed in the run.
type Page struct {
	Run         string
	Status      run.Status
	Reason      string // why it stopped early; empty otherwise
	Finished    time.Time
	CodeVersion string
	Machine     string // e.g. "cpu avx2 onednn, 2 threads"
	Seed        uint64
	ConfigHash  string
	Config      string // resolved config, YAML, without secrets

	Findings    []Finding
	Results     []run.EvalResult
	Curves      []Curve
	Grids       []Grid
	Checkpoints []run.CheckpointRef
	Adapter     run.ObjectRef
	Times       []run.StageTime
	CostPerHour float64 // of the machine in the user's currency; 0 leaves cost out
	Currency    string
}

// Finding is one sentence of the summary with the number behind it.
type Finding struct {
	Text string
	Good bool // drawn as reached, else as missed
}

// Curve is one diagram.
type Curve struct {
	Title, X, Y string // axis names with units
	Series      []Series
}

// Series is one line of a diagram. Points that are not finite are left out.
type Series struct {
	Name string
	X, Y []float64
}

// Grid is a table of pictures: one row a prompt, one column a variant.
type Grid struct {
	Title, About string
	Columns      []string
	Rows         []Row
}

// Row is one prompt's pictures.
type Row struct {
	Prompt, Note string
	Pictures     []Picture
}

// Picture is one cell of a grid.
type Picture struct {
	PNG     []byte
	Alt     string
	Verdict string // right, superficial, neither or empty
	Score   float64
	Scored  bool
	Box     *Box // drawn over the picture
}

// Box is a rectangle in parts of the picture: centre and size.
type Box struct{ CX, CY, W, H float64 }

// colours are the line colours of the page's style.
const colours = 4

//go:embed page.html
var pageHTML string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"svg": svg,
	"png": func(b []byte) template.URL {
		return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(b))
	},
	"percent":  func(v float64) string { return fmt.Sprintf("%.1f %%", 100*v) },
	"fixed":    func(n int, v float64) string { return fmt.Sprintf("%.*f", n, v) },
	"seconds":  Seconds,
	"bytes":    Bytes,
	"name":     VariantName,
	"split":    splits,
	"colour":   func(i int) int { return i % colours },
	"short":    func(s string) string { return s[:min(12, len(s))] },
	"left":     func(b *Box) float64 { return 100 * math.Max(0, b.CX-b.W/2) },
	"top":      func(b *Box) float64 { return 100 * math.Max(0, b.CY-b.H/2) },
	"width":    func(b *Box) float64 { return 100 * (math.Min(1, b.CX+b.W/2) - math.Max(0, b.CX-b.W/2)) },
	"height":   func(b *Box) float64 { return 100 * (math.Min(1, b.CY+b.H/2) - math.Max(0, b.CY-b.H/2)) },
	"cost":     func(seconds, hour float64) string { return fmt.Sprintf("%.3f", seconds/3600*hour) },
	"interval": func(i run.Interval) string { return fmt.Sprintf("%+.3f [%+.3f, %+.3f]", i.Mean, i.Low, i.High) },
}).Parse(pageHTML))

// Write renders the page.
func Write(w io.Writer, p Page) error {
	var b bytes.Buffer
	if err := page.Execute(&b, p); err != nil {
		return fmt.Errorf("write report of run %s: %w", p.Run, err)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// VariantName is a variant in words.
func VariantName(v run.Variant) string {
	switch v {
	case run.VariantBase:
		return "base"
	case run.VariantSFT:
		return "SFT"
	case run.VariantOFT:
		return "SFT + OFT"
	case run.VariantLonger:
		return "SFT, same extra time"
	}
	return string(v)
}

// splitResults are the results of one split, in variant order.
type splitResults struct {
	Split   string
	Results []run.EvalResult
}

func splits(all []run.EvalResult) []splitResults {
	var out []splitResults
	for _, r := range all {
		k := -1
		for i := range out {
			if out[i].Split == r.Split {
				k = i
			}
		}
		if k < 0 {
			out, k = append(out, splitResults{Split: r.Split}), len(out)
		}
		out[k].Results = append(out[k].Results, r)
	}
	return out
}

// Seconds is a duration as people write it.
func Seconds(s float64) string {
	n := int(math.Round(s))
	switch {
	case s < 59.95: // what is not rounded to 60.0
		return fmt.Sprintf("%.1f s", s)
	case n < 3600:
		return fmt.Sprintf("%d min %02d s", n/60, n%60)
	}
	return fmt.Sprintf("%d h %02d min", n/3600, n/60%60)
}

// Bytes is a size in binary units.
func Bytes(n int64) string {
	v, unit := float64(n), 0
	for v >= 1024 && unit < 4 {
		v, unit = v/1024, unit+1
	}
	return fmt.Sprintf("%.*f %s", map[bool]int{true: 0, false: 1}[unit == 0], v, [...]string{"B", "KiB", "MiB", "GiB", "TiB"}[unit])
}
