package console

import (
	"fmt"
	"io"

	"github.com/sciflux/sciflux/report"
	"github.com/sciflux/sciflux/run"
)

// Object is an object of the store as a command shows it.
type Object struct {
	URI    string `json:"uri"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// Checkpoint is a checkpoint as a command shows it.
type Checkpoint struct {
	Stage    run.Stage `json:"stage"`
	Step     int       `json:"step"`
	Epoch    int       `json:"epoch,omitempty"`
	Manifest Object    `json:"manifest"`
	Adapter  Object    `json:"adapter"`
	Seconds  float64   `json:"seconds"`
}

// Run is a run as `show --json` prints it.
type Run struct {
	Run         string                                    `json:"run"`
	Status      run.Status                                `json:"status"`
	Stage       run.Stage                                 `json:"stage"`
	Reason      string                                    `json:"reason,omitempty"`
	Step        int                                       `json:"step"`
	StepsTotal  int                                       `json:"steps_total"`
	Epoch       int                                       `json:"epoch,omitempty"`
	EpochsTotal int                                       `json:"epochs_total,omitempty"`
	Adapter     Object                                    `json:"adapter"`
	Checkpoints []Checkpoint                              `json:"checkpoints"`
	Metrics     map[string]map[run.Variant]run.EvalResult `json:"metrics"`
	Quick       []run.QuickEval                           `json:"quick,omitempty"`
	StageTimes  []run.StageTime                           `json:"stage_times,omitempty"`
	Timing      *run.Timing                               `json:"timing,omitempty"`
	Progress    *run.Progress                             `json:"progress,omitempty"`
	Trouble     string                                    `json:"trouble,omitempty"` // last failure of work that is tried again
	Report      Object                                    `json:"report,omitzero"`
	ConfigHash  string                                    `json:"config_hash"`
	Seed        uint64                                    `json:"seed"`
	Files       map[string]string                         `json:"files,omitempty"` // local copies by what they are

	results []run.EvalResult
}

// NewRun arranges a state. uri names the place of a key.
func NewRun(s run.State, uri func(key string) string) Run {
	object := func(r run.ObjectRef) Object {
		if r.IsZero() {
			return Object{}
		}
		return Object{URI: uri(r.Key), SHA256: r.SHA256, Bytes: r.Bytes}
	}
	r := Run{
		Run: s.Run, Status: s.Status, Stage: s.Stage, Reason: s.Reason, Step: s.Step, StepsTotal: s.StepsTotal,
		Epoch: s.Epoch, EpochsTotal: s.EpochsTotal, Adapter: object(s.Adapter), Checkpoints: []Checkpoint{},
		Metrics: run.Metrics(s.Results), Quick: s.Quick, StageTimes: s.StageTimes, Report: object(s.Report),
		ConfigHash: s.ConfigHash, Seed: s.Seed, results: s.Results,
	}
	for _, c := range s.Checkpoints {
		r.Checkpoints = append(r.Checkpoints, Checkpoint{c.Stage, c.Step, c.Epoch, object(c.Manifest), object(c.Adapter), c.Seconds})
	}
	return r
}

// Show prints a run.
func (p *Printer) Show(r Run) error { return p.Value(r, r.text) }

// text is the run for people: where it stands, what it scored, what it made and how long that took.
func (r Run) text(w io.Writer) {
	fmt.Fprintf(w, "run      %s\nstatus   %s, stage %s", r.Run, r.Status, r.Stage)
	if r.StepsTotal > 0 {
		fmt.Fprintf(w, ", step %d of %d", r.Step, r.StepsTotal)
	}
	fmt.Fprintln(w)
	for _, line := range []struct{ name, text string }{{"reason", r.Reason}, {"trouble", r.Trouble}} {
		if line.text != "" {
			fmt.Fprintf(w, "%-8s %s\n", line.name, line.text)
		}
	}
	if len(r.results) > 0 {
		fmt.Fprintln(w)
		results(w, r.results)
	}
	if len(r.StageTimes) > 0 {
		fmt.Fprintln(w)
		times(w, r.StageTimes)
		overhead(w, r.Timing)
	}
	if len(r.Checkpoints) > 0 {
		fmt.Fprintln(w)
		checkpoints(w, r.Checkpoints)
	}
	fmt.Fprintln(w)
	if r.Adapter.URI != "" {
		fmt.Fprintf(w, "adapter  %s\n         sha256 %s, %s\n", r.Adapter.URI, r.Adapter.SHA256, report.Bytes(r.Adapter.Bytes))
	}
	for _, name := range []string{"report", "adapter", "config", "metrics"} {
		if path := r.Files[name]; path != "" {
			fmt.Fprintf(w, "%-8s %s\n", name, path)
		}
	}
}

// results is the table of variants and splits: SciScore means, ND and RI, shares judged right, mean change outside the
// subject's box in grey levels, gain of RI over SFT with its 95 % interval.
func results(w io.Writer, all []run.EvalResult) {
	var rows [][]string
	for _, e := range all {
		gain := ""
		if e.RIGain != (run.Interval{}) {
			gain = fmt.Sprintf("%+.3f [%+.3f, %+.3f]", e.RIGain.Mean, e.RIGain.Low, e.RIGain.High)
		}
		rows = append(rows, []string{e.Split, report.VariantName(e.Variant),
			fmt.Sprintf("%.2f", e.SP), fmt.Sprintf("%.2f", e.EP), fmt.Sprintf("%.2f", e.IP), fmt.Sprintf("%.3f", e.ND), fmt.Sprintf("%.3f", e.RI),
			fmt.Sprintf("%.1f %%", 100*e.JudgeIP), fmt.Sprintf("%.1f %%", 100*e.JudgeEP), fmt.Sprintf("%.2f", e.Outside), gain})
	}
	Table(w, []string{"split", "variant", "SP", "EP", "IP", "ND", "RI", "IP right", "EP right", "outside", "RI gain over SFT"}, rows)
}

func times(w io.Writer, all []run.StageTime) {
	var rows [][]string
	for _, t := range all {
		rows = append(rows, []string{string(t.Stage), report.Seconds(t.WallSeconds), report.Seconds(t.BusySeconds), t.Stopped})
	}
	Table(w, []string{"stage", "time", "busy", "ended early"}, rows)
}

// overhead says what orchestration and storage cost.
func overhead(w io.Writer, t *run.Timing) {
	if t == nil || t.WallSeconds == 0 {
		return
	}
	fmt.Fprintf(w, "%.1f %% of %s outside activities; training waited %.1f %% of its time for checkpoints\n",
		100*t.OutsideShare, report.Seconds(t.WallSeconds), 100*t.SaveShare)
}

func checkpoints(w io.Writer, all []Checkpoint) {
	var rows [][]string
	for _, c := range all {
		rows = append(rows, []string{string(c.Stage), fmt.Sprint(c.Step), fmt.Sprint(c.Epoch), short(c.Manifest.SHA256), short(c.Adapter.SHA256), report.Seconds(c.Seconds)})
	}
	Table(w, []string{"checkpoint", "step", "epoch", "manifest", "adapter", "worked"}, rows)
}

// short is the beginning of a hash.
func short(hash string) string { return hash[:min(len(hash), 12)] }
