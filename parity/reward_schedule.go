package parity

import (
	"context"
	"fmt"

	"github.com/sciflux/sciflux/reward"
)

// runRewardSchedule is kind "reward_schedule": the learning rate of each update of SciScore's training.
func runRewardSchedule(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	var args struct {
		Form         string  `json:"form"`
		LearningRate float64 `json:"learning_rate"`
		Warmup       int     `json:"warmup"`
		Total        int     `json:"total"`
		Updates      int     `json:"updates"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	if args.Form != "paper" {
		return nil, fmt.Errorf("reward_schedule: form %q: only paper is defined", args.Form)
	}
	s := reward.Schedule{Peak: args.LearningRate, Warmup: args.Warmup, Total: args.Total}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if args.Updates < 0 || args.Updates > maxSteps {
		return nil, fmt.Errorf("reward_schedule: updates is %d, want 0…%d", args.Updates, maxSteps)
	}
	rates := make([]float64, args.Updates)
	for i := range rates {
		rates[i] = s.Rate(i + 1)
	}
	out := NewOutputs()
	out.Float64("learning_rate", []int{len(rates)}, rates)
	return out, nil
}
