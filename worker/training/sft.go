package training

import (
	"context"
	"fmt"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/trainer"
	"github.com/sciflux/sciflux/worker/checkpoint"
	"github.com/sciflux/sciflux/worker/opened"
	"github.com/sciflux/sciflux/worker/recipe"
)

// SFT takes the optimiser steps of a chunk of stage 1, or of the comparison that continues it. See activities.Trainer.
func SFT(ctx context.Context, r *opened.Run, c activities.SFTChunk, m activities.Monitor) (activities.ChunkResult, error) {
	if done, ok, err := finished(ctx, r, c.Stage, c.To); ok || err != nil {
		return done, err
	}
	from, err := newest(ctx, r, c.Stage, c.From, c.To)
	if err != nil {
		return activities.ChunkResult{}, err
	}
	if behind(from, c.From, c.Stage) {
		return mend(ctx, r, c, from, m)
	}
	t, err := checkpoint.Begin(ctx, r, from, checkpoint.Start{Optim: r.Recipe.Config.SFT.Optim, Setting: watched(r.Recipe.SFTSetting(), m)})
	if err != nil {
		return activities.ChunkResult{}, err
	}
	defer t.Close()
	if from == c.From {
		t.Seconds = c.Spent
	}
	if t.Moved != "" {
		m.Report(run.Progress{Stage: c.Stage, Step: t.Step, Note: t.Moved, At: time.Now()})
	}
	end := c.Stage == run.StageSFT && c.To >= r.Recipe.Config.SFT.Steps
	work := &chunk{run: r, monitor: m, Training: t, manifest: store.Manifest{Stage: c.Stage, StageEnd: end}}
	for t.Step < c.To {
		if work.leaving() {
			work.manifest.StageEnd = false
			return work.leave(ctx)
		}
		if err := work.sftStep(ctx); err != nil {
			return activities.ChunkResult{}, err
		}
	}
	return work.end(ctx, checkpoint.Result{})
}

// mend trains again what a damaged checkpoint held, chunk by chunk from the newest one before it that is whole, and then the
// chunk that was asked for. Steps depend on their numbers alone, so the bits are those of an unbroken run.
func mend(ctx context.Context, r *opened.Run, c activities.SFTChunk, back run.CheckpointRef, m activities.Monitor) (activities.ChunkResult, error) {
	if back.IsZero() && c.Stage == run.StageCompare {
		var err error
		if back, err = r.Checkpoints().Latest(ctx, run.StageSFT); err != nil {
			return activities.ChunkResult{}, err
		}
	}
	note := fmt.Sprintf("the checkpoint of step %d is damaged: going on from step %d", c.From.Step, back.Step)
	r.Log.Warn(note, "stage", c.Stage)
	m.Report(run.Progress{Stage: c.Stage, Step: back.Step, Note: note, At: time.Now()})
	edge := r.Recipe.Config.SFT.ChunkSteps
	for back.Step < c.From.Step {
		again := c
		again.From, again.To, again.Spent = back, min((back.Step/edge+1)*edge, c.From.Step), back.Seconds
		done, err := SFT(ctx, r, again, m)
		if err != nil {
			return done, err
		}
		back = done.Checkpoint
	}
	c.From = back
	return SFT(ctx, r, c, m)
}

// sftStep takes one optimiser step and reports it.
func (c *chunk) sftStep(ctx context.Context) error {
	start, stage := time.Now(), c.manifest.Stage
	examples, err := c.examples(ctx)
	if err != nil {
		return err
	}
	r, err := c.SFT(ctx, examples)
	if err != nil {
		return err
	}
	took := time.Since(start).Seconds()
	c.Stepped(r, checkpoint.Measured{}, took)
	c.events = append(c.events, run.Event{Stage: stage, Step: c.Step, Kind: "step", Values: map[string]float64{
		"loss": r.Loss, "grad_norm": r.Norm, "learning_rate": r.Rate}})
	total := c.run.Recipe.Config.SFT.Steps
	if stage == run.StageCompare {
		total = 0 // as many as fit in stage 2's time
	}
	c.monitor.Report(run.Progress{Stage: stage, Step: c.Step, StepsTotal: total, Note: "training", StepSeconds: took, Loss: r.Loss, At: time.Now()})
	return nil
}

// watched is a setting whose network calls are signs of life.
func watched(s trainer.Setting, m activities.Monitor) trainer.Setting {
	s.OnCall = m.Alive
	return s
}

// examples are the micro-batches of the next optimiser step.
func (c *chunk) examples(ctx context.Context) ([]trainer.Example, error) {
	batches, err := c.run.Recipe.Batches(c.Step, c.run.Data.Rows)
	if err != nil {
		return nil, err
	}
	examples := make([]trainer.Example, len(batches))
	for i, batch := range batches {
		if examples[i], err = c.example(ctx, batch); err != nil {
			return nil, err
		}
	}
	return examples, nil
}

// example encodes the pictures and captions of a micro-batch.
func (c *chunk) example(ctx context.Context, batch []recipe.Sample) (trainer.Example, error) {
	r := c.run
	var captions []string
	var all [][]float32
	for _, s := range batch {
		z, err := r.Latents.Draw(ctx, r.Data.Rows[s.Row], s.Picture, s.Posterior)
		if err != nil {
			return trainer.Example{}, err
		}
		c.monitor.Alive()
		captions, all = append(captions, s.Caption), append(all, z)
	}
	cond, err := r.Models.Conditioning(ctx, captions, r.Recipe.TextTokens())
	if err != nil {
		return trainer.Example{}, err
	}
	return r.Recipe.Example(batch, all, cond), nil
}
