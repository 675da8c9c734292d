package main

import (
	"context"

	"github.com/spf13/cobra"
)

type resumeOptions struct {
	config string
	set    []string
	detach bool
}

func (a *app) resumeCommand() *cobra.Command {
	var o resumeOptions
	c := &cobra.Command{
		Use:   "resume RUN",
		Short: "Continue a run that was interrupted, paused or failed",
		Long: `Continue a run from its last checkpoint and follow it to its report. The result is the same, bit for bit, as without
the interruption.

A run whose workflow is alive is joined, a paused one let go on, a failed or lost one started again from the store. On
another machine, --config names a file with the addresses of the store and of Temporal.`,
		Example: "  sciflux resume world",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runResume(c.Context(), args[0], o)
		},
	}
	c.Flags().StringVar(&o.config, "config", "", "preset or file that says where the run is, when this state folder does not know it")
	c.Flags().StringArrayVar(&o.set, "set", nil, "set a key that does not change the result, as worker.threads=4")
	c.Flags().BoolVar(&o.detach, "detach", false, "work in the background")
	return c
}

func (a *app) runResume(ctx context.Context, name string, o resumeOptions) error {
	cfg, err := a.configOf(ctx, name, o.config, o.set)
	if err != nil {
		return err
	}
	cfg.Name = name
	return a.execute(ctx, cfg, o.detach, true)
}
