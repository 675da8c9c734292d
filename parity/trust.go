package parity

import (
	"context"
	"fmt"

	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/trainer"
)

// noiseArgs say how a stochastic step injects noise and reads probabilities.
type noiseArgs struct {
	Step    flow.Form `json:"step"`
	Churn   float64   `json:"s_churn"`
	Eta     float64   `json:"eta"`
	LogProb string    `json:"log_prob"`
}

func (a noiseArgs) amount() float64 {
	if a.Step == flow.CPS {
		return a.Eta
	}
	return a.Churn
}

func (a noiseArgs) square() (bool, error) {
	if a.LogProb != "gaussian" && a.LogProb != "square" {
		return false, fmt.Errorf("log_prob %q is unknown; use gaussian or square", a.LogProb)
	}
	return a.LogProb == "square", nil
}

// readSteps reads the inputs of one step whose form is the args'; form is that of masks.
func (a noiseArgs) readSteps(c *Case, form flow.Form, grid [2]int, names ...string) (*stepInputs, error) {
	square, err := a.square()
	if err != nil {
		return nil, fmt.Errorf("case %s: %w", c.Name, err)
	}
	if err := flow.AllForms(a.Step).Validate(); err != nil {
		return nil, err
	}
	in, err := readSteps(c, form, a.amount(), grid, names...)
	if err != nil {
		return nil, err
	}
	if sigmas, err := c.shaped("sigmas", -1); err != nil || sigmas[len(sigmas)-1] != 0 {
		return nil, fmt.Errorf("case %s: input sigmas does not end at 0, as a schedule does", c.Name)
	}
	// readSteps took the form of the masks for that of the step.
	steps, err := c.steps(a.Step, a.amount())
	if err != nil {
		return nil, err
	}
	index, err := c.integers("step_index", in.shape[0])
	if err != nil {
		return nil, err
	}
	for i, k := range index {
		in.steps[i] = steps[k]
		in.steps[i].Square = square
	}
	return in, nil
}

// runCPSStep is kind "cps_step".
func runCPSStep(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	var args struct {
		noiseArgs
		Form flow.Form `json:"form"`
		Grid [2]int    `json:"grid"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	in, err := args.readSteps(c, args.Form, args.Grid, "velocity", "sample", "noise")
	if err != nil {
		return nil, err
	}
	return in.outcome(args.Grid), nil
}

// runTrust is kind "sde_dpo_grad": the loss of stage 2's dpo at one timestep under any rule of trust.
func runTrust(_ context.Context, c *Case, _ Options) (*Outputs, error) {
	var args struct {
		noiseArgs
		Form    flow.Form `json:"form"`
		Grid    [2]int    `json:"grid"`
		Beta    float64   `json:"beta"`
		MinGap  float64   `json:"min_gap"`
		Trust   string    `json:"trust"`
		Eps     float64   `json:"eps"`
		KLLimit float64   `json:"kl_limit"`
		Cap     *float64  `json:"cap"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	if args.Trust != flow.TrustClamp && args.Trust != flow.TrustKLMask && args.Trust != flow.TrustNone {
		return nil, fmt.Errorf("case %s: trust %q is unknown", c.Name, args.Trust)
	}
	names := []string{"velocity", "velocity_ref", "sample", "next"}
	if c.HasInput("velocity_old") {
		names = append(names, "velocity_old")
	}
	in, err := args.readSteps(c, args.Form, args.Grid, names...)
	if err != nil {
		return nil, err
	}
	rewards, err := c.numbers("rewards", in.shape[0])
	if err != nil {
		return nil, err
	}
	grad := make([]float32, len(in.tensors["velocity"]))
	loss := flow.DPO{Beta: args.Beta, Eps: args.Eps, Pairs: flow.Corrected, MinGap: args.MinGap, Cap: orZero(args.Cap),
		Trust: args.Trust, KLLimit: args.KLLimit}
	got := loss.VelocityGradient(split(grad, in.shape[0]), in.velocities(), in.transitions(), wide(rewards), 1)
	var open []byte
	for _, c := range got.Clamped {
		open = append(open, openByte(c))
	}
	out := NewOutputs()
	out.Float32("loss", []int{1}, []float32{float32(got.Loss)})
	for name, v := range map[string][]float64{"log_prob": got.LogProb, "log_prob_ref": got.LogProbRef, "kl": got.Moved} {
		out.Float32(name, in.shape[:1], narrow(v))
	}
	out.Uint8("open", in.shape[:1], open)
	out.Float32("grad_velocity", in.shape, grad)
	return out, nil
}

// runRolloutWindow is kind "rollout_window".
func runRolloutWindow(ctx context.Context, c *Case, o Options) (*Outputs, error) {
	args := struct {
		rolloutArgs
		noiseArgs
		Start int `json:"start"`
		Size  int `json:"size"`
	}{rolloutArgs: rolloutArgs{Scheduler: flow.DefaultScheduler()}}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	square, err := args.square()
	if err != nil {
		return nil, fmt.Errorf("case %s: %w", c.Name, err)
	}
	if err := (flow.Window{Size: args.Size, Low: args.Start, High: args.Start + args.Size, Random: true}).Validate(args.Steps); err != nil {
		return nil, fmt.Errorf("case %s: %w", c.Name, err)
	}
	start, err := c.Input("start")
	if err != nil {
		return nil, err
	}
	if _, err := c.shaped("noise", append([]int{args.Steps}, start.Shape...)...); err != nil {
		return nil, err
	}
	return args.run(ctx, c, o, trainer.Plan{Form: args.Step, Churn: args.amount(), First: args.Start, Noisy: args.Size, Square: square})
}
