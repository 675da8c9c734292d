package training

import (
	"context"
	"maps"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/trainer"
	"github.com/sciflux/sciflux/worker/checkpoint"
	"github.com/sciflux/sciflux/worker/opened"
)

// OFT takes the optimiser steps of one epoch of stage 2 on its scored pictures. See activities.Trainer.TrainDPO.
func OFT(ctx context.Context, r *opened.Run, c activities.DPOChunk, m activities.Monitor) (activities.ChunkResult, error) {
	o := r.Recipe.Config.OFT
	to := (c.Epoch + 1) * o.StepsPerEpoch()
	if done, ok, err := finished(ctx, r, run.StageOFT, to); ok || err != nil {
		return done, err
	}
	from, err := newest(ctx, r, run.StageOFT, c.From, to)
	if err != nil {
		return activities.ChunkResult{}, err
	}
	_, _, old := o.OldPolicy()
	t, err := checkpoint.Begin(ctx, r, from, checkpoint.Start{Optim: o.Optim, Setting: watched(r.Recipe.OFTSetting(), m), Fresh: from.Stage != run.StageOFT,
		Method: o.Method, Old: old})
	if err != nil {
		return activities.ChunkResult{}, err
	}
	defer t.Close()
	if from == c.From {
		t.Seconds = c.Spent
	}
	if t.Moved != "" {
		m.Report(run.Progress{Stage: run.StageOFT, Step: t.Step, Note: t.Moved, At: time.Now()})
	}
	reference, err := checkpoint.Evaluated(ctx, r, c.Reference)
	if err != nil {
		return activities.ChunkResult{}, err
	}
	work := &chunk{run: r, monitor: m, Training: t, manifest: store.Manifest{Stage: run.StageOFT, Epoch: c.Epoch, Reference: c.Reference.Adapter.SHA256}}
	step, err := work.stepsOf(ctx, c, reference)
	if err != nil {
		return activities.ChunkResult{}, err
	}
	return work.epoch(ctx, c, step)
}

// stepped is what a step of stage 2 gives: its result, what stop rules ask for, and its other numbers by name.
type stepped struct {
	trainer.StepResult
	checkpoint.Measured
	values map[string]float64
}

// stepsOf reads the epoch's pictures and returns what takes step number i of the epoch on them, by the config's method.
func (c *chunk) stepsOf(ctx context.Context, of activities.DPOChunk, reference *lora.Adapter) (func(i int) (stepped, error), error) {
	if !c.run.Recipe.Config.OFT.Forward() {
		pairs, err := EpochPairs(ctx, c.run, of, c.monitor.Alive)
		return func(i int) (stepped, error) { return c.dpoStep(ctx, pairs, reference, i) }, err
	}
	groups, err := EpochGroups(ctx, c.run, of, c.monitor.Alive)
	return func(i int) (stepped, error) { return c.matchStep(ctx, groups, reference, i) }, err
}

// epoch takes the steps that are left of an epoch.
func (c *chunk) epoch(ctx context.Context, of activities.DPOChunk, step func(i int) (stepped, error)) (activities.ChunkResult, error) {
	o := c.run.Recipe.Config.OFT
	for i := c.Step - of.Epoch*o.StepsPerEpoch(); i < o.StepsPerEpoch(); i++ {
		if c.leaving() {
			return c.leave(ctx)
		}
		start := time.Now()
		r, err := step(i)
		if err != nil {
			return activities.ChunkResult{}, err
		}
		c.report(of, r, time.Since(start).Seconds())
	}
	if _, rolls, kept := o.OldPolicy(); kept && rolls {
		c.Old.Follow(c.Adapter, c.run.Recipe.OldPolicy(), c.Optimizer.Steps)
	}
	c.manifest.Epoch = of.Epoch + 1
	c.manifest.StageEnd = c.manifest.Epoch >= o.Epochs
	return c.end(ctx, checkpoint.Result{Pairs: of.Summary, Guard: of.Guard})
}

// report counts a step and tells of it.
func (c *chunk) report(of activities.DPOChunk, r stepped, took float64) {
	o, scores := c.run.Recipe.Config.OFT, of.Summary
	c.Stepped(r.StepResult, r.Measured, took)
	values := map[string]float64{"loss": r.Loss, "grad_norm": r.Norm, "learning_rate": r.Rate, "clamped": r.Clamped,
		"reward": scores.RewardMean, "reward_best": scores.RewardBest, "reward_spread": scores.RewardSpread, "flat_groups": scores.FlatShare()}
	maps.Copy(values, r.values)
	c.events = append(c.events, run.Event{Stage: run.StageOFT, Step: c.Step, Epoch: of.Epoch + 1, Kind: "step", Masks: scores.Masks, Values: values})
	c.monitor.Report(run.Progress{Stage: run.StageOFT, Step: c.Step, StepsTotal: o.Epochs * o.StepsPerEpoch(), Epoch: of.Epoch + 1, Note: "training",
		StepSeconds: took, Loss: r.Loss, Reward: scores.RewardMean, Masks: scores.Masks, At: time.Now()})
}

// dpoStep takes step i of an epoch of dpo: one part of the noisy steps of a few pairs.
func (c *chunk) dpoStep(ctx context.Context, epoch []trainer.Pair, reference *lora.Adapter, i int) (stepped, error) {
	o := c.run.Recipe.Config.OFT
	groups := len(epoch) / o.AccumulatePairs
	update, first := i/groups, i%groups*o.AccumulatePairs
	part := make([]trainer.Pair, o.AccumulatePairs)
	for k := range part {
		part[k] = epoch[first+k].Part(update, o.UpdatesPerRound())
	}
	r, err := c.DPO(ctx, part, reference, c.run.Recipe.DPO())
	return stepped{r.StepResult, checkpoint.Measured{KL: r.KL, Clamped: r.Clamped}, map[string]float64{"kl": r.KL}}, err
}

// matchStep takes step i of a round of a method on finished pictures: one part of the noise levels of all groups.
func (c *chunk) matchStep(ctx context.Context, round []trainer.Group, reference *lora.Adapter, i int) (stepped, error) {
	o := c.run.Recipe.Config.OFT
	peers, part := trainer.Peers{Reference: reference}, o.TrainedTimes()/o.UpdatesPerRound()
	if c.Old != nil {
		peers.Old = c.Old.Adapter
	}
	r, err := c.Match(ctx, round, i*part, (i+1)*part, peers, c.run.Recipe.Matching())
	if err != nil {
		return stepped{}, err
	}
	if _, rolls, kept := o.OldPolicy(); kept && !rolls {
		c.Old.Follow(c.Adapter, c.run.Recipe.OldPolicy(), c.Optimizer.Steps-1) // counted before the step
	}
	values := map[string]float64{"distance": r.Distance, "rise_best": r.Winners, "rise_worst": r.Losers}
	if c.Old != nil {
		values["distance_old"] = r.Drift
	}
	if o.Method == "dgpo" {
		values["score"] = r.Score
	}
	return stepped{r.StepResult, checkpoint.Measured{Clamped: r.Closed, Distance: r.Distance}, values}, nil
}
