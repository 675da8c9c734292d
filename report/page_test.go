package report

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/run"
)

func write(t *testing.T, p Page) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, p); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPageHoldsWhatItIsGiven(t *testing.T) {
	html := write(t, Page{
		Run: "world", Status: run.StatusCompleted, Machine: "cpu", ConfigHash: "0123456789abcdef", Config: "seed: 1",
		Findings: []Finding{{Text: "it learned", Good: true}, {Text: "it forgot"}},
		Results: []run.EvalResult{
			{Split: "test_S", Variant: run.VariantBase, IP: 10.126}, {Split: "test_C", Variant: run.VariantBase, IP: 20},
			{Split: "test_S", Variant: run.VariantOFT, IP: 12, RIGain: run.Interval{Mean: 0.1, Low: 0.05, High: 0.2}}},
		Curves:      []Curve{{Title: "loss", X: "step", Y: "loss", Series: []Series{{Name: "sft", X: []float64{1, 2}, Y: []float64{3, 2}}}}},
		Grids:       []Grid{{Title: "before and after", Columns: []string{"base"}, Rows: []Row{{Prompt: "an unripe apple", Pictures: []Picture{{PNG: []byte("png"), Verdict: "right", Box: &Box{0.5, 0.5, 0.5, 2}}}}}}},
		Times:       []run.StageTime{{Stage: run.StageSFT, WallSeconds: 61}},
		CostPerHour: 3600, Currency: "USD",
		Checkpoints: []run.CheckpointRef{{Stage: run.StageSFT, Step: 7, Adapter: run.ObjectRef{SHA256: "feedfacefeedface"}}},
	})
	for _, want := range []string{"it learned", `class="missed"`, "test_C", "10.13", "&#43;0.100 [&#43;0.050, &#43;0.200]", "<polyline", "data:image/png;base64,cG5n",
		"an unripe apple", "height:100%", "1 min 01 s", "61.000", "feedfacefeed", "seed: 1"} {
		if !strings.Contains(html, want) {
			t.Errorf("page lacks %q", want)
		}
	}
	if strings.Contains(html, "http://") || strings.Contains(html, "https://") {
		t.Error("page loads something from elsewhere")
	}
}

func TestForeignTextIsEscaped(t *testing.T) {
	evil := `<script>alert(1)</script>`
	html := write(t, Page{Run: evil, Reason: evil, Config: evil, Grids: []Grid{{Title: evil, Rows: []Row{{Prompt: evil}}}},
		Curves: []Curve{{Title: evil, X: evil, Y: evil, Series: []Series{{Name: evil}, {Name: evil}}}}})
	if strings.Contains(html, "<script") {
		t.Error("a prompt can put script into the page")
	}
}

func TestCurvesStayInsideTheirBox(t *testing.T) {
	value := rapid.OneOf(rapid.Float64Range(-1e6, 1e6), rapid.Just(math.NaN()), rapid.Just(math.Inf(1)), rapid.Just(0.0))
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 20).Draw(t, "points")
		c := Curve{Title: "t"}
		for range rapid.IntRange(0, 3).Draw(t, "series") {
			c.Series = append(c.Series, Series{X: rapid.SliceOfN(value, n, n).Draw(t, "x"), Y: rapid.SliceOfN(value, n, n).Draw(t, "y")})
		}
		s := string(svg(c))
		if strings.Contains(s, "NaN") || strings.Contains(s, "Inf") {
			t.Fatalf("not finite: %s", s)
		}
	})
}

func TestTicksAreRoundAndInside(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		low := rapid.Float64Range(-1000, 1000).Draw(t, "low")
		r := span{low, low + rapid.Float64Range(1e-3, 1e5).Draw(t, "size")}
		ticks := r.ticks()
		if len(ticks) < 2 || len(ticks) > 8 {
			t.Fatalf("%v: ticks %v", r, ticks)
		}
		for _, v := range ticks {
			if v < r.low-1e-9*math.Abs(r.low) || v > r.high+1e-9*math.Abs(r.high) {
				t.Fatalf("%v: tick %v outside", r, v)
			}
		}
	})
}

func TestTicksCanBeToldApart(t *testing.T) {
	if got := labels([]float64{0.69310, 0.69315, 0.69320}); got[0] == got[1] || got[1] == got[2] {
		t.Errorf("%q", got)
	}
	if got := labels([]float64{0, 5e-6, 1e-5, 200}); strings.Join(got, " ") != "0 5.0e-06 1.0e-05 200" {
		t.Errorf("%q", got)
	}
}

func TestUnits(t *testing.T) {
	for s, want := range map[float64]string{0.25: "0.2 s", 59: "59.0 s", 59.94: "59.9 s", 59.96: "1 min 00 s", 3599.7: "1 h 00 min", 60: "1 min 00 s", 3723: "1 h 02 min"} {
		if got := Seconds(s); got != want {
			t.Errorf("%v s: %q, want %q", s, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 5 << 30: "5.0 GiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d bytes: %q, want %q", n, got, want)
		}
	}
	for _, v := range run.Variants() {
		if VariantName(v) == "" {
			t.Errorf("%s has no name", v)
		}
	}
}
