package flow

import (
	"fmt"
	"math"
	"strconv"
)

// Density turns a raw random number into a place u on the descending training grid (large u means little noise).
type Density struct {
	Kind      string  // "uniform" (or "none"), "logit_normal", "mode"
	Mean, Std float64 // of logit_normal
	Scale     float64 // of mode
}

// Normal tells whether the density wants a standard normal draw; the others want a uniform one.
func (d Density) Normal() bool { return d.Kind == "logit_normal" }

// Validate reports an unknown kind.
func (d Density) Validate() error {
	switch d.Kind {
	case "uniform", "none", "mode":
		return nil
	case "logit_normal":
		if d.Std > 0 {
			return nil
		}
		return fmt.Errorf("timestep density logit_normal: std %v is not positive", d.Std)
	}
	return fmt.Errorf("timestep density: %q is unknown; use uniform, logit_normal or mode", d.Kind)
}

// U is the place on the grid, in [0, 1].
func (d Density) U(draw float64) float64 {
	switch d.Kind {
	case "logit_normal":
		return 1 / (1 + math.Exp(-(d.Mean + d.Std*draw)))
	case "mode":
		c := math.Cos(math.Pi * draw / 2)
		return 1 - draw - d.Scale*(c*c-1+draw)
	}
	return draw
}

// GridIndex is the index of u on a grid of n levels. u may reach 1, where the reference fails: the last level is used.
func GridIndex(u float64, n int) int { return min(max(int(u*float64(n)), 0), n-1) }

// Shifted is the noise level a·σ/(1+(a−1)·σ): a above 1 moves levels towards noise and keeps 0 and 1, which is how FLUX was
// trained on larger pictures. It is applied to a level that was drawn, as kohya's sd-scripts (flux_shift) and SimpleTuner
// (flow_schedule_shift) do, so the result need not lie on the training grid; a scheduler's static shift, which the grid
// has already, multiplies with it. diffusers' own training script shifts nothing but that grid: a = 1, which changes no bit.
func Shifted(sigma float32, a float64) float32 {
	if a == 1 {
		return sigma
	}
	s := float64(sigma)
	return float32(a * s / (1 + (a-1)*s))
}

// TrainingShift is the a of Shifted that a name stands for: none is 1; dynamic is exp(mu) of a picture of that many packed
// tokens, the shift of the inference schedule; anything else is a itself, a number above 0.
func (c SchedulerConfig) TrainingShift(name string, imageTokens int) (a float64, err error) {
	switch name {
	case "none":
		return 1, nil
	case "dynamic":
		return math.Exp(c.Mu(imageTokens)), nil
	}
	if a, err = strconv.ParseFloat(name, 64); err != nil || !(a > 0) || math.IsInf(a, 0) {
		return 0, fmt.Errorf("shift of noise levels: %q is unknown; use none, dynamic or a number above 0", name)
	}
	return a, nil
}

// LossWeight is the weight of a sample's loss at sigma: "none" 1, "sigma_sqrt" σ⁻², "cosmap" 2/(π(1−2σ+2σ²)).
func LossWeight(kind string, sigma float64) (float64, error) {
	switch kind {
	case "", "none":
		return 1, nil
	case "sigma_sqrt":
		return 1 / (sigma * sigma), nil
	case "cosmap":
		return 2 / (math.Pi * (1 - 2*sigma + 2*sigma*sigma)), nil
	}
	return 0, fmt.Errorf("loss weighting: %q is unknown; use none, sigma_sqrt or cosmap", kind)
}
