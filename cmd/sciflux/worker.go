package main

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/sciflux/sciflux/run"
)

func (a *app) workerCommand() *cobra.Command {
	var config string
	var set []string
	c := &cobra.Command{
		Use:   "worker",
		Short: "Work on runs until Ctrl-C",
		Long: `Take work of any run from the task queues of the config's Temporal service. Every machine that should work on runs
starts one. Ctrl-C finishes the step in hand and commits a checkpoint; another worker continues from it.`,
		Example: "  sciflux worker --config cluster.yaml",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.runWorker(c.Context(), config, set) },
	}
	c.Flags().StringVar(&config, "config", "", "preset or file that names the services (default: the embedded ones)")
	c.Flags().StringArrayVar(&set, "set", nil, "set a key of the config, as worker.threads=4")
	return c
}

func (a *app) runWorker(ctx context.Context, config string, set []string) error {
	cfg, err := a.load(config, set)
	if err != nil {
		return err
	}
	s, err := a.connect(ctx, cfg, slog.New(slog.NewTextHandler(a.err, nil)))
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.probeStore(ctx); err != nil {
		return err
	}
	c, err := s.work(a.version, nil)
	if err != nil {
		return err
	}
	queues := run.QueuesOf(cfg)
	type named struct {
		Control string `json:"control"`
		CPU     string `json:"cpu"`
		GPU     string `json:"gpu"`
	}
	type at struct {
		Event string `json:"event"`
		Queue named  `json:"queues"`
	}
	a.print.Event(at{"working", named(queues)}, "working on queue "+queues.Control+"; Ctrl-C stops after the step in hand")
	<-ctx.Done()
	return c.close()
}
