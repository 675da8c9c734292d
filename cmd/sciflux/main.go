// Command sciflux fine-tunes FLUX models on Science-T2I data as durable workflows.
//
// The way of a run through the code: run.go reads the config and starts the workflow (workflows/finetune.go, the plan in
// five lines); work.go starts a worker, which takes its activities (activities/contract.go says what each must do); they
// enter the work at worker/worker.go, which opens what the config names and hands it on, to worker/training/sft.go and
// oft.go for the optimiser steps. Those call trainer, and trainer runs model/flux/forward.go.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/sciflux/sciflux/run"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals // somebody does not want to wait
		os.Exit(run.ExitInterrupted)
	}()
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, environ: os.Environ(), version: version}
	os.Exit(a.run(ctx, os.Args[1:]))
}
