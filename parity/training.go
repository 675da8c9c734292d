package parity

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/model/flux"
	"github.com/sciflux/sciflux/model/lora"
	"github.com/sciflux/sciflux/store/safetensors"
	"github.com/sciflux/sciflux/trainer"
)

// optimizerArgs are the constants of AdamW as cases write them.
type optimizerArgs struct {
	LR          float64    `json:"lr"`
	Betas       [2]float64 `json:"betas"`
	Eps         float64    `json:"eps"`
	WeightDecay float64    `json:"weight_decay"`
	MaxGradNorm float64    `json:"max_grad_norm"`
	Warmup      int        `json:"warmup_steps"`
}

func (a optimizerArgs) config() trainer.OptimizerConfig {
	return trainer.OptimizerConfig{LR: a.LR, Beta1: a.Betas[0], Beta2: a.Betas[1], Eps: a.Eps, WeightDecay: a.WeightDecay,
		MaxGradNorm: a.MaxGradNorm, WarmupSteps: a.Warmup}
}

// networkArgs are what a case says of the network it trains or samples, and of its adapters.
type networkArgs struct {
	adapterArgs
	Grid     [2]int  `json:"grid"`
	Guidance float64 `json:"guidance"`
}

// network is what the cases with a tiny transformer share. Its model has to be closed.
type network struct {
	be    engine.Backend
	model *flux.Model
	set   trainer.Setting
	says  adapterArgs
}

func openNetwork(c *Case, o Options, args networkArgs) (*network, error) {
	path, err := c.ModelPath()
	if err != nil {
		return nil, err
	}
	if err := c.checkGrid(args.Grid); err != nil {
		return nil, err
	}
	be, err := o.Backend()
	if err != nil {
		return nil, err
	}
	model, err := flux.Load(path, flux.Options{})
	if err != nil {
		return nil, err
	}
	set := trainer.Setting{Grid: flow.Grid{Rows: args.Grid[0], Columns: args.Grid[1]}, Guidance: args.Guidance}
	return &network{be: be, model: model, set: set, says: args.adapterArgs}, nil
}

// adapter reads the tensors PREFIX.transformer.MODULE.lora_{A,B}.weight of a case. They must be what the case says of them.
func (n *network) adapter(c *Case, prefix string) (*lora.Adapter, error) {
	var tensors []safetensors.Tensor
	for _, name := range c.Inputs() {
		key, ok := strings.CutPrefix(name, prefix+".")
		if !ok {
			continue
		}
		t, err := c.Input(name)
		if err != nil {
			return nil, err
		}
		values, err := t.Float32s()
		if err != nil {
			return nil, err
		}
		tensors = append(tensors, safetensors.Float32s(key, safetensors.F32, t.Shape, values))
		if module, ok := strings.CutSuffix(key, ".lora_A.weight"); ok {
			tensors = append(tensors, safetensors.Float32s(module+".alpha", safetensors.F32, nil, []float32{float32(n.says.Alpha)}))
		}
	}
	var file bytes.Buffer
	if _, err := safetensors.Write(&file, tensors, nil); err != nil {
		return nil, err
	}
	source, err := safetensors.Parse(prefix, file.Bytes())
	if err != nil {
		return nil, err
	}
	a, err := lora.Read(source, n.model.Layers())
	if err != nil {
		return nil, err
	}
	return a, n.says.check(c, prefix, a, n.model.Layers())
}

// fits checks that latents [B, N, C] and their conditioning are inputs of the network on its grid.
func (n *network) fits(c *Case, latents Tensor, cond trainer.Conditioning) error {
	tokens, shape := n.set.Grid.Tokens(), latents.Shape
	if len(shape) != 3 || shape[0] == 0 || shape[1] != tokens || shape[2] != n.model.InChannels {
		return fmt.Errorf("case %s: latents %v, the network wants [B, %d, %d]", c.Name, latents.Shape, tokens, n.model.InChannels)
	}
	b := latents.Shape[0]
	if len(cond.Pooled) != b*n.model.PooledWidth || len(cond.Text)%(b*n.model.TextWidth) != 0 {
		return fmt.Errorf("case %s: %d text and %d pooled values, the network wants rows of %d and %d for %d samples", c.Name,
			len(cond.Text), len(cond.Pooled), n.model.TextWidth, n.model.PooledWidth, b)
	}
	return nil
}

func conditioning(c *Case, prefix string) (trainer.Conditioning, error) {
	var out trainer.Conditioning
	var err error
	if out.Text, err = floats(c, prefix+"text"); err != nil {
		return out, err
	}
	out.Pooled, err = floats(c, prefix+"pooled")
	return out, err
}

// covers checks that noise holds n numbers for every step up to the last noisy one.
func covers(c *Case, plan trainer.Plan, noise []float32, n int) error {
	for i, step := range plan.Steps() {
		if step.Std != 0 && len(noise) < (i+1)*n {
			return fmt.Errorf("case %s: %d noise values, step %d needs the ones from %d on", c.Name, len(noise), i, i*n)
		}
	}
	return nil
}

// rolloutArgs are what the kinds of whole trajectories share.
type rolloutArgs struct {
	networkArgs
	Steps     int                  `json:"steps"`
	Scheduler flow.SchedulerConfig `json:"scheduler"`
}

// runRollout is kind "rollout".
func runRollout(ctx context.Context, c *Case, o Options) (*Outputs, error) {
	args := struct {
		rolloutArgs
		Form  flow.Form `json:"form"`
		Churn float64   `json:"s_churn"`
	}{rolloutArgs: rolloutArgs{Scheduler: flow.DefaultScheduler()}}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	return args.run(ctx, c, o, trainer.Plan{Form: args.Form, Churn: args.Churn})
}

// check refuses what no trajectory can be sampled with.
func (args rolloutArgs) check(c *Case, form flow.Form) error {
	if err := c.checkScheduler(args.Scheduler); err != nil {
		return err
	}
	if err := flow.AllForms(form).Validate(); err != nil {
		return err
	}
	if args.Steps < 1 || args.Steps > maxSteps {
		return fmt.Errorf("case %s: steps is %d, want 1…%d", c.Name, args.Steps, maxSteps)
	}
	return nil
}

// run samples the case's trajectory. The plan lacks the schedule.
func (args rolloutArgs) run(ctx context.Context, c *Case, o Options, plan trainer.Plan) (*Outputs, error) {
	if err := args.check(c, plan.Form); err != nil {
		return nil, err
	}
	net, err := openNetwork(c, o, args.networkArgs)
	if err != nil {
		return nil, err
	}
	defer net.model.Close()
	adapter, err := net.adapter(c, "adapter")
	if err != nil {
		return nil, err
	}
	from, err := net.beginning(c)
	if err != nil {
		return nil, err
	}
	plan.Sigmas = args.Scheduler.Sigmas(args.Steps, net.set.Grid.Tokens())
	plan.Timesteps = args.Scheduler.Timesteps(plan.Sigmas)
	if err := covers(c, plan, from.noise, len(from.latents)); err != nil {
		return nil, err
	}
	t, err := trainer.Rollout(ctx, net.be, net.model, adapter, net.set, plan, from.latents, from.shape[0], from.cond,
		func(step int, dst []float32) { copy(dst, from.noise[step*len(dst):]) })
	if err != nil {
		return nil, err
	}
	return trajectory(t, plan, from.shape), nil
}

// beginning is where a trajectory starts, and the noise of its steps, if there is any.
type beginning struct {
	shape          []int // [B, N, C] of the latents
	latents, noise []float32
	cond           trainer.Conditioning
}

func (n *network) beginning(c *Case) (from beginning, err error) {
	if from.cond, err = conditioning(c, ""); err != nil {
		return from, err
	}
	start, err := c.Input("start")
	if err != nil {
		return from, err
	}
	if err := n.fits(c, start, from.cond); err != nil {
		return from, err
	}
	from.shape = start.Shape
	if from.latents, err = start.Float32s(); err != nil {
		return from, err
	}
	if c.HasInput("noise") {
		from.noise, err = floats(c, "noise")
	}
	return from, err
}

// trajectory records a rollout.
func trajectory(t *trainer.Trajectory, plan trainer.Plan, start []int) *Outputs {
	out, n := NewOutputs(), len(plan.Timesteps)
	var latents, logProb []float32
	for _, s := range t.Latents {
		latents = append(latents, s...)
	}
	for _, l := range t.LogProb {
		logProb = append(logProb, narrow(l)...)
	}
	out.Float32("latents", append([]int{n + 1}, start...), latents)
	if t.LogProb != nil {
		out.Float32("log_prob", []int{n, start[0]}, logProb)
	}
	out.Float32("sigmas", []int{n + 1}, plan.Sigmas)
	out.Float32("timesteps", []int{n}, plan.Timesteps)
	return out
}

// sftArgs are the arguments of kind "sft_step".
type sftArgs struct {
	networkArgs
	Weighting string        `json:"weighting"`
	Steps     int           `json:"steps"`
	Micro     int           `json:"micro_batches"`
	Optimizer optimizerArgs `json:"optimizer"`
}

// runSFTStep is kind "sft_step".
func runSFTStep(ctx context.Context, c *Case, o Options) (*Outputs, error) {
	var args sftArgs
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	if err := c.atLeastOne(map[string]int{"steps": args.Steps, "micro_batches": args.Micro}); err != nil {
		return nil, err
	}
	learner, net, err := openLearner(c, o, args.networkArgs, args.Optimizer)
	if err != nil {
		return nil, err
	}
	defer net.model.Close()
	defer learner.Close()
	return args.run(ctx, c, learner, net)
}

// run takes the steps and records them.
func (args sftArgs) run(ctx context.Context, c *Case, learner *trainer.Learner, net *network) (*Outputs, error) {
	var losses, micro, norms []float32
	var rates []float64
	for k := range args.Steps {
		var batches []trainer.Example
		for a := range args.Micro {
			e, err := readExample(c, net, fmt.Sprintf("step%d.micro%d.", k, a), args.Weighting)
			if err != nil {
				return nil, err
			}
			batches = append(batches, e)
		}
		r, err := learner.SFT(ctx, batches)
		if err != nil {
			return nil, err
		}
		losses, norms, rates = append(losses, float32(r.Loss)), append(norms, float32(r.Norm)), append(rates, r.Rate)
		micro = append(micro, narrow(r.Micro)...)
	}
	out := NewOutputs()
	out.Float32("loss", []int{args.Steps}, losses)
	out.Float32("loss_micro", []int{args.Steps, args.Micro}, micro)
	out.Float32("grad_norm", []int{args.Steps}, norms)
	out.Float64("lr", []int{args.Steps}, rates)
	learned(out, learner, net.be)
	return out, nil
}

// openLearner opens the network and a learner of its adapter. Both have to be closed, the learner first.
func openLearner(c *Case, o Options, args networkArgs, opt optimizerArgs) (*trainer.Learner, *network, error) {
	net, err := openNetwork(c, o, args)
	if err != nil {
		return nil, nil, err
	}
	adapter, err := net.adapter(c, "adapter")
	if err != nil {
		net.model.Close()
		return nil, nil, err
	}
	l, err := trainer.NewLearner(net.be, net.model, adapter, opt.config(), net.set, flux.SessionOptions{})
	if err != nil {
		net.model.Close()
	}
	return l, net, err
}

func readExample(c *Case, net *network, prefix, weighting string) (e trainer.Example, err error) {
	if e.Sigma, err = c.shaped(prefix+"sigma", -1); err != nil {
		return e, err
	}
	shape := []int{len(e.Sigma), net.set.Grid.Tokens(), net.model.InChannels}
	if e.Latents, err = c.shaped(prefix+"latents", shape...); err != nil {
		return e, err
	}
	if e.Noise, err = c.shaped(prefix+"noise", shape...); err != nil {
		return e, err
	}
	for _, s := range e.Sigma {
		w, err := flow.LossWeight(weighting, float64(s))
		if err != nil {
			return e, err
		}
		e.Weight = append(e.Weight, w)
	}
	if e.Conditioning, err = conditioning(c, prefix); err != nil {
		return e, err
	}
	return e, net.fits(c, Tensor{Shape: shape}, e.Conditioning)
}

// learned records the adapter and its moments under the names of the adapter file.
func learned(out *Outputs, l *trainer.Learner, be engine.Backend) {
	for prefix, flat := range map[string]*engine.Tensor{"adapter": l.Adapter.Weights, "exp_avg": l.Optimizer.M, "exp_avg_sq": l.Optimizer.V} {
		host := make([]float32, flat.Len())
		be.Download(host, flat)
		modules(out, prefix, l.Adapter, host)
	}
}

// modules records numbers in the layout of an adapter's flat buffer.
func modules(out *Outputs, prefix string, a *lora.Adapter, flat []float32) {
	for _, m := range a.Modules {
		name := prefix + ".transformer." + m.Name
		out.Float32(name+".lora_A.weight", []int{m.Rank, m.In}, flat[m.A:][:m.Rank*m.In])
		out.Float32(name+".lora_B.weight", []int{m.Out, m.Rank}, flat[m.B:][:m.Rank*m.Out])
	}
}

// oftArgs are the arguments of kind "oft_step".
type oftArgs struct {
	networkArgs
	Form       flow.Form     `json:"form"`
	Churn      float64       `json:"s_churn"`
	Beta       float64       `json:"beta"`
	Eps        float64       `json:"eps"`
	Pairs      int           `json:"pairs"`
	Accumulate int           `json:"accumulate_pairs"`
	Optimizer  optimizerArgs `json:"optimizer"`
}

// runOFTStep is kind "oft_step".
func runOFTStep(ctx context.Context, c *Case, o Options) (*Outputs, error) {
	var args oftArgs
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	if err := c.atLeastOne(map[string]int{"pairs": args.Pairs, "accumulate_pairs": args.Accumulate}); err != nil {
		return nil, err
	}
	learner, net, err := openLearner(c, o, args.networkArgs, args.Optimizer)
	if err != nil {
		return nil, err
	}
	defer net.model.Close()
	defer learner.Close()
	reference, err := net.adapter(c, "reference")
	if err != nil {
		return nil, err
	}
	var pairs []trainer.Pair
	for p := range args.Pairs {
		pair, err := readPair(c, net, p, args.Form, args.Churn)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, pair)
	}
	return args.run(ctx, learner, net, pairs, reference)
}

// run takes a step for each accumulated group of pairs and records them.
func (args oftArgs) run(ctx context.Context, learner *trainer.Learner, net *network, pairs []trainer.Pair, reference *lora.Adapter) (
	*Outputs, error) {
	var loss, logProb, logProbRef, norms []float32
	var rates []float64
	for from := 0; from < len(pairs); from += args.Accumulate {
		group := pairs[from:min(from+args.Accumulate, len(pairs))]
		r, err := learner.DPO(ctx, group, reference, flow.DPO{Beta: args.Beta, Eps: args.Eps, Pairs: args.Form})
		if err != nil {
			return nil, err
		}
		norms, rates = append(norms, float32(r.Norm)), append(rates, r.Rate)
		for _, steps := range r.Outcomes {
			for _, out := range steps {
				loss = append(loss, float32(out.Loss))
				logProb, logProbRef = append(logProb, narrow(out.LogProb)...), append(logProbRef, narrow(out.LogProbRef)...)
			}
		}
	}
	out, n := NewOutputs(), len(pairs[0].Steps)
	out.Float32("loss", []int{args.Pairs, n}, loss)
	out.Float32("log_prob", []int{args.Pairs, n, 2}, logProb)
	out.Float32("log_prob_ref", []int{args.Pairs, n, 2}, logProbRef)
	out.Float32("grad_norm", []int{len(norms)}, norms)
	out.Float64("lr", []int{len(rates)}, rates)
	learned(out, learner, net.be)
	return out, nil
}

func readPair(c *Case, net *network, p int, form flow.Form, churn float64) (pair trainer.Pair, err error) {
	if err := flow.AllForms(form).Validate(); err != nil {
		return pair, err
	}
	prefix, grid, channels := fmt.Sprintf("pair%d.", p), net.set.Grid, net.model.InChannels
	if pair.Steps, err = c.steps(form, churn); err != nil {
		return pair, err
	}
	if pair.Timesteps, err = c.shaped("timesteps", len(pair.Steps)); err != nil {
		return pair, err
	}
	rewards, err := c.numbers(prefix+"rewards", 2)
	if err != nil {
		return pair, err
	}
	pair.Rewards = wide(rewards)
	latents, err := c.shaped(prefix+"latents", len(rewards), len(pair.Steps)+1, grid.Tokens(), channels)
	if err != nil {
		return pair, err
	}
	for _, sample := range split(latents, len(rewards)) {
		pair.Latents = append(pair.Latents, split(sample, len(pair.Steps)+1))
	}
	if pair.Masks, err = readMasks(c, prefix+"boxes", form, [2]int{grid.Rows, grid.Columns}, len(rewards)); err != nil {
		return pair, err
	}
	if pair.Conditioning, err = conditioning(c, prefix); err != nil {
		return pair, err
	}
	return pair, net.fits(c, Tensor{Shape: []int{1, grid.Tokens(), channels}}, pair.Conditioning)
}
