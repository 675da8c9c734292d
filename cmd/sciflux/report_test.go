package main

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// browsers are the names under which Chromium is installed.
var browsers = []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "headless_shell"}

// rendered is what a browser made of a report.
type rendered struct {
	Images, Decoded int
	Curves          []struct {
		Title  string
		Lines  int
		Width  float64 // of the drawn lines, in units of the diagram
		Inside bool    // all text and lines lie in the diagram
	}
	Boxes, BoxesInside int
	Headings           []string
	Tables             []struct{ Rows, Columns int }
	Clipped            []string // what has to be scrolled sideways
	PageWide           bool     // the page itself has to
	Resources          []string // loaded from elsewhere
	Ink, Paper         float64  // brightness of text and ground, 0..1
}

// probe is a script that looks at the page and leaves what it found in it.
const probe = `<script>
addEventListener("load", () => {
  const all = (q, e = document) => [...e.querySelectorAll(q)];
  const images = all("img");
  const bright = c => { const [r, g, b] = c.match(/[\d.]+/g).map(Number); return (0.2126*r + 0.7152*g + 0.0722*b) / 255; };
  const within = (r, f) => r.width > 0 && r.height > 0 && r.left >= f.left - 1 && r.right <= f.right + 1 && r.top >= f.top - 1 && r.bottom <= f.bottom + 1;
  const style = getComputedStyle(document.body), boxes = all(".box");
  const found = {
    images: images.length, decoded: images.filter(i => i.naturalWidth > 0).length,
    curves: all("figure").map(f => ({title: f.querySelector("figcaption").firstChild.textContent.trim(), lines: all("polyline", f).length,
      width: Math.max(0, ...all("polyline", f).map(p => p.getBBox().width)),
      inside: all("svg *", f).every(e => { const r = e.getBoundingClientRect(), s = f.querySelector("svg").getBoundingClientRect();
        return r.left >= s.left - 1 && r.right <= s.right + 1 && r.top >= s.top - 1 && r.bottom <= s.bottom + 1; })})),
    boxes: boxes.length, boxesinside: boxes.filter(b => within(b.getBoundingClientRect(), b.closest(".picture").querySelector("img").getBoundingClientRect())).length,
    headings: all("h1, h2, h3").map(h => h.textContent.trim()),
    tables: all("table").map(t => ({rows: t.rows.length, columns: t.rows[0].cells.length})),
    clipped: all(".scroll").filter(s => s.scrollWidth > s.clientWidth + 1).map(s => s.textContent.trim().slice(0, 30)),
    pagewide: document.documentElement.scrollWidth > innerWidth + 1,
    resources: performance.getEntriesByType("resource").map(e => e.name),
    ink: bright(style.color), paper: bright(style.backgroundColor),
  };
  document.body.innerHTML = "<pre id=found></pre>";
  document.getElementById("found").textContent = "BEGIN" + encodeURIComponent(JSON.stringify(found)) + "END";
});
</script>`

// browse opens a page in a headless browser of a width and returns what the probe found.
func browse(t *testing.T, browser, page string, width int, dark bool) rendered {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	scheme := 1
	if dark {
		scheme = 0
	}
	c := exec.CommandContext(ctx, browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--enable-logging=stderr", "--virtual-time-budget=20000",
		"--user-data-dir="+t.TempDir(), fmt.Sprintf("--window-size=%d,1400", width), fmt.Sprintf("--blink-settings=preferredColorScheme=%d", scheme),
		"--dump-dom", "file://"+page)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", browser, err, errs.String())
	}
	for line := range strings.Lines(errs.String()) {
		if strings.Contains(line, "CONSOLE") {
			t.Errorf("the browser complains: %s", line)
		}
	}
	_, text, ok := strings.Cut(out.String(), `<pre id="found">BEGIN`)
	text, _, closed := strings.Cut(text, "END</pre>")
	if !ok || !closed {
		t.Fatalf("the probe left nothing in the page:\n%.2000s\n%s", out.String(), errs.String())
	}
	text, err := url.PathUnescape(text)
	if err != nil {
		t.Fatal(err)
	}
	return decode[rendered](t, text)
}

// The report shows what it should in a real browser: decoded pictures with boxes, curves, tables, in light and dark.
func TestReportInABrowser(t *testing.T) {
	browser := ""
	for _, name := range browsers {
		if path, err := exec.LookPath(name); err == nil {
			browser = path
			break
		}
	}
	if browser == "" {
		t.Skipf("no browser: none of %s is installed", strings.Join(browsers, ", "))
	}
	state := smokeRun(t)
	html, err := os.ReadFile(filepath.Join(state, "runs", "small", "report", "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(page, append(html, probe...), 0o600); err != nil {
		t.Fatal(err)
	}
	light, dark, narrow := browse(t, browser, page, 1200, false), browse(t, browser, page, 1200, true), browse(t, browser, page, 500, false)
	checkPictures(t, light)
	checkCurves(t, light)
	checkTables(t, light)
	if light.Paper < 0.8 || light.Ink > 0.3 {
		t.Errorf("light: ink %.2f on paper %.2f", light.Ink, light.Paper)
	}
	if dark.Paper > 0.2 || dark.Ink < 0.7 {
		t.Errorf("dark: ink %.2f on paper %.2f", dark.Ink, dark.Paper)
	}
	if len(light.Clipped) > 0 {
		t.Errorf("1200 pixels are not enough for %q", light.Clipped)
	}
	if light.PageWide || narrow.PageWide {
		t.Error("the page has to be scrolled sideways")
	}
}

func checkPictures(t *testing.T, r rendered) {
	t.Helper()
	// Six columns or more for every tuple that is shown, and pairs of the last epoch.
	if r.Images < 2*6 || r.Decoded != r.Images {
		t.Errorf("%d of %d pictures are decoded", r.Decoded, r.Images)
	}
	if r.Boxes == 0 || r.BoxesInside != r.Boxes {
		t.Errorf("%d of %d boxes lie inside their pictures", r.BoxesInside, r.Boxes)
	}
	if len(r.Resources) > 0 {
		t.Errorf("the page loads %q", r.Resources)
	}
}

func checkCurves(t *testing.T, r rendered) {
	t.Helper()
	var titles []string
	for _, c := range r.Curves {
		titles = append(titles, c.Title)
		if c.Lines == 0 || c.Width < 200 {
			t.Errorf("%s: %d lines, %.0f wide", c.Title, c.Lines, c.Width)
		}
		if !c.Inside {
			t.Errorf("%s: something is drawn outside", c.Title)
		}
	}
	for _, want := range []string{"SFT loss", "OFT loss", "OFT reward", "Evaluation during training"} {
		if !slices.Contains(titles, want) {
			t.Errorf("no curve %q among %q", want, titles)
		}
	}
}

func checkTables(t *testing.T, r rendered) {
	t.Helper()
	text := strings.Join(r.Headings, "\n")
	for _, want := range []string{"small", "Results on held-out prompts", "test_S", "test_C", "Curves", "Before and after", "Pairs of the last epoch", "Time", "Checkpoints", "Config"} {
		if !strings.Contains(text, want) {
			t.Errorf("no heading %q in\n%s", want, text)
		}
	}
	if len(r.Tables) < 7 { // results and pictures of both splits, pairs, time, checkpoints
		t.Errorf("%d tables", len(r.Tables))
	}
	for i, table := range r.Tables {
		if table.Rows < 2 || table.Columns < 3 {
			t.Errorf("table %d has %d rows of %d columns", i, table.Rows, table.Columns)
		}
	}
}
