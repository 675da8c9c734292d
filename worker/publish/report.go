package publish

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sort"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/report"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/worker/measure"
	"github.com/sciflux/sciflux/worker/opened"
)

// Report writes the report page. See activities.Publisher.
func Report(ctx context.Context, r *opened.Run, c activities.ReportJob, m activities.Monitor) (run.ObjectRef, error) {
	page, err := pageOf(ctx, r, c)
	if err != nil {
		return run.ObjectRef{}, err
	}
	ref, err := store.Write(ctx, r.Objects, run.Keys(c.Job.Run).Report()+"index.html", func(w io.Writer) error { return report.Write(w, page) })
	m.Report(run.Progress{Stage: run.StageExport, Note: "report written", At: time.Now()})
	return ref, err
}

// pageOf gathers everything the page shows.
func pageOf(ctx context.Context, r *opened.Run, c activities.ReportJob) (report.Page, error) {
	cfg := r.Recipe.Config
	p := report.Page{
		Run: c.Job.Run, Status: run.StatusCompleted, Reason: c.State.Reason, Finished: time.Now().UTC(), CodeVersion: r.CodeVersion,
		Machine: r.Models.Backend.Name(), Seed: c.Job.Seed, ConfigHash: c.Job.ConfigHash, Config: cfg.Resolved(),
		Results: c.State.Results, Checkpoints: c.State.Checkpoints, Adapter: c.State.Adapter, Times: c.State.StageTimes,
		CostPerHour: cfg.Worker.PricePerHour, Currency: cfg.Worker.Currency,
	}
	p.Findings = report.Findings(c.State.Results)
	events, err := events(ctx, r)
	if err != nil {
		return p, err
	}
	p.Curves = report.Curves(events, c.State.Quick)
	splits, err := measure.ReadSplits(ctx, r.Objects, c.Parts)
	if err != nil {
		return p, err
	}
	for _, split := range splits {
		grid, err := gridOf(ctx, r, split)
		if err != nil {
			return p, err
		}
		p.Grids = append(p.Grids, grid)
	}
	masks, err := maskGrid(ctx, r, c.State)
	if err != nil {
		return p, err
	}
	if len(masks.Rows) > 0 {
		p.Grids = append(p.Grids, masks)
	}
	return p, nil
}

// events are all metric events of the run, in the order of stages and steps.
func events(ctx context.Context, r *opened.Run) ([]run.Event, error) {
	objects, err := r.Objects.List(ctx, run.Keys(r.Job.Run).Metrics())
	if err != nil {
		return nil, err
	}
	var all []run.Event
	for _, o := range objects {
		text, _, err := store.ReadAll(ctx, r.Objects, o.Key)
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
