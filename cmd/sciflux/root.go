package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sciflux/sciflux/cmd/sciflux/internal/console"
	"github.com/sciflux/sciflux/run"
)

// app is what every command gets: streams, environment and the flags that all commands share.
type app struct {
	in       io.Reader
	out, err io.Writer
	environ  []string
	version  string

	dir   string // --state-dir
	json  bool
	print *console.Printer
	begun bool // flags and arguments were understood
}

// run executes a command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	a.print = &console.Printer{Out: a.out, Err: a.err}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	c, err := root.ExecuteContextC(ctx)
	if err == nil {
		return run.ExitOK
	}
	if !a.begun {
		a.print.JSON = slices.Contains(args, "--json")
		err = usageError(c, err)
	}
	class := run.ClassOf(err)
	a.print.Fail(err, class)
	return class.ExitCode()
}

// usageError is cobra's complaint about a command line, with what would be right.
func usageError(c *cobra.Command, err error) error {
	message := strings.Join(strings.Fields(err.Error()), " ") // cobra puts suggestions on lines of their own
	hint := "`" + c.CommandPath() + " --help` shows how it is used"
	if c.HasParent() {
		hint = "usage: " + c.UseLine() + "; " + hint
	}
	return run.Errorf(run.ClassConfig, "use", c.CommandPath(), hint, "%s", message)
}

const rootHelp = `Fine-tune FLUX models so that pictures obey what a prompt implies: supervised fine-tuning, then masked online DPO
against SciScore, as durable workflows with checkpoints in S3.

Everything a run needs is in the binary: a Temporal server with its web UI, an S3 service, a tiny FLUX model and its
data. The config names other services, models and data when you have them.

Exit codes:
  0  ok
  1  any other failure
  2  usage or config
  3  data or model
  4  interrupted but resumable`

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use: "sciflux", Short: "Fine-tune FLUX models that understand what a prompt implies", Long: rootHelp,
		Example:      "  sciflux run world",
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			if err := c.ValidateRequiredFlags(); err != nil { // cobra itself asks only after this
				return err
			}
			a.begun = true
			a.print.JSON = a.json
			return nil
		},
	}
	root.PersistentFlags().StringVar(&a.dir, "state-dir", "", "folder of services, runs and caches (default $SCIFLUX_STATE_DIR, else $XDG_STATE_HOME/sciflux, else ~/.local/state/sciflux)")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON")
	root.AddCommand(
		a.runCommand(), a.resumeCommand(), a.listCommand(), a.showCommand(), a.watchCommand(), a.logsCommand(),
		a.generateCommand(), a.scoreCommand(), a.dataCommand(), a.checkpointCommand(),
		a.upCommand(), a.downCommand(), a.workerCommand(), a.uiCommand(), a.servicesCommand(),
		a.doctorCommand(), a.parityCommand(), a.benchCommand(), a.configCommand(), a.versionCommand(),
	)
	return root
}

// env is the value of an environment variable.
func (a *app) env(name string) string {
	for _, entry := range a.environ {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

// stateDir is the absolute path of the state folder.
func (a *app) stateDir() (string, error) {
	dir := a.dir
	if dir == "" {
		dir = a.env("SCIFLUX_STATE_DIR")
	}
	if dir == "" {
		if base := a.env("XDG_STATE_HOME"); base != "" {
			dir = filepath.Join(base, "sciflux")
		}
	}
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", run.Errorf(run.ClassConfig, "find", "state folder", "give --state-dir", "%w", err)
		}
		dir = filepath.Join(home, ".local", "state", "sciflux")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", run.Errorf(run.ClassConfig, "find", "state folder", "give --state-dir", "%w", err)
	}
	return dir, nil
}
