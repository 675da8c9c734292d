package parity

import (
	"context"
	"fmt"
	"math"

	"github.com/sciflux/sciflux/flow"
)

// doubles is an input in float64 that holds no NaN and no infinity.
func (c *Case) doubles(name string, want ...int) ([]float64, error) {
	if _, err := c.shaped(name, want...); err != nil { // for its shape
		return nil, err
	}
	values, err := c.inputs[name].Float64s()
	if err != nil {
		return nil, fmt.Errorf("case %s: input %s: %w", c.Name, name, err)
	}
	for i, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("case %s: input %s: value %d is %v", c.Name, name, i, v)
		}
	}
	return values, nil
}

// draws is an input of numbers in [0, 1).
func (c *Case) draws(name string, want ...int) ([]float64, error) {
	values, err := c.doubles(name, want...)
	for i, v := range values {
		if v < 0 || v >= 1 {
			return nil, fmt.Errorf("case %s: input %s: value %d is %v, want a number in [0, 1)", c.Name, name, i, v)
		}
	}
	return values, err
}

// runAdvantages is kind "reward_transform".
func runAdvantages(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	var args struct {
		Group         int     `json:"group"`
		Kind          string  `json:"kind"`
		Deviation     string  `json:"deviation"`
		Scope         string  `json:"scope"`
		Clip          float64 `json:"clip"`
		MinGap        float64 `json:"min_gap"`
		AdvantageClip float64 `json:"adv_clip"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	a := flow.Advantages{Kind: args.Kind, Sample: args.Deviation == "sample", Round: args.Scope == "round", Clip: args.Clip,
		MinGap: args.MinGap}
	if err := a.Validate(); err != nil {
		return nil, err
	}
	rewards, err := c.doubles("rewards", -1)
	if err != nil {
		return nil, err
	}
	n := len(rewards)
	if args.Group < 1 || n%args.Group != 0 {
		return nil, fmt.Errorf("case %s: %d rewards in groups of %d", c.Name, n, args.Group)
	}
	var groups [][]float64
	flat := int64(0)
	for from := 0; from < n; from += args.Group {
		group := rewards[from : from+args.Group]
		if flow.Flat(group, args.MinGap) {
			flat++
		}
		groups = append(groups, group)
	}
	var advantage, optimality []float64
	for _, group := range a.Of(groups) {
		for _, v := range group {
			advantage, optimality = append(advantage, v), append(optimality, flow.Optimality(v, args.AdvantageClip))
		}
	}
	out := NewOutputs()
	out.Float64("advantage", []int{n}, advantage)
	out.Float64("optimality", []int{n}, optimality)
	out.Int64("flat_groups", []int{1}, []int64{flat})
	return out, nil
}

// oldPolicyArgs are the schedule of an old policy; first is the number of updates before the case.
type oldPolicyArgs struct {
	Flat  int     `json:"flat"`
	Ramp  float64 `json:"ramp"`
	Cap   float64 `json:"cap"`
	First int     `json:"first"`
}

func (a oldPolicyArgs) schedule() flow.OldPolicy {
	return flow.OldPolicy{Flat: a.Flat, Ramp: a.Ramp, Cap: a.Cap}
}

// runOldPolicy is kind "old_policy".
func runOldPolicy(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	var args oldPolicyArgs
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	start, err := c.shaped("start", -1)
	if err != nil {
		return nil, err
	}
	policy, err := c.shaped("policy", -1, len(start))
	if err != nil {
		return nil, err
	}
	shape := c.inputs["policy"].Shape
	old := append([]float32(nil), start...)
	var states []float32
	var decay []float64
	for k, p := range split(policy, shape[0]) {
		args.schedule().Follow(old, p, args.First+k)
		states, decay = append(states, old...), append(decay, args.schedule().Decay(args.First+k))
	}
	out := NewOutputs()
	out.Float64("decay", shape[:1], decay)
	out.Float32("old", shape, states)
	return out, nil
}

// runTrainTimes is kind "train_times".
func runTrainTimes(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	var args struct {
		Steps    int     `json:"steps"`
		Count    int     `json:"count"`
		Fraction float64 `json:"fraction"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	times := flow.TrainTimes{Steps: args.Steps, Count: args.Count, Fraction: args.Fraction}
	if err := times.Validate(); err != nil {
		return nil, fmt.Errorf("case %s: %w", c.Name, err)
	}
	draw, err := c.draws("draw", -1, args.Count)
	if err != nil {
		return nil, err
	}
	var index []int64
	for from := 0; from < len(draw); from += args.Count {
		for _, i := range times.Index(draw[from : from+args.Count]) {
			index = append(index, int64(i))
		}
	}
	out := NewOutputs()
	out.Int64("index", c.inputs["draw"].Shape, index)
	return out, nil
}

// runWindow is kind "noise_window".
func runWindow(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	var args struct {
		Steps    int    `json:"steps"`
		Size     int    `json:"size"`
		Low      int    `json:"low"`
		High     int    `json:"high"`
		Strategy string `json:"strategy"`
		Stride   int    `json:"stride"`
		Every    int    `json:"every"`
		Wrap     bool   `json:"wrap"`
		Rounds   int    `json:"rounds"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	w := flow.Window{Size: args.Size, Low: args.Low, High: args.High, Random: args.Strategy == "random", Stride: args.Stride,
		Every: args.Every, Wrap: args.Wrap}
	if err := w.Validate(args.Steps); err != nil {
		return nil, fmt.Errorf("case %s: %w", c.Name, err)
	}
	if args.Steps > maxSteps || args.Rounds < 1 || args.Rounds > maxSteps/args.Steps {
		return nil, fmt.Errorf("case %s: %d rounds of %d steps", c.Name, args.Rounds, args.Steps)
	}
	draw := make([]float64, args.Rounds)
	if w.Random {
		var err error
		if draw, err = c.draws("draw", args.Rounds); err != nil {
			return nil, err
		}
	}
	start, noisy := make([]int64, args.Rounds), make([]byte, args.Rounds*args.Steps)
	for r := range start {
		at := w.Start(r, draw[r])
		start[r] = int64(at)
		for i := at; i < at+w.Size; i++ {
			noisy[r*args.Steps+i] = 1
		}
	}
	out := NewOutputs()
	out.Int64("start", []int{args.Rounds}, start)
	out.Uint8("noisy", []int{args.Rounds, args.Steps}, noisy)
	return out, nil
}
