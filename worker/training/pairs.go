package training

import (
	"context"
	"fmt"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/trainer"
	"github.com/sciflux/sciflux/worker/opened"
	"github.com/sciflux/sciflux/worker/pairs"
)

// EpochPairs joins the epoch's trajectories and scores, in the order of the prompts' numbers whatever the shards were. alive
// is called after each prompt.
func EpochPairs(ctx context.Context, r *opened.Run, c activities.DPOChunk, alive func()) ([]trainer.Pair, error) {
	out := make([]trainer.Pair, r.Recipe.Config.OFT.PromptsPerEpoch)
	found := 0
	for i := range c.Rollouts {
		n, err := joinShard(ctx, r, c, i, out, alive)
		if err != nil {
			return nil, err
		}
		found += n
	}
	if found != len(out) {
		return nil, run.Errorf(run.ClassStorage, "read pairs", fmt.Sprintf("epoch %d", c.Epoch), "", "%d of %d prompts", found, len(out))
	}
	return out, nil
}

// joinShard puts the pairs of shard i into their places and counts them.
func joinShard(ctx context.Context, r *opened.Run, c activities.DPOChunk, i int, out []trainer.Pair, alive func()) (int, error) {
	rollouts, err := pairs.ReadRollouts(ctx, r.Objects, c.Rollouts[i])
	if err != nil {
		return 0, err
	}
	scores, err := pairs.ReadScores(ctx, r.Objects, c.Scores[i])
	if err != nil {
		return 0, err
	}
	for p, prompt := range rollouts.Prompts {
		at := prompt.Number - c.Epoch*len(out)
		if at < 0 || at >= len(out) || out[at].Rewards != nil || p >= len(scores.Rewards) {
			return 0, run.Errorf(run.ClassStorage, "read pairs", c.Rollouts[i].Key, "", "prompt %d does not belong to epoch %d", prompt.Number, c.Epoch)
		}
		out[at] = r.Recipe.Pair(rollouts.Latents[p], scores.Rewards[p], scores.Subjects[p])
		if out[at].Conditioning, err = r.Models.Conditioning(ctx, []string{prompt.Text}, r.Recipe.TextTokens()); err != nil {
			return 0, err
		}
		alive()
	}
	return len(rollouts.Prompts), nil
}
