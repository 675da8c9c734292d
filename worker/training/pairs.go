package training

import (
	"context"
	"fmt"

	"github.com/sciflux/sciflux/activities"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/trainer"
	"github.com/sciflux/sciflux/worker/opened"
	"github.com/sciflux/sciflux/worker/pairs"
	"github.com/sciflux/sciflux/worker/recipe"
)

// EpochPairs are the epoch's pairs as dpo takes them, see joined.
func EpochPairs(ctx context.Context, r *opened.Run, c activities.DPOChunk, alive func()) ([]trainer.Pair, error) {
	all, err := joined(ctx, r, c, alive)
	out := make([]trainer.Pair, len(all))
	for i, s := range all {
		out[i] = r.Recipe.Pair(c.Epoch, s.latents, s.rewards, s.subjects)
		out[i].Conditioning = s.conditioning
	}
	return out, err
}

// EpochGroups are the epoch's pictures as the other methods take them, see joined.
func EpochGroups(ctx context.Context, r *opened.Run, c activities.DPOChunk, alive func()) ([]trainer.Group, error) {
	all, err := joined(ctx, r, c, alive)
	if err != nil {
		return nil, err
	}
	round := make([]recipe.Scored, len(all))
	for i, s := range all {
		round[i] = recipe.Scored{Number: s.number, Rewards: s.rewards, Subjects: s.subjects, Conditioning: s.conditioning}
		for _, states := range s.latents {
			round[i].Latents = append(round[i].Latents, states[len(states)-1])
		}
	}
	return r.Recipe.Groups(round), nil
}

// sampled is one prompt with everything that was stored of it.
type sampled struct {
	number       int
	latents      [][][]float32 // [sample][state]
	rewards      []float64
	subjects     []reward.Subject
	conditioning trainer.Conditioning
}

// joined puts the epoch's rollouts and scores together, in the order of the prompts' numbers whatever the shards were. alive
// is called after each prompt.
func joined(ctx context.Context, r *opened.Run, c activities.DPOChunk, alive func()) ([]sampled, error) {
	out := make([]sampled, r.Recipe.Config.OFT.PromptsPerEpoch)
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

// joinShard puts the prompts of shard i into their places and counts them.
func joinShard(ctx context.Context, r *opened.Run, c activities.DPOChunk, i int, out []sampled, alive func()) (int, error) {
	rollouts, err := pairs.ReadRollouts(ctx, r.Objects, c.Rollouts[i])
	if err != nil {
		return 0, err
	}
	scores, err := pairs.ReadScores(ctx, r.Objects, c.Scores[i])
	if err != nil {
		return 0, err
	}
	first, end := r.Recipe.Kept(c.Epoch)
	for p, prompt := range rollouts.Prompts {
		at := prompt.Number - c.Epoch*len(out)
		if at < 0 || at >= len(out) || out[at].rewards != nil || p >= len(scores.Rewards) {
			return 0, run.Errorf(run.ClassStorage, "read pairs", c.Rollouts[i].Key, "", "prompt %d does not belong to epoch %d", prompt.Number, c.Epoch)
		}
		if states := len(rollouts.Latents[p][0]); states != end-first {
			return 0, run.Errorf(run.ClassStorage, "read pairs", c.Rollouts[i].Key, "remove it, so that it is made again",
				"it holds %d states of each rollout, the method needs %d", states, end-first)
		}
		out[at] = sampled{number: prompt.Number, latents: rollouts.Latents[p], rewards: scores.Rewards[p], subjects: scores.Subjects[p]}
		if out[at].conditioning, err = r.Models.Conditioning(ctx, []string{prompt.Text}, r.Recipe.TextTokens()); err != nil {
			return 0, err
		}
		alive()
	}
	return len(rollouts.Prompts), nil
}
