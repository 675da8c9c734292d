package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/cpu"
	"github.com/sciflux/sciflux/models"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/worker"
	"github.com/sciflux/sciflux/workflows"
)

// crew is a worker of this process: it polls the run's queues until it is closed.
type crew struct {
	workers *workflows.Workers
	worker  *worker.Worker
	lock    *os.File
}

// backend is the machine that computes.
func backend(threads int) (engine.Backend, error) {
	be, err := cpu.New(cpu.Options{Threads: threads})
	if err != nil {
		return nil, &run.Error{Class: run.ClassConfig, Op: "choose kernels", Cause: err}
	}
	return be, nil
}

// work starts a worker. sink gets every report of its activities and may be nil.
func (s *site) work(version string, sink func(run.Progress)) (*crew, error) {
	be, err := backend(s.cfg.Worker.Threads)
	if err != nil {
		return nil, err
	}
	lock, err := markWorking(s.dir)
	if err != nil {
		return nil, err
	}
	w := worker.New(worker.Options{Objects: s.objects, Backend: be, Dir: filepath.Join(s.dir, "cache"), Models: models.Files,
		CacheBytes: int64(1e9 * s.cfg.Worker.CacheGB), ModelBytes: int64(1e9 * s.cfg.Worker.ModelsGB), CodeVersion: version, Log: s.log, Tell: s.tell})
	acts := activities.New(w, activities.Limits{HangAfter: s.cfg.Worker.HangAfter, StopGrace: s.cfg.Worker.StopGrace})
	acts.Sink = sink
	c := &crew{workers: workflows.NewWorkers(s.client, run.QueuesOf(s.cfg), acts, s.cfg.Worker.Concurrency), worker: w, lock: lock}
	if err := c.workers.Start(); err != nil {
		return nil, errors.Join(err, w.Close(), lock.Close())
	}
	return c, nil
}

// close lets the activities leave at a checkpoint and releases what they had opened.
func (c *crew) close() error {
	c.workers.Stop()
	return errors.Join(c.worker.Close(), c.lock.Close())
}

// markWorking holds a shared lock as long as this process works, so that others can tell a run that is under way from
// one that nobody works on.
func markWorking(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "working"), os.O_CREATE|os.O_RDWR, 0o644)
	if err == nil {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH)
	}
	if err != nil {
		return nil, fmt.Errorf("mark state folder %s as working: %w", dir, err)
	}
	return f, nil
}

// working reports whether any process works on the runs of a state folder.
func working(dir string) bool {
	f, err := os.Open(filepath.Join(dir, "working"))
	if err != nil {
		return false
	}
	defer f.Close()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil
}
