package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
)

type runOptions struct {
	name   string
	set    []string
	detach bool
}

func (a *app) runCommand() *cobra.Command {
	var o runOptions
	c := &cobra.Command{
		Use:   "run PRESET|FILE",
		Short: "Fine-tune, evaluate and report",
		Long: `Start a run, work on it and follow it to its report.

The config is checked before anything starts. A run of the same name and config that is under way is joined. Ctrl-C once
finishes the step in hand, commits a checkpoint and leaves the run resumable; twice stops at once, which costs the work
since the last checkpoint at most.`,
		Example: "  sciflux run world --name first --set seed=2",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runRun(c.Context(), args[0], o)
		},
	}
	c.Flags().StringVar(&o.name, "name", "", "name of the run (default: that of the preset or file)")
	c.Flags().StringArrayVar(&o.set, "set", nil, "set a key of the config, as sft.lr=1e-4; may be repeated")
	c.Flags().BoolVar(&o.detach, "detach", false, "work in the background; follow it with sciflux watch")
	return c
}

func (a *app) runRun(ctx context.Context, source string, o runOptions) error {
	set := o.set
	if o.name != "" {
		set = append(set, "name="+o.name)
	}
	cfg, err := a.load(source, set)
	if err != nil {
		return err
	}
	return a.execute(ctx, cfg, o.detach, false)
}

// execute starts, or joins, the run of a config and sees it through. resume lets a paused one go on.
func (a *app) execute(ctx context.Context, cfg configs.Config, detach, resume bool) error {
	spec, err := run.NewSpec(cfg, a.version)
	if err != nil {
		return err
	}
	dir, err := a.stateDir()
	if err != nil {
		return err
	}
	log, file, err := openLog(dir, spec.Name)
	if err != nil {
		return err
	}
	defer file.Close()
	taken := nameTaken(dir, spec)
	if taken == nil {
		if err := keep(dir, spec); err != nil {
			return err
		}
	}
	s, err := a.connect(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer s.close()
	if taken != nil { // a config that nothing came of gives way
		begun, err := store.Begun(ctx, s.objects, spec.Name)
		if err != nil {
			return err
		}
		if begun {
			return taken
		}
	}
	if err := s.probeStore(ctx); err != nil {
		return err
	}
	attached, err := s.runs.Start(ctx, spec)
	if err != nil {
		return err
	}
	if taken != nil {
		if err := keep(dir, spec); err != nil {
			return err
		}
	}
	a.announce(s, spec.Name, attached)
	if detach {
		return a.detach(ctx, spec.Name, dir)
	}
	return a.see(ctx, s, spec.Name, resume)
}

// announce says what is happening where.
func (a *app) announce(s *site, name string, attached bool) {
	what := "started"
	if attached {
		what = "joined"
	}
	a.print.Note("run %s %s; state in %s", name, what, runDir(s.dir, name))
	if s.services != nil {
		a.print.Note("temporal %s, web UI %s, S3 %s", s.services.TemporalAddress, s.services.UIAddress, s.services.S3Endpoint)
	}
}

// detach starts a process that works on the run in the background, and waits until it works.
func (a *app) detach(ctx context.Context, name, dir string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(filepath.Join(runDir(dir, name), "output.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(exe, "resume", name, "--state-dir", dir)
	cmd.Stdout, cmd.Stderr, cmd.Env = out, out, a.environ
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for !working(dir) {
		select {
		case err := <-ended:
			return errors.Join(errors.New("start worker in the background: it ended; see "+out.Name()), err)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	type detached struct {
		Run string `json:"run"`
		PID int    `json:"pid"`
		Log string `json:"log"`
	}
	d := detached{name, cmd.Process.Pid, out.Name()}
	a.print.Event(d, "process "+itoa(d.PID)+" works on it; `sciflux watch "+name+"` follows, its output goes to "+d.Log)
	return nil
}
