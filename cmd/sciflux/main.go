// Command sciflux fine-tunes FLUX models on Science-T2I data as durable workflows.
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
