package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sciflux/sciflux/parity"
	"github.com/sciflux/sciflux/run"
)

func (a *app) parityCommand() *cobra.Command {
	var o parity.Options
	c := &cobra.Command{
		Use:     "parity CASE…",
		Short:   "Compare with stored reference results",
		Long:    "Run every case at or below the given folders through the code that training uses, and print one row for each output: case, output, error, tolerance, verdict. The exit code is 0 when all are within tolerance.",
		Example: "  sciflux parity testdata/golden",
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return a.runParity(c.Context(), o, args) },
	}
	c.Flags().StringVar(&o.Device, "device", "cpu", "cpu or cuda")
	c.Flags().StringVar(&o.DType, "dtype", parity.Float32, "arithmetic: float32 or bfloat16, where a case has a tolerance for it")
	return c
}

func (a *app) runParity(ctx context.Context, o parity.Options, cases []string) error {
	if o.DType != parity.Float32 && o.DType != parity.BFloat16 {
		return run.Errorf(run.ClassConfig, "use", "--dtype "+o.DType, "give float32 or bfloat16", "no such arithmetic")
	}
	if _, err := o.Backend(); err != nil {
		return &run.Error{Class: run.ClassConfig, Op: "use", Subject: "--device", Cause: err}
	}
	if _, err := parity.Find(cases...); err != nil {
		return &run.Error{Class: run.ClassConfig, Op: "parity", Cause: err, Hint: "name folders that hold a " + parity.CaseFile}
	}
	result, err := parity.Run(ctx, o, func(r parity.Row) { a.print.Event(r, r.String()) }, cases...)
	if err != nil {
		return err
	}
	if !a.print.JSON {
		a.print.Note("%s", result.Summary())
	}
	if !result.OK() {
		return fmt.Errorf("parity: %d of %d outputs failed", result.Failed(), len(result.Rows))
	}
	return nil
}
