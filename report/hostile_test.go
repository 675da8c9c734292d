package report

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/run"
)

// element is a start tag of a parsed page.
type element struct {
	name  string
	attrs map[string]string
}

// parse reads a page as a browser does.
func parse(t interface{ Fatal(...any) }, page string) (elements []element, text string) {
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for n := range root.Descendants() {
		switch n.Type {
		case html.ElementNode:
			e := element{n.Data, map[string]string{}}
			for _, a := range n.Attr {
				e.attrs[a.Key] = a.Val
			}
			elements = append(elements, e)
		case html.TextNode:
			b.WriteString(n.Data + "\n")
		}
	}
	return elements, b.String()
}

// plainElements are all that the page's own template and diagrams use.
var plainElements = strings.Fields("html head meta title style body main h1 h2 h3 div p ul li b span table tbody tr th td figure figcaption svg line text polyline img details summary pre code")

var outside = regexp.MustCompile(`(?i)@import|url\(|https?:|//[a-z]`)

// selfContained fails when the page can run something or load something from elsewhere.
func selfContained(t interface{ Fatal(...any) }, elements []element) {
	known := map[string]bool{}
	for _, name := range plainElements {
		known[name] = true
	}
	for _, e := range elements {
		if !known[e.name] {
			t.Fatal("an element that the page does not have of itself: " + e.name)
		}
		for key, value := range e.attrs {
			switch {
			case strings.HasPrefix(key, "on"):
				t.Fatal("something runs: " + key + "=" + value)
			case key == "href" || key == "srcset" || key == "xlink:href" || key == "action":
				t.Fatal("something leads away: " + key + "=" + value)
			case key == "src" && !strings.HasPrefix(value, "data:image/png;base64,"):
				t.Fatal("something is loaded: " + value)
			case key == "style" && outside.MatchString(value):
				t.Fatal("a style loads: " + value)
			}
		}
	}
}

// fill puts a text of its own into every string of a value, however deep, and returns how many there are.
func fill(v reflect.Value, payload string, n int) int {
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("#%d#%s", n, payload))
		return n + 1
	case reflect.Float64:
		v.SetFloat(0.25)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return fill(v.Elem(), payload, n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			n = fill(v.Index(i), payload, n)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return n
		}
		for i := range v.NumField() {
			n = fill(v.Field(i), payload, n)
		}
	}
	return n
}

// Whatever any text of a run says, it is shown as text: no element, attribute or address comes from it.
func TestHostileTextInEveryField(t *testing.T) {
	for _, payload := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `</title></style></pre><script src=//evil.example/x.js></script>`,
		`{{.Config}}<!--`, `</svg><iframe src="https://evil.example">`, `javascript:alert(1)`, `;background:url(https://evil.example/x)`, "\x00\u202e<b>", `]]><a href=https://evil.example>`,
	} {
		p := Page{CostPerHour: 1}
		n := fill(reflect.ValueOf(&p).Elem(), payload, 0)
		if n < 40 {
			t.Fatalf("%d texts filled", n)
		}
		elements, text := parse(t, write(t, p))
		selfContained(t, elements)
		for _, want := range []string{p.Run, p.Reason, p.Config, p.Grids[1].Rows[0].Prompt, p.Findings[0].Text, p.Curves[0].Title, p.Currency} {
			if shown := strings.ReplaceAll(want, "\x00", "\ufffd"); !strings.Contains(text, shown) {
				t.Errorf("%q is not shown as it is", want)
			}
		}
	}
}

// The same for texts that nobody thought of.
func TestAnyTextIsShownAsText(t *testing.T) {
	hostile := rapid.StringOf(rapid.RuneFrom([]rune(`<>"'&/=;:() ascriptonx`)))
	rapid.Check(t, func(t *rapid.T) {
		run, prompt, alt, class := hostile.Draw(t, "run"), hostile.Draw(t, "prompt"), hostile.Draw(t, "alt"), hostile.Draw(t, "verdict")
		var b bytes.Buffer
		err := Write(&b, Page{Run: run, Grids: []Grid{{Columns: []string{run}, Rows: []Row{{Prompt: prompt, Pictures: []Picture{{PNG: []byte{1}, Alt: alt, Verdict: class}}}}}},
			Curves: []Curve{{Title: prompt, X: run, Y: alt, Series: []Series{{Name: class}, {Name: run}}}}})
		if err != nil {
			t.Fatal(err)
		}
		elements, text := parse(t, b.String())
		selfContained(t, elements)
		if !strings.Contains(text, prompt) {
			t.Fatalf("%q is not shown", prompt)
		}
		for _, e := range elements {
			if e.name == "img" && e.attrs["alt"] != alt {
				t.Fatalf("alt %q became %q", alt, e.attrs["alt"])
			}
		}
	})
}

// A run that stopped before it had anything to show still gets a page.
func TestPagesWithNothingToShow(t *testing.T) {
	for name, p := range map[string]Page{
		"nothing":                {},
		"a name":                 {Run: "r", Status: run.StatusFailed, Reason: "no data"},
		"a curve without lines":  {Curves: []Curve{{Title: "loss"}}},
		"a line without points":  {Curves: []Curve{{Title: "loss", Series: []Series{{Name: "sft"}}}}},
		"a line of one point":    {Curves: []Curve{{Title: "loss", Series: []Series{{X: []float64{1}, Y: []float64{2}}}}}},
		"a line without numbers": {Curves: []Curve{{Title: "loss", Series: []Series{{X: []float64{math.NaN()}, Y: []float64{math.Inf(1)}}}}}},
		"lengths that differ":    {Curves: []Curve{{Title: "loss", Series: []Series{{X: []float64{1, 2, 3}, Y: []float64{4}}}}}},
		"a grid without rows":    {Grids: []Grid{{Title: "pictures", Columns: []string{"base"}}}},
		"a picture that is lost": {Grids: []Grid{{Rows: []Row{{Prompt: "x", Pictures: []Picture{{}, {Verdict: "right"}}}}}}},
		"checkpoints of nothing": {Checkpoints: []run.CheckpointRef{{}}},
	} {
		t.Run(name, func(t *testing.T) {
			elements, text := parse(t, write(t, p))
			selfContained(t, elements)
			count := map[string]int{}
			for _, e := range elements {
				count[e.name]++
			}
			if count["h1"] != 1 || count["svg"] != len(p.Curves) || count["img"] != 0 {
				t.Errorf("%v", count)
			}
			if strings.Contains(text, "NaN") || strings.Contains(text, "Inf") || strings.Contains(text, "%!") {
				t.Errorf("a number that is none is shown:\n%s", text)
			}
		})
	}
}

// The style sheet loads nothing, and knows the dark scheme.
func TestStyleIsSelfContained(t *testing.T) {
	style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(pageHTML)
	if len(style) != 2 || outside.MatchString(style[1]) {
		t.Errorf("the style loads something: %q", style)
	}
	if !strings.Contains(style[1], "prefers-color-scheme: dark") {
		t.Error("there is no dark scheme")
	}
}

// Sizes and times of any magnitude keep a unit and few digits.
func TestUnitsOfAnyMagnitude(t *testing.T) {
	unit := regexp.MustCompile(`^\d{1,4}(\.\d)? (B|KiB|MiB|GiB|TiB)$`)
	clock := regexp.MustCompile(`^([0-5]?\d\.\d s|[1-5]?\d min [0-5]\d s|[1-9]\d* h [0-5]\d min)$`)
	rapid.Check(t, func(t *rapid.T) {
		n := int64(1) << rapid.IntRange(0, 49).Draw(t, "bits")
		n += rapid.Int64Range(0, n).Draw(t, "more")
		if got := Bytes(n); !unit.MatchString(got) {
			t.Fatalf("%d bytes are %q", n, got)
		}
		s := float64(rapid.IntRange(0, 1e8).Draw(t, "tenths of seconds")) / 10
		if got := Seconds(s); !clock.MatchString(got) {
			t.Fatalf("%v seconds are %q", s, got)
		}
	})
}
