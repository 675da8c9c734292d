package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sciflux/sciflux/configs"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
)

// load reads a preset or file with the layers over it. Paths become absolute, because the process that continues the run
// may stand elsewhere.
func (a *app) load(name string, set []string) (configs.Config, error) {
	cfg, err := configs.Load(configs.Sources{Name: name, Environ: a.environ, Set: set})
	if err != nil {
		return cfg, err
	}
	return cfg, absolute(&cfg)
}

// builtin stands for what the binary itself carries, where a path could stand.
const builtin = "world"

func absolute(c *configs.Config) error {
	for _, p := range []*string{
		&c.Model.Pipeline, &c.Model.Adapter, &c.Data.Source, &c.Data.Prompts, &c.OFT.Mask.Detector, &c.Reward.SciScore, &c.Store.Path,
		&c.Store.AccessKey.File, &c.Store.SecretKey.File, &c.Store.SessionToken.File,
		&c.Temporal.APIKey.File, &c.Temporal.TLS.CAFile, &c.Temporal.TLS.CertFile, &c.Temporal.TLS.KeyFile,
	} {
		if *p == "" || *p == builtin {
			continue
		}
		path, err := filepath.Abs(*p)
		if err != nil {
			return fmt.Errorf("resolve path %s: %w", *p, err)
		}
		*p = path
	}
	return nil
}

// saved reads the config that a run of this state folder was started with; ok says whether there is one.
func (a *app) saved(name string, set []string) (cfg configs.Config, ok bool, err error) {
	if err := run.CheckName(name); err != nil {
		return cfg, false, &run.Error{Class: run.ClassConfig, Op: "find run", Cause: err}
	}
	dir, err := a.stateDir()
	if err != nil {
		return cfg, false, err
	}
	path := filepath.Join(runDir(dir, name), "config.yaml")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return cfg, false, nil
	}
	cfg, err = a.load(path, set)
	return cfg, true, err
}

// nameTaken is the error of a name that stands for another config in this state folder.
func nameTaken(state string, spec run.Spec) error {
	text, err := os.ReadFile(filepath.Join(runDir(state, spec.Name), "config.yaml"))
	if err != nil {
		return nil
	}
	if old, err := configs.Parse(string(text)); err == nil && old.Hash() != spec.ConfigHash {
		return run.Errorf(run.ClassConfig, "start run", spec.Name,
			"choose another --name, or go on with the old one by `sciflux resume "+spec.Name+"`",
			"a run of this name exists with another config (its hash is %.12s, this one's %.12s)", old.Hash(), spec.ConfigHash)
	}
	return nil
}

// keep saves the config of a run in the state folder.
func keep(state string, spec run.Spec) error {
	path := filepath.Join(runDir(state, spec.Name), "config.yaml")
	if err := replace(path, []byte(spec.Config)); err != nil {
		return run.Errorf(run.ClassConfig, "save config", path, "choose a state folder that can be written", "%w", err)
	}
	return nil
}

// configOf finds the config of a run: in this state folder, else in the store that preset or file source names.
func (a *app) configOf(ctx context.Context, name, source string, set []string) (configs.Config, error) {
	cfg, ok, err := a.saved(name, set)
	if ok || err != nil {
		return cfg, err
	}
	where, err := a.load(source, set)
	if err != nil {
		return cfg, err
	}
	dir, err := a.stateDir()
	if err != nil {
		return cfg, err
	}
	missing := run.Errorf(run.ClassConfig, "find run", name, "`sciflux ls` lists the runs; --state-dir or --config say where else to look",
		"no such run in %s", dir)
	if _, err := os.Stat(servicesDir(dir)); where.Store.Kind == "embedded" && errors.Is(err, fs.ErrNotExist) {
		return cfg, missing
	}
	s, err := a.connect(ctx, where, nil)
	if err != nil {
		return cfg, err
	}
	defer s.close()
	text, _, err := store.ReadAll(ctx, s.objects, run.Keys(name).Config())
	if errors.Is(err, store.ErrNotExist) {
		return cfg, missing
	}
	if err != nil {
		return cfg, err
	}
	if cfg, err = configs.Parse(string(text)); err != nil {
		return cfg, err
	}
	cfg.Store, cfg.Temporal, cfg.Worker = where.Store, where.Temporal, where.Worker
	return cfg, nil
}
