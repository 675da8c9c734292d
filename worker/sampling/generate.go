// Package sampling makes the pairs of stage 2: rollouts of an epoch's prompts with the policy, then scores and subjects of
// their pictures. What it stores does not depend on how the prompts are dealt out to shards.
package sampling

import (
	"context"
	"fmt"
	"time"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/store"
	"github.com/sciflux/sciflux/trainer"
	"github.com/sciflux/sciflux/worker/checkpoint"
	"github.com/sciflux/sciflux/worker/opened"
	"github.com/sciflux/sciflux/worker/pairs"
)

// Rollouts is the kind of object that holds one of some shards' trajectories. The number of shards is a part of the name:
// with another number a shard holds other prompts.
func Rollouts(shards int) string { return fmt.Sprintf("rollouts-of-%d", shards) }

// Scores is the kind of object that holds their scores.
func Scores(shards int) string { return fmt.Sprintf("scores-of-%d", shards) }

// Generate rolls out the prompts of one shard. See activities.Sampler.
func Generate(ctx context.Context, r *opened.Run, c activities.PairShard, m activities.Monitor) (run.ObjectRef, error) {
	key := run.Keys(c.Job.Run).Pairs(c.Epoch, c.Shard, Rollouts(c.Shards))
	if ref, ok, err := store.Finished(ctx, r.Objects, key); ok || err != nil {
		return ref, err
	}
	policy, err := checkpoint.Sampler(ctx, r, c.Policy)
	if err != nil {
		return run.ObjectRef{}, err
	}
	out := &pairs.Rollouts{Prompts: r.Recipe.EpochPrompts(c.Epoch, c.Shard, c.Shards, r.Data.Prompts, r.Data.Rows), Tokens: r.Recipe.Grid.Tokens()}
	together := r.Recipe.Together()
	for from := 0; from < len(out.Prompts); from += together {
		select {
		case <-m.Stopping():
			return run.ObjectRef{}, run.ErrPreempted
		default:
		}
		start := time.Now()
		if err := rollOut(ctx, r, c.Epoch, out, out.Prompts[from:min(from+together, len(out.Prompts))], policy, m.Alive); err != nil {
			return run.ObjectRef{}, err
		}
		m.Report(run.Progress{Stage: run.StageOFT, Epoch: c.Epoch, Note: "generating", StepSeconds: time.Since(start).Seconds(), At: time.Now()})
	}
	return store.Finish(ctx, r.Objects, key, out.Write)
}

// rollOut samples the pictures of some prompts in one batch and appends them, with the states that training reads.
func rollOut(ctx context.Context, r *opened.Run, epoch int, out *pairs.Rollouts, part []pairs.Prompt, policy *lora.Adapter, alive func()) error {
	samples := r.Recipe.Config.OFT.ImagesPerPrompt
	texts := make([]string, len(part))
	for i, p := range part {
		texts[i] = p.Text
	}
	cond, err := r.Models.Conditioning(ctx, texts, r.Recipe.TextTokens())
	if err != nil {
		return err
	}
	n, size := len(part)*samples, r.Recipe.LatentSize()
	start := make([]float32, n*size)
	for b := range n {
		r.Recipe.StartNoise(part[b/samples].Number, b%samples).Normal(start[b*size : (b+1)*size])
	}
	noise := func(step int, dst []float32) {
		for b := range n {
			r.Recipe.StepNoise(part[b/samples].Number, b%samples, step).Normal(dst[b*size : (b+1)*size])
		}
	}
	set := r.Recipe.OFTSetting()
	set.OnCall = alive
	t, err := trainer.Rollout(ctx, r.Models.Backend, r.Models.Pipeline.Transformer, policy, set, r.Recipe.Rollout(epoch), start, n, cond, noise)
	if err != nil {
		return err
	}
	first, end := r.Recipe.Kept(epoch)
	for p := range part {
		out.Latents = append(out.Latents, paths(t.Latents[first:end], p*samples, samples, size))
	}
	images, err := r.Models.Decode(ctx, t.Latents[len(t.Latents)-1], n, r.Recipe.Grid)
	if err != nil {
		return err
	}
	out.Images = out.Images.Join(images)
	return nil
}

// paths are some samples of the states of a batch, from sample first on.
func paths(states [][]float32, first, samples, size int) [][][]float32 {
	out := make([][][]float32, samples)
	for k := range out {
		for _, x := range states {
			out[k] = append(out[k], x[(first+k)*size:(first+k+1)*size])
		}
	}
	return out
}
