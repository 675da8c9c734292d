package console

import (
	"fmt"
	"strings"
	"time"

	"github.com/sciflux/sciflux/report"
	"github.com/sciflux/sciflux/run"
)

// Progress shows how a run advances: one line that is rewritten on a terminal, else a line every few seconds.
type Progress struct {
	Printer *Printer
	Every   time.Duration // between lines where they are not rewritten

	now   func() time.Time // nil means time.Now
	shown time.Time
	note  string
	stage run.Stage
	first run.Progress   // of the stage, where its rate is counted from
	parts map[string]int // steps of the stage's parts, where it has any
}

// event is a progress report as JSON.
type event struct {
	Event string `json:"event"`
	run.Progress
	Rate float64 `json:"steps_per_second,omitempty"`
	ETA  float64 `json:"eta_seconds,omitempty"`
}

const rewriteEvery = 100 * time.Millisecond

// Show takes a report and prints it if it is time.
func (p *Progress) Show(r run.Progress) {
	if r.Stage != p.stage {
		p.parts = map[string]int{}
	}
	if r.Part != "" {
		p.parts[r.Part] = r.Step
		r.Part, r.Step = "", 0
		for _, n := range p.parts {
			r.Step += n
		}
	}
	changed := r.Stage != p.stage || r.Note != p.note
	if r.Stage != p.stage || r.Step < p.first.Step {
		p.stage, p.first = r.Stage, r
	}
	p.note = r.Note
	pause := p.Every
	if p.Printer.Terminal() {
		pause = rewriteEvery
	}
	last := r.StepsTotal > 0 && r.Step == r.StepsTotal
	if now := p.time(); now.Sub(p.shown) >= pause || changed && now.Sub(p.shown) >= pause/4 || last && !p.Printer.Terminal() && changed {
		p.shown = now
		p.print(r)
	}
}

func (p *Progress) time() time.Time {
	if p.now != nil {
		return p.now()
	}
	return time.Now()
}

func (p *Progress) print(r run.Progress) {
	rate, eta := p.rate(r)
	if p.Printer.Terminal() {
		p.Printer.Update(line(r, rate, eta))
		return
	}
	p.Printer.Event(event{Event: "progress", Progress: r, Rate: rate, ETA: eta}, line(r, rate, eta))
}

// rate is the steps a second since the stage's first report, and the seconds that are left at it; 0 when unknown.
func (p *Progress) rate(r run.Progress) (rate, eta float64) {
	if steps, time := r.Step-p.first.Step, r.At.Sub(p.first.At).Seconds(); steps > 0 && time > 0 {
		rate = float64(steps) / time
		eta = float64(max(0, r.StepsTotal-r.Step)) / rate // 0 where the total is not known
	}
	return rate, eta
}

// line is a report in one line, such as
//
//	oft  120/960  epoch 7  2.1 step/s  ETA 6 min 40 s  loss 0.641  reward 18.20  masks 32 (1 full)  scoring
func line(r run.Progress, rate, eta float64) string {
	parts := []string{fmt.Sprintf("%-8s", r.Stage)}
	add := func(show bool, format string, args ...any) {
		if show {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(r.StepsTotal > 0, "%d/%d", r.Step, r.StepsTotal)
	add(r.StepsTotal == 0 && r.Step > 0, "step %d", r.Step)
	add(r.Epoch > 0, "epoch %d", r.Epoch)
	add(rate > 0, "%.3g step/s", rate)
	add(eta > 0, "ETA %s", report.Seconds(eta))
	add(r.Loss != 0, "loss %.4g", r.Loss)
	add(r.Reward != 0, "reward %.2f", r.Reward)
	add(r.Masks.Total > 0, "masks %s", masks(r.Masks))
	add(r.Note != "", "%s", r.Note)
	return strings.Join(parts, "  ")
}

// masks counts masks and names the kinds that are worth a look.
func masks(m run.Masks) string {
	var odd []string
	for _, kind := range []struct {
		n    int
		name string
	}{{m.Missing, "missing"}, {m.Empty, "empty"}, {m.Tiny, "tiny"}, {m.Full, "full"}} {
		if kind.n > 0 {
			odd = append(odd, fmt.Sprintf("%d %s", kind.n, kind.name))
		}
	}
	if odd == nil {
		return fmt.Sprint(m.Total)
	}
	return fmt.Sprintf("%d (%s)", m.Total, strings.Join(odd, ", "))
}
