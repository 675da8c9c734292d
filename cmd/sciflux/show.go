package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/sciflux/sciflux/cmd/sciflux/internal/console"
	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/workflows"
)

func (a *app) showCommand() *cobra.Command {
	var config string
	c := &cobra.Command{
		Use:     "show RUN",
		Short:   "Show where a run stands and what it scored",
		Long:    "Show status, stage, step, checkpoints, adapter and metrics of a run, from its workflow while somebody works on it, else from the store.",
		Example: "  sciflux show world --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runShow(c.Context(), args[0], config)
		},
	}
	c.Flags().StringVar(&config, "config", "", "preset or file that says where the run is, when this state folder does not know it")
	return c
}

func (a *app) runShow(ctx context.Context, name, config string) error {
	cfg, err := a.configOf(ctx, name, config, nil)
	if err != nil {
		return err
	}
	s, err := a.connect(ctx, cfg, nil)
	if err != nil {
		return err
	}
	defer s.close()
	state, err := s.state(ctx, name)
	if err != nil {
		return err
	}
	view := console.NewRun(state.State, s.uri)
	view.Progress, view.Trouble = state.Progress, state.Trouble
	view.Timing = s.timing(ctx, name)
	return a.print.Show(view)
}

// askTime bounds a question to a workflow: one that nobody works on does not answer.
const askTime = 5 * time.Second

// standing is the state of a run and who says so.
type standing struct {
	workflows.Live
	Idle bool // the workflow is open, but nobody works on it
}

// state asks the workflow of a run, and the store when it does not answer.
func (s *site) state(ctx context.Context, name string) (standing, error) {
	idle := s.services != nil && s.cfg.Temporal.Address == "" && !working(s.dir)
	if !idle {
		asked, cancel := context.WithTimeout(ctx, askTime)
		defer cancel()
		if live, err := s.runs.State(asked, name); err == nil {
			return standing{Live: live}, nil
		}
	}
	stored, err := s.stored(ctx, name)
	if err != nil {
		return standing{}, err
	}
	out := standing{Live: workflows.Live{State: stored}}
	rows, err := s.runs.List(ctx)
	if err != nil {
		return out, err
	}
	for _, row := range rows {
		if row.Name != name {
			continue
		}
		if out.Status = row.Status; row.Status == run.StatusRunning && idle {
			out.Status, out.Reason, out.Idle = run.StatusPaused, "nobody works on it; `sciflux resume "+name+"` continues it", true
		}
	}
	return out, nil
}

// timing is where a run's time went; nil when its history is gone.
func (s *site) timing(ctx context.Context, name string) *run.Timing {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	t, err := s.runs.Timing(ctx, name)
	if err != nil {
		s.log.Info("no timing", "run", name, "error", err)
		return nil
	}
	return &t
}

// stored is what the store knows of a run: its last recorded summary and the checkpoints since.
func (s *site) stored(ctx context.Context, name string) (run.State, error) {
	keys := run.Keys(name)
	state := run.State{Run: name, Status: run.StatusRunning, Stage: run.StagePrepare}
	text, _, err := store.ReadAll(ctx, s.objects, keys.Summary())
	if err == nil {
		err = json.Unmarshal(text, &state)
	}
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		return state, err
	}
	if state.Status == run.StatusCompleted {
		return state, nil
	}
	plan := run.NewPlan(s.cfg)
	state.ConfigHash, state.Seed, state.Checkpoints = s.cfg.Hash(), s.cfg.Seed, nil
	points := store.Checkpoints{Objects: s.objects, Run: name, Log: s.log}
	for _, stage := range []run.Stage{run.StageSFT, run.StageOFT, run.StageCompare} {
		ref, err := points.Latest(ctx, stage)
		if errors.Is(err, store.ErrNotExist) {
			continue
		}
		if err != nil {
			return state, err
		}
		state.Checkpoints = append(state.Checkpoints, ref)
		state.Stage, state.Step, state.StepsTotal = stage, ref.Step, plan.StepsTotal(stage)
		if stage != run.StageCompare {
			state.Adapter, state.Epoch = ref.Adapter, ref.Epoch
		}
	}
	return state, nil
}

// defaults is the config that says where runs are when no run is named.
func (a *app) defaults(source string) (configs.Config, error) { return a.load(source, nil) }
