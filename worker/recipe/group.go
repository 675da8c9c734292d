package recipe

import (
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/random"
	"github.com/sciflux/sciflux/reward"
	"github.com/sciflux/sciflux/trainer"
)

// Scored is one prompt's finished pictures as they were stored: latents, scores and subjects, one of each a sample.
type Scored struct {
	Number       int // of the prompt, from the start of stage 2
	Latents      [][]float32
	Rewards      []float64
	Subjects     []reward.Subject
	Conditioning trainer.Conditioning
}

// Matching is the loss of a method that trains on finished pictures.
func (r Recipe) Matching() flow.Matching {
	o := r.Config.OFT
	anchor := flow.Anchor{Weight: o.KL.Weight, Region: o.KL.Region}
	switch o.Method {
	case "dgpo":
		return flow.GroupFlow{Beta: o.DGPO.Beta, Clip: o.DGPO.Clip, Cap: o.DGPO.MarginCap, Anchor: anchor}
	case "nft":
		return flow.NFT{Beta: o.NFT.Beta, AdvantageClip: o.Advantage.Clip, WeightMin: o.NFT.WeightMin, Anchor: anchor}
	case "awm":
		return flow.AWM{Weighting: o.AWM.Weighting, Power: o.AWM.Power, Clip: o.AWM.Clip, Anchor: anchor}
	}
	return r.pairFlow()
}

// pairFlow is the loss of dpo_flow.
func (r Recipe) pairFlow() flow.PairFlow {
	o := r.Config.OFT
	return flow.PairFlow{Beta: o.DPOFlow.Beta, MinGap: o.MinGap, Cap: o.DPOFlow.MarginCap, Pairs: o.DPOFlow.Pairs,
		Anchor: flow.Anchor{Weight: o.KL.Weight, Region: o.KL.Region}}
}

// OldPolicy is the schedule of the old policy.
func (r Recipe) OldPolicy() flow.OldPolicy {
	old, _, _ := r.Config.OFT.OldPolicy()
	return flow.OldPolicy{Flat: old.Flat, Ramp: old.Ramp, Cap: old.Cap}
}

// Groups are a round's pictures as the trainer takes them, with advantages over what is left of each group: a picture that is
// to be skipped is no sample. Of dpo_flow's extreme pairs alone the two are trained, and a group without a pair is empty.
func (r Recipe) Groups(round []Scored) []trainer.Group {
	groups, rewards := make([]trainer.Group, len(round)), make([][]float64, len(round))
	for g, s := range round {
		groups[g] = r.group(s)
		rewards[g] = groups[g].Rewards
	}
	o := r.Config.OFT
	a := flow.Advantages{Kind: o.Advantage.Kind, Sample: o.Advantage.Deviation == "sample", Round: o.Advantage.Scope == "round",
		Clip: o.Advantage.Clip, MinGap: o.MinGap}
	for g, advantages := range a.Of(rewards) {
		groups[g].Advantages = advantages
	}
	return groups
}

// group is one prompt's samples without their advantages.
func (r Recipe) group(s Scored) trainer.Group {
	var samples []int
	for i, subject := range s.Subjects {
		if !subject.Skip {
			samples = append(samples, i)
		}
	}
	if o := r.Config.OFT; o.Method == "dpo_flow" && o.DPOFlow.Pairs == flow.PairsExtremes {
		samples = r.extremes(s.Rewards, samples)
	}
	g := trainer.Group{Conditioning: s.Conditioning, Levels: r.levels(s.Number, samples)}
	for _, i := range samples {
		g.Latents, g.Rewards = append(g.Latents, s.Latents[i]), append(g.Rewards, s.Rewards[i])
		g.Masks = append(g.Masks, s.Subjects[i].Mask(r.Forms(), r.Grid))
	}
	return g
}

// extremes are the two of some samples that make a pair, or none.
func (r Recipe) extremes(rewards []float64, samples []int) []int {
	some := make([]float64, len(samples))
	for k, i := range samples {
		some[k] = rewards[i]
	}
	pairs := r.pairFlow().Choose(some)
	if len(pairs) == 0 {
		return nil
	}
	return []int{samples[pairs[0][0]], samples[pairs[0][1]]}
}

// levels are the noise levels that a prompt's samples are trained at in its round: levels of the rollout, drawn for the
// prompt, with a noise for each that the samples share or not. samples are their places in the rollout.
func (r Recipe) levels(number int, samples []int) []trainer.Level {
	o := r.Config.OFT
	draws := make([]float64, o.Times.Count)
	for j := range draws {
		draws[j] = r.key("oft times").Index(uint64(number)).Float64(uint64(j))
	}
	sigmas := r.Scheduler.Sigmas(o.Steps, r.Grid.Tokens())
	levels := make([]trainer.Level, len(draws))
	for j, index := range (flow.TrainTimes{Steps: o.Steps, Count: o.Times.Count, Fraction: o.Times.Fraction}).Index(draws) {
		levels[j] = trainer.Level{Sigma: sigmas[index], Noise: func(k int, dst []float32) {
			r.ForwardNoise(number, j, samples[k]).Normal(dst)
		}}
	}
	return levels
}

// ForwardNoise keys the noise that is mixed into a sample at the j-th trained level of its round.
func (r Recipe) ForwardNoise(number, j, sample int) random.Key {
	key := r.key("oft forward")
	if r.Config.OFT.Times.Noise == "own" {
		return key.Index(uint64(number), uint64(j), uint64(sample))
	}
	return key.Index(uint64(number), uint64(j))
}
