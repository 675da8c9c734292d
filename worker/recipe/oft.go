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

// Rollout is the plan of stage 2's rollouts in an epoch. Methods that train on finished pictures follow the flow.
func (r Recipe) Rollout(epoch int) trainer.Plan {
	o := r.Config.OFT
	p := r.plan(flow.Form(o.Forms.Step), o.Steps, o.Noise())
	p.Noisy, p.Square = o.NoisySteps, o.LogProb == "square"
	if w := o.NoiseWindow; w.Size > 0 {
		low, high := o.Window()
		window := flow.Window{Size: w.Size, Low: low, High: high, Random: w.Strategy == "random", Stride: w.Stride, Every: w.Every, Wrap: w.Wrap}
		p.First, p.Noisy = window.Start(epoch, r.key("oft window").Index(uint64(epoch)).Float64(0)), w.Size
	}
	return p
}

// Kept is the range [first, end) of a rollout's states that training reads, and so the store keeps: those around the noisy
// steps, or the last one alone.
func (r Recipe) Kept(epoch int) (first, end int) {
	o := r.Config.OFT
	if o.Forward() {
		return o.Steps, o.Steps + 1
	}
	first, end = r.Rollout(epoch).Window()
	return first, end + 1
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

// TrainedSteps are the noisy steps of an epoch's rollouts as the loss reads them, with the timesteps that the network saw.
func (r Recipe) TrainedSteps(epoch int) ([]flow.Step, []float32) {
	plan := r.Rollout(epoch)
	timesteps := plan.Timesteps
	if r.Config.OFT.Forms.Sigmas == string(flow.Paper) {
		// The authors' training pass reads the schedule that a 1024×1024 evaluation left in the shared scheduler.
		plan.Sigmas = r.Scheduler.Sigmas(r.Config.OFT.Steps, paperTokens)
	}
	first, end := plan.Window()
	return plan.Steps()[first:end], timesteps[first:end]
}

// DPO is the loss of stage 2's method dpo.
func (r Recipe) DPO() flow.DPO {
	o := r.Config.OFT
	return flow.DPO{Beta: o.Beta, Eps: o.EpsClamp, Pairs: flow.Form(o.Forms.Pairs), MinGap: o.MinGap, Cap: o.MarginCap, Trust: o.Trust, KLLimit: o.KLLimit}
}

// Masker makes the masks of stage 2; the detector is asked only under the policy that needs one.
func (r Recipe) Masker(d reward.Detector) (*reward.Masker, error) {
	m := r.Config.OFT.Mask
	return reward.NewMasker(m.Policy, m.OnEmpty, r.Forms(), d)
}

// Pair is one prompt's samples as the method dpo takes them, with the states that were kept. A picture that is to be skipped
// makes a tie of all.
func (r Recipe) Pair(epoch int, latents [][][]float32, rewards []float64, subjects []reward.Subject) trainer.Pair {
	pair := trainer.Pair{Latents: latents, Rewards: append([]float64(nil), rewards...)}
	for _, s := range subjects {
		pair.Masks = append(pair.Masks, s.Mask(r.Forms(), r.Grid))
		if s.Skip {
			clear(pair.Rewards)
		}
	}
	pair.Steps, pair.Timesteps = r.TrainedSteps(epoch)
	return pair
}

// Summary counts a shard's pairs and ties and averages its rewards.
func (r Recipe) Summary(rewards [][]float64) run.PairSummary {
	s := run.PairSummary{Pairs: len(rewards)}
	n := 0
	for _, group := range rewards {
		for _, v := range group {
			s.RewardMean += v
			n++
		}
		best, _ := flow.Extremes(group)
		s.RewardBest += group[best]
		if flow.Flat(group, r.Config.OFT.MinGap) {
			s.Ties++
		}
		s.RewardSpread += flow.Spread(group) / float64(len(rewards))
	}
	if n > 0 {
		s.RewardMean /= float64(n)
		s.RewardBest /= float64(len(rewards))
	}
	return s
}
