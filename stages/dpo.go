package stages

import (
	"context"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/trainer"
)

// TrainDPO implements activities.Trainer: the optimiser steps of one epoch on its scored pairs.
func (s *Studio) TrainDPO(ctx context.Context, c activities.DPOChunk, m activities.Monitor) (activities.ChunkResult, error) {
	d, err := s.desk(ctx, c.Job)
	if err != nil {
		return activities.ChunkResult{}, err
	}
	o := d.cfg.OFT
	end := (c.Epoch + 1) * o.StepsPerEpoch()
	if done, ok, err := d.finished(ctx, run.StageOFT, end); ok || err != nil {
		return done, err
	}
	from, err := d.newest(ctx, run.StageOFT, c.From, end)
	if err != nil {
		return activities.ChunkResult{}, err
	}
	t, err := d.begin(ctx, from, from.Stage != run.StageOFT, o.Optim, o.Guidance)
	if err != nil {
		return activities.ChunkResult{}, err
	}
	defer t.Close()
	if from == c.From {
		t.seconds = c.Spent
	}
	reference, err := d.evaluated(ctx, c.Reference)
	if err != nil {
		return activities.ChunkResult{}, err
	}
	pairs, err := d.pairs(ctx, c)
	if err != nil {
		return activities.ChunkResult{}, err
	}
	manifest := store.Manifest{Stage: run.StageOFT, Epoch: c.Epoch, Reference: c.Reference.Adapter.SHA256}
	return d.trainEpoch(ctx, t, c, pairs, reference, manifest, m)
}

func (d *desk) trainEpoch(ctx context.Context, t *training, c activities.DPOChunk, pairs []trainer.Pair, reference *lora.Adapter,
	manifest store.Manifest, m activities.Monitor) (activities.ChunkResult, error) {
	o := d.cfg.OFT
	loss := flow.DPO{Beta: o.Beta, Eps: o.EpsClamp, Pairs: flow.Form(o.Forms.Pairs)}
	var events []run.Event
	for group := t.step - c.Epoch*o.StepsPerEpoch(); group < o.StepsPerEpoch(); group++ {
		if stopping(m) {
			return d.preempt(ctx, t, manifest)
		}
		start := time.Now()
		r, err := t.DPO(ctx, pairs[group*o.AccumulatePairs:(group+1)*o.AccumulatePairs], reference, loss)
		if err != nil {
			return activities.ChunkResult{}, classify(err)
		}
		took := t.stepped(r.StepResult, r.KL, r.Clamped, start)
		events = append(events, run.Event{Stage: run.StageOFT, Step: t.step, Epoch: c.Epoch + 1, Kind: "step", Masks: c.Summary.Masks, Values: map[string]float64{
			"loss": r.Loss, "grad_norm": r.Norm, "learning_rate": r.Rate, "kl": r.KL, "clamped": r.Clamped,
			"reward": c.Summary.RewardMean, "reward_best": c.Summary.RewardBest}})
		m.Report(run.Progress{Stage: run.StageOFT, Step: t.step, StepsTotal: o.Epochs * o.StepsPerEpoch(), Epoch: c.Epoch + 1, Note: "training",
			StepSeconds: took, Loss: r.Loss, Reward: c.Summary.RewardMean, Masks: c.Summary.Masks, At: time.Now()})
	}
	summary := t.tally.summary()
	t.tally = tally{}
	if err := d.record(ctx, events, run.StageOFT, t.step); err != nil {
		return activities.ChunkResult{}, err
	}
	manifest.Epoch = c.Epoch + 1
	manifest.StageEnd = manifest.Epoch >= o.Epochs
	return d.commit(ctx, t, manifest, result{Summary: summary, Pairs: c.Summary, Guard: c.Guard})
}

// pairs joins the epoch's trajectories and scores, in the order of the prompts' numbers whatever the shards were.
func (d *desk) pairs(ctx context.Context, c activities.DPOChunk) ([]trainer.Pair, error) {
	o := d.cfg.OFT
	out := make([]trainer.Pair, o.PromptsPerEpoch)
	plan := d.rollout()
	steps := plan.Steps()
	if o.Forms.Sigmas == string(flow.Paper) {
		// The authors' training pass reads the schedule that a 1024×1024 evaluation left in the shared scheduler.
		read := plan
		read.Sigmas = d.pipe.Scheduler.Sigmas(o.Steps, paperTokens)
		steps = read.Steps()
	}
	found := 0
	for i := range c.Rollouts {
		data, err := store.Read(ctx, d.objects(), c.Rollouts[i])
		if err != nil {
			return nil, err
		}
		r, err := readRollouts(data)
		if err != nil {
			return nil, err
		}
		sc, err := d.readScores(ctx, c.Scores[i])
		if err != nil {
			return nil, err
		}
		for p, prompt := range r.Prompts {
			at := prompt.Number - c.Epoch*o.PromptsPerEpoch
			if at < 0 || at >= len(out) || out[at].Rewards != nil || p >= len(sc.Rewards) {
				return nil, run.Errorf(run.ClassStorage, "read pairs", c.Rollouts[i].Key, "", "prompt %d does not belong to epoch %d", prompt.Number, c.Epoch)
			}
			cond, err := d.conditioning(ctx, []string{prompt.Text})
			if err != nil {
				return nil, err
			}
			out[at] = d.pair(r.Latents[p], sc, p)
			out[at].Steps, out[at].Timesteps, out[at].Conditioning = steps, plan.Timesteps, cond
			found++
		}
	}
	if found != len(out) {
		return nil, run.Errorf(run.ClassStorage, "read pairs", fmtEpoch(c.Epoch), "", "%d of %d prompts", found, len(out))
	}
	return out, nil
}

// paperTokens are the packed tokens of a 1024×1024 picture.
const paperTokens = 4096

// pair is one prompt's samples. Scores nearer than min_gap, or a picture that is to be skipped, count as a tie.
func (d *desk) pair(latents [][][]float32, sc scored, p int) trainer.Pair {
	pair := trainer.Pair{Latents: latents, Rewards: append([]float64(nil), sc.Rewards[p]...)}
	low, high, skip := pair.Rewards[0], pair.Rewards[0], false
	for i, s := range sc.Subjects[p] {
		pair.Masks = append(pair.Masks, d.masker.Mask(s, d.grid))
		low, high, skip = min(low, pair.Rewards[i]), max(high, pair.Rewards[i]), skip || s.Skip
	}
	if skip || high-low < d.cfg.OFT.MinGap {
		clear(pair.Rewards)
	}
	return pair
}
