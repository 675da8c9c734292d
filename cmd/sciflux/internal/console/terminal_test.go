//go:build linux

package console

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/sciflux/sciflux/run"
)

// terminal opens a pseudo-terminal of some columns: what is written to the second shows up at the first.
func terminal(t *testing.T, columns uint16) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { screen.Close() })
	fd := int(screen.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	if tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { tty.Close() })
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	return screen, tty
}

// seen reads what the terminal shows until a mark that the caller has printed last.
func seen(t *testing.T, screen io.Reader, mark string) string {
	t.Helper()
	var b bytes.Buffer
	part := make([]byte, 4096)
	for !strings.Contains(b.String(), mark) {
		n, err := screen.Read(part)
		if err != nil {
			t.Fatalf("%v after %q", err, b.String())
		}
		b.Write(part[:n])
	}
	return b.String()
}

// On a terminal one line is rewritten, never wider than the terminal, and results begin below it.
func TestProgressOnATerminal(t *testing.T) {
	const columns = 40
	screen, tty := terminal(t, columns)
	p := &Printer{Out: tty, Err: tty}
	if !p.Terminal() {
		t.Fatal("a terminal is not seen as one")
	}
	if (&Printer{Out: tty, JSON: true}).Terminal() {
		t.Error("JSON is written as if to a person")
	}
	now := time.Unix(1000, 0)
	progress := Progress{Printer: p, Every: time.Hour, now: func() time.Time { return now }}
	for step := 1; step <= 3; step++ {
		progress.Show(run.Progress{Stage: run.StageOFT, Step: step, StepsTotal: 960, Epoch: 7, Loss: 0.641, Reward: 18.2, Note: strings.Repeat("ü", 50), At: now})
		now = now.Add(time.Second)
	}
	p.Note("END")
	text := seen(t, screen, "END")
	lines := strings.Split(text, "\r\x1b[K")
	if len(lines) != 4 || lines[0] != "" {
		t.Fatalf("%d rewrites: %q", len(lines)-1, text)
	}
	for i, line := range lines[1:] {
		line, rest, last := strings.Cut(line, "\r\n")
		if !strings.HasPrefix(line, fmt.Sprintf("oft       %d/960  epoch 7", i+1)) {
			t.Errorf("line %d is %q", i, line)
		}
		if n := utf8.RuneCountInString(line); n >= columns || !utf8.ValidString(line) {
			t.Errorf("%d characters in %d columns: %q", n, columns, line)
		}
		if last != (i == 2) || last && strings.TrimSpace(rest) != "END" {
			t.Errorf("after line %d comes %q", i, rest)
		}
	}
}

// Where no terminal is, there is neither colour nor movement: not a single control character but the ends of lines.
func TestPlainOutputHasNoControlCharacters(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		p, out, errs := printer(asJSON)
		if p.Terminal() {
			t.Fatal("a buffer is taken for a terminal")
		}
		now := time.Unix(0, 0)
		progress := Progress{Printer: p, Every: time.Second, now: func() time.Time { return now }}
		for step := range 5 {
			progress.Show(run.Progress{Stage: run.StageSFT, Step: step, StepsTotal: 5, Loss: 0.5, At: now})
			now = now.Add(time.Second)
		}
		if err := p.Show(NewRun(finished(), func(key string) string { return "s3://b/" + key })); err != nil {
			t.Fatal(err)
		}
		p.Note("a note")
		p.Fail(fmt.Errorf("an error"), run.ClassInternal)
		for _, r := range out.String() + errs.String() {
			if r < ' ' && r != '\n' || r == 0x7f {
				t.Fatalf("JSON %v: control character %q in\n%s%s", asJSON, r, out, errs)
			}
		}
		if strings.Count(out.String(), "sft") < 5 {
			t.Errorf("progress is not told line by line:\n%s", out)
		}
	}
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if (&Printer{Out: file}).Terminal() {
		t.Error("a file is taken for a terminal")
	}
}

// Whatever the numbers, a line of progress is one line with the parts it has, in one order.
func TestLineOfAnyNumbers(t *testing.T) {
	order := []string{"epoch ", " step/s", "ETA ", "loss ", "reward ", "masks "}
	rapid.Check(t, func(t *rapid.T) {
		r := run.Progress{Stage: rapid.SampledFrom(run.Stages()).Draw(t, "stage"), Step: rapid.IntRange(0, 1e9).Draw(t, "step"), StepsTotal: rapid.IntRange(0, 1e9).Draw(t, "total"),
			Epoch: rapid.IntRange(0, 1e6).Draw(t, "epoch"), Loss: rapid.Float64().Draw(t, "loss"), Reward: rapid.Float64Range(-1e3, 1e3).Draw(t, "reward"),
			Masks: run.Masks{Total: rapid.IntRange(0, 100).Draw(t, "masks")}}
		rate, eta := rapid.Float64Range(0, 1e6).Draw(t, "rate"), rapid.Float64Range(0, 1e9).Draw(t, "eta")
		got := line(r, rate, eta)
		if !strings.HasPrefix(got, string(r.Stage)) || strings.ContainsAny(got, "\n\r\t") || strings.Contains(got, "%!") {
			t.Fatalf("%q", got)
		}
		at := -1
		for i, has := range []bool{r.Epoch > 0, rate > 0, eta > 0, r.Loss != 0, r.Reward != 0, r.Masks.Total > 0} {
			k := strings.Index(got, order[i])
			if has != (k >= 0) || has && k < at {
				t.Fatalf("%s in %q: %v", order[i], got, has)
			}
			at = max(at, k)
		}
	})
}

// The results of a run stand in columns: every number of a column ends in the same place.
func TestResultsStandInColumns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []run.EvalResult
		score := rapid.Float64Range(-100, 100)
		for _, v := range run.Variants() {
			all = append(all, run.EvalResult{Split: "test_S", Variant: v, SP: score.Draw(t, "sp"), EP: score.Draw(t, "ep"), IP: score.Draw(t, "ip"), ND: score.Draw(t, "nd"),
				RI: score.Draw(t, "ri"), JudgeIP: rapid.Float64Range(0, 1).Draw(t, "right"), RIGain: run.Interval{Mean: 1, Low: -1, High: 2}})
		}
		var b bytes.Buffer
		results(&b, all)
		lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		if len(lines) != 1+len(all) {
			t.Fatalf("%d lines", len(lines))
		}
		header := []rune(lines[0])
		end := len([]rune(strings.SplitAfter(lines[0], "  RI")[0])) // the last letter of the header RI
		if string(header[end-2:end]) != "RI" {
			t.Fatalf("no column RI in %q", lines[0])
		}
		for i, l := range lines[1:] {
			want := fmt.Sprintf("%.3f", all[i].RI)
			if got := string([]rune(l)[:end]); !strings.HasSuffix(got, " "+want) {
				t.Fatalf("%q does not end with %s", got, want)
			}
		}
	})
}
