package configs

// OFT is stage 2.
type OFT struct {
	// How a round trains on its pictures. dpo: the paper's, masked DPO on the steps of stochastic rollouts. The others mix
	// finished pictures with fresh noise and compare velocities there, so that rollouts need no noise and nothing of them is
	// kept but the pictures' latents; dgpo: preferences of whole groups (DGPO); nft: contrast of two branches around the
	// rollout policy (DiffusionNFT); dpo_flow: pairs of velocities' errors (online Diffusion-DPO); awm: advantage-weighted
	// matching, which nothing holds but its clip and a KL.
	Method string `yaml:"method" default:"dpo" enum:"dpo|dgpo|nft|dpo_flow|awm"`
	// Rounds of generate, score and train; 0 skips the stage.
	Epochs int `yaml:"epochs" default:"40" valid:">=0"`
	// Prompts of one epoch.
	PromptsPerEpoch int `yaml:"prompts_per_epoch" default:"8" valid:">0"`
	// Pictures of each prompt, its group. dpo takes every two of them with different scores as a pair; dgpo, nft and awm
	// learn from groups of 4 and more.
	ImagesPerPrompt int `yaml:"images_per_prompt" default:"2" valid:">=2"`
	// Optimiser steps that divide the trained times of a round among them (dpo: the noisy steps; else times.count): each
	// trains its share of the times on all prompts, dpo on accumulate_pairs prompts after each other. A divisor of the
	// number of times. 0: one for dpo, as many as there are times for the others.
	Updates int `yaml:"updates" default:"0" valid:">=0"`
	// Denoising steps of a rollout. For dpo, those with noise are training steps of their pairs too.
	Steps int `yaml:"steps" default:"30" valid:">0"`
	// Noise of the stochastic sampler: γ = min(s_churn/steps, √2−1), std = σ√((1+γ)²−1).
	SChurn float64 `yaml:"s_churn" default:"0.1" valid:">=0" of:"dpo"`
	// Noise of the step form cps: std = σ'·sin(eta·π/2), with σ' the noise level after the step.
	Eta float64 `yaml:"eta" default:"0.7" valid:">0,<=1" of:"dpo"`
	// First steps of a rollout that get noise and are trained; the rest follow the flow. 0: all, as the authors do. What a
	// picture shows is settled in the first steps: a few are cheaper and leave less noise in the scores.
	NoisySteps int `yaml:"noisy_steps" default:"0" valid:">=0" of:"dpo"`
	// Noise in a few steps whose place changes from round to round, instead of noisy_steps (MixGRPO).
	NoiseWindow NoiseWindow `yaml:"noise_window" of:"dpo"`
	// Value of the guidance input in rollouts and training.
	Guidance float64 `yaml:"guidance" default:"0" valid:">=0"`
	// The places where the authors' arithmetic and the mathematics part.
	Forms Forms `yaml:"forms"`
	// Sharpness of the preference: the loss is −ln sigmoid(beta·Δρ).
	Beta float64 `yaml:"beta" default:"10" valid:">0" of:"dpo"`
	// What bounds the way from the reference. clamp: probability ratios are clamped; kl_mask: samples whose step has a
	// divergence of kl_limit or more from the reference's stop where their gradient leads further away; none.
	Trust string `yaml:"trust" default:"clamp" enum:"clamp|kl_mask|none" of:"dpo"`
	// Probability ratios are clamped to [1−eps_clamp, 1+eps_clamp], under trust clamp.
	EpsClamp float64 `yaml:"eps_clamp" default:"0.1" valid:">0,<1" of:"dpo"`
	// Divergence, nats per element, from which trust kl_mask counts.
	KLLimit float64 `yaml:"kl_limit" default:"1e-3" valid:">0" of:"dpo"`
	// A pair whose margin beta·Δρ is beyond this has no gradient any more; 0: no bound. 1 to 4 are useful.
	MarginCap float64 `yaml:"margin_cap" default:"0" valid:">=0" of:"dpo"`
	// Log-probability of a step: the gaussian's, or the square −(x'−mean)² without scale and constants as the programs for
	// cps have it, which weighs steps by their noise and needs another beta.
	LogProb string `yaml:"log_prob" default:"gaussian" enum:"gaussian|square" of:"dpo"`
	// Pictures whose scores are no further apart than this say nothing about which is better, SciScore units: they are no
	// pair, a win rate counts them half, and a group of such pictures alone counts as flat. 0: equal scores only.
	MinGap float64 `yaml:"min_gap" default:"0" valid:">=0"`
	// Prompts whose pairs make one optimiser step; a divisor of prompts_per_epoch. The other methods take all prompts.
	AccumulatePairs int `yaml:"accumulate_pairs" default:"2" valid:">0" of:"dpo"`
	// Noise levels that finished pictures are trained at.
	Times Times `yaml:"times" of:"dgpo|nft|dpo_flow|awm"`
	// What a picture's score is turned into.
	Advantage Advantage `yaml:"advantage" of:"dgpo|nft|awm"`
	// Distance to the reference, the adapter that stage 2 started from, as part of the loss.
	KL KL `yaml:"kl" of:"dgpo|nft|dpo_flow|awm"`
	// Options of the method dpo_flow.
	DPOFlow DPOFlow `yaml:"dpo_flow" of:"dpo_flow"`
	// Options of the method dgpo.
	DGPO DGPO `yaml:"dgpo" of:"dgpo"`
	// Options of the method nft.
	NFT NFT `yaml:"nft" of:"nft"`
	// Options of the method awm.
	AWM   AWM `yaml:"awm" of:"awm"`
	Optim `yaml:",inline" default:"lr=3e-4"`
	// Where in the picture the preference counts.
	Mask Mask `yaml:"mask"`
	// Epochs between two updates of the run's search attributes, which cost a write of Temporal's index each. Every epoch
	// ends in a checkpoint.
	ChunkEpochs int `yaml:"chunk_epochs" default:"1" valid:">0" changes:"speed"`
}

// NoiseWindow is where noise enters a rollout.
type NoiseWindow struct {
	// Steps with noise; 0: no window, see noisy_steps.
	Size int `yaml:"size" default:"0" valid:">=0"`
	// First step that can have noise.
	Low int `yaml:"low" default:"0" valid:">=0"`
	// Step before which the window ends at the latest; 0: the first half of the steps. The last step has no noise under the
	// forms exact and cps.
	High int `yaml:"high" default:"0" valid:">=0"`
	// Where the window is in a round. random: anywhere, drawn; progressive: it moves on by stride steps every so many rounds.
	Strategy string `yaml:"strategy" default:"random" enum:"random|progressive"`
	// Steps by which a progressive window moves.
	Stride int `yaml:"stride" default:"1" valid:">0"`
	// Rounds that a progressive window stays.
	Every int `yaml:"every" default:"1" valid:">0"`
	// After its last place a progressive window begins again; off, it stays there.
	Wrap bool `yaml:"wrap" default:"true"`
}

// Times are the trained noise levels.
type Times struct {
	// Levels a round, each drawn in an equal part of those of the rollout.
	Count int `yaml:"count" default:"4" valid:">0"`
	// Part of the rollout's levels, from the noisiest on, that they are drawn from. The cleanest have faults of their own
	// in rollouts of few steps.
	Fraction float64 `yaml:"fraction" default:"0.7" valid:">0,<=1"`
	// shared: the pictures of a group get the same noise, so that their errors differ by what they show; own: each its own.
	Noise string `yaml:"noise" default:"shared" enum:"shared|own"`
}

// Advantage is the transform of scores.
type Advantage struct {
	// centred: the distance to the group's mean; zscore: that over the standard deviation; winrate: the share of the group
	// that a picture beats, centred; winrate_zscore: that over its deviation. A group of 2 has z-scores of ±1 whatever the
	// distance of its scores: take centred, scope round or min_gap there.
	Kind string `yaml:"kind" default:"zscore" enum:"centred|zscore|winrate|winrate_zscore"`
	// Standard deviation of the population (n) or of a sample (n−1).
	Deviation string `yaml:"deviation" default:"population" enum:"population|sample"`
	// Scores that the deviation is of: the group's, or all of the round's.
	Scope string `yaml:"scope" default:"group" enum:"group|round"`
	// Advantages are clamped to ±clip. For nft it is what maps to certainty as well: smaller means harder labels.
	Clip float64 `yaml:"clip" default:"5" valid:">0"`
}

// KL is the distance of velocities from the reference's, in mean square.
type KL struct {
	// Weight in the loss; 0: none, and no passes for it. dgpo's published values are 0.001 to 0.02, nft's 1e-4.
	Weight float64 `yaml:"weight" default:"0" valid:">=0"`
	// Elements that count: all, which guards the background that masks leave free, or those in the mask.
	Region string `yaml:"region" default:"all" enum:"all|mask"`
}

// DPOFlow is the method dpo_flow.
type DPOFlow struct {
	// Sharpness of the preference, for errors that are means over elements.
	Beta float64 `yaml:"beta" default:"100" valid:">0"`
	// Pairs of a group: its best with its worst picture, which alone cost passes, or all of different scores.
	Pairs string `yaml:"pairs" default:"extremes" enum:"extremes|all"`
	// A pair whose margin is beyond this has no gradient any more, which bounds how far a loser's error is driven up; 0: no
	// bound.
	MarginCap float64 `yaml:"margin_cap" default:"3" valid:">=0"`
}

// DGPO is the method dgpo.
type DGPO struct {
	// Sharpness: larger values fade groups sooner that are in the right order already.
	Beta float64 `yaml:"beta" default:"100" valid:">0"`
	// A picture whose error has moved by more than about this from the old policy's in the direction of its advantage stops;
	// 0: no clip, and no old policy. Published values are 1e-5 to 5e-2.
	Clip float64 `yaml:"clip" default:"0" valid:">=0,<1"`
	// A group whose margin is beyond this has no gradient any more; 0: no bound.
	MarginCap float64 `yaml:"margin_cap" default:"0" valid:">=0"`
	// How the old policy follows, after every update; for the clip.
	Old Old `yaml:"old" default:"cap=0.3"`
}

// NFT is the method nft.
type NFT struct {
	// Distance of the two branches: smaller values take larger steps.
	Beta float64 `yaml:"beta" default:"1" valid:">0"`
	// Least weight that a branch's squares are divided by.
	WeightMin float64 `yaml:"weight_min" default:"1e-5" valid:">0"`
	// How the old policy, which does the rollouts, follows after every round.
	Old Old `yaml:"old"`
}

// AWM is the method awm.
type AWM struct {
	// How a picture's error counts as its log-probability: uniform, sigma or sigma_square weigh it by the noise level, huber
	// takes its root, ghuber its power.
	Weighting string `yaml:"weighting" default:"ghuber" enum:"uniform|sigma|sigma_square|huber|ghuber"`
	// Power of ghuber.
	Power float64 `yaml:"power" default:"0.25" valid:">0"`
	// Probability ratios to the rollout policy beyond 1±clip stop.
	Clip float64 `yaml:"clip" default:"1" valid:">0"`
	// How the old policy, which does the rollouts, follows after every round. A cap of 0 is the trained policy itself.
	Old Old `yaml:"old" default:"cap=0"`
}

// Old is the schedule by which an old policy follows the trained one: old ← η·old + (1−η)·policy, with η = 0 for the first
// flat updates and then min(cap, ramp·(updates−flat)).
type Old struct {
	// Updates over which the old policy is the trained one.
	Flat int `yaml:"flat" default:"0" valid:">=0"`
	// Growth of η with each update after those.
	Ramp float64 `yaml:"ramp" default:"0.001" valid:">=0"`
	// Largest η.
	Cap float64 `yaml:"cap" default:"0.5" valid:">=0,<1"`
}

// Forms chooses, place by place, the authors' arithmetic (paper) or what the mathematics asks for (corrected).
type Forms struct {
	// Drift of the stochastic step. paper: the correction has the wrong sign and is scaled twice, so noise is just added;
	// corrected: keeps the marginal to first order in std; exact: keeps it for any std, last step without noise; cps: as exact,
	// with noise in proportion to the next noise level, by eta instead of s_churn.
	Step string `yaml:"step" default:"exact" enum:"paper|corrected|exact|cps" of:"dpo"`
	// Box corners outside the picture. paper: wrap round as negative Python slices do, often to an empty mask;
	// corrected: clamped to the picture.
	Corners string `yaml:"corners" default:"corrected" enum:"paper|corrected"`
	// Masked log-probability or error. paper: divided by all elements, so small boxes train weakly; corrected: by those kept.
	Mean string `yaml:"mean" default:"corrected" enum:"paper|corrected"`
	// DPO mean. paper: over all B² entries, a quarter of the gradient plus a constant; corrected: over ordered pairs.
	Pairs string `yaml:"pairs" default:"corrected" enum:"paper|corrected" of:"dpo"`
	// Noise levels the training pass reads. paper: those of a 1024×1024 picture that its evaluation left in the shared
	// scheduler; corrected: those stored with the trajectory.
	Sigmas string `yaml:"sigmas" default:"corrected" enum:"paper|corrected" of:"dpo"`
}

// Mask limits the preference to the subject.
type Mask struct {
	// none: the whole picture without a mask; detector: the subject's box; full: a box of the whole picture. There is no
	// detector for photographs yet: detector needs data.source world.
	Policy string `yaml:"policy" default:"detector" enum:"none|detector|full"`
	// Detector of the policy detector: `world`, the procedural world's own.
	Detector string `yaml:"detector" default:"world"`
	// What a picture without a detection does. full: counts as a whole; skip: its pairs train nothing; stop: the run ends
	// with a data error.
	OnEmpty string `yaml:"on_empty" default:"full" enum:"full|skip|stop"`
}

// Stop are the rules that watch stage 2. Each can stop it (the run goes on to evaluation and report with the newest
// checkpoint, and says why), pause it until `resume`, or be off.
type Stop struct {
	// The mean score of the pictures falls far below its best.
	RewardCollapse RewardCollapse `yaml:"reward_collapse"`
	// The policy of dpo is far from the reference.
	KLToReference Limit `yaml:"kl_to_reference" default:"limit=0.5" of:"dpo"`
	// The policy of another method is far from the reference. Runs that learn well stay below 0.05 for a hundred steps.
	DistanceToReference Limit `yaml:"distance_to_reference" default:"limit=0.25" of:"dgpo|nft|dpo_flow|awm"`
	// Hardly a prompt has pictures of different scores, so that there is nothing to learn.
	FlatRewards Limit `yaml:"flat_rewards" default:"limit=0.99"`
	// Most masks stop all gradient.
	DeadMasks Limit `yaml:"dead_masks" default:"limit=0.5"`
	// The clamp, clip or KL mask stops most gradients.
	ClampSaturation Limit `yaml:"clamp_saturation" default:"limit=0.9"`
}

// RewardCollapse compares window means of the reward.
type RewardCollapse struct {
	// What to do.
	Action string `yaml:"action" default:"stop" enum:"stop|pause|off"`
	// Fall of the mean over `window` epochs below the best such mean, SciScore units.
	Drop float64 `yaml:"drop" default:"2" valid:">0"`
	// Epochs of the mean.
	Window int `yaml:"window" default:"10" valid:">0"`
}

// Limit is a rule that acts when a value stays over its limit.
type Limit struct {
	// What to do.
	Action string `yaml:"action" default:"stop" enum:"stop|pause|off"`
	// Highest allowed value. KL: nats per element and step; distance: mean square of velocities, inside masks; flat rewards:
	// share of the prompts; masks and clamp: share in 0..1.
	Limit float64 `yaml:"limit" default:"0.5" valid:">0"`
	// Epochs in a row over the limit before the rule acts.
	Patience int `yaml:"patience" default:"3" valid:">0"`
}

// MethodDPO is the paper's method, the only one that trains on the steps of stochastic rollouts.
const MethodDPO = "dpo"

// Forward reports whether finished pictures are trained on instead of the steps of rollouts.
func (o OFT) Forward() bool { return o.Method != MethodDPO }

// OldPolicy is the schedule of the old policy that the method keeps in its checkpoints, if it keeps one. rolls says that the
// rollouts are done by it; then it follows after every round, else after every update.
func (o OFT) OldPolicy() (schedule Old, rolls, kept bool) {
	switch o.Method {
	case "nft":
		return o.NFT.Old, true, true
	case "awm":
		return o.AWM.Old, true, true
	case "dgpo":
		return o.DGPO.Old, false, o.DGPO.Clip > 0
	}
	return Old{}, false, false
}

// TrainedTimes is the number of times that a round trains each prompt at: noisy steps of its rollout, or noise levels.
func (o OFT) TrainedTimes() int {
	switch {
	case o.Forward():
		return o.Times.Count
	case o.NoiseWindow.Size > 0:
		return o.NoiseWindow.Size
	}
	n := o.Steps
	if o.NoisySteps > 0 {
		n = min(n, o.NoisySteps)
	}
	if n == o.Steps && o.quietEnd() {
		n--
	}
	return n
}

// quietEnd reports whether the last step of a rollout has no noise.
func (o OFT) quietEnd() bool { return o.Forms.Step == "exact" || o.Forms.Step == "cps" }

// Noise is the amount of noise of a stochastic step: eta of cps, s_churn of the other forms. Rollouts of finished pictures
// have none.
func (o OFT) Noise() float64 {
	switch {
	case o.Forward():
		return 0
	case o.Forms.Step == "cps":
		return o.Eta
	}
	return o.SChurn
}

// Window is the range that noise_window lies in.
func (o OFT) Window() (low, high int) {
	high = o.NoiseWindow.High
	if high == 0 {
		high = (o.Steps + 1) / 2
	}
	return o.NoiseWindow.Low, high
}

// UpdatesPerRound is the number of parts that the trained times are divided into.
func (o OFT) UpdatesPerRound() int {
	switch {
	case o.Updates > 0:
		return o.Updates
	case o.Forward():
		return o.Times.Count
	}
	return 1
}

// StepsPerEpoch is the number of optimiser steps of one OFT epoch.
func (o OFT) StepsPerEpoch() int {
	groups := 1
	if !o.Forward() {
		groups = (o.PromptsPerEpoch + o.AccumulatePairs - 1) / max(1, o.AccumulatePairs)
	}
	return o.UpdatesPerRound() * groups
}
