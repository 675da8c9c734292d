package recipe

import (
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/run"
	"github.com/sciflux/sciflux/trainer"
	"github.com/sciflux/sciflux/worker/data"
	"github.com/sciflux/sciflux/worker/pairs"
)

// Together is how many prompts are drawn in one call. Groups are the same for every number of shards, because the last
// bits of a picture depend on the size of its batch.
func (r Recipe) Together() int {
	o := r.Config.OFT
	return max(1, min(r.Batch()/o.ImagesPerPrompt, (o.PromptsPerEpoch+1)/2))
}

// EpochPrompts are the prompts of one shard of an epoch: groups of Together take turns among the shards, and prompts take
// turns in permutations keyed by the round.
func (r Recipe) EpochPrompts(epoch, shard, shards int, prompts []data.Prompt, rows []data.Row) []pairs.Prompt {
	var out []pairs.Prompt
	o, n, key := r.Config.OFT, len(prompts), r.key("oft prompts")
	for i := range o.PromptsPerEpoch {
		if i/r.Together()%shards != shard {
			continue
		}
		number := epoch*o.PromptsPerEpoch + i
		p := prompts[key.Index(uint64(number / n)).Permutation(n)[number%n]]
		if p.Row >= 0 {
			wordings := rows[p.Row].Implicit
			p.Text = wordings[key.Purpose("wording").Intn(uint64(number), len(wordings))]
		}
		out = append(out, pairs.Prompt{Number: number, Text: p.Text, Object: p.Object, Row: p.Row})
	}
	return out
}

// OFTSetting surrounds the network in stage 2.
func (r Recipe) OFTSetting() trainer.Setting { return r.setting(r.Config.OFT.Guidance) }

// Rollout is the plan of stage 2's rollouts.
func (r Recipe) Rollout() trainer.Plan {
	o := r.Config.OFT
	p := r.plan(flow.Form(o.Forms.Step), o.Steps, o.SChurn)
	p.Noisy = o.NoisySteps
	return p
}

// StartNoise keys the noise that a sample of a prompt starts from.
func (r Recipe) StartNoise(number, sample int) random.Key {
	return r.key("oft start").Index(uint64(number), uint64(sample), 0)
}

// StepNoise keys the noise that a step of a sample's rollout adds.
func (r Recipe) StepNoise(number, sample, step int) random.Key {
	return r.key("oft noise").Index(uint64(number), uint64(sample), uint64(step))
}

// paperTokens are the packed tokens of a 1024×1024 picture.
const paperTokens = 4096

// TrainedSteps are the steps of a rollout as the loss reads them, with the timesteps that the network saw.
func (r Recipe) TrainedSteps() ([]flow.Step, []float32) {
	plan := r.Rollout()
	timesteps := plan.Timesteps
	if r.Config.OFT.Forms.Sigmas == string(flow.Paper) {
		// The authors' training pass reads the schedule that a 1024×1024 evaluation left in the shared scheduler.
		plan.Sigmas = r.Scheduler.Sigmas(r.Config.OFT.Steps, paperTokens)
	}
	return plan.Steps(), timesteps
}

// DPO is the loss of stage 2.
func (r Recipe) DPO() flow.DPO {
	o := r.Config.OFT
	return flow.DPO{Beta: o.Beta, Eps: o.EpsClamp, Pairs: flow.Form(o.Forms.Pairs)}
}

// Masker makes the masks of stage 2; the detector is asked only under the policy that needs one.
func (r Recipe) Masker(d reward.Detector) (*reward.Masker, error) {
	m := r.Config.OFT.Mask
	return reward.NewMasker(m.Policy, m.OnEmpty, r.Forms(), d)
}

// Pair is one prompt's samples as the trainer takes them. Scores nearer than min_gap, or a picture that is to be skipped,
// count as a tie.
func (r Recipe) Pair(latents [][][]float32, rewards []float64, subjects []reward.Subject) trainer.Pair {
	pair := trainer.Pair{Latents: latents, Rewards: append([]float64(nil), rewards...)}
	low, high, skip := rewards[0], rewards[0], false
	for i, s := range subjects {
		pair.Masks = append(pair.Masks, s.Mask(r.Forms(), r.Grid))
		low, high, skip = min(low, rewards[i]), max(high, rewards[i]), skip || s.Skip
	}
	if skip || high-low < r.Config.OFT.MinGap {
		clear(pair.Rewards)
	}
	pair.Steps, pair.Timesteps = r.TrainedSteps()
	return pair
}

// Summary counts a shard's pairs and ties and averages its rewards.
func (r Recipe) Summary(rewards [][]float64) run.PairSummary {
	s := run.PairSummary{Pairs: len(rewards)}
	n := 0
	for _, group := range rewards {
		low, high := group[0], group[0]
		for _, v := range group {
			s.RewardMean += v
			low, high = min(low, v), max(high, v)
			n++
		}
		s.RewardBest += high
		if high == low || high-low < r.Config.OFT.MinGap {
			s.Ties++
		}
	}
	if n > 0 {
		s.RewardMean /= float64(n)
		s.RewardBest /= float64(len(rewards))
	}
	return s
}
