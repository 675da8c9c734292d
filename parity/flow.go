package parity

import (
	"context"
	"fmt"

	"github.com/sciflux/sciflux/flow"
)

// runSchedule is kind "flow_schedule": the inference schedule of a scheduler_config.json.
func runSchedule(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	args := struct {
		Steps       int                  `json:"steps"`
		ImageTokens int                  `json:"image_tokens"`
		Scheduler   flow.SchedulerConfig `json:"scheduler"`
	}{Scheduler: flow.DefaultScheduler()}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	if err := c.atLeastOne(map[string]int{"steps": args.Steps, "image_tokens": args.ImageTokens}); err != nil {
		return nil, err
	}
	if args.Steps > maxSteps {
		return nil, fmt.Errorf("case %s: steps is %d, want at most %d", c.Name, args.Steps, maxSteps)
	}
	if err := c.checkScheduler(args.Scheduler); err != nil {
		return nil, err
	}
	out := NewOutputs()
	sigmas := args.Scheduler.Sigmas(args.Steps, args.ImageTokens)
	out.Float32("sigmas", []int{len(sigmas)}, sigmas)
	out.Float32("timesteps", []int{args.Steps}, args.Scheduler.Timesteps(sigmas))
	if args.Scheduler.UseDynamicShifting {
		out.Float64("mu", []int{1}, []float64{args.Scheduler.Mu(args.ImageTokens)})
	}
	return out, nil
}

// runTrainingGrid is kind "flow_training_grid".
func runTrainingGrid(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	args := struct {
		Scheduler flow.SchedulerConfig `json:"scheduler"`
	}{Scheduler: flow.DefaultScheduler()}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	if err := c.checkScheduler(args.Scheduler); err != nil {
		return nil, err
	}
	grid := args.Scheduler.TrainingGrid()
	out := NewOutputs()
	out.Float32("sigmas", []int{len(grid)}, grid)
	// The grid is one value longer in a loaded scheduler that appends the final 0; Timesteps wants that form.
	out.Float32("timesteps", []int{len(grid)}, args.Scheduler.Timesteps(append(grid, 0)))
	return out, nil
}

// runDensity is kind "timestep_density": raw draws turned into noise levels and loss weights.
func runDensity(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	args := struct {
		Density   string               `json:"density"`
		Mean      float64              `json:"mean"`
		Std       float64              `json:"std"`
		Scale     float64              `json:"scale"`
		Weighting string               `json:"weighting"`
		Scheduler flow.SchedulerConfig `json:"scheduler"`
	}{Scheduler: flow.DefaultScheduler(), Std: 1, Scale: 1.29}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	density := flow.Density{Kind: args.Density, Mean: args.Mean, Std: args.Std, Scale: args.Scale}
	if err := density.Validate(); err != nil {
		return nil, err
	}
	draws, err := c.numbers("draw", -1)
	if err != nil {
		return nil, err
	}
	if err := c.checkScheduler(args.Scheduler); err != nil {
		return nil, err
	}
	grid := args.Scheduler.TrainingGrid()
	n := len(draws)
	u, sigma, timestep, weight, index := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n), make([]int64, n)
	for i, draw := range draws {
		place := density.U(float64(draw))
		k := flow.GridIndex(place, len(grid))
		w, err := flow.LossWeight(args.Weighting, float64(grid[k]))
		if err != nil {
			return nil, err
		}
		u[i], index[i], sigma[i], weight[i] = float32(place), int64(k), grid[k], float32(w)
		timestep[i] = float32(args.Scheduler.NumTrainTimesteps) * grid[k]
	}
	out := NewOutputs()
	out.Int64("index", []int{n}, index)
	for name, values := range map[string][]float32{"u": u, "sigma": sigma, "timestep": timestep, "weight": weight} {
		out.Float32(name, []int{n}, values)
	}
	return out, nil
}

// runStep is kind "flow_step": one stochastic step and its log-probability, with and without box masks.
func runStep(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	var args struct {
		Form  flow.Form `json:"form"`
		Churn float64   `json:"s_churn"`
		Grid  [2]int    `json:"grid"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	in, err := readSteps(c, args.Form, args.Churn, args.Grid, "velocity", "sample", "noise")
	if err != nil {
		return nil, err
	}
	return in.outcome(args.Grid), nil
}

// outcome advances every sample by its step and reads the probability of where it went.
func (in *stepInputs) outcome(grid [2]int) *Outputs {
	shape := in.shape
	size := shape[1] * shape[2]
	next, mean, elements := make([]float32, shape[0]*size), make([]float32, shape[0]*size), make([]float32, shape[0]*size)
	std, logProb := make([]float32, shape[0]), make([]float32, shape[0])
	var cells []byte
	for b, step := range in.steps {
		at := func(x []float32) []float32 { return x[b*size : (b+1)*size] }
		v, x := at(in.tensors["velocity"]), at(in.tensors["sample"])
		step.Mean(at(mean), x, v)
		step.Advance(at(next), x, v, at(in.tensors["noise"]))
		step.LogProbElements(at(elements), x, v, at(next))
		std[b], logProb[b] = float32(step.Std), float32(step.LogProb(x, v, at(next), in.masks[b]))
		if m := in.masks[b]; m != nil {
			cells = append(cells, m.Cells...)
		}
	}
	out := NewOutputs()
	for name, values := range map[string][]float32{"next": next, "mean": mean, "log_prob_elements": elements} {
		out.Float32(name, shape, values)
	}
	out.Float32("std", shape[:1], std)
	out.Float32("log_prob", shape[:1], logProb)
	if cells != nil {
		out.Uint8("mask", []int{shape[0], 2 * grid[0], 2 * grid[1]}, cells)
	}
	return out
}

// runPairLoss is kind "dpo_loss".
func runPairLoss(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	var args struct {
		Form flow.Form `json:"form"`
		Beta float64   `json:"beta"`
		Eps  float64   `json:"eps"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	if err := flow.AllForms(args.Form).Validate(); err != nil {
		return nil, err
	}
	var values [3][]float64
	n := -1
	for i, name := range []string{"log_prob", "log_prob_ref", "rewards"} {
		v, err := c.numbers(name, n)
		if err != nil {
			return nil, err
		}
		values[i], n = wide(v), len(v)
	}
	loss, grad, _ := flow.DPO{Beta: args.Beta, Eps: args.Eps, Pairs: args.Form}.PairLoss(values[0], values[1], values[2])
	out := NewOutputs()
	out.Float32("loss", []int{1}, []float32{float32(loss)})
	out.Float32("grad_log_prob", []int{len(grad)}, narrow(grad))
	return out, nil
}

// runVelocityGradient is kind "dpo_velocity_grad": the analytic gradient that stage 2 back-propagates.
func runVelocityGradient(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	var args struct {
		Form  flow.Form `json:"form"`
		Churn float64   `json:"s_churn"`
		Grid  [2]int    `json:"grid"`
		Beta  float64   `json:"beta"`
		Eps   float64   `json:"eps"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	in, err := readSteps(c, args.Form, args.Churn, args.Grid, "velocity", "velocity_ref", "sample", "next")
	if err != nil {
		return nil, err
	}
	rewards, err := c.numbers("rewards", in.shape[0])
	if err != nil {
		return nil, err
	}
	grad := make([]float32, len(in.tensors["velocity"]))
	dpo := flow.DPO{Beta: args.Beta, Eps: args.Eps, Pairs: args.Form}
	got := dpo.VelocityGradient(split(grad, in.shape[0]), in.velocities(), in.transitions(), wide(rewards), 1)
	out := NewOutputs()
	out.Float32("loss", []int{1}, []float32{float32(got.Loss)})
	out.Float32("log_prob", in.shape[:1], narrow(got.LogProb))
	out.Float32("log_prob_ref", in.shape[:1], narrow(got.LogProbRef))
	out.Float32("grad_velocity", in.shape, grad)
	return out, nil
}

// stepInputs are the inputs that the kinds of one step share.
type stepInputs struct {
	shape   []int // [B, N, C]
	tensors map[string][]float32
	steps   []flow.Step  // per sample
	masks   []*flow.Mask // per sample, nil without boxes
}

// velocities are those that the case has, a slice a sample.
func (in *stepInputs) velocities() flow.Velocities {
	part := func(name string) [][]float32 {
		if v, ok := in.tensors[name]; ok {
			return split(v, in.shape[0])
		}
		return nil
	}
	return flow.Velocities{Policy: part("velocity"), Reference: part("velocity_ref"), Old: part("velocity_old")}
}

// transitions are the stored steps of a case with inputs sample and next.
func (in *stepInputs) transitions() []flow.Transition {
	x, next := split(in.tensors["sample"], in.shape[0]), split(in.tensors["next"], in.shape[0])
	at := make([]flow.Transition, in.shape[0])
	for b := range at {
		at[b] = flow.Transition{Step: in.steps[b], Sample: x[b], Next: next[b], Mask: in.masks[b]}
	}
	return at
}

func readSteps(c *Case, form flow.Form, churn float64, grid [2]int, names ...string) (*stepInputs, error) {
	if err := flow.AllForms(form).Validate(); err != nil {
		return nil, err
	}
	if err := c.checkGrid(grid); err != nil {
		return nil, err
	}
	in := &stepInputs{shape: []int{-1, grid[0] * grid[1], -1}, tensors: map[string][]float32{}}
	for _, name := range names {
		values, err := c.shaped(name, in.shape...)
		if err != nil {
			return nil, err
		}
		in.tensors[name], in.shape = values, c.inputs[name].Shape
	}
	steps, err := c.steps(form, churn)
	if err != nil {
		return nil, err
	}
	index, err := c.integers("step_index", in.shape[0])
	if err != nil {
		return nil, err
	}
	for _, i := range index {
		if i < 0 || int(i) >= len(steps) {
			return nil, fmt.Errorf("case %s: step %d of %d", c.Name, i, len(steps))
		}
		in.steps = append(in.steps, steps[i])
	}
	if c.HasInput("boxes") && in.shape[2]%4 != 0 {
		return nil, fmt.Errorf("case %s: %d channels are not four times as many as a latent has, so boxes have no cells", c.Name, in.shape[2])
	}
	in.masks, err = readMasks(c, "boxes", form, grid, in.shape[0])
	return in, err
}

// readMasks reads boxes [n, 4] into masks, all nil when the case has no such input.
func readMasks(c *Case, name string, form flow.Form, grid [2]int, n int) ([]*flow.Mask, error) {
	masks := make([]*flow.Mask, n)
	if !c.HasInput(name) {
		return masks, nil
	}
	boxes, err := c.numbers(name, n, 4)
	if err != nil {
		return nil, err
	}
	for i := range masks {
		b := boxes[4*i:]
		masks[i] = flow.NewMask(flow.AllForms(form), flow.Box{CX: b[0], CY: b[1], W: b[2], H: b[3]}, flow.Grid{Rows: grid[0], Columns: grid[1]})
	}
	return masks, nil
}

func floats(c *Case, name string) ([]float32, error) {
	t, err := c.Input(name)
	if err != nil {
		return nil, err
	}
	return t.Float32s()
}

func wide(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

func narrow(x []float64) []float32 {
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = float32(v)
	}
	return y
}

// split cuts x into n equal parts without copying.
func split(x []float32, n int) [][]float32 {
	parts, size := make([][]float32, n), len(x)/n
	for i := range parts {
		parts[i] = x[i*size : (i+1)*size]
	}
	return parts
}
