package training

import (
	"context"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/trainer"
	"github.com/sciflux/sciflux/worker/checkpoint"
	"github.com/sciflux/sciflux/worker/opened"
)

// DPO takes the optimiser steps of one epoch of stage 2 on its scored pairs. See activities.Trainer.
func DPO(ctx context.Context, r *opened.Run, c activities.DPOChunk, m activities.Monitor) (activities.ChunkResult, error) {
	o := r.Recipe.Config.OFT
	to := (c.Epoch + 1) * o.StepsPerEpoch()
	if done, ok, err := finished(ctx, r, run.StageOFT, to); ok || err != nil {
		return done, err
	}
	from, err := newest(ctx, r, run.StageOFT, c.From, to)
	if err != nil {
		return activities.ChunkResult{}, err
	}
	t, err := checkpoint.Begin(ctx, r, from, from.Stage != run.StageOFT, o.Optim, watched(r.Recipe.OFTSetting(), m))
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
	epoch, err := EpochPairs(ctx, r, c, m.Alive)
	if err != nil {
		return activities.ChunkResult{}, err
	}
	work := &chunk{run: r, monitor: m, Training: t, manifest: store.Manifest{Stage: run.StageOFT, Epoch: c.Epoch, Reference: c.Reference.Adapter.SHA256}}
	return work.epoch(ctx, c, epoch, reference)
}

// epoch takes the steps that are left of an epoch.
func (c *chunk) epoch(ctx context.Context, of activities.DPOChunk, epoch []trainer.Pair, reference *lora.Adapter) (activities.ChunkResult, error) {
	o := c.run.Recipe.Config.OFT
	for group := c.Step - of.Epoch*o.StepsPerEpoch(); group < o.StepsPerEpoch(); group++ {
		if c.leaving() {
			return c.leave(ctx)
		}
		if err := c.dpoStep(ctx, of, epoch[group*o.AccumulatePairs:(group+1)*o.AccumulatePairs], reference); err != nil {
			return activities.ChunkResult{}, err
		}
	}
	c.manifest.Epoch = of.Epoch + 1
	c.manifest.StageEnd = c.manifest.Epoch >= o.Epochs
	return c.end(ctx, checkpoint.Result{Pairs: of.Summary, Guard: of.Guard})
}

// dpoStep takes one optimiser step on a group of pairs and reports it.
func (c *chunk) dpoStep(ctx context.Context, of activities.DPOChunk, group []trainer.Pair, reference *lora.Adapter) error {
	start, o := time.Now(), c.run.Recipe.Config.OFT
	r, err := c.DPO(ctx, group, reference, c.run.Recipe.DPO())
	if err != nil {
		return err
	}
	took, scores := time.Since(start).Seconds(), of.Summary
	c.Stepped(r.StepResult, r.KL, r.Clamped, took)
	c.events = append(c.events, run.Event{Stage: run.StageOFT, Step: c.Step, Epoch: of.Epoch + 1, Kind: "step", Masks: scores.Masks, Values: map[string]float64{
		"loss": r.Loss, "grad_norm": r.Norm, "learning_rate": r.Rate, "kl": r.KL, "clamped": r.Clamped,
		"reward": scores.RewardMean, "reward_best": scores.RewardBest}})
	c.monitor.Report(run.Progress{Stage: run.StageOFT, Step: c.Step, StepsTotal: o.Epochs * o.StepsPerEpoch(), Epoch: of.Epoch + 1, Note: "training",
		StepSeconds: took, Loss: r.Loss, Reward: scores.RewardMean, Masks: scores.Masks, At: time.Now()})
	return nil
}
