package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sciflux/sciflux/cmd/sciflux/internal/console"
)

func (a *app) watchCommand() *cobra.Command {
	var config string
	c := &cobra.Command{
		Use:     "watch RUN",
		Short:   "Follow a run that another process works on",
		Long:    "Show the progress of a run until it ends, and then its summary. Ctrl-C ends the watching, not the run.",
		Example: "  sciflux watch world",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runWatch(c.Context(), args[0], config)
		},
	}
	c.Flags().StringVar(&config, "config", "", "preset or file that says where the run is, when this state folder does not know it")
	return c
}

func (a *app) runWatch(ctx context.Context, name, config string) error {
	cfg, err := a.configOf(ctx, name, config, nil)
	if err != nil {
		return err
	}
	s, err := a.connect(ctx, cfg, nil)
	if err != nil {
		return err
	}
	defer s.close()
	now, err := s.state(ctx, name)
	if err != nil {
		return err
	}
	if now.Idle || now.Status.Final() {
		return a.print.Show(console.NewRun(now.State, s.uri))
	}
	state, err := a.wait(ctx, s, name, &sink{show: console.Progress{Printer: a.print, Every: linesEvery}}, watchEvery)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	return a.print.Show(console.NewRun(state, s.uri))
}
