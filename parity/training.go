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

// network is what the cases with a tiny transformer share.
type network struct {
	be    engine.Backend
	model *flux.Model
	set   trainer.Setting
}

func openNetwork(c *Case, o Options, grid [2]int, guidance float64) (*network, error) {
	path, err := c.ModelPath()
	if err != nil {
		return nil, err
	}
	if err := c.checkGrid(grid); err != nil {
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
	return &network{be: be, model: model, set: trainer.Setting{Grid: flow.Grid{Rows: grid[0], Columns: grid[1]}, Guidance: guidance}}, nil
}

// adapter reads the tensors PREFIX.transformer.MODULE.lora_{A,B}.weight of a case.
func (n *network) adapter(c *Case, prefix string, alpha float64) (*lora.Adapter, error) {
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
			tensors = append(tensors, safetensors.Float32s(module+".alpha", safetensors.F32, nil, []float32{float32(alpha)}))
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
	return lora.Read(source, n.model.Layers())
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
	Steps     int                  `json:"steps"`
	Grid      [2]int               `json:"grid"`
	Guidance  float64              `json:"guidance"`
	Rank      int                  `json:"rank"`
	Alpha     float64              `json:"alpha"`
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

// run samples the case's trajectory. The plan lacks the schedule.
func (args rolloutArgs) run(ctx context.Context, c *Case, o Options, plan trainer.Plan) (*Outputs, error) {
	if err := c.checkScheduler(args.Scheduler); err != nil {
		return nil, err
	}
	if err := flow.AllForms(plan.Form).Validate(); err != nil {
		return nil, err
	}
	if args.Steps < 1 || args.Steps > maxSteps {
		return nil, fmt.Errorf("case %s: steps is %d, want 1…%d", c.Name, args.Steps, maxSteps)
	}
	net, err := openNetwork(c, o, args.Grid, args.Guidance)
	if err != nil {
		return nil, err
	}
	adapter, err := net.adapter(c, "adapter", args.Alpha)
	if err != nil {
		return nil, err
	}
	cond, err := conditioning(c, "")
	if err != nil {
		return nil, err
	}
	start, err := c.Input("start")
	if err != nil {
		return nil, err
	}
	if err := net.fits(c, start, cond); err != nil {
		return nil, err
	}
	x, err := start.Float32s()
	if err != nil {
		return nil, err
	}
	var noise []float32
	if c.HasInput("noise") {
		if noise, err = floats(c, "noise"); err != nil {
			return nil, err
		}
	}
	plan.Sigmas = args.Scheduler.Sigmas(args.Steps, net.set.Grid.Tokens())
	plan.Timesteps = args.Scheduler.Timesteps(plan.Sigmas)
	if err := covers(c, plan, noise, len(x)); err != nil {
		return nil, err
	}
	t, err := trainer.Rollout(ctx, net.be, net.model, adapter, net.set, plan, x, start.Shape[0], cond,
		func(step int, dst []float32) { copy(dst, noise[step*len(dst):]) })
	if err != nil {
		return nil, err
	}
	return trajectory(t, plan, start.Shape), nil
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

// runSFTStep is kind "sft_step".
func runSFTStep(ctx context.Context, c *Case, o Options) (*Outputs, error) {
	var args struct {
		Grid      [2]int        `json:"grid"`
		Guidance  float64       `json:"guidance"`
		Rank      int           `json:"rank"`
		Alpha     float64       `json:"alpha"`
		Weighting string        `json:"weighting"`
		Steps     int           `json:"steps"`
		Micro     int           `json:"micro_batches"`
		Optimizer optimizerArgs `json:"optimizer"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	learner, net, err := openLearner(c, o, args.Grid, args.Guidance, args.Alpha, args.Optimizer)
	if err != nil {
		return nil, err
	}
	defer learner.Close()
	if err := c.atLeastOne(map[string]int{"steps": args.Steps, "micro_batches": args.Micro}); err != nil {
		return nil, err
	}
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

func openLearner(c *Case, o Options, grid [2]int, guidance, alpha float64, opt optimizerArgs) (*trainer.Learner, *network, error) {
	net, err := openNetwork(c, o, grid, guidance)
	if err != nil {
		return nil, nil, err
	}
	adapter, err := net.adapter(c, "adapter", alpha)
	if err != nil {
		return nil, nil, err
	}
	return trainer.NewLearner(net.be, net.model, adapter, opt.config(), net.set, flux.SessionOptions{}), net, nil
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

// runOFTStep is kind "oft_step".
func runOFTStep(ctx context.Context, c *Case, o Options) (*Outputs, error) {
	var args struct {
		Form       flow.Form     `json:"form"`
		Grid       [2]int        `json:"grid"`
		Guidance   float64       `json:"guidance"`
		Churn      float64       `json:"s_churn"`
		Beta       float64       `json:"beta"`
		Eps        float64       `json:"eps"`
		Rank       int           `json:"rank"`
		Alpha      float64       `json:"alpha"`
		Pairs      int           `json:"pairs"`
		Accumulate int           `json:"accumulate_pairs"`
		Optimizer  optimizerArgs `json:"optimizer"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	learner, net, err := openLearner(c, o, args.Grid, args.Guidance, args.Alpha, args.Optimizer)
	if err != nil {
		return nil, err
	}
	defer learner.Close()
	reference, err := net.adapter(c, "reference", args.Alpha)
	if err != nil {
		return nil, err
	}
	if err := c.atLeastOne(map[string]int{"pairs": args.Pairs, "accumulate_pairs": args.Accumulate}); err != nil {
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
