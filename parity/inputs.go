package parity

import (
	"fmt"

	"github.com/sciflux/sciflux/flow"
)

// shaped is an input as float32, whose shape must be the wanted one; -1 stands for any length of at least one.
func (c *Case) shaped(name string, want ...int) ([]float32, error) {
	t, err := c.Input(name)
	if err != nil {
		return nil, err
	}
	fits := len(t.Shape) == len(want)
	for i := 0; fits && i < len(want); i++ {
		fits = t.Shape[i] == want[i] || want[i] < 0 && t.Shape[i] > 0
	}
	if !fits {
		return nil, fmt.Errorf("case %s: input %s has shape %v, want %v (-1: any)", c.Name, name, t.Shape, want)
	}
	values, err := t.Float32s()
	if err != nil {
		return nil, fmt.Errorf("case %s: input %s: %w", c.Name, name, err)
	}
	return values, nil
}

// numbers is a shaped input that holds no NaN: places and scores have none, and comparisons would pass over it.
func (c *Case) numbers(name string, want ...int) ([]float32, error) {
	values, err := c.shaped(name, want...)
	for i, v := range values {
		if v != v {
			return nil, fmt.Errorf("case %s: input %s: value %d is not a number", c.Name, name, i)
		}
	}
	return values, err
}

// integers is an input [n] of integers.
func (c *Case) integers(name string, n int) ([]int64, error) {
	t, err := c.Input(name)
	if err != nil {
		return nil, err
	}
	values, err := t.Int64s()
	if err != nil {
		return nil, fmt.Errorf("case %s: input %s: %w", c.Name, name, err)
	}
	if len(t.Shape) != 1 || t.Shape[0] != n {
		return nil, fmt.Errorf("case %s: input %s has shape %v, want [%d]", c.Name, name, t.Shape, n)
	}
	return values, nil
}

// steps is the schedule of an input sigmas [n+1], at least one step.
func (c *Case) steps(form flow.Form, churn float64) ([]flow.Step, error) {
	sigmas, err := c.shaped("sigmas", -1)
	if err != nil {
		return nil, err
	}
	if len(sigmas) < 2 {
		return nil, fmt.Errorf("case %s: input sigmas: %d noise levels make no step", c.Name, len(sigmas))
	}
	return flow.Steps(form, sigmas, churn), nil
}

// atLeastOne checks arguments that count something.
func (c *Case) atLeastOne(counts map[string]int) error {
	for _, name := range sortedKeys(counts) {
		if counts[name] < 1 {
			return fmt.Errorf("case %s: %s is %d, want at least 1", c.Name, name, counts[name])
		}
	}
	return nil
}

// checkScheduler refuses a scheduler that has no grid or whose shift divides by nothing.
func (c *Case) checkScheduler(s flow.SchedulerConfig) error {
	if s.NumTrainTimesteps < 1 || s.NumTrainTimesteps > maxTimesteps {
		return fmt.Errorf("case %s: num_train_timesteps is %d, want 1…%d", c.Name, s.NumTrainTimesteps, maxTimesteps)
	}
	if s.UseDynamicShifting && s.BaseImageSeqLen == s.MaxImageSeqLen {
		return fmt.Errorf("case %s: base_image_seq_len and max_image_seq_len are both %d", c.Name, s.BaseImageSeqLen)
	}
	return nil
}

// maxTimesteps bounds a training grid and maxSteps a schedule: more is a damaged case, not a finer one.
const (
	maxTimesteps = 1 << 20
	maxSteps     = 1 << 20
)

// checkGrid refuses a grid without tokens.
func (c *Case) checkGrid(grid [2]int) error {
	return c.atLeastOne(map[string]int{"rows of grid": grid[0], "columns of grid": grid[1]})
}
