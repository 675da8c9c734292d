package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/sciflux/sciflux/cmd/sciflux/internal/console"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/workflows"
)

func itoa(n int) string { return strconv.Itoa(n) }

const (
	linesEvery = 3 * time.Second // between progress lines that are not rewritten
	lookEvery  = 3 * time.Second // at the state of a run that this process works on
	watchEvery = time.Second     // at the state of a run that others work on
)

// outcome is how a run's execution ended.
type outcome struct {
	state run.State
	err   error
}

// see works on a run until it ends or ctx does, shows how it goes, and leaves its results in the run's folder.
func (a *app) see(ctx context.Context, s *site, name string, resume bool) error {
	progress := &sink{show: console.Progress{Printer: a.print, Every: linesEvery}}
	c, err := s.work(a.version, progress.take)
	if err != nil {
		return err
	}
	if resume {
		s.unpause(ctx, name)
	}
	end, err := a.wait(ctx, s, name, progress, lookEvery)
	interrupted := ctx.Err() != nil
	if interrupted {
		a.print.Note("stopping after the step in hand; press Ctrl-C again to stop at once")
	}
	if closeErr := c.close(); closeErr != nil && err == nil {
		err = closeErr
	}
	if interrupted {
		return a.interrupted(name)
	}
	if err != nil {
		return err
	}
	return a.finish(ctx, s, end)
}

// unpause lets a paused run go on. Trouble is met again, and told, by whoever waits for the run.
func (s *site) unpause(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	if live, err := s.runs.State(ctx, name); err == nil && live.Status == run.StatusPaused {
		if _, err := s.runs.Unpause(ctx, name); err != nil {
			s.log.Warn("let the run go on", "run", name, "error", err)
		}
	}
}

// interrupted is the error of a run that was left before its end.
func (a *app) interrupted(name string) error {
	command := "sciflux resume " + name
	if a.dir != "" {
		command += " --state-dir " + a.dir
	}
	return &run.Error{Class: run.ClassPreempted, Op: "run", Subject: name, Cause: errors.New("interrupted at a checkpoint"), Hint: "continue with `" + command + "`"}
}

// wait shows a run's state until its execution ends or ctx does.
func (a *app) wait(ctx context.Context, s *site, name string, progress *sink, every time.Duration) (run.State, error) {
	ended := make(chan outcome, 1)
	go func() {
		state, err := s.runs.Wait(ctx, name)
		ended <- outcome{state, err}
	}()
	w := &watch{app: a, site: s, name: name, progress: progress, remote: every == watchEvery}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case o := <-ended:
			return o.state, o.err
		case <-ctx.Done():
			return run.State{}, ctx.Err()
		case <-ticker.C:
			w.look(ctx)
		}
	}
}

// sink takes progress reports from several activities at once.
type sink struct {
	mu   sync.Mutex
	show console.Progress
}

func (s *sink) take(p run.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.show.Show(p)
}

// watch tells changes that progress reports do not carry: a pause, evaluations, work that fails and is tried again.
type watch struct {
	app      *app
	site     *site
	name     string
	progress *sink
	remote   bool // progress comes from the server, because others work

	full    bool // the disk of the state folder
	status  run.Status
	trouble string
	quick   int
	newest  time.Time
}

// change is an event of `--json`.
type change struct {
	Event  string         `json:"event"`
	Status run.Status     `json:"status,omitempty"`
	Reason string         `json:"reason,omitempty"`
	Eval   *run.QuickEval `json:"eval,omitempty"`
}

func (w *watch) look(ctx context.Context) {
	if w.site.services != nil {
		w.tellDisk(freeDisk(w.site.dir))
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	live, err := w.site.runs.State(ctx, w.name)
	if err != nil {
		return // the end of the run is told by Wait; a state that cannot be had now is asked for again
	}
	w.tell(live)
}

// fullBelow is where the disk of the state folder counts as full: less than the services write between two looks.
const fullBelow = 16 << 20

// tellDisk says that the services cannot write, which they themselves only try again and again, and when they can.
func (w *watch) tellDisk(free int64) {
	full := free >= 0 && free < fullBelow
	if full == w.full {
		return
	}
	w.full = full
	c := change{Event: "disk", Reason: room(free) + " in " + w.site.dir}
	if full {
		c.Reason += "; the run waits until there is more, and loses nothing"
	} else {
		c.Reason += "; the run goes on"
	}
	w.app.print.Event(c, "disk: "+c.Reason)
}

func (w *watch) tell(live workflows.Live) {
	p := w.app.print
	if live.Status != w.status && live.Status == run.StatusPaused {
		p.Event(change{Event: "paused", Status: live.Status, Reason: live.Reason}, "paused: "+live.Reason+"; `sciflux resume "+w.name+"` lets it go on")
	}
	w.status = live.Status
	if live.Trouble != "" && live.Trouble != w.trouble {
		p.Event(change{Event: "trouble", Reason: live.Trouble}, "trying again: "+live.Trouble)
	}
	w.trouble = live.Trouble
	for ; w.quick < len(live.Quick); w.quick++ {
		q := live.Quick[w.quick]
		p.Event(change{Event: "eval", Eval: &q}, fmt.Sprintf("%-8s  step %d  evaluation: IP %.2f, %.0f %% right", q.Stage, q.Step, q.IP, 100*q.JudgeIP))
	}
	if w.remote && live.Progress != nil && live.Progress.At.After(w.newest) {
		w.newest = live.Progress.At
		w.progress.take(*live.Progress)
	}
}

// finish copies the results of a completed run into its folder and prints the summary.
func (a *app) finish(ctx context.Context, s *site, state run.State) error {
	files, err := s.copyResults(ctx, state)
	view := console.NewRun(state, s.uri)
	view.Files, view.Timing = files, s.timing(ctx, state.Run)
	return errors.Join(a.print.Show(view), err)
}
