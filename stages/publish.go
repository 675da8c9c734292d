package stages

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/eval"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/report"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/store/safetensors"
)

// Export implements activities.Publisher: the adapter in diffusers and in kohya naming, a card, and hashes.
func (s *Studio) Export(ctx context.Context, c activities.ExportJob, m activities.Monitor) (activities.ExportResult, error) {
	d, err := s.desk(ctx, c.Job)
	if err != nil {
		return activities.ExportResult{}, err
	}
	adapter, err := d.evaluated(ctx, c.Checkpoint)
	if err != nil {
		return activities.ExportResult{}, err
	}
	prefix := run.Keys(c.Job.Run).Export()
	var out activities.ExportResult
	put := func(name string, write func(io.Writer) error) (run.ObjectRef, error) {
		ref, err := store.Write(ctx, d.objects(), prefix+name, write)
		if err == nil {
			out.Files++
		}
		return ref, err
	}
	if out.Adapter, err = put(lora.DiffusersFile, func(w io.Writer) error {
		_, err := adapter.Write(w, safetensors.F32)
		return err
	}); err != nil {
		return out, err
	}
	if _, err = put("README.md", func(w io.Writer) error { return d.card(w, c, adapter) }); err != nil {
		return out, err
	}
	sums, err := json.MarshalIndent(map[string]any{"adapter": out.Adapter, "checkpoint": c.Checkpoint, "config_hash": c.Job.ConfigHash, "variant": c.Variant}, "", " ")
	if err != nil {
		return out, err
	}
	_, err = put("provenance.json", func(w io.Writer) error { _, err := w.Write(sums); return err })
	m.Report(run.Progress{Stage: run.StageExport, Note: "adapter written", At: time.Now()})
	return out, err
}

// card is the model card.
func (d *desk) card(w io.Writer, c activities.ExportJob, a *lora.Adapter) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\nLoRA adapter, rank %s, for %s, fine-tuned by sciflux (%s).\n\n", c.Job.Run, ranks(a), d.cfg.Model.Pipeline, report.VariantName(c.Variant))
	fmt.Fprintf(&b, "- checkpoint: %s\n- config hash: `%s`\n- seed: %d\n\n", c.Checkpoint, c.Job.ConfigHash, c.Job.Seed)
	b.WriteString("| split | variant | IP | EP | RI | IP right |\n|---|---|---|---|---|---|\n")
	for _, r := range c.Results {
		fmt.Fprintf(&b, "| %s | %s | %.2f | %.2f | %.3f | %.3f |\n", r.Split, report.VariantName(r.Variant), r.IP, r.EP, r.RI, r.JudgeIP)
	}
	b.WriteString("\nWith diffusers: `pipe.load_lora_weights(\"" + lora.DiffusersFile + "\")`.\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// ranks is the rank of an adapter's modules, or the lowest and the highest: the config leaves it to an adapter that the run
// started from.
func ranks(a *lora.Adapter) string {
	low, high := a.Modules[0].Rank, a.Modules[0].Rank
	for _, m := range a.Modules {
		low, high = min(low, m.Rank), max(high, m.Rank)
	}
	if low == high {
		return strconv.Itoa(low)
	}
	return fmt.Sprintf("%d to %d", low, high)
}

// Report implements activities.Publisher.
func (s *Studio) Report(ctx context.Context, c activities.ReportJob, m activities.Monitor) (run.ObjectRef, error) {
	d, err := s.desk(ctx, c.Job)
	if err != nil {
		return run.ObjectRef{}, err
	}
	page, err := d.page(ctx, c)
	if err != nil {
		return run.ObjectRef{}, err
	}
	ref, err := store.Write(ctx, d.objects(), run.Keys(c.Job.Run).Report()+"index.html", func(w io.Writer) error { return report.Write(w, page) })
	m.Report(run.Progress{Stage: run.StageExport, Note: "report written", At: time.Now()})
	return ref, err
}

func (d *desk) page(ctx context.Context, c activities.ReportJob) (report.Page, error) {
	p := report.Page{
		Run: c.Job.Run, Status: run.StatusCompleted, Reason: c.State.Reason, Finished: time.Now().UTC(), CodeVersion: d.studio.options.CodeVersion,
		Machine: d.be.Name(), Seed: c.Job.Seed, ConfigHash: c.Job.ConfigHash, Config: d.cfg.Resolved(),
		Results: c.State.Results, Checkpoints: c.State.Checkpoints, Adapter: c.State.Adapter, Times: c.State.StageTimes,
		CostPerHour: d.cfg.Worker.PricePerHour, Currency: d.cfg.Worker.Currency,
	}
	p.Findings = findings(c.State.Results)
	events, err := d.events(ctx)
	if err != nil {
		return p, err
	}
	p.Curves = curves(events, c.State.Quick)
	sets, err := d.readParts(ctx, c.Parts)
	if err != nil {
		return p, err
	}
	for _, set := range sets {
		grid, err := d.gridOf(ctx, set)
		if err != nil {
			return p, err
		}
		p.Grids = append(p.Grids, grid)
	}
	masks, err := d.maskGrid(ctx, c.State)
	if err != nil {
		return p, err
	}
	if len(masks.Rows) > 0 {
		p.Grids = append(p.Grids, masks)
	}
	return p, nil
}

// events are all metric events of the run, in the order of stages and steps.
func (d *desk) events(ctx context.Context) ([]run.Event, error) {
	objects, err := d.objects().List(ctx, run.Keys(d.job.Run).Metrics())
	if err != nil {
		return nil, err
	}
	var all []run.Event
	for _, o := range objects {
		text, _, err := store.ReadAll(ctx, d.objects(), o.Key)
		if err != nil {
			return nil, err
		}
		events, err := run.ReadEvents(bytes.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("read metrics %s: %w", o.Key, err)
		}
		all = append(all, events...)
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Step < all[j].Step })
	return all, nil
}

// curves draws what training logged.
func curves(events []run.Event, quick []run.QuickEval) []report.Curve {
	series := func(stage run.Stage, name, label string) report.Series {
		s := report.Series{Name: label}
		for _, e := range events {
			if v, ok := e.Values[name]; ok && e.Stage == stage && e.Kind == "step" {
				s.X, s.Y = append(s.X, float64(e.Step)), append(s.Y, v)
			}
		}
		return s
	}
	all := []report.Curve{
		{Title: "SFT loss", X: "optimiser step", Y: "velocity error", Series: []report.Series{smooth(series(run.StageSFT, "loss", "SFT")), smooth(series(run.StageCompare, "loss", "continued"))}},
		{Title: "OFT reward", X: "optimiser step", Y: "SciScore", Series: []report.Series{series(run.StageOFT, "reward_best", "better of a pair"), series(run.StageOFT, "reward", "mean")}},
		{Title: "OFT loss", X: "optimiser step", Y: "DPO loss", Series: []report.Series{series(run.StageOFT, "loss", "loss")}},
		{Title: "Distance to the reference", X: "optimiser step", Y: "KL, nats per element", Series: []report.Series{series(run.StageOFT, "kl", "KL")}},
		{Title: "Ratios beyond the clamp", X: "optimiser step", Y: "share", Series: []report.Series{series(run.StageOFT, "clamped", "clamped")}},
		quickCurve(quick),
	}
	var out []report.Curve
	for _, c := range all {
		var kept []report.Series
		for _, s := range c.Series {
			if len(s.X) > 0 {
				kept = append(kept, s)
			}
		}
		if c.Series = kept; len(kept) > 0 {
			out = append(out, c)
		}
	}
	return out
}

// quickCurve is the evaluation during training: both stages on one axis of evaluations.
func quickCurve(quick []run.QuickEval) report.Curve {
	score, right := report.Series{Name: "SciScore"}, report.Series{Name: "judged right, %"}
	for i, q := range quick {
		score.X, score.Y = append(score.X, float64(i+1)), append(score.Y, q.IP)
		right.X, right.Y = append(right.X, float64(i+1)), append(right.Y, 100*q.JudgeIP)
	}
	return report.Curve{Title: "Evaluation during training", X: "evaluation", Y: "implicit prompts", Series: []report.Series{score, right}}
}

// smooth is a running mean over a fortieth of the points: single-step losses jump with their noise levels. The first
// points, which have no full window before them, take that of the first window, so that none of them sticks out.
func smooth(s report.Series) report.Series {
	window := max(1, len(s.Y)/40)
	out := report.Series{Name: s.Name, X: s.X}
	sum := 0.0
	for _, v := range s.Y[:min(window, len(s.Y))] {
		sum += v
	}
	for i := range s.Y {
		if i >= window {
			sum += s.Y[i] - s.Y[i-window]
		}
		out.Y = append(out.Y, sum/float64(window))
	}
	return out
}

// findings are the sentences at the top of the report.
func findings(results []run.EvalResult) []report.Finding {
	var out []report.Finding
	byKey := map[string]run.EvalResult{}
	var splits []string
	for _, r := range results {
		if r.Variant == run.VariantBase {
			splits = append(splits, r.Split)
		}
		byKey[r.Split+string(r.Variant)] = r
	}
	say := func(good bool, format string, args ...any) {
		out = append(out, report.Finding{Text: fmt.Sprintf(format, args...), Good: good})
	}
	for _, split := range splits {
		base, sft, oft := byKey[split+string(run.VariantBase)], byKey[split+string(run.VariantSFT)], byKey[split+string(run.VariantOFT)]
		if sft.Tuples > 0 {
			say(sft.RI > 0, "%s: SFT closes %.0f %% of the gap between implicit and explicit prompts (RI).", split, 100*sft.RI)
		}
		if oft.Tuples > 0 {
			say(oft.RIGain.Low > 0, "%s: OFT brings RI to %.0f %%, %+.1f points over SFT (95 %% interval %+.1f to %+.1f).", split, 100*oft.RI, 100*oft.RIGain.Mean, 100*oft.RIGain.Low, 100*oft.RIGain.High)
			say(oft.JudgeIP > base.JudgeIP, "%s: the judge finds %.0f %% of pictures from implicit prompts right after OFT, %.0f %% before, %.0f %% after SFT.", split, 100*oft.JudgeIP, 100*base.JudgeIP, 100*sft.JudgeIP)
			say(oft.JudgeEP >= base.JudgeEP-0.05, "%s: explicit prompts stay at %.0f %% right (%.0f %% before).", split, 100*oft.JudgeEP, 100*base.JudgeEP)
		}
		if longer := byKey[split+string(run.VariantLonger)]; longer.Tuples > 0 && oft.Tuples > 0 {
			say(oft.RI >= longer.RI, "%s: SFT given OFT's time instead reaches RI %.0f %% and %.0f %% right; OFT %.0f %% and %.0f %%.", split, 100*longer.RI, 100*longer.JudgeIP, 100*oft.RI, 100*oft.JudgeIP)
		}
	}
	return out
}

// gridOf lays the pictures of a split side by side: what SP and EP look like, then the implicit prompt by each variant.
func (d *desk) gridOf(ctx context.Context, set splitParts) (report.Grid, error) {
	g := report.Grid{Title: "Before and after, " + set.split, Columns: []string{"base, superficial prompt", "base, explicit prompt"},
		About: "Each row is one held-out tuple; implicit-prompt pictures of a row start from the same noise in every column. The number is the SciScore against the implicit prompt, the box is where the subject was found."}
	rows, err := d.testRows(ctx, set.split)
	if err != nil {
		return g, err
	}
	var variants []run.Variant
	for _, v := range run.Variants() {
		if set.parts[v] != nil {
			variants = append(variants, v)
			g.Columns = append(g.Columns, report.VariantName(v))
		}
	}
	base := set.parts[run.VariantBase]
	if base == nil {
		return g, nil
	}
	for i, t := range base.Tuples {
		if base.Shown[t.Index] == nil {
			continue
		}
		r := report.Row{Prompt: rows[t.Index].prompt(eval.Implicit), Note: t.Law, Pictures: []report.Picture{
			cell(base.SP[t.Index], t.Superficial, "superficial prompt", false), cell(base.EP[t.Index], t.Explicit, "explicit prompt", false)}}
		for _, v := range variants {
			part := set.parts[v]
			if i < len(part.Tuples) {
				r.Pictures = append(r.Pictures, cell(part.Shown[t.Index], part.Tuples[i].Implicit, "implicit prompt, "+report.VariantName(v), true))
			}
		}
		g.Rows = append(g.Rows, r)
	}
	return g, nil
}

func cell(png []byte, measured []eval.Picture, alt string, box bool) report.Picture {
	p := report.Picture{PNG: png, Alt: alt}
	if len(measured) > 0 {
		p.Verdict, p.Score, p.Scored = measured[0].Verdict, measured[0].Score, true
		if b := measured[0].Box; b != nil && box {
			p.Box = &report.Box{CX: b[0], CY: b[1], W: b[2], H: b[3]}
		}
	}
	return p
}

// maskPairs bounds the pairs of the last epoch that the report shows.
const maskPairs = 6

// maskGrid shows the last epoch's pairs with the boxes that the preference counted in.
func (d *desk) maskGrid(ctx context.Context, state run.State) (report.Grid, error) {
	g := report.Grid{Title: "Pairs of the last epoch", Columns: []string{"sample 1", "sample 2"},
		About: "What stage 2 compared: two pictures of one prompt, their scores, and the mask inside which the preference counted."}
	var last run.CheckpointRef
	for _, c := range state.Checkpoints {
		if c.Stage == run.StageOFT && c.Epoch > last.Epoch {
			last = c
		}
	}
	if last.Epoch == 0 {
		return g, nil
	}
	keys := run.Keys(d.job.Run)
	ref, ok, err := d.made(ctx, keys.Pairs(last.Epoch-1, 0, "rollouts"))
	if !ok {
		return g, err
	}
	data, err := store.Read(ctx, d.objects(), ref)
	if err != nil {
		return g, err
	}
	r, err := readRollouts(data)
	if err != nil {
		return g, err
	}
	scores, ok, err := d.made(ctx, keys.Pairs(last.Epoch-1, 0, "scores"))
	if !ok {
		return g, err
	}
	sc, err := d.readScores(ctx, scores)
	if err != nil {
		return g, err
	}
	for p := range r.Prompts[:min(maskPairs, len(r.Prompts), len(sc.Rewards))] {
		row := report.Row{Prompt: r.Prompts[p].Text}
		for k := range min(2, len(sc.Rewards[p])) {
			png, err := encodePNG(r.Images, p*len(sc.Rewards[p])+k)
			if err != nil {
				return g, err
			}
			cell := report.Picture{PNG: png, Alt: "sample", Score: sc.Rewards[p][k], Scored: true}
			if s := sc.Subjects[p][k]; s.Masked {
				cell.Box = &report.Box{CX: float64(s.Box.CX), CY: float64(s.Box.CY), W: float64(s.Box.W), H: float64(s.Box.H)}
			}
			row.Pictures = append(row.Pictures, cell)
		}
		g.Rows = append(g.Rows, row)
	}
	return g, nil
}
