package run

import "time"

// Masks counts what became of the box masks of an epoch, one count a sample.
type Masks struct {
	Total   int `json:"total"`
	Missing int `json:"missing"` // the detector found nothing; the on_empty policy decided
	Empty   int `json:"empty"`   // the mask keeps no element
	Tiny    int `json:"tiny"`    // it keeps less than 1 % of the elements
	Full    int `json:"full"`    // it keeps every element
}

// Add returns the sum of both counts.
func (m Masks) Add(o Masks) Masks {
	return Masks{m.Total + o.Total, m.Missing + o.Missing, m.Empty + o.Empty, m.Tiny + o.Tiny, m.Full + o.Full}
}

// DeadFraction is the share of samples whose mask stops all gradient.
func (m Masks) DeadFraction() float64 {
	if m.Total == 0 {
		return 0
	}
	return float64(m.Empty) / float64(m.Total)
}

// Progress is what an activity tells while it works. It is a hint for people: it may lag by seconds and is never used
// to decide where training goes on.
type Progress struct {
	Stage       Stage     `json:"stage"`
	Step        int       `json:"step"`
	StepsTotal  int       `json:"steps_total"`
	Part        string    `json:"part,omitempty"` // of a stage whose parts advance side by side: Step counts this part's steps, StepsTotal those of all
	Epoch       int       `json:"epoch,omitempty"`
	Note        string    `json:"note,omitempty"` // such as "generating", "scoring"
	StepSeconds float64   `json:"step_seconds,omitempty"`
	Loss        float64   `json:"loss,omitempty"`
	Reward      float64   `json:"reward,omitempty"`
	Masks       Masks     `json:"masks,omitzero"`
	At          time.Time `json:"at"`
}

// PairSummary says what one scored shard, or a whole epoch of them, holds.
type PairSummary struct {
	Pairs      int     `json:"pairs"`
	Ties       int     `json:"ties"`        // groups of equal scores, or no further apart than min_gap: they say nothing of what is better
	RewardMean float64 `json:"reward_mean"` // over all pictures, SciScore units
	RewardBest float64 `json:"reward_best"` // mean of the better picture of each pair
	// RewardSpread is the mean standard deviation of the scores of a prompt's pictures.
	RewardSpread float64 `json:"reward_spread,omitempty"`
	Masks        Masks   `json:"masks"`
}

// FlatShare is the share of the prompts whose pictures have equal scores.
func (p PairSummary) FlatShare() float64 { return float64(p.Ties) / float64(max(1, p.Pairs)) }

// Add merges two summaries; means are weighted by the number of pairs.
func (p PairSummary) Add(o PairSummary) PairSummary {
	n := float64(p.Pairs + o.Pairs)
	if n == 0 {
		return PairSummary{Masks: p.Masks.Add(o.Masks)}
	}
	mean := func(a, b float64) float64 { return (a*float64(p.Pairs) + b*float64(o.Pairs)) / n }
	return PairSummary{
		Pairs: p.Pairs + o.Pairs, Ties: p.Ties + o.Ties,
		RewardMean: mean(p.RewardMean, o.RewardMean), RewardBest: mean(p.RewardBest, o.RewardBest),
		RewardSpread: mean(p.RewardSpread, o.RewardSpread), Masks: p.Masks.Add(o.Masks),
	}
}

// ChunkSummary are the means over the optimiser steps of one chunk. All values are finite: a chunk that meets a
// non-finite loss fails with ClassNonFinite instead.
type ChunkSummary struct {
	Steps    int     `json:"steps"`
	Loss     float64 `json:"loss"`
	GradNorm float64 `json:"grad_norm"` // before clipping
	KL       float64 `json:"kl"`        // OFT: mean squared distance of the step means over 2 std², policy to reference
	Clamped  float64 `json:"clamped"`   // OFT: share of samples that the clamp, clip or KL mask stops, 0..1
	// Distance is, in OFT by other methods than dpo, the mean square distance of the policy's velocities from the reference's.
	Distance  float64 `json:"distance,omitempty"`
	LearnRate float64 `json:"learn_rate"`
}

// GuardState is what the stop rules remember between epochs. The workflow hands it to every DPO chunk, which keeps it in
// its manifest, so that a run rebuilt from the store decides as the lost one would have.
type GuardState struct {
	Rewards    []float64 `json:"rewards,omitempty"` // RewardMean of the epochs in the window, oldest first
	BestReward float64   `json:"best_reward"`       // highest window mean so far
	HasBest    bool      `json:"has_best"`
	KLOver     int       `json:"kl_over"`      // epochs in a row over the limit
	DeadOver   int       `json:"dead_over"`    // as KLOver, for dead masks
	ClampOver  int       `json:"clamped_over"` // as KLOver, for clamp saturation
	// As KLOver, for the distance of velocities and for rewards that are all equal.
	DistanceOver int `json:"distance_over,omitempty"`
	FlatOver     int `json:"flat_over,omitempty"`
}

// State is what a run answers when asked how it stands; `show --json` prints it.
type State struct {
	Run         string          `json:"run"`
	Status      Status          `json:"status"`
	Stage       Stage           `json:"stage"`
	Reason      string          `json:"reason,omitempty"` // why it is paused, stopped early or failed
	Step        int             `json:"step"`
	StepsTotal  int             `json:"steps_total"`
	Epoch       int             `json:"epoch,omitempty"`
	EpochsTotal int             `json:"epochs_total,omitempty"`
	Adapter     ObjectRef       `json:"adapter"`     // newest committed adapter
	Checkpoints []CheckpointRef `json:"checkpoints"` // ends of stages and the newest of the current one
	Results     []EvalResult    `json:"results,omitempty"`
	Quick       []QuickEval     `json:"quick,omitempty"` // newest evaluations during training
	StageTimes  []StageTime     `json:"stage_times,omitempty"`
	Report      ObjectRef       `json:"report,omitzero"`
	ConfigHash  string          `json:"config_hash"`
	Seed        uint64          `json:"seed"`
	Child       string          `json:"child,omitempty"` // workflow that works on the current stage
}

// StageTime is how long a stage took: by the clock, and busy (see BusySeconds).
type StageTime struct {
	Stage       Stage   `json:"stage"`
	WallSeconds float64 `json:"wall_seconds"`
	BusySeconds float64 `json:"busy_seconds"`
	Stopped     string  `json:"stopped,omitempty"` // the stop rule that ended it early
}
