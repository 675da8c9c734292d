// Package console prints what the commands have to say: as text for people, as JSON for programs. It is the only place
// that formats output.
package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/sciflux/sciflux/run"
)

// Printer writes results to Out and notes about them to Err. With JSON every result is JSON and notes stay text on Err.
type Printer struct {
	Out, Err io.Writer
	JSON     bool

	mu      sync.Mutex
	updated bool // the last line of Out is one that Update rewrites
}

// Terminal reports whether Out is a terminal, where lines can be rewritten.
func (p *Printer) Terminal() bool {
	f, ok := p.Out.(*os.File)
	return ok && !p.JSON && term.IsTerminal(int(f.Fd()))
}

// Value prints one result: indented JSON of v, or what text writes.
func (p *Printer) Value(v any, text func(w io.Writer)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLine()
	if !p.JSON {
		text(p.Out)
		return nil
	}
	encoder := json.NewEncoder(p.Out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// Event prints one of a stream of results: a line of JSON of v, or the line of text.
func (p *Printer) Event(v any, line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLine()
	if p.JSON {
		_ = json.NewEncoder(p.Out).Encode(v) // a reader that went away ends the command elsewhere
		return
	}
	fmt.Fprintln(p.Out, line)
}

// Update shows a line that the next Update replaces; only for terminals.
func (p *Printer) Update(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f, ok := p.Out.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 1 && utf8.RuneCountInString(line) >= width {
			line = string([]rune(line)[:width-1])
		}
	}
	fmt.Fprintf(p.Out, "\r\x1b[K%s", line)
	p.updated = true
}

// endLine leaves an updated line behind.
func (p *Printer) endLine() {
	if p.updated {
		fmt.Fprintln(p.Out)
		p.updated = false
	}
}

// Note says something beside the result: on Out as text, on Err when Out holds JSON.
func (p *Printer) Note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLine()
	w := p.Out
	if p.JSON {
		w = p.Err
	}
	fmt.Fprintf(w, format+"\n", args...)
}

// failure is an error as JSON.
type failure struct {
	Error string    `json:"error"`
	Class run.Class `json:"class"`
	Hint  string    `json:"hint,omitempty"`
	Exit  int       `json:"exit_code"`
}

// Fail reports an error on Err.
func (p *Printer) Fail(err error, class run.Class) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLine()
	if !p.JSON {
		fmt.Fprintf(p.Err, "sciflux: %s\n", Plain(err.Error()))
		return
	}
	f := failure{Error: err.Error(), Class: class, Exit: class.ExitCode()}
	var classified *run.Error
	if errors.As(err, &classified) {
		f.Hint = classified.Hint
	}
	_ = json.NewEncoder(p.Err).Encode(f)
}

// Table writes rows below a header in columns as wide as their widest cell. Columns of numbers stand to the right.
func Table(w io.Writer, header []string, rows [][]string) {
	width, right := make([]int, len(header)), make([]bool, len(header))
	for c := range header {
		width[c], right[c] = utf8.RuneCountInString(header[c]), len(rows) > 0
		for _, row := range rows {
			width[c] = max(width[c], utf8.RuneCountInString(row[c]))
			right[c] = right[c] && numeric(row[c])
		}
	}
	for _, row := range append([][]string{header}, rows...) {
		var line strings.Builder
		for c, cell := range row {
			gap := strings.Repeat(" ", width[c]-utf8.RuneCountInString(cell))
			if right[c] {
				line.WriteString(gap + cell + "  ")
			} else {
				line.WriteString(cell + gap + "  ")
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// numeric reports whether a cell is a number with perhaps a unit, or empty.
func numeric(cell string) bool {
	return cell == "" || strings.ContainsRune("0123456789+-−", []rune(cell)[0])
}
