package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sciflux/sciflux/cmd/sciflux/internal/console"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/workflows"
)

func (a *app) listCommand() *cobra.Command {
	var config string
	c := &cobra.Command{
		Use:     "ls",
		Short:   "List the runs",
		Example: "  sciflux ls",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.runList(c.Context(), config) },
	}
	c.Flags().StringVar(&config, "config", "", "preset or file that names the services (default: the embedded ones)")
	return c
}

func (a *app) runList(ctx context.Context, config string) error {
	rows, err := a.listRuns(ctx, config)
	if err != nil {
		return err
	}
	return a.print.Value(rows, func(w io.Writer) {
		var cells [][]string
		for _, r := range rows {
			cells = append(cells, []string{r.Name, string(r.Status), when(r.Started), when(r.Ended)})
		}
		console.Table(w, []string{"run", "status", "started", "ended"}, cells)
	})
}

func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// listRuns lists the runs that Temporal knows and, after them, those of which only the store is left.
func (a *app) listRuns(ctx context.Context, config string) ([]workflows.Row, error) {
	cfg, err := a.defaults(config)
	if err != nil {
		return nil, err
	}
	dir, err := a.stateDir()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(servicesDir(dir)); cfg.Store.Kind == "embedded" && cfg.Temporal.Address == "" && errors.Is(err, fs.ErrNotExist) {
		return []workflows.Row{}, nil
	}
	s, err := a.connect(ctx, cfg, nil)
	if err != nil {
		return nil, err
	}
	defer s.close()
	rows, err := s.runs.List(ctx)
	if err != nil {
		return nil, err
	}
	idle := s.services != nil && !working(dir)
	for i := range rows {
		if rows[i].Status == run.StatusRunning && idle {
			rows[i].Status = run.StatusPaused
		}
	}
	names, err := store.Runs(ctx, s.objects)
	for _, name := range names {
		if !slices.ContainsFunc(rows, func(r workflows.Row) bool { return r.Name == name }) {
			state, err := s.stored(ctx, name)
			if err != nil {
				return rows, err
			}
			rows = append(rows, workflows.Row{Name: name, Status: state.Status})
		}
	}
	if rows == nil {
		rows = []workflows.Row{}
	}
	return rows, err
}
