package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sciflux/sciflux/run"
)

func (a *app) logsCommand() *cobra.Command {
	var follow bool
	c := &cobra.Command{
		Use:     "logs RUN",
		Short:   "Print what the workers of a run on this machine logged",
		Example: "  sciflux logs world --follow",
		Args:    cobra.ExactArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return a.runLogs(c.Context(), args[0], follow) },
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on printing what is added, until Ctrl-C")
	return c
}

const logPause = 200 * time.Millisecond

func (a *app) runLogs(ctx context.Context, name string, follow bool) error {
	dir, err := a.stateDir()
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(runDir(dir, name), "worker.log"))
	if errors.Is(err, fs.ErrNotExist) {
		return run.Errorf(run.ClassConfig, "read log of run", name, "`sciflux ls` lists the runs", "nobody worked on such a run in %s", dir)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		if _, err := io.Copy(a.out, f); err != nil {
			return err
		}
		if !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(logPause):
		}
	}
}
