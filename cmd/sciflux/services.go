package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sciflux/sciflux/internal/embedded"
)

func (a *app) upCommand() *cobra.Command {
	var temporal, ui, s3 int
	c := &cobra.Command{
		Use:     "up",
		Short:   "Start the embedded services and let them run",
		Long:    "Start Temporal, its web UI and the S3 service in the background, until `sciflux down`. Without this they end with the last command that uses them.",
		Example: "  sciflux up --ui-port 8233",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.runUp(c.Context(), func(o *embedded.Options) { o.Stay, o.TemporalPort, o.UIPort, o.S3Port = true, temporal, ui, s3 }, false)
		},
	}
	c.Flags().IntVar(&temporal, "temporal-port", 0, "port of Temporal (0: any free one, the same as last time)")
	c.Flags().IntVar(&ui, "ui-port", 0, "port of the web UI (0: any free one, the same as last time)")
	c.Flags().IntVar(&s3, "s3-port", 0, "port of the S3 service (0: any free one, the same as last time)")
	return c
}

func (a *app) uiCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "ui",
		Short:   "Show the address of Temporal's web UI and keep it up until Ctrl-C",
		Example: "  sciflux ui",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.runUp(c.Context(), func(*embedded.Options) {}, true)
		},
	}
}

// runUp starts, or attaches to, the embedded services and prints their addresses; stay keeps them in use until ctx ends.
func (a *app) runUp(ctx context.Context, choose func(*embedded.Options), stay bool) error {
	cfg, err := a.defaults("")
	if err != nil {
		return err
	}
	dir, err := a.stateDir()
	if err != nil {
		return err
	}
	o := a.serviceOptions(cfg, dir)
	choose(&o)
	s, err := embedded.Start(ctx, o)
	if err != nil {
		return err
	}
	defer s.Close()
	err = a.print.Value(s, func(w io.Writer) {
		fmt.Fprintf(w, "temporal  %s, namespace %s\nweb UI    %s\nS3        %s, bucket %s\nprocess   %d, state in %s\n",
			s.TemporalAddress, s.Namespace, s.UIAddress, s.S3Endpoint, s.Bucket, s.PID, o.Dir)
		if s.ReadySeconds > 0 {
			fmt.Fprintf(w, "ready     after %.1f s\n", s.ReadySeconds)
		}
	})
	if stay {
		<-ctx.Done()
	}
	return err
}

func (a *app) downCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "down",
		Short:   "Stop the embedded services",
		Long:    "Stop the embedded services, whoever uses them. Runs under way are not lost: `sciflux resume` continues them.",
		Example: "  sciflux down",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.runDown(c.Context()) },
	}
}

func (a *app) runDown(ctx context.Context) error {
	dir, err := a.stateDir()
	if err != nil {
		return err
	}
	type stopped struct {
		Stopped bool `json:"stopped"`
	}
	err = embedded.Stop(ctx, servicesDir(dir))
	if errors.Is(err, embedded.ErrNotRunning) {
		a.print.Event(stopped{false}, "the services were not running")
		return nil
	}
	if err == nil {
		a.print.Event(stopped{true}, "the services are stopped")
	}
	return err
}

func (a *app) servicesCommand() *cobra.Command {
	return &cobra.Command{
		Use:     embedded.ServicesCommand,
		Short:   "Body of the services' process, started by other commands",
		Example: "  sciflux up",
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return embedded.Main(context.WithoutCancel(c.Context())) },
	}
}
