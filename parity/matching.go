package parity

import (
	"context"
	"fmt"

	"github.com/sciflux/sciflux/flow"
)

// methodArgs are the constants of the forward-process methods as cases write them; null is off.
type methodArgs struct {
	Beta          float64  `json:"beta"`
	Pairs         string   `json:"pairs"`
	MinGap        float64  `json:"min_gap"`
	Cap           *float64 `json:"cap"`
	Clip          *float64 `json:"clip"`
	AdvantageClip float64  `json:"adv_clip"`
	WeightMin     float64  `json:"weight_min"`
	Weighting     string   `json:"weighting"`
	Power         float64  `json:"power"`
	KL            float64  `json:"kl"`
	Region        string   `json:"kl_region"`
}

// orZero is a value that null switches off.
func orZero(x *float64) float64 {
	if x == nil {
		return 0
	}
	return *x
}

func (a methodArgs) anchor() (flow.Anchor, error) {
	if a.KL < 0 {
		return flow.Anchor{}, fmt.Errorf("kl is %v, want at least 0", a.KL)
	}
	if a.KL != 0 && a.Region != flow.RegionAll && a.Region != flow.RegionMask {
		return flow.Anchor{}, fmt.Errorf("kl_region %q is unknown; use %s or %s", a.Region, flow.RegionAll, flow.RegionMask)
	}
	return flow.Anchor{Weight: a.KL, Region: a.Region}, nil
}

func positive(name string, v float64) error {
	if !(v > 0) {
		return fmt.Errorf("%s is %v, want above 0", name, v)
	}
	return nil
}

func pairFlowOf(a methodArgs) (flow.Matching, error) {
	if a.Pairs != flow.PairsExtremes && a.Pairs != flow.PairsAll {
		return nil, fmt.Errorf("pairs %q is unknown; use %s or %s", a.Pairs, flow.PairsExtremes, flow.PairsAll)
	}
	anchor, err := a.anchor()
	return flow.PairFlow{Beta: a.Beta, MinGap: a.MinGap, Cap: orZero(a.Cap), Pairs: a.Pairs, Anchor: anchor}, err
}

func groupFlowOf(a methodArgs) (flow.Matching, error) {
	if err := positive("beta", a.Beta); err != nil {
		return nil, err
	}
	anchor, err := a.anchor()
	return flow.GroupFlow{Beta: a.Beta, Clip: orZero(a.Clip), Cap: orZero(a.Cap), Anchor: anchor}, err
}

func nftOf(a methodArgs) (flow.Matching, error) {
	for name, v := range map[string]float64{"beta": a.Beta, "adv_clip": a.AdvantageClip, "weight_min": a.WeightMin} {
		if err := positive(name, v); err != nil {
			return nil, err
		}
	}
	anchor, err := a.anchor()
	return flow.NFT{Beta: a.Beta, AdvantageClip: a.AdvantageClip, WeightMin: a.WeightMin, Anchor: anchor}, err
}

func awmOf(a methodArgs) (flow.Matching, error) {
	anchor, err := a.anchor()
	m := flow.AWM{Weighting: a.Weighting, Power: a.Power, Clip: orZero(a.Clip), Anchor: anchor}
	if err == nil {
		err = m.Validate()
	}
	return m, err
}

// runMatching are the kinds "dpo_flow_grad", "dgpo_grad", "nft_grad" and "awm_grad": the loss of some groups at given noise
// levels and its gradient by the policy's velocities.
func runMatching(of func(methodArgs) (flow.Matching, error)) Runner {
	return func(_ context.Context, c *Case, _ Options) (*Outputs, error) {
		var args struct {
			methodArgs
			Form  flow.Form `json:"form"`
			Grid  [2]int    `json:"grid"`
			Group int       `json:"group"`
		}
		if err := c.Args(&args); err != nil {
			return nil, err
		}
		method, err := of(args.methodArgs)
		if err != nil {
			return nil, fmt.Errorf("case %s: %w", c.Name, err)
		}
		in, err := readMatching(c, args.Form, args.Grid, args.Group, method)
		if err != nil {
			return nil, err
		}
		groups := len(in.at) / args.Group
		grad := make([]float32, len(in.latents))
		rows := split(grad, len(in.at))
		var loss float64
		var outcomes []flow.Matched
		for g := range groups {
			from, to := g*args.Group, (g+1)*args.Group
			m := method.Gradient(rows[from:to], in.velocities(from, to), in.at[from:to], 1/float64(groups))
			loss += m.Loss / float64(groups)
			outcomes = append(outcomes, m)
		}
		out := NewOutputs()
		out.Float32("loss", []int{1}, []float32{float32(loss)})
		out.Float32("grad_velocity", in.shape, grad)
		matchedOutputs(out, outcomes, in.shape[:1], []int{groups})
		return out, nil
	}
}

// matchedOutputs records what a method tells of its samples and groups, in order.
func matchedOutputs(out *Outputs, outcomes []flow.Matched, samples, groups []int) {
	values, score, open := map[string][]float32{}, []float32(nil), []byte(nil)
	for _, m := range outcomes {
		score = append(score, float32(m.Score))
		for name, v := range map[string][]float64{"error": m.Error, "error_ref": m.ErrorRef, "optimality": m.Optimality,
			"positive": m.Positive, "negative": m.Negative,
			"weight_positive": m.PositiveW, "weight_negative": m.NegativeW, "log_prob": m.LogProb, "log_prob_old": m.LogProbOld} {
			values[name] = append(values[name], narrow(v)...)
		}
		for _, c := range m.Closed {
			open = append(open, openByte(c))
		}
	}
	for name, v := range values {
		if v != nil {
			out.Float32(name, samples, v)
		}
	}
	out.Float32("score", groups, score)
	if open != nil {
		out.Uint8("open", samples, open)
	}
}

// openByte is 1 where the gradient passes.
func openByte(closed bool) byte {
	if closed {
		return 0
	}
	return 1
}

// matchingInputs are the inputs of the gradient kinds.
type matchingInputs struct {
	shape                  []int // [B, N, C]
	latents                []float32
	at                     []flow.Sample
	policy, reference, old [][]float32 // per sample; nil where the method reads none
}

func (in *matchingInputs) velocities(from, to int) flow.Velocities {
	part := func(v [][]float32) [][]float32 {
		if v == nil {
			return nil
		}
		return v[from:to]
	}
	return flow.Velocities{Policy: part(in.policy), Reference: part(in.reference), Old: part(in.old)}
}

func readMatching(c *Case, form flow.Form, grid [2]int, group int, method flow.Matching) (*matchingInputs, error) {
	if err := flow.AllForms(form).Validate(); err != nil {
		return nil, err
	}
	if err := c.checkGrid(grid); err != nil {
		return nil, err
	}
	in := &matchingInputs{shape: []int{-1, grid[0] * grid[1], -1}}
	var err error
	if in.latents, err = c.shaped("latents", in.shape...); err != nil {
		return nil, err
	}
	in.shape = c.inputs["latents"].Shape
	b := in.shape[0]
	if group < 1 || b%group != 0 {
		return nil, fmt.Errorf("case %s: %d samples in groups of %d", c.Name, b, group)
	}
	if c.HasInput("boxes") && in.shape[2]%4 != 0 {
		return nil, fmt.Errorf("case %s: %d channels are not four times as many as a latent has, so boxes have no cells", c.Name, in.shape[2])
	}
	if err := in.readVelocities(c, method); err != nil {
		return nil, err
	}
	return in, in.readSamples(c, form, grid)
}

// readVelocities reads those that the method needs, and others that are there.
func (in *matchingInputs) readVelocities(c *Case, method flow.Matching) error {
	reference, old := method.Needs()
	for _, v := range []struct {
		name string
		need bool
		into *[][]float32
	}{{"velocity", true, &in.policy}, {"velocity_ref", reference, &in.reference}, {"velocity_old", old, &in.old}} {
		if !v.need && !c.HasInput(v.name) {
			continue
		}
		values, err := c.shaped(v.name, in.shape...)
		if err != nil {
			return err
		}
		*v.into = split(values, in.shape[0])
	}
	return nil
}

func (in *matchingInputs) readSamples(c *Case, form flow.Form, grid [2]int) error {
	b := in.shape[0]
	noise, err := c.shaped("noise", in.shape...)
	if err != nil {
		return err
	}
	sigma, err := c.numbers("sigma", b)
	if err != nil {
		return err
	}
	weights := map[string][]float32{}
	for _, name := range []string{"rewards", "advantages"} {
		weights[name] = make([]float32, b)
		if c.HasInput(name) {
			if weights[name], err = c.numbers(name, b); err != nil {
				return err
			}
		}
	}
	masks, err := readMasks(c, "boxes", form, grid, b)
	if err != nil {
		return err
	}
	x0, e := split(in.latents, b), split(noise, b)
	for i := range b {
		in.at = append(in.at, flow.Sample{Latents: x0[i], Noise: e[i], Sigma: float64(sigma[i]), Mask: masks[i],
			Reward: float64(weights["rewards"][i]), Advantage: float64(weights["advantages"][i])})
	}
	return nil
}
