package main

import (
	"context"
	"slices"
	"time"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/engine/graph"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/model/lora"
)

// idle is a backend whose training kernels do nothing: what is left of a step is the cost of arranging and calling them.
type idle struct{ engine.Backend }

func (idle) Linear(engine.View, engine.View, *engine.Weight, []float32, float32)          {}
func (idle) LinearBack(engine.View, engine.View, *engine.Weight, float32)                 {}
func (idle) MatMul(engine.View, engine.View, bool, engine.View, bool, float32, float32)   {}
func (idle) Copy(engine.View, engine.View)                                                {}
func (idle) Zero(engine.View)                                                             {}
func (idle) Add(engine.View, engine.View, engine.View)                                    {}
func (idle) Axpy(engine.View, float32, engine.View)                                       {}
func (idle) Activate(engine.View, engine.View, engine.Activation)                         {}
func (idle) ActivateBack(engine.View, engine.View, engine.View, engine.Activation)        {}
func (idle) Modulate(engine.View, engine.View, engine.View, engine.View, int)             {}
func (idle) ModulateBack(_, _, _, _, _, _ engine.View, _ int, _ float32)                  {}
func (idle) GateAdd(engine.View, engine.View, engine.View, engine.View, int)              {}
func (idle) GateBack(_, _, _, _, _ engine.View, _ int)                                    {}
func (idle) Attend(engine.View, engine.View, engine.View, engine.View, *engine.Attention) {}
func (idle) AttendBack(_, _, _, _, _, _, _, _ engine.View, _ *engine.Attention)           {}

// overheadSteps are cheap, as no kernel works.
const overheadSteps = 50

// addOverhead measures a step on idle kernels through graphs and through the same calls without them.
func (t *stepTimes) addOverhead(ctx context.Context, be engine.Backend, model *flux.Model, adapter *lora.Adapter, o stepOptions) error {
	memory, err := graph.ParseMemory(o.memory)
	if err != nil {
		return err
	}
	var seconds [2]float64
	for i, direct := range []bool{false, true} {
		if seconds[i], err = idleStep(ctx, be, model, adapter, o, flux.SessionOptions{Memory: memory, Direct: direct}); err != nil {
			return err
		}
	}
	t.GraphSeconds = max(0, seconds[0]-seconds[1])
	t.GraphShare = t.GraphSeconds / t.StepSeconds
	return nil
}

func idleStep(ctx context.Context, be engine.Backend, model *flux.Model, adapter *lora.Adapter, o stepOptions, so flux.SessionOptions) (float64, error) {
	quiet := idle{be}
	session := model.NewSession(so)
	defer session.Release()
	batch, err := model.NewBatch(quiet, networkInput(model, o))
	if err != nil {
		return 0, err
	}
	defer batch.Free()
	grads := adapter.NewGradients()
	var seconds []float64
	for range overheadSteps + 1 {
		start := time.Now()
		v, err := session.Forward(ctx, batch, adapter)
		if err != nil {
			return 0, err
		}
		_, err = session.Backward(ctx, v, grads)
		quiet.Free(v)
		if err != nil {
			return 0, err
		}
		seconds = append(seconds, time.Since(start).Seconds())
	}
	seconds = seconds[1:]
	slices.Sort(seconds)
	return median(seconds), nil
}

// networkInput is the network's input for the random batch.
func networkInput(model *flux.Model, o stepOptions) *flux.Input {
	e, grid := example(model, o), gridOf(o.image)
	in := model.NewInput(grid, 0, engine.Wrap(e.Latents, o.batch, o.image, model.InChannels), engine.Wrap(e.Text, o.batch, o.text, model.TextWidth),
		engine.Wrap(e.Pooled, o.batch, model.PooledWidth))
	in.Timestep = e.Sigma
	return in
}
