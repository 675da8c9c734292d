package parity

import (
	"context"
	"fmt"

	"github.com/sciflux/sciflux/flow"
	"github.com/sciflux/sciflux/trainer"
)

// roundArgs are the arguments of kind "stage2_step".
type roundArgs struct {
	networkArgs
	methodArgs
	Method    string        `json:"method"`
	Form      flow.Form     `json:"form"`
	Groups    int           `json:"groups"`
	Group     int           `json:"group"`
	Times     int           `json:"times"`
	Updates   int           `json:"updates"`
	Shared    bool          `json:"shared_noise"`
	Transform string        `json:"transform"`
	Optimizer optimizerArgs `json:"optimizer"`
	Old       oldPolicyArgs `json:"old_policy"`
}

func (a roundArgs) check(c *Case) (flow.Matching, error) {
	of, ok := map[string]func(methodArgs) (flow.Matching, error){
		"dpo_flow": pairFlowOf, "dgpo": groupFlowOf, "nft": nftOf, "awm": awmOf,
	}[a.Method]
	if !ok {
		return nil, fmt.Errorf("case %s: method %q is unknown", c.Name, a.Method)
	}
	if err := c.atLeastOne(map[string]int{"groups": a.Groups, "group": a.Group, "times": a.Times, "updates": a.Updates}); err != nil {
		return nil, err
	}
	if a.Times%a.Updates != 0 {
		return nil, fmt.Errorf("case %s: %d updates do not divide %d times", c.Name, a.Updates, a.Times)
	}
	if err := flow.AllForms(a.Form).Validate(); err != nil {
		return nil, err
	}
	method, err := of(a.methodArgs)
	if err != nil {
		return nil, fmt.Errorf("case %s: %w", c.Name, err)
	}
	return method, nil
}

// runRound is kind "stage2_step": one round of a forward-process method.
func runRound(ctx context.Context, c *Case, o Options) (*Outputs, error) {
	var args roundArgs
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	method, err := args.check(c)
	if err != nil {
		return nil, err
	}
	learner, net, err := openLearner(c, o, args.networkArgs, args.Optimizer)
	if err != nil {
		return nil, err
	}
	defer net.model.Close()
	defer learner.Close()
	var peers trainer.Peers
	if peers.Reference, err = net.adapter(c, "reference"); err != nil {
		return nil, err
	}
	if peers.Old, err = net.adapter(c, "old"); err != nil {
		return nil, err
	}
	groups, err := args.readGroups(c, net)
	if err != nil {
		return nil, err
	}
	return args.run(ctx, learner, net, groups, peers, method)
}

// run takes the round's updates and records them.
func (a roundArgs) run(ctx context.Context, l *trainer.Learner, net *network, groups []trainer.Group, peers trainer.Peers,
	method flow.Matching) (*Outputs, error) {
	average, part := trainer.NewAverage(net.be, peers.Old, 0), a.Times/a.Updates
	schedule := a.Old.schedule()
	var loss, norms []float32
	var rates []float64
	var outcomes []flow.Matched
	for u := range a.Updates {
		peers.Old = average.Adapter
		r, err := l.Match(ctx, groups, u*part, (u+1)*part, peers, method)
		if err != nil {
			return nil, err
		}
		norms, rates = append(norms, float32(r.Norm)), append(rates, r.Rate)
		for _, levels := range r.Outcomes {
			for _, m := range levels {
				loss, outcomes = append(loss, float32(m.Loss)), append(outcomes, m)
			}
		}
		if a.Method == "dgpo" {
			average.Follow(l.Adapter, schedule, a.Old.First+u)
		}
	}
	if a.Method != "dgpo" {
		average.Follow(l.Adapter, schedule, a.Old.First+a.Updates)
	}
	out := NewOutputs()
	shape := []int{a.Updates, a.Groups, part}
	out.Float32("loss", shape, loss)
	matchedOutputs(out, outcomes, append(shape[:3:3], a.Group), append(shape[:3:3], 1))
	out.Float32("grad_norm", []int{a.Updates}, norms)
	out.Float64("lr", []int{a.Updates}, rates)
	learned(out, l, net.be)
	modules(out, "old", average.Adapter, average.Adapter.Weights.Floats())
	return out, nil
}

// readGroups reads the groups with their advantages.
func (a roundArgs) readGroups(c *Case, net *network) ([]trainer.Group, error) {
	transform := flow.Advantages{Kind: a.Transform, Clip: 5}
	if err := transform.Validate(); err != nil {
		return nil, err
	}
	groups, rewards := make([]trainer.Group, a.Groups), make([][]float64, a.Groups)
	for g := range groups {
		var err error
		if groups[g], err = a.readGroup(c, net, fmt.Sprintf("group%d.", g)); err != nil {
			return nil, err
		}
		rewards[g] = groups[g].Rewards
	}
	for g, advantages := range transform.Of(rewards) {
		groups[g].Advantages = advantages
	}
	return groups, nil
}

func (a roundArgs) readGroup(c *Case, net *network, prefix string) (g trainer.Group, err error) {
	tokens, channels := net.set.Grid.Tokens(), net.model.InChannels
	latents, err := c.shaped(prefix+"latents", a.Group, tokens, channels)
	if err != nil {
		return g, err
	}
	g.Latents = split(latents, a.Group)
	sets := a.Group
	if a.Shared {
		sets = 1
	}
	noise, err := c.shaped(prefix+"noise", a.Times, sets, tokens, channels)
	if err != nil {
		return g, err
	}
	sigma, err := c.numbers(prefix+"sigma", a.Times)
	if err != nil {
		return g, err
	}
	for j, at := range split(noise, a.Times) {
		own := split(at, sets)
		g.Levels = append(g.Levels, trainer.Level{Sigma: sigma[j], Noise: func(sample int, dst []float32) { copy(dst, own[sample%sets]) }})
	}
	rewards, err := c.numbers(prefix+"rewards", a.Group)
	if err != nil {
		return g, err
	}
	g.Rewards = wide(rewards)
	if g.Masks, err = readMasks(c, prefix+"boxes", a.Form, a.Grid, a.Group); err != nil {
		return g, err
	}
	if g.Conditioning, err = conditioning(c, prefix); err != nil {
		return g, err
	}
	return g, net.fits(c, Tensor{Shape: []int{1, tokens, channels}}, g.Conditioning)
}
